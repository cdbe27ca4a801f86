"""The commands `cloud dead-letters`. What a command needs is imported when it is called."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cloud.command import (
    NO,
    WRONG_INPUT,
    ConfigFile,
    Database,
    Output,
    Shown,
    answering,
    connected,
    print_rows,
    settings_of,
)

if TYPE_CHECKING:
    from cloud.dead_letters import LetterRow, Wanted
    from cloud.letters.retrying import Retried
    from cloud.letters.unfolding import Unfolded
    from cloud.settings import CloudSettings

app = typer.Typer(help="What could not be taken.", no_args_is_help=True, add_completion=False)
_COLUMNS: Final = ("dead_letter_id", "agent", "reason", "lane", "seq", "seen", "last_at", "detail")

OfAgent = Annotated[str | None, typer.Option("--agent", help="Only of this agent.")]
OfReason = Annotated[
    str | None, typer.Option("--reason", help="Only of this reason: rejected, forked, …")
]
Since = Annotated[
    str | None,
    typer.Option(help="Only what came since then: 2026-11-22T06:00 (UTC), or 12h ago: 12h."),
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]
Numbers = Annotated[list[int] | None, typer.Argument(help="dead_letter_id of each.")]


@app.command("list")
def list_letters(  # noqa: PLR0913, PLR0917 - one parameter an option
    agent: OfAgent = None,
    reason: OfReason = None,
    since: Since = None,
    limit: Limit = 50,
    settled: Annotated[
        bool, typer.Option("--all", help="Also those stored after all, or dropped.")
    ] = False,
    database: Database = None,
    config: ConfigFile = None,
    output: Shown = Output.TABLE,
) -> None:
    """Those that are open, the newest first."""
    from dataclasses import replace

    from cloud import dead_letters

    wanted = replace(_wanted(agent, reason, since, limit), settled=settled)
    settings = settings_of(config, database=database)
    with connected(settings, "dead-letters") as connection:
        rows = dead_letters.letters(connection, wanted)
    print_rows(rows, (*_COLUMNS, "settled") if settled else _COLUMNS, output)


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="Its dead_letter_id.")],
    save: Annotated[
        Path | None, typer.Option(help="Write the message as it came to this file.")
    ] = None,
    database: Database = None,
    config: ConfigFile = None,
    output: Shown = Output.TABLE,
) -> None:
    """One dead letter: why, its header, and its payload as far as it can be read."""
    from cloud import dead_letters
    from cloud.letters.unfolding import unfold

    settings = settings_of(config, database=database)
    with connected(settings, "dead-letters") as connection:
        found = dead_letters.letter(connection, number)
    if found is None:
        raise _no_such(number)
    row, data = found
    unfolded = unfold(data) if data else None
    if output is Output.JSON:
        typer.echo(_as_json(row, unfolded))
    else:
        for line in _as_text(row, unfolded):
            typer.echo(line)
    if save is not None:
        _save(save, data)


@app.command()
def retry(  # noqa: PLR0913, PLR0917 - one parameter an option
    numbers: Numbers = None,
    agent: OfAgent = None,
    reason: OfReason = None,
    since: Since = None,
    limit: Limit = 50,
    database: Database = None,
    config: ConfigFile = None,
    output: Shown = Output.TABLE,
) -> None:
    """Try them again as if they came just now. Code 1: not all of them are stored."""
    import asyncio

    from cloud.letters.retrying import Fate

    settings = settings_of(config, database=database)
    chosen = _chosen(settings, numbers, _wanted(agent, reason, since, limit))
    with answering():
        done = asyncio.run(_retried(settings, chosen))
    if output is Output.JSON:
        print_rows(done, (), output)
    else:
        for one in done:
            typer.echo(f"{one.dead_letter_id}: {one.fate}{one.detail and f', {one.detail}'}")
    if any(one.fate is Fate.UNKNOWN for one in done):
        raise typer.Exit(WRONG_INPUT)
    if not all(one.is_stored for one in done):
        raise typer.Exit(NO)


@app.command()
def drop(  # noqa: PLR0913, PLR0917 - one parameter an option
    numbers: Numbers = None,
    agent: OfAgent = None,
    reason: OfReason = None,
    since: Since = None,
    limit: Limit = 50,
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """Forget their bytes for good. That they were rejected stays on record, for `verify`."""
    from cloud import dead_letters

    settings = settings_of(config, database=database)
    chosen = _chosen(settings, numbers, _wanted(agent, reason, since, limit))
    code = 0
    with connected(settings, "dead-letters") as connection:
        for number in chosen:
            match dead_letters.drop(connection, number):
                case None:
                    typer.echo(f"there is no dead letter {number}", err=True)
                    code = WRONG_INPUT
                case False:
                    typer.echo(f"{number}: was dropped before", err=True)
                    code = code or NO
                case True:
                    typer.echo(f"{number}: dropped")
    if code:
        raise typer.Exit(code)


def _wanted(agent: str | None, reason: str | None, since: str | None, limit: int) -> "Wanted":
    """ConfigError: a reason or a time that cannot be."""
    from cloud.dead_letters import Wanted, checked_reason

    known = None if reason is None else checked_reason(reason)
    return Wanted(agent, known, None if since is None else _moment(since), limit)


def _chosen(
    settings: "CloudSettings", numbers: Sequence[int] | None, wanted: "Wanted"
) -> list[int]:
    """Those named, or the open ones that the filters fit: one of the two must be given."""
    from cloud import dead_letters

    by_filter = wanted.agent or wanted.reason or wanted.since
    if bool(numbers) == bool(by_filter):
        raise typer.BadParameter("give numbers, or --agent, --reason, --since; not both")
    if numbers:
        return list(dict.fromkeys(numbers))
    with connected(settings, "dead-letters") as connection:
        found = dead_letters.letters(connection, wanted)
    if not found:
        typer.echo("no dead letter is open that fits", err=True)
        raise typer.Exit(NO)
    return sorted(one.dead_letter_id for one in found)


async def _retried(settings: "CloudSettings", numbers: Sequence[int]) -> "list[Retried]":
    from cloud.clock import Clock
    from cloud.letters.retrying import retry as again

    return [one async for one in again(settings.dsn, numbers, Clock())]


def _moment(text: str) -> datetime:
    """A time, or how long ago. ConfigError: neither."""
    from datetime import UTC

    from cloud.clock import Clock
    from cloud.settings import read_duration

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        ago = read_duration("--since", text)
        if ago is None:
            raise typer.BadParameter("--since off means nothing; leave it out") from None
        return Clock().now() - ago
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _no_such(number: int) -> typer.Exit:
    typer.echo(f"there is no dead letter {number}", err=True)
    return typer.Exit(WRONG_INPUT)


def _save(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise typer.BadParameter(f"--save {file}: {error.strerror}") from error


def _as_json(row: "LetterRow", unfolded: "Unfolded | None") -> str:
    import json
    from dataclasses import asdict

    from protocols.printing import plain

    told: dict[str, Any] = asdict(row)
    told["unfolded"] = None if unfolded is None else asdict(unfolded)
    return json.dumps(told, indent=2, ensure_ascii=False, default=plain)


def _as_text(row: "LetterRow", unfolded: "Unfolded | None") -> list[str]:
    from dataclasses import asdict

    from protocols.printing import shown

    lines = [f"{name:15} {shown(value)}" for name, value in asdict(row).items()]
    if unfolded is None:
        return [*lines, "its bytes were dropped"]
    header = unfolded.header
    lines += [] if header is None else ["header"]
    lines += [f"  {name:18} {shown(value)}" for name, value in (header or {}).items()]
    if unfolded.trouble is not None:
        lines.append(f"cannot be read further: {shown(unfolded.trouble)}")
    lines.append(f"payload, {unfolded.lines} lines" if unfolded.trouble is None else "bytes")
    lines += [f"  {shown(line)}" for line in unfolded.payload]
    more = unfolded.lines - len(unfolded.payload)
    return [*lines, f"  … {more} more"] if more else lines
