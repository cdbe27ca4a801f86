"""The command group `simulators`: run a plant, list its addresses."""

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
