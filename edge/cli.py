"""The command group `edge`: run an agent, check its file, read once, show a running one."""

import json
import os
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocols.errors import ConfigError, Disconnected, Problem

if TYPE_CHECKING:
    from edge.check import Checked
    from edge.draining import Waiting

app = typer.Typer(
    name="edge",
    help="The agent on the plant floor.",
    no_args_is_help=True,
    add_completion=False,
)

_NO = 1
_WRONG_INPUT = 2


class Output(StrEnum):
    """How a command prints its data."""

    TABLE = "table"
    JSON = "json"


AgentFile = Annotated[Path, typer.Argument(help="The agent's file, for example agent.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="path=value over the file: uplink.url=mqtts://broker:8883"),
]
As = Annotated[Output, typer.Option("--output", help="Table or JSON.")]


@app.callback()
def group() -> None:
    """Keep the commands named, however many there are."""


@app.command()
def run(agent_file: AgentFile, overrides: Overrides = None) -> None:
    """Check the file, then poll, bind, spool and send until SIGTERM."""
    import asyncio

    from edge.agent import run_agent

    checked = _check(agent_file, overrides, Output.TABLE)
    asyncio.run(run_agent(checked))


@app.command()
def check(agent_file: AgentFile, overrides: Overrides = None, output: As = Output.TABLE) -> None:
    """Tell every mistake at once; of a sound file, what happens when at each station."""
    from edge.told import checked_as_json, checked_text

    checked = _check(agent_file, overrides, output)
    if output is Output.JSON:
        typer.echo(json.dumps(checked_as_json(checked), indent=2))
    else:
        typer.echo(checked_text(agent_file, checked))


@app.command("test")
def read_once_and_show(
    agent_file: AgentFile, overrides: Overrides = None, output: As = Output.TABLE
) -> None:
    """Read each group once and print what came. Publishes nothing. Exit 1: a row is bad."""
    import asyncio

    from edge.clock import SystemClock
    from edge.tables import print_readings
    from edge.trial import read_once
    from protocols.registry import open_device

    checked = _check(agent_file, overrides, output)
    readings = asyncio.run(read_once(checked.plan, SystemClock(), open_device))
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(each) for each in readings], default=_plain, indent=2))
    else:
        print_readings(readings)
    if any(each.quality == "bad" for each in readings):
        raise typer.Exit(_NO)


@app.command()
def status(
    agent_file: Annotated[
        Path | None, typer.Argument(help="The file of the running agent.")
    ] = None,
    socket: Annotated[Path | None, typer.Option(help="Its status socket, instead.")] = None,
    output: As = Output.TABLE,
) -> None:
    """Show a running agent: devices, groups, overruns, spool, uplink. Exit 1: none runs."""
    from edge.status import ask_status
    from edge.tables import print_status

    try:
        found = ask_status(_socket(agent_file, socket))
    except Disconnected as error:
        typer.echo(f"no agent answers: {error.reason}", err=True)
        raise typer.Exit(_NO) from error
    if output is Output.JSON:
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_status(found)


@app.command()
def drain(
    agent_file: AgentFile,
    timeout: Annotated[str, typer.Option(help="How long to try, like 30s or 10m.")] = "1m",
    overrides: Overrides = None,
    output: As = Output.TABLE,
) -> None:
    """Send what waits in the spool of an agent that is stopped, without touching any device.

    Before a box is switched off or taken away. Exit 1: something is left; it stays in the spool.
    """
    import asyncio

    from edge.agent import drain_spool

    time_s = _duration_s(timeout)
    checked = _check(agent_file, overrides, output)
    drained = asyncio.run(drain_spool(checked, time_s, lambda now: _say_waiting(now, output)))
    if output is Output.JSON:
        typer.echo(json.dumps(asdict(drained), indent=2))
    else:
        rejected = f", {drained.rejected} rejected (quarantined)" if drained.rejected else ""
        typer.echo(
            f"{drained.before.frames} frames waited: {drained.stored} stored{rejected},"
            f" {drained.left.frames} left ({drained.left.rows} rows)"
        )
    if drained.left.frames:
        typer.echo(f"not all was sent; the uplink: {drained.left.uplink}", err=True)
        raise typer.Exit(_NO)


@app.command()
def bind(
    agent_file: AgentFile,
    dry_run: Annotated[
        Path, typer.Option("--dry-run", help="Recorded samples, as GET /samples gives CSV.")
    ],
    overrides: Overrides = None,
    output: As = Output.TABLE,
) -> None:
    """Replay recorded samples through the stations and print their events. Exit 1: none."""
    from edge.recorded import read_samples
    from edge.replay import replay
    from edge.stations import make_binder
    from edge.tables import print_replayed
    from edge.told import replayed_as_lines

    checked = _check(agent_file, overrides, output)
    binder = make_binder(checked.plan.binding, checked.config.zone, 0, iter(range(2**63)).__next__)
    found = replay(checked.plan, binder, read_samples(dry_run))
    if output is Output.JSON:
        for line in replayed_as_lines(found):
            typer.echo(line)
    else:
        print_replayed(found)
    if not found.events:
        raise typer.Exit(_NO)


@app.command()
def schema() -> None:
    """Print the JSON Schema of an agent's file, for editors."""
    from edge.told import schema_text

    typer.echo(schema_text(), nl=False)


def _check(agent_file: Path, overrides: list[str] | None, output: Output) -> "Checked":
    from edge.check import check as check_file
    from edge.told import problems_as_json

    try:
        return check_file(agent_file, os.environ, overrides or ())
    except ConfigError as error:
        if output is Output.JSON:
            typer.echo(json.dumps(problems_as_json(error.problems), indent=2))
            raise typer.Exit(_WRONG_INPUT) from error
        raise


def _duration_s(text: str) -> float:
    from rules.durations import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise ConfigError([Problem("--timeout", text, str(error), "Write it like 30s.")]) from error


def _say_waiting(now: "Waiting", output: Output) -> None:
    if output is Output.TABLE:
        typer.echo(f"{now.frames} frames ({now.rows} rows) wait; the uplink: {now.uplink}")


def _socket(agent_file: Path | None, socket: Path | None) -> Path:
    from edge.check import socket_of

    if socket is not None:
        return socket
    if agent_file is None:
        typer.echo("Name the agent's file, or its socket with --socket.", err=True)
        raise typer.Exit(_WRONG_INPUT)
    return socket_of(agent_file, os.environ)


def _plain(value: object) -> object:
    """Bytes as hex, arrays as lists."""
    return (
        value.hex()
        if isinstance(value, bytes)
        else value.tolist()
        if hasattr(value, "tolist")
        else str(value)
    )
