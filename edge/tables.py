"""How the edge's answers look to a person: tables of rich, one function an answer."""

import os
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table

from edge.replay import Replayed
from edge.status import AgentStatus, DeviceShown
from edge.trial import Reading
from protocols.events import (
    Event,
    GapEvent,
    HolderRef,
    MoveEvent,
    NameEvent,
    NameRef,
    PassEvent,
    PassRef,
    Ref,
    rfc3339,
)

PIPE_WIDTH: Final = 180
PATHS_MAX: Final = 20


def print_status(status: AgentStatus, console: Console | None = None) -> None:
    console = console or _console()
    since = f"epoch {status.epoch}, up since {status.started[:19]}Z"
    console.print(f"[bold]{status.agent}[/] {status.version}, {since}", highlight=False)
    console.print(_devices(status.devices))
    console.print(_groups(status.devices))
    console.print(_flow(status))


def print_readings(readings: Iterable[Reading], console: Console | None = None) -> None:
    console = console or _console()
    table = Table("path", "value", "quality", "code", "time", "request", box=None)
    for row in readings:
        value = "" if row.value is None else str(row.value)
        code = "" if row.code is None else f"0x{row.code:08X}"
        explained = f"{code} {row.explanation}".strip()
        table.add_row(row.path, value, row.quality, explained, row.time, row.request)
    console.print(table)


def print_replayed(found: Replayed, console: Console | None = None) -> None:
    console = console or _console()
    table = Table("at", "event", "station", "count", "verdict", "item", "missing", box=None)
    for event in found.events:
        table.add_row(rfc3339(event.at), event.kind, *_told(event))
    console.print(table)
    console.print(
        f"{found.batches} batches: {len(found.events)} events, {found.curves} curves, "
        f"{len(found.alarms)} alarms; {found.unanswered} reads that were not recorded",
        highlight=False,
    )
    if found.unknown:
        paths = ", ".join(sorted(found.unknown)[:PATHS_MAX])
        console.print(f"tags that are not configured: {paths}", highlight=False)


def _told(event: Event) -> tuple[str, ...]:
    match event:
        case PassEvent():
            station = f"{event.station}/{event.nest}".rstrip("/")
            verdicts = ", ".join(item.verdict for item in event.items)
            items = ", ".join(str(_name(item.ref)) for item in event.items)
            return station, str(event.key.count), verdicts, items, ", ".join(event.missing)
        case GapEvent():
            return event.station, f"{event.from_count}..{event.to_count}", "", "", ""
        case NameEvent():
            return "", "", "", ", ".join(name.value for name in event.names), ""
        case MoveEvent():
            return "", "", "", f"{_name(event.what)} to {_name(event.to)}", ""
        case _:
            return "", "", "", "", ""


def _name(ref: Ref | None) -> str:
    match ref:
        case None:
            return "unnamed"
        case NameRef():
            return ref.value
        case HolderRef():
            return ref.holder
        case PassRef():
            return f"item of pass {ref.pass_id}"


def _devices(devices: Iterable[DeviceShown]) -> Table:
    table = Table("device", "state", "since", "opened", "failed", "bad rows", "", box=None)
    for device in devices:
        colour = "green" if device.state == "up" else "red"
        numbers = (device.opened, device.failed, device.bad_rows)
        facts = ", ".join(f"{name} {fact}" for name, fact in device.facts.items())
        table.add_row(
            device.device,
            f"[{colour}]{device.state}[/]",
            device.since[:19],
            *map(str, numbers),
            device.reason if device.state == "down" else facts,
        )
    return table


def _groups(devices: Iterable[DeviceShown]) -> Table:
    columns = ("group", "every ms", "tags", "requests", "started", "finished", "overruns", "down")
    table = Table(*columns, "age ms", "jitter ms", "read ms", box=None)
    for device in devices:
        for group in device.groups:
            counted = (group.started, group.finished, group.overruns, group.down)
            table.add_row(
                f"{device.device}/{group.group}",
                f"{group.interval_ms:g}",
                str(group.tags),
                str(group.requests),
                *map(str, counted),
                "" if group.age_ms is None else f"{group.age_ms:.0f}",
                f"{group.jitter_p50_ms:.1f} / {group.jitter_p99_ms:.1f}",
                f"{group.duration_p50_ms:.1f} / {group.duration_p99_ms:.1f}",
            )
    return table


def _flow(status: AgentStatus) -> Table:
    table = Table("rows", "events", "spool", "uplink", "metrics", box=None)
    rows, spool = status.pipeline, status.spool
    waiting = ", ".join(f"{lane} {n}" for lane, n in spool.waiting_rows.items() if n)
    restarts = "".join(f"\n{task} restarted {n} times" for task, n in status.restarts.items())
    table.add_row(
        f"read {rows.read}\nfiltered {rows.filtered}\ndiscarded {rows.discarded}",
        f"{rows.events}\ncurves {rows.curves}\nalarms {rows.alarms}",
        f"{spool.state}, {spool.bytes} bytes\nwaiting: {waiting or 'nothing'}"
        f"\noldest {spool.oldest_age_s:.1f} s\nwrites {spool.written_tb_a_year:.2f} TB a year",
        f"{status.uplink.state}\nidentity {status.uplink.identity}{restarts}",
        status.metrics,
    )
    return table


def _console() -> Console:
    """A pipe has no width of its own; cut texts help nobody."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=PIPE_WIDTH)
