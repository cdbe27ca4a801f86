"""The command group `simulators`: run a plant, list its addresses."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from simulators.config import PlantConfig

app = typer.Typer(
    name="simulators",
    help="A simulated plant that speaks S7, Modbus TCP and OPC UA, with a journal of its own.",
    no_args_is_help=True,
    add_completion=False,
)

_WRONG_INPUT = 2
PlantFile = Annotated[Path, typer.Argument(help="The plant file, for example edrive.yaml.")]


class Output(StrEnum):
    """How a command prints its data."""

    TABLE = "table"
    JSON = "json"


@app.callback()
def group() -> None:
    """Keep the commands named, however many there are."""


@app.command()
def run(  # noqa: PLR0913, PLR0917  # one parameter an option
    plant_file: PlantFile,
    ports_file: Annotated[
        Path | None, typer.Option(help="Write host and port of each device, once all listen.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Write what was sent, made and met, as JSON lines.")
    ] = None,
    control: Annotated[
        Path | None, typer.Option(help="Unix socket: status, stop, start, hang, resume.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End by itself.")] = None,
    units: Annotated[
        int | None, typer.Option(min=1, help="Make so many units, then hold still and serve on.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the plant file's.")] = None,
) -> None:
    """Run a plant until SIGTERM, SIGINT or the end of `--seconds`."""
    from simulators.running import Files, Limits, run_plant

    plant = _read(plant_file)
    files = Files(ports=ports_file, journal=journal, control=control)
    try:
        asyncio.run(run_plant(plant, files, Limits(seconds, units, seed), typer.echo))
    except OSError as exc:
        typer.echo(f"{plant_file}: {exc}", err=True)
        raise typer.Exit(_WRONG_INPUT) from exc


@app.command()
def addresses(
    plant_file: PlantFile,
    output: Annotated[Output, typer.Option(help="Table or JSON.")] = Output.TABLE,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
) -> None:
    """Print the path, address, type and unit of every tag."""
    from simulators.addresses import addresses_as_json, addresses_as_table, list_addresses

    rows = list_addresses(_read(plant_file))
    if device is not None:
        rows = [row for row in rows if row.device == device]
    typer.echo(addresses_as_json(rows) if output is Output.JSON else addresses_as_table(rows))


def _read(plant_file: Path) -> "PlantConfig":
    from simulators.config import PlantFileError, read_plant_file

    try:
        return read_plant_file(plant_file)
    except PlantFileError as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(_WRONG_INPUT) from exc
