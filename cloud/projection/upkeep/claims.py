"""Passes, links and states derived again where an event, a holder or an identity changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias
from uuid import UUID

from cloud.projection.holders import Taken
from cloud.projection.links import (
    CONTENT,
    MADE_OF,
    PART,
    content_link,
    joints_of,
    made_links,
    part_links,
)
from cloud.projection.masters import Masters
from cloud.projection.passes import Meant, claims_of, record_of
from cloud.projection.rows import (
    JointRow,
    LinkRow,
    MentionRow,
    PassCurveRow,
    PassItemRow,
    PassRow,
    SaidRow,
    StateRow,
    ValueRow,
)
from cloud.projection.states import state_rows, subjects_of
from cloud.projection.upkeep.circles import find_circles
from cloud.projection.upkeep.counts import recount
from cloud.projection.upkeep.holders import contents_put_by, met_by
from cloud.projection.whole import by_mention
from cloud.projection.workspace import Workspace
from protocols.events import Event, GapEvent, MakeEvent, MoveEvent, PassEvent, StateEvent

Relinked: TypeAlias = tuple[list[LinkRow], list[LinkRow]]  # as they stood, as they stand


@dataclass(slots=True)
class Stale:
    """What must be derived again.

    `told`: passes, by id, with the event that tells them now (None: nothing does).
    `claimed`: events of passes whose claims changed only.
    `spoken`: all other events, None where they are out of force; `mounts`: moves into holders.
    """

    told: dict[UUID, PassEvent | None] = field(default_factory=dict)
    claimed: set[UUID] = field(default_factory=set)
    spoken: dict[UUID, Event | None] = field(default_factory=dict)
    mounts: set[UUID] = field(default_factory=set)


async def derive(ws: Workspace, stale: Stale, masters: Masters) -> None:
    """Bring every row up to date that follows from what is stale."""
    await _records(ws, stale, masters)
    spoken = stale.spoken
    relinked = [
        await _claims(ws, stale),
        await _parts(ws, {one: event for one, event in spoken.items() if _may(event, MoveEvent)}),
        await _mixes(ws, {one: event for one, event in spoken.items() if _may(event, MakeEvent)}),
    ]
    old, new = (list(chain.from_iterable(side)) for side in zip(*relinked, strict=True))
    await find_circles(ws, old, new)
    await _states(ws, {one: event for one, event in spoken.items() if _may(event, StateEvent)})
    await _contents(ws, stale.mounts)


async def meant_by(ws: Workspace, events: Iterable[UUID]) -> Meant:
    return by_mention(await ws.read(MentionRow, "event", events))


def _may(event: Event | None, kind: type[Event]) -> bool:
    """An event out of force may have been of any kind: its rows say."""
    return event is None or isinstance(event, kind)


async def _records(ws: Workspace, stale: Stale, masters: Masters) -> None:
    passes = stale.told.keys()
    records = [
        record_of(event, masters.calendars) for event in stale.told.values() if event is not None
    ]
    before = await ws.read(PassRow, "pass_id", passes)
    after = [one.row for one in records]
    ws.replace(before, after)
    ws.replace(
        await ws.read(ValueRow, "pass_id", passes), [row for one in records for row in one.values]
    )
    ws.replace(
        await ws.read(PassCurveRow, "pass_id", passes),
        [row for one in records for row in one.curves],
    )
    gaps = [
        event if isinstance(event, GapEvent) else one
        for one, event in stale.spoken.items()
        if event is None or isinstance(event, GapEvent)
    ]
    await recount(ws, before, after, gaps, masters.calendars)


async def _claims(ws: Workspace, stale: Stale) -> Relinked:
    events = [
        event
        for event in (await ws.events(stale.claimed)).values()
        if isinstance(event, PassEvent) and event.pass_id not in stale.told
    ]
    events += [event for event in stale.told.values() if event is not None]
    met = await met_by(ws, [event.id for event in events])
    sources = {event.id for event in events} | _sources(met)
    meant = await meant_by(ws, sources)
    claims = [claims_of(event, met.get(event.id, {}), meant) for event in events]
    passes = {event.pass_id for event in events} | stale.told.keys()
    ws.replace(
        await ws.read(PassItemRow, "pass_id", passes), [row for one in claims for row in one.items]
    )
    old, new = await ws.read(LinkRow, "owner", passes), [row for one in claims for row in one.links]
    ws.replace(old, new)
    return old, new


def _sources(met: Mapping[UUID, Mapping[str, tuple[Taken, ...]]]) -> set[UUID]:
    return {
        one.source.event
        for by_path in met.values()
        for taken in by_path.values()
        for one in taken
        if one.source is not None
    }


async def _parts(ws: Workspace, moves: Mapping[UUID, Event | None]) -> Relinked:
    """Every pair that these moves tie or untie, or did so far."""
    meant = await meant_by(ws, moves)
    old = await ws.read(JointRow, "event", moves)
    new = [
        joint
        for move in moves.values()
        if isinstance(move, MoveEvent)
        for joint in joints_of(move, meant)
    ]
    ws.replace(old, new)
    pairs = {(one.child, one.parent): one.pair for one in (*old, *new)}
    if not pairs:
        return [], []
    joints = await ws.read(JointRow, "pair", pairs.values())
    events = await ws.events({one.event for one in joints})
    known = {one: event for one, event in events.items() if isinstance(event, MoveEvent)}
    links = await ws.read(LinkRow, "owner", moves.keys() | known.keys())
    stood = [one for one in links if one.relation == PART and (one.child, one.parent) in pairs]
    by_pair: dict[UUID, list[JointRow]] = {}
    for joint in joints:
        by_pair.setdefault(joint.pair, []).append(joint)
    links = [row for own in by_pair.values() for row in part_links(own, known)]
    ws.replace(stood, links)
    return stood, links


async def _mixes(ws: Workspace, makes: Mapping[UUID, Event | None]) -> Relinked:
    meant = await meant_by(ws, makes)
    stood = [one for one in await ws.read(LinkRow, "owner", makes) if one.relation == MADE_OF]
    links = [
        row
        for make in makes.values()
        if isinstance(make, MakeEvent)
        for row in made_links(make, meant)
    ]
    ws.replace(stood, links)
    return stood, links


async def _states(ws: Workspace, events: Mapping[UUID, Event | None]) -> None:
    """Every item and pass that these events speak of, or did so far."""
    meant = await meant_by(ws, events)
    old = await ws.read(SaidRow, "event", events)
    new = [
        said
        for event in events.values()
        if isinstance(event, StateEvent)
        for said in subjects_of(event, meant)
    ]
    ws.replace(old, new)
    for subject in {one.subject for one in (*old, *new)}:
        said = await ws.read(SaidRow, "subject", [subject])
        found = await ws.events({one.event for one in said})
        known = {one: event for one, event in found.items() if isinstance(event, StateEvent)}
        stood = await ws.read(StateRow, "subject", [subject])
        ws.replace(stood, state_rows(said, known))


async def _contents(ws: Workspace, mounts: Iterable[UUID]) -> None:
    for mount in mounts:
        found = list(await contents_put_by(ws, mount))
        meant = await meant_by(ws, {entry.source.event for _, entry, _ in found})
        stood = [one for one in await ws.read(LinkRow, "owner", [mount]) if one.relation == CONTENT]
        ws.replace(
            stood,
            [
                row
                for holder, entry, left_us in found
                for row in content_link(holder, entry, left_us, meant)
            ],
        )
