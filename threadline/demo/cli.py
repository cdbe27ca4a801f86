"""The command `threadline demo`."""

from pathlib import Path
from typing import Annotated

import typer

from threadline.route import Route

app = typer.Typer(add_completion=False)
FAILED = 1


@app.command()
def demo(
    seconds: Annotated[
        str,
        typer.Option(envvar="DEMO_SECONDS", help="End by itself after so many seconds of life."),
    ] = "",
    directory: Annotated[
        Path, typer.Option(help="Where it keeps its data; what an earlier demo left goes.")
    ] = Path(".threadline/demo"),
    route: Annotated[
        Route, typer.Option(help="How frames go from the broker to ingest.")
    ] = Route.DIRECT,
) -> None:
    """Run a whole line here: simulated plant, agent, broker, database, API. Ctrl-C ends it.

    With `--route kafka` also the gateway and a Kafka, which needs Java 17.

    With an end of its own it drains the spool, tells one unit's story, and proves by `verify` that
    nothing is missing and nothing doubled. Exit 1: something is, or a part did not come up.
    """
    from threadline.children import StackError
    from threadline.demo.run import run_demo

    try:
        ended_well = run_demo(directory, _seconds(seconds), route)
    except StackError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from error
    if not ended_well:
        raise typer.Exit(FAILED)


def _seconds(text: str) -> float | None:
    """None: until somebody ends it. `make` hands over an empty text when it was not told any."""
    if not text.strip():
        return None
    try:
        seconds = float(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no number of seconds", param_hint="--seconds"
        ) from error
    if not seconds > 0:
        raise typer.BadParameter(f"{text!r} is not more than 0", param_hint="--seconds")
    return seconds
