"""The console command `threadline`: names every group and command, imports none until it is called.

It owns the table of names, the logging options and the answer to a missing extra. It never holds
a command's work: that lives with the deployable.
"""

import importlib
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from protocols.errors import ConfigError
from threadline.logs import LogFormat, LogLevel, configure_logs


@dataclass(frozen=True)
class Entry:
    """One name of the command line. `target` is `module:attribute` of a Typer app."""

    target: str
    extra: str
    help: str


# A module that is not written yet has no row; test_cli.py finds a `cli.py` that was forgotten.
ENTRIES: dict[str, Entry] = {
    "edge": Entry("edge.cli:app", "edge", "The agent on the plant floor."),
    "gateway": Entry("gateway.cli:app", "gateway", "Frames from the broker into Kafka."),
    "cloud": Entry("cloud.cli:app", "cloud", "Frames into the database, stories out of it."),
    "trace": Entry("cloud.ask.cli:trace_app", "cloud", "One item's whole story, by any name."),
    "demo": Entry("threadline.demo.cli:app", "demo", "A whole line here, from plant to trace."),
    "verify": Entry("cloud.verify.cli:app", "cloud", "Prove that nothing is missing or doubled."),
    "simulators": Entry("simulators.cli:app", "simulators", "A simulated plant with a journal."),
}

OURS = frozenset({"threadline", "protocols", "rules", "edge", "gateway", "cloud", "simulators"})


def main() -> None:
    """Run the command line. What the user wrote wrong ends with code 2 and every mistake named."""
    try:
        app(prog_name="threadline")
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(2) from error


class Deferred(TyperCommand):
    """Stands for a command in every listing, and becomes the real one when it is called."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help)
        self.entry = entry

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        command = load_command(self.entry)
        return command.make_context(info_name, args, parent=parent, **extra)


class Root(TyperGroup):
    """The top level: every row of the table as a deferred command, in the table's order."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: Deferred(name, entry) for name, entry in ENTRIES.items()}

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a library it cannot import is answered with the extra that has it."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if is_ours(error.name):
                raise
            name = str(ctx.invoked_subcommand)
            typer.echo(missing_extra(name, ENTRIES[name], str(error.name)), err=True)
            raise typer.Exit(2) from error


app = typer.Typer(cls=Root, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def root(
    log_format: Annotated[
        LogFormat, typer.Option(envvar="THREADLINE_LOG_FORMAT", help="How log lines look.")
    ] = LogFormat.CONSOLE,
    log_level: Annotated[
        LogLevel, typer.Option(envvar="THREADLINE_LOG_LEVEL", help="The least that is logged.")
    ] = LogLevel.INFO,
) -> None:
    """Process data from PLCs to a trace database, every value tied to the item being made."""
    configure_logs(log_format, log_level)


def load_command(entry: Entry) -> Any:
    module, _, attribute = entry.target.partition(":")
    return typer.main.get_command(getattr(importlib.import_module(module), attribute))


def is_ours(module: str | None) -> bool:
    """A missing module of our own is a bug, not an extra that was left out."""
    return module is None or module.partition(".")[0] in OURS


def missing_extra(name: str, entry: Entry, package: str) -> str:
    return (
        f"`threadline {name}` needs the package {package!r}, which is not installed.\n"
        f"Install it with: pip install 'threadline[{entry.extra}]'"
    )
