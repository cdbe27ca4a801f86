"""A new event among its family: which events come into force by it and which go out of it."""

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from cloud.projection.force import REPLACED_TWICE, VOID_OF_VOID, head_of, in_force
from cloud.projection.rows import (
    GapRow,
    HeadRow,
    HolderOpRow,
    JointRow,
    LinkRow,
    MentionRow,
    PassCurveRow,
    PassItemRow,
    PassRow,
    ReplacedRow,
    Row,
    SaidRow,
    StatementRow,
    TraceAlarmRow,
    ValueRow,
)
from cloud.projection.workspace import Workspace
from protocols.events import Event


@dataclass(frozen=True, slots=True)
class Turned:
    """Heads of the events that came into force and went out of it."""

    on: tuple[HeadRow, ...]
    off: tuple[HeadRow, ...]


async def turn(ws: Workspace, event: Event, recorded_seq: int) -> Turned | None:
    """Take the event in. None: it was taken in before."""
    head = head_of(event, recorded_seq)
    if await ws.read(HeadRow, "event", [head.event]):
        return None
    for kind, column in _BY_EVENT:  # an event that was never taken in has left no trace
        ws.know_empty(kind, column, head.event)
    family = [*await _family(ws, head), head]
    if head.pass_id is not None and len(family) == 1:
        for kind, column in _BY_PASS:
            ws.know_empty(kind, column, head.pass_id)
    force = in_force(family)
    after = [replace(one, in_force=one.event in force.standing) for one in family]
    ws.replace((), after)
    ws.replace((), [ReplacedRow(UUID(one), head.event) for one in head.replaces])
    stood = await ws.read(TraceAlarmRow, "owner", [one.event for one in family])
    ws.replace([one for one in stood if one.name in _ALARMS], force.alarms)
    was = {one.event: one.in_force for one in family}
    return Turned(
        tuple(one for one in after if one.in_force and not was[one.event]),
        tuple(one for one in after if not one.in_force and was[one.event]),
    )


_ALARMS: Final = frozenset({REPLACED_TWICE, VOID_OF_VOID})
_BY_EVENT: Final[tuple[tuple[type[Row], str], ...]] = (
    (HolderOpRow, "event"),
    (StatementRow, "event"),
    (MentionRow, "event"),
    (JointRow, "event"),
    (SaidRow, "event"),
    (GapRow, "event"),
    (LinkRow, "owner"),
    (LinkRow, "event"),
    (TraceAlarmRow, "owner"),
)
_BY_PASS: Final[tuple[tuple[type[Row], str], ...]] = (
    (PassRow, "pass_id"),
    (ValueRow, "pass_id"),
    (PassCurveRow, "pass_id"),
    (PassItemRow, "pass_id"),
    (LinkRow, "owner"),
)


async def _family(ws: Workspace, head: HeadRow) -> list[HeadRow]:
    """Everything that replacing or a pass ties to the event, however indirectly."""
    found: dict[UUID, HeadRow] = {}
    asked: set[UUID] = set()
    events = {head.event, *(UUID(one) for one in head.replaces)}
    passes = set() if head.pass_id is None else {head.pass_id}
    while events - asked or passes - asked:
        fresh_events, fresh_passes = events - asked, passes - asked
        asked |= fresh_events | fresh_passes
        replacing = await ws.read(ReplacedRow, "replaced", fresh_events)
        near = await ws.read(
            HeadRow, "event", fresh_events | {one.event for one in replacing}
        ) + await ws.read(HeadRow, "pass_id", fresh_passes)
        for one in near:
            found[one.event] = one
            events |= {one.event, *(UUID(text) for text in one.replaces)}
            passes |= set() if one.pass_id is None else {one.pass_id}
    return list(found.values())
