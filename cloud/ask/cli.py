"""`threadline trace`: one item's story, by any of its names."""

from enum import StrEnum
from typing import Annotated

import typer

NOT_FOUND = 1
WRONG_INPUT = 2

trace_app = typer.Typer(add_completion=False)


class Output(StrEnum):
    """How the answer is printed."""

    TREE = "tree"
    JSON = "json"


ApiOption = Annotated[str, typer.Option(envvar="THREADLINE_API", help="Address of the trace API.")]
TokenOption = Annotated[
    str, typer.Option(envvar="THREADLINE_TOKEN", help="A token with the scope read.")
]


@trace_app.command()
def trace(  # noqa: PLR0913, PLR0917 - one parameter an option
    name: Annotated[str, typer.Argument(help="Serial, lot, box or any other name of the item.")],
    scheme: Annotated[str | None, typer.Option(help="Only names of this scheme.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Only names of this issuer.")] = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="With the samples of each pass.")
    ] = False,
    zone: Annotated[str | None, typer.Option(help="IANA zone of the times shown.")] = None,
    output: Annotated[Output, typer.Option(help="Tree or JSON.")] = Output.TREE,
    api: ApiOption = "http://127.0.0.1:8080",
    token: TokenOption = "",
) -> None:
    """Tell one item's story: passes, values, curves, components, parents, how far complete."""
    from cloud.ask.client import NotFound, open_api
    from cloud.ask.printing import print_candidates, print_story, read_zone
    from protocols.errors import Disconnected

    shown_in = read_zone(zone)
    try:
        with open_api(api, token) as asked:
            found = asked.read("/items", {"name": name, "scheme": scheme, "issuer": issuer})
            if found["item"] is None:
                print_candidates(found["candidates"], as_json=output is Output.JSON)
                raise typer.Exit(NOT_FOUND)
            story = asked.read(
                f"/items/{found['item']['id']}/story",
                {"samples": str(samples).lower(), "curves": str(output is Output.JSON).lower()},
            )
            print_story(story, shown_in, as_json=output is Output.JSON)
    except NotFound as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(NOT_FOUND) from error
    except Disconnected as error:
        typer.echo(f"{error}. Is `threadline cloud api` running there?", err=True)
        raise typer.Exit(WRONG_INPUT) from error
