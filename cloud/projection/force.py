"""Which events are in force: not taken back, not replaced, and of rivals only one.

Rule 1: a void cannot be taken back. Taking back a correction brings back what it corrected.
Rule 2: of several that replace the same event, or tell the same pass, the latest said wins.
Rule 3: a pass told closed is never told open again, even if the closed telling is taken back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cloud.projection.keys import key_of
from cloud.projection.rows import HeadRow, TraceAlarmRow
from protocols.events import Event, PassEvent, from_us, to_us

REPLACED_TWICE: Final = "replaced_twice"
VOID_OF_VOID: Final = "void_of_void"


@dataclass(frozen=True, slots=True)
class Force:
    standing: frozenset[UUID]
    alarms: tuple[TraceAlarmRow, ...]


def head_of(event: Event, recorded_seq: int) -> HeadRow:
    told = event if isinstance(event, PassEvent) else None
    return HeadRow(
        event=event.id,
        recorded_seq=recorded_seq,
        kind=event.kind,
        pass_id=told.pass_id if told else None,
        closed=told is not None and told.ended is not None,
        said_us=to_us(event.said_at or event.at),
        replaces=sorted({str(one) for one in event.replaces if one != event.id}),
        in_force=False,
    )


def in_force(heads: Iterable[HeadRow]) -> Force:
    """Decide a family: every event that is tied to another of it by replacing or by its pass."""
    family = {head.event: head for head in heads}
    corrections = {event: {UUID(one) for one in head.replaces} for event, head in family.items()}
    voids = {event for event, head in family.items() if head.kind == "void"}
    voided = {one for void in voids for one in corrections[void]} - voids
    ancestors = {
        event: _ancestors(event, corrections, voids) for event in family if event not in voids
    }
    alive = [head for event, head in family.items() if event not in voids and event not in voided]
    superseded = _superseded(alive, family.values(), ancestors)
    rivals = [head for head in alive if head.event not in superseded]
    standing, losers = _contest(rivals, ancestors)
    alarms = [_replaced_twice(head) for head in losers]
    alarms += [_void_of_void(family[void]) for void in voids if corrections[void] & voids]
    return Force(frozenset(standing | voids), tuple(alarms))


def _ancestors(
    event: UUID, corrections: Mapping[UUID, set[UUID]], voids: set[UUID]
) -> frozenset[UUID]:
    """All that the event replaces, however indirectly; also what is not there yet."""
    found: set[UUID] = set()
    waiting = list(corrections[event])
    while waiting:
        one = waiting.pop()
        if one in found or one in voids:
            continue
        found.add(one)
        waiting.extend(corrections.get(one, ()))
    return frozenset(found)


def _superseded(
    alive: Iterable[HeadRow], family: Iterable[HeadRow], ancestors: Mapping[UUID, frozenset[UUID]]
) -> set[UUID]:
    """Replaced by a living one. Two that replace each other are rivals instead."""
    found = {
        one
        for head in alive
        for one in ancestors[head.event]
        if head.event not in ancestors.get(one, ())
    }
    told_closed = {head.pass_id for head in family if head.closed}
    found |= {
        head.event
        for head in alive
        if head.kind == "pass" and not head.closed and head.pass_id in told_closed
    }
    return found


def _contest(
    rivals: list[HeadRow], ancestors: Mapping[UUID, frozenset[UUID]]
) -> tuple[set[UUID], list[HeadRow]]:
    standing: set[UUID] = set()
    losers: list[HeadRow] = []
    taken: set[object] = set()
    for head in sorted(rivals, key=lambda one: (one.said_us, one.event), reverse=True):
        marks = _marks(head, ancestors[head.event])
        if taken.isdisjoint(marks):
            standing.add(head.event)
            taken.update(marks)
        elif head.closed or head.kind != "pass":  # an open pass told twice is no quarrel
            losers.append(head)
    return standing, losers


def _marks(head: HeadRow, ancestors: frozenset[UUID]) -> list[object]:
    told = [] if head.pass_id is None else [("pass", head.pass_id)]
    return [head.event, *ancestors, *told]


def _replaced_twice(loser: HeadRow) -> TraceAlarmRow:
    return TraceAlarmRow(
        alarm=key_of(REPLACED_TWICE, str(loser.event)),
        owner=loser.event,
        name=REPLACED_TWICE,
        at=from_us(loser.said_us),
        text="another event, said later, replaces or tells the same; this one does not count",
        events=[str(loser.event)],
    )


def _void_of_void(void: HeadRow) -> TraceAlarmRow:
    return TraceAlarmRow(
        alarm=key_of(VOID_OF_VOID, str(void.event)),
        owner=void.event,
        name=VOID_OF_VOID,
        at=from_us(void.said_us),
        text="a void cannot be taken back; say the event again under a new id",
        events=[str(void.event)],
    )


def families(heads: Iterable[HeadRow]) -> list[list[HeadRow]]:
    """Split events into families, so that each can be decided by itself."""
    by_mark: dict[object, list[HeadRow]] = defaultdict(list)
    marks_of: dict[UUID, list[object]] = {}
    for head in heads:
        marks_of[head.event] = _marks(head, frozenset(UUID(one) for one in head.replaces))
        for mark in marks_of[head.event]:
            by_mark[mark].append(head)
    seen: set[UUID] = set()
    found: list[list[HeadRow]] = []
    for group in by_mark.values():
        family = _reach(group, marks_of, by_mark, seen)
        if family:
            found.append(family)
    return found


def _reach(
    start: list[HeadRow],
    marks_of: Mapping[UUID, list[object]],
    by_mark: Mapping[object, list[HeadRow]],
    seen: set[UUID],
) -> list[HeadRow]:
    family: list[HeadRow] = []
    waiting = list(start)
    while waiting:
        head = waiting.pop()
        if head.event in seen:
            continue
        seen.add(head.event)
        family.append(head)
        for mark in marks_of[head.event]:
            waiting.extend(by_mark[mark])
    return family
