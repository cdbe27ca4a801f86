"""The projection of a whole set of events at once: what the view is, by definition."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from cloud.projection.circles import circular, own_part_alarm
from cloud.projection.counting import free_stretches, gap_row, tallies, width
from cloud.projection.force import families, head_of, in_force
from cloud.projection.holders import (
    Do,
    Op,
    Step,
    Taken,
    fold,
    ops_of,
    taken_by_path,
)
from cloud.projection.identity import resolve
from cloud.projection.links import content_link, joints_of, made_links, part_links
from cloud.projection.masters import Masters
from cloud.projection.passes import Meant, claims_of, record_of
from cloud.projection.rows import (
    GapRow,
    JointRow,
    LinkRow,
    MentionRow,
    PassRow,
    Row,
    SaidRow,
    TraceAlarmRow,
)
from cloud.projection.statements import statements_of
from cloud.projection.states import state_rows, subjects_of
from protocols.events import (
    Event,
    GapEvent,
    MakeEvent,
    MoveEvent,
    PassEvent,
    StateEvent,
)


def project(events: Iterable[Event], masters: Masters) -> Iterator[Row]:
    """Every row of the view of a set of events."""
    known = {event.id: event for event in events}
    standing, alarms = _standing(known)
    yield from alarms
    steps = list(fold((op for event in standing for op in ops_of(event)), masters.discipline_of))
    met = taken_by_path(steps)
    said = (one for event in standing for one in statements_of(event, met.get(event.id, {})))
    identity = resolve(said)
    yield from (*identity.items, *identity.names, *identity.mentions, *identity.alarms)
    meant = by_mention(identity.mentions)
    told = [
        *_passes_and_gaps(standing, masters, met, meant),
        *_links(standing, steps, meant),
    ]
    yield from told
    yield from map(own_part_alarm, circular(one for one in told if isinstance(one, LinkRow)))
    yield from _states(standing, meant)


def by_mention(mentions: Iterable[MentionRow]) -> dict[tuple[UUID, str], list[MentionRow]]:
    found: dict[tuple[UUID, str], list[MentionRow]] = defaultdict(list)
    for one in mentions:
        found[one.event, one.path].append(one)
    return found


def _standing(known: Mapping[UUID, Event]) -> tuple[list[Event], list[TraceAlarmRow]]:
    standing: list[Event] = []
    alarms: list[TraceAlarmRow] = []
    for family in families(head_of(event, 0) for event in known.values()):
        force = in_force(family)
        standing.extend(known[one] for one in force.standing)
        alarms.extend(force.alarms)
    return standing, alarms


def _passes_and_gaps(
    standing: Sequence[Event],
    masters: Masters,
    met: Mapping[UUID, Mapping[str, tuple[Taken, ...]]],
    meant: Meant,
) -> Iterator[Row]:
    passes: list[PassRow] = []
    for event in standing:
        if isinstance(event, PassEvent):
            record = record_of(event, masters.calendars)
            claims = claims_of(event, met.get(event.id, {}), meant)
            passes.append(record.row)
            yield from (record.row, *record.values, *record.curves, *claims.items, *claims.links)
    said = [gap_row(event, masters.calendars) for event in standing if isinstance(event, GapEvent)]
    gaps = list(_uncovered(said, passes))
    yield from gaps
    yield from tallies(passes, gaps, masters.calendars)


def _uncovered(gaps: Iterable[GapRow], passes: Iterable[PassRow]) -> Iterator[GapRow]:
    by_line: dict[UUID, list[GapRow]] = defaultdict(list)
    counts: dict[UUID, list[Decimal]] = defaultdict(list)
    for gap in gaps:
        by_line[gap.line].append(gap)
    for one in passes:
        counts[one.line].append(one.count)
    for line, own in by_line.items():
        free = free_stretches(own)
        for gap in own:
            stretches = free[gap.event]
            there = sum(
                1 for count in counts[line] if any(low <= count <= high for low, high in stretches)
            )
            yield replace(gap, uncovered=width(stretches) - there)


def _links(
    standing: Sequence[Event], steps: Sequence[tuple[Op, Step]], meant: Meant
) -> Iterator[LinkRow]:
    yield from _contents(steps, meant)
    moves = {event.id: event for event in standing if isinstance(event, MoveEvent)}
    pairs: dict[UUID, list[JointRow]] = defaultdict(list)
    for event in standing:
        if isinstance(event, MakeEvent):
            yield from made_links(event, meant)
    for move in moves.values():
        for joint in joints_of(move, meant):
            pairs[joint.pair].append(joint)
    for joints in pairs.values():
        yield from part_links(joints, moves)


def _contents(steps: Sequence[tuple[Op, Step]], meant: Meant) -> Iterator[LinkRow]:
    left_us = {(op.holder, put): op.at_us for op, after in steps for put in after.left}
    for op, after in steps:
        if op.do is Do.PUT:
            for entry in after.brought(op):
                left = left_us.get((op.holder, entry.put))
                yield from content_link(op.holder, entry, left, meant)


def _states(standing: Sequence[Event], meant: Meant) -> Iterator[Row]:
    events = {event.id: event for event in standing if isinstance(event, StateEvent)}
    by_subject: dict[UUID, list[SaidRow]] = defaultdict(list)
    for event in events.values():
        for said in subjects_of(event, meant):
            by_subject[said.subject].append(said)
    for own in by_subject.values():
        yield from state_rows(own, events)
