"""Identity kept up: what an event says of names is resolved again with all that is tied to it.

A mention inside the life of a name that only one item bears changes nothing else; it is looked up
(so that a name met a million times costs no more than one met once). All else is resolved again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from cloud.projection.holders import Certainty, Taken
from cloud.projection.identity import Identity, resolve
from cloud.projection.rows import (
    ItemNameRow,
    ItemRow,
    MentionRow,
    StatementRow,
    TraceAlarmRow,
)
from cloud.projection.statements import (
    LATEST_US,
    STATEMENT,
    Facts,
    Says,
    Statement,
    statements_of,
)
from cloud.projection.upkeep.gather import Ending, Gathering, Part, Point, ending
from cloud.projection.workspace import Workspace
from protocols.events import Event, from_us


@dataclass(slots=True)
class Remeant:
    """Mentions that mean something else now. `mentions`: event and path. `items`: before, after."""

    mentions: set[tuple[UUID, str]] = field(default_factory=set)
    items: set[UUID] = field(default_factory=set)


async def restate(
    ws: Workspace,
    events: Mapping[UUID, Event | None],
    met: Mapping[UUID, Mapping[str, tuple[Taken, ...]]],
) -> Remeant:
    """Take in what these events say now; None: they say nothing any more."""
    old = {
        (row.event, row.ordinal): STATEMENT.validate_python(row.body)
        for row in await ws.read(StatementRow, "event", events)
    }
    new = {
        (one.event, one.ordinal): one
        for event in events.values()
        if event is not None
        for one in statements_of(event, met.get(event.id, {}))
    }
    changed = {which for which in old.keys() | new.keys() if old.get(which) != new.get(which)}
    removed = [old[which] for which in changed if which in old]
    added = [new[which] for which in changed if which in new]
    ws.replace(_rows_of(removed), _rows_of(added))
    if removed:
        return await _resolve_again(ws, [*removed, *added], removed)
    return await _add(ws, added)


async def _add(ws: Workspace, added: Iterable[Statement]) -> Remeant:
    remeant = Remeant()
    tied: list[Statement] = []
    for statement in added:
        mention = await _looked_up(ws, statement)
        if mention is None:
            tied.append(statement)
        else:
            ws.put(mention)
            remeant.mentions.add((mention.event, mention.path))
            remeant.items.add(mention.item)
    if tied:
        again = await _resolve_again(ws, tied, ())
        remeant.mentions |= again.mentions
        remeant.items |= again.items
    return remeant


async def _looked_up(ws: Workspace, statement: Statement) -> MentionRow | None:
    """What a statement means that changes nothing else; None: it might."""
    subject = statement.subject
    plain = statement.says is not Says.NAME and not statement.ending and not statement.births
    if not plain or subject is None or subject.name is None:
        return None
    if statement.slot is not None:
        spoken_of = await ws.read(StatementRow, "key", [statement.slot])
        if len(spoken_of) != 1:
            return None
    times = (from_us(statement.at_us), from_us(subject.at_us))
    lives = await ws.read(ItemNameRow, "name_key", [subject.key])
    near = [
        life
        for life in lives
        if any(
            life.valid_from <= at and (life.valid_to is None or at <= life.valid_to) for at in times
        )
    ]
    if len(near) != 1:
        return None
    (life,) = near
    if not all(
        life.valid_from < at and (life.valid_to is None or at < life.valid_to) for at in times
    ):
        return None
    if statement.facts is not None and not await _is_known(ws, life.item, statement.facts):
        return None
    return MentionRow(
        statement.event,
        statement.path,
        statement.ordinal,
        life.item,
        statement.member,
        Certainty.EXACT.value,
    )


async def _is_known(ws: Workspace, item: UUID, facts: Facts) -> bool:
    """Whether a move says no more of an item than what is known: its material, again."""
    said = facts == Facts(material=facts.material, weak=True)
    return said and any(
        row.material == facts.material for row in await ws.read(ItemRow, "item", [item])
    )


async def _resolve_again(
    ws: Workspace, seeds: Sequence[Statement], removed: Sequence[Statement]
) -> Remeant:
    """Resolve everything that the statements are tied to, there or removed."""
    points: set[Point] = set()
    while True:
        part = await Gathering(ws, seeds, points).gather()
        old = await _standing(ws, part, seeds)
        identity = resolve(part.tied.values(), part.priors)
        lacking = await _lacking(ws, part, (old, identity), removed) - points
        if not lacking:
            break
        points |= lacking
    ws.replace(old.items, identity.items)
    ws.replace(old.names, identity.names)
    ws.replace(old.mentions, identity.mentions)
    ws.replace(old.alarms, identity.alarms)
    return _difference(old.mentions, identity.mentions)


async def _lacking(
    ws: Workspace, part: Part, views: tuple[Identity, Identity], removed: Sequence[Statement]
) -> set[Point]:
    """Where a part with busy names turns out to be too narrow.

    What was before a stretch is asked for; what is after it changes; an item reaches out of it.
    """
    if not part.stretches:
        return set()
    old, new = views
    beyond = new.beyond
    if removed:  # what they meant so far must be in the part, too
        beyond |= resolve([*part.tied.values(), *removed], part.priors).beyond
    points = {(key, part.priors[key].to_us) for key in beyond}
    points |= {
        (key, stretch.to_us)
        for key, stretch in part.stretches.items()
        if stretch.to_us != LATEST_US and _ending(key, part, old) != _ending(key, part, new)
    }
    return points | await _elsewhere(ws, part, old)


async def _elsewhere(ws: Workspace, part: Part, old: Identity) -> set[Point]:
    """Where the items of a part are spoken of that it does not hold."""
    held = part.tied.keys() | {(row.event, row.ordinal) for row in old.mentions}
    mentions = await ws.read(MentionRow, "item", [row.item for row in old.items])
    missing = {(row.event, row.ordinal) for row in mentions} - held
    rows = await ws.read(StatementRow, "event", {event for event, _ in missing})
    return {
        (row.key, at_us)
        for row in rows
        if (row.event, row.ordinal) in missing
        for at_us in STATEMENT.validate_python(row.body).look_ups
    }


def _ending(key: UUID, part: Part, identity: Identity) -> Ending:
    lives = [one for one in identity.names if one.name_key == key]
    return ending(lives, {row.item: row for row in identity.items}, part.priors.get(key))


async def _standing(ws: Workspace, part: Part, seeds: Iterable[Statement]) -> Identity:
    """The rows that these statements have come to so far."""
    which = {(one.event, one.ordinal) for one in seeds} | part.tied.keys()
    events = {event for event, _ in which}
    mentions = [
        row
        for row in await ws.read(MentionRow, "event", events)
        if (row.event, row.ordinal) in which
    ]
    lives = await ws.read(ItemNameRow, "name_key", part.keys)
    names = [life for life in lives if part.holds(life.name_key, life.valid_from)]
    items = {row.item for row in mentions} | {row.item for row in names}
    alarms = await ws.read(TraceAlarmRow, "owner", part.keys)
    return Identity(
        tuple(await ws.read(ItemRow, "item", items)),
        tuple(names),
        tuple(mentions),
        tuple(one for one in alarms if part.holds(one.owner, one.at)),
    )


def _difference(old: Iterable[MentionRow], new: Iterable[MentionRow]) -> Remeant:
    before, after = set(old), set(new)
    changed = before ^ after
    return Remeant({(row.event, row.path) for row in changed}, {row.item for row in changed})


def _rows_of(statements: Iterable[Statement]) -> list[StatementRow]:
    return [
        StatementRow(
            key, one.event, one.ordinal, *one.span, STATEMENT.dump_python(one, mode="json")
        )
        for one in statements
        for key in one.keys
    ]
