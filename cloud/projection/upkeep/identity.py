"""Identity kept up: what an event says of names is resolved again with all that is tied to it.

A mention inside the life of a name that only one item bears changes nothing else; it is looked up
(so that a name met a million times costs no more than one met once). All else is resolved again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
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
from cloud.projection.statements import STATEMENT, Facts, Says, Statement, statements_of
from cloud.projection.workspace import Workspace
from protocols.events import Event, from_us

Which: TypeAlias = tuple[UUID, int]  # a statement: event, ordinal


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
        return await _resolve_again(ws, [*removed, *added])
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
        again = await _resolve_again(ws, tied)
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


async def _resolve_again(ws: Workspace, seeds: Iterable[Statement]) -> Remeant:
    """Resolve everything that the statements are tied to, there or removed."""
    seeds = list(seeds)
    tied, keys = await _tied(ws, {key for one in seeds for key in one.keys})
    which = {(one.event, one.ordinal) for one in (*seeds, *tied.values())}
    old = await _standing(ws, which, keys)
    identity = resolve(tied.values())
    ws.replace(old.items, identity.items)
    ws.replace(old.names, identity.names)
    ws.replace(old.mentions, identity.mentions)
    ws.replace(old.alarms, identity.alarms)
    return _difference(old.mentions, identity.mentions)


async def _tied(ws: Workspace, keys: set[UUID]) -> tuple[dict[Which, Statement], set[UUID]]:
    """All statements that share a key with one that is tied, and all their keys."""
    tied: dict[Which, Statement] = {}
    asked: set[UUID] = set()
    while keys - asked:
        fresh = keys - asked
        asked |= fresh
        for row in await ws.read(StatementRow, "key", fresh):
            if (row.event, row.ordinal) not in tied:
                statement = STATEMENT.validate_python(row.body)
                tied[row.event, row.ordinal] = statement
                keys = keys | statement.keys
    return tied, asked


async def _standing(ws: Workspace, which: set[Which], keys: set[UUID]) -> Identity:
    """The rows that these statements have come to so far."""
    mentions = [
        row
        for row in await ws.read(MentionRow, "event", {event for event, _ in which})
        if (row.event, row.ordinal) in which
    ]
    names = await ws.read(ItemNameRow, "name_key", keys)
    items = {row.item for row in mentions} | {row.item for row in names}
    return Identity(
        tuple(await ws.read(ItemRow, "item", items)),
        tuple(names),
        tuple(mentions),
        tuple(await ws.read(TraceAlarmRow, "owner", keys)),
    )


def _difference(old: Iterable[MentionRow], new: Iterable[MentionRow]) -> Remeant:
    before, after = set(old), set(new)
    changed = before ^ after
    return Remeant({(row.event, row.path) for row in changed}, {row.item for row in changed})


def _rows_of(statements: Iterable[Statement]) -> list[StatementRow]:
    return [
        StatementRow(key, one.event, one.ordinal, STATEMENT.dump_python(one, mode="json"))
        for one in statements
        for key in one.keys
    ]
