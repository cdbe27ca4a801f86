"""What the commands of the cloud share: their options, a connection, how they print and end."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from cloud.db import Connection
    from cloud.settings import CloudSettings

NO: Final = 1
WRONG_INPUT: Final = 2


class Output(StrEnum):
    """How a command prints its data."""

    TABLE = "table"
    JSON = "json"


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="A YAML file of settings (or THREADLINE_CLOUD_CONFIG)."),
]
Database = Annotated[
    str | None,
    typer.Option(help="Address of the database: postgresql://… (or THREADLINE_CLOUD_DATABASE)."),
]
Shown = Annotated[Output, typer.Option(help="How to print.")]


def settings_of(config: Path | None, **options: Any) -> "CloudSettings":
    """What a command runs with. ConfigError: every mistake at once."""
    from cloud.settings import read_settings

    return read_settings(options, os.environ, config)


@contextmanager
def answering() -> Iterator[None]:
    """Trouble with the database is one line and code 2."""
    from cloud.db import StoreTrouble

    try:
        yield
    except StoreTrouble as trouble:
        typer.echo(trouble.reason, err=True)
        raise typer.Exit(WRONG_INPUT) from trouble


@contextmanager
def connected(settings: "CloudSettings", what: str) -> Iterator["Connection"]:
    """A connection for one command."""
    from cloud.db import connect

    with answering(), connect(settings.dsn, application=f"threadline {what}") as connection:
        yield connection


def print_rows(rows: Sequence[Any], columns: Sequence[str], output: Output) -> None:
    from protocols.printing import json_of, table_of

    if output is Output.JSON:
        typer.echo(json_of(rows))
    else:
        table_of(rows, columns)
