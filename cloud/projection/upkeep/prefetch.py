"""What the coming events will surely ask for, read in few round trips instead of one by one.

Rule 1: this changes no answer, only how often the store is asked.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from cloud.projection.counting import gap_row
from cloud.projection.holders import ops_of
from cloud.projection.masters import Masters
from cloud.projection.passes import pass_row
from cloud.projection.rows import (
    GapRow,
    HeadRow,
    ItemNameRow,
    LinkRow,
    PassCurveRow,
    PassItemRow,
    PassRow,
    ReplacedRow,
    StatementRow,
    TallyRow,
    TraceAlarmRow,
    ValueRow,
)
from cloud.projection.statements import statements_of
from cloud.projection.workspace import Workspace
from protocols.events import Event, GapEvent, PassEvent


async def prefetch(ws: Workspace, events: Sequence[Event], masters: Masters) -> None:
    await _corrections(ws, events)
    await _names(ws, events)
    await ws.read_tails(op.holder for event in events for op in ops_of(event))
    rows: list[PassRow | GapRow] = [
        pass_row(event, masters.calendars) for event in events if isinstance(event, PassEvent)
    ]
    rows += [gap_row(event, masters.calendars) for event in events if isinstance(event, GapEvent)]
    await ws.read(TallyRow, "bucket", {row.bucket for row in rows})
    await ws.read(GapRow, "line", {row.line for row in rows})


async def _corrections(ws: Workspace, events: Sequence[Event]) -> None:
    ids = {event.id for event in events} | {one for event in events for one in event.replaces}
    passes = {event.pass_id for event in events if isinstance(event, PassEvent)}
    await ws.read(HeadRow, "event", ids)
    heads = await ws.read(HeadRow, "pass_id", passes)
    replacing = await ws.read(ReplacedRow, "replaced", ids)
    await ws.read(HeadRow, "event", {one.event for one in replacing})
    await _known_passes(ws, {head.pass_id for head in heads})


async def _known_passes(ws: Workspace, passes: Iterable[UUID | None]) -> None:
    passes = set(passes)
    await ws.read(PassRow, "pass_id", passes)
    await ws.read(ValueRow, "pass_id", passes)
    await ws.read(PassCurveRow, "pass_id", passes)
    await ws.read(PassItemRow, "pass_id", passes)
    await ws.read(LinkRow, "owner", passes)


async def _names(ws: Workspace, events: Sequence[Event]) -> None:
    """Names with a life are mostly only looked up; the others will be resolved, with all of it."""
    said = [one for event in events for one in statements_of(event, {})]
    slots = {one.slot for one in said}
    names = {key for one in said for key in one.keys} - slots
    lives = await ws.read(ItemNameRow, "name_key", names)
    unknown = slots | (names - {one.name_key for one in lives})
    await ws.read(StatementRow, "key", unknown)
    await ws.read(TraceAlarmRow, "owner", unknown)
    await ws.read(ItemNameRow, "name_key", slots)
