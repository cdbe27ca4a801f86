"""The command `verify`: the proof of delivery of an agent, the proof of collection of a station."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.command import NO, ConfigFile, Database, Output, Shown, connected, settings_of

if TYPE_CHECKING:
    from cloud.verify.delivery import Delivery
    from cloud.verify.station import Collection

app = typer.Typer(
    help="Prove that nothing is missing and nothing is there twice.", add_completion=False
)


@app.command()
def verify(  # noqa: PLR0913, PLR0917 - one parameter an option
    agent: Annotated[str | None, typer.Argument(help="An agent: site.name.")] = None,
    from_: Annotated[
        datetime | None, typer.Option("--from", help="Frames sealed from then on (UTC).")
    ] = None,
    to: Annotated[datetime | None, typer.Option(help="Frames sealed before then (UTC).")] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Trust the ledger, do not count the table.")
    ] = False,
    station: Annotated[
        str | None, typer.Option(help="A station instead: counted = passes + gaps.")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="The station's site, if no agent is named.")
    ] = None,
    counter: Annotated[
        str | None, typer.Option(help="Path of the tag that counts its cycles.")
    ] = None,
    modulus: Annotated[int, typer.Option(min=2, help="Where that counter wraps.")] = 65_536,
    nest: Annotated[str, typer.Option(help="The nest whose cycles it counts.")] = "",
    database: Database = None,
    config: ConfigFile = None,
    output: Shown = Output.TABLE,
) -> None:
    """Print the equation of an agent and period, or of a station. Code 1: it does not hold."""
    from cloud.verify.counter import Counter
    from cloud.verify.delivery import BEGINNING, END, verify_agent, verify_agent_fast
    from cloud.verify.station import verify_station

    begin, end = _utc(from_) or BEGINNING, _utc(to)
    if agent is None and (station is None or site is None):
        raise typer.BadParameter("name an agent, or --station with an agent or --site")
    settings = settings_of(config, database=database)
    with connected(settings, "verify") as connection:
        if station is not None:
            where = site or str(agent).partition(".")[0]
            tag = None if counter is None else Counter(counter, modulus, nest)
            cycles = verify_station(connection, where, station, begin, end, tag)
            _print_collection(cycles, output)
            holds = cycles.holds
        else:
            prove = verify_agent_fast if fast else verify_agent
            found = prove(connection, str(agent), begin, end or END)
            _print_delivery(found, output)
            holds = found.holds
    if not holds:
        raise typer.Exit(NO)


def _print_delivery(found: "Delivery", output: Output) -> None:
    from cloud.verify.text import delivery_text, json_of

    if output is Output.JSON:
        typer.echo(json_of(found))
    else:
        typer.echo(delivery_text(found))


def _print_collection(found: "Collection", output: Output) -> None:
    from cloud.verify.text import collection_text, json_of
    from protocols.printing import table_of

    if output is Output.JSON:
        typer.echo(json_of(found))
        return
    columns = ("nest", "series", "first", "last", "counted", "passes", "gaps", "missing")
    table_of(found.series, (*columns, "doubled", "proven"))
    typer.echo(collection_text(found))


def _utc(at: datetime | None) -> datetime | None:
    if at is None:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
