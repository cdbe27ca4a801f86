"""Items by name, and the rows that their stories are told from: the view as known today."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final
from uuid import UUID

from cloud.db import AsyncConnection

CANDIDATES_MAX: Final = 50
NEAR_MAX: Final = 5
NAME_INDEXED: Final = 64  # characters of a name that its index carries
DEPTH_MAX: Final = 16  # of the tree of components; a cycle ends where it meets itself
LINKS_MAX: Final = 5000


@dataclass(frozen=True, slots=True)
class NameRow:
    scheme: str
    issuer: str
    value: str
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item with its names, the oldest first."""

    item: UUID
    kind: str
    material: str | None
    revision: str | None
    order_no: str | None
    qty: Decimal | None
    uom: str | None
    purpose: str
    born_at: datetime | None
    ended_at: datetime | None
    met_at: datetime
    stub: bool
    names: tuple[NameRow, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkRow:
    """One link of a tree; `depth` from 1. `child`, `parent` None: unknown, or the holder itself."""

    depth: int
    relation: str
    child: UUID | None
    parent: UUID | None
    holder: str | None
    place: str
    qty: Decimal | None
    uom: str | None
    from_at: datetime
    to_at: datetime | None
    certainty: str
    pass_id: UUID | None


@dataclass(frozen=True, slots=True)
class StateRow:
    subject: UUID
    state: str
    from_at: datetime
    to_at: datetime | None
    case_no: str | None
    reason: str | None
    by: str


async def items_by_name(
    connection: AsyncConnection,
    sites: Sequence[str] | None,
    name: str,
    scheme: str | None,
    issuer: str | None,
) -> list[ItemRow]:
    """Every item that has or had this name, the newest first. A token's sites see what they met."""
    found = await connection.execute(
        """
        select distinct n.item, i.met_at from item_name n join item i using (item)
        where n.value = %(name)s and n.known_to is null
          and (%(scheme)s::text is null or n.scheme = %(scheme)s)
          and (%(issuer)s::text is null or n.issuer = %(issuer)s)
        order by i.met_at desc, n.item limit %(limit)s
        """,
        {"name": name, "scheme": scheme, "issuer": issuer, "limit": CANDIDATES_MAX},
    )
    rows = await items(connection, [item for item, _ in await found.fetchall()])
    seen = await _seen(connection, sites, list(rows))
    return [row for key, row in rows.items() if key in seen]


async def near_names(
    connection: AsyncConnection, sites: Sequence[str] | None, name: str
) -> list[str]:
    """Names that begin like this one: a mistyped or cut scan. The index carries the first 64."""
    head = name[: max(3, len(name) // 2)][:NAME_INDEXED]
    found = await connection.execute(
        """
        select distinct n.value, n.item from item_name n
        where n.known_to is null
          and left(n.value, 64) like %(like)s
        limit 500
        """,
        {"like": re.sub(r"([\\\\%_])", r"\\\1", head) + "%"},
    )
    rows = await found.fetchall()
    seen = await _seen(connection, sites, [item for _, item in rows])
    values = sorted({value for value, item in rows if item in seen})
    return get_close_matches(name, values, NEAR_MAX, 0.5) or values[:NEAR_MAX]


async def item_by_id(
    connection: AsyncConnection, sites: Sequence[str] | None, item: UUID
) -> ItemRow | None:
    """The item of this id, or the one that an id given out earlier belongs to by now."""
    found = await connection.execute(
        """
        select %(id)s::uuid where exists (select from item where item = %(id)s)
        union all
        select item from mention where member = %(id)s limit 1
        """,
        {"id": item},
    )
    row = await found.fetchone()
    if row is None or row[0] not in await _seen(connection, sites, [row[0]]):
        return None
    return (await items(connection, [row[0]])).get(row[0])


async def items(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, ItemRow]:
    """These items with their names, in the order asked."""
    if not ids:
        return {}
    names = await connection.execute(
        "select item, scheme, issuer, value, valid_from, valid_to from item_name"
        " where item = any(%s) and known_to is null order by valid_from, scheme, value",
        (list(ids),),
    )
    by_item: dict[UUID, list[NameRow]] = {}
    for item, *name in await names.fetchall():
        by_item.setdefault(item, []).append(NameRow(*name))
    found = await connection.execute(
        "select item, kind, material, revision, order_no, qty, uom, purpose, born_at, ended_at,"
        " met_at, stub from item where item = any(%s)",
        (list(ids),),
    )
    rows = {
        row[0]: replace(ItemRow(*row), names=tuple(by_item.get(row[0], ())))
        for row in await found.fetchall()
    }
    return {item: rows[item] for item in ids if item in rows}


async def links_below(connection: AsyncConnection, item: UUID) -> list[LinkRow]:
    """What went into the item, and into that, down to DEPTH_MAX."""
    return await _links(connection, item, _BELOW)


async def links_above(connection: AsyncConnection, item: UUID) -> list[LinkRow]:
    """What the item went into, or is in, and that, up to DEPTH_MAX."""
    return await _links(connection, item, _ABOVE)


async def states(connection: AsyncConnection, subjects: Sequence[UUID]) -> list[StateRow]:
    """States of items and passes, in order of time."""
    found = await connection.execute(
        "select subject, state, from_at, to_at, case_no, reason, by from state"
        " where subject = any(%s) and known_to is null order by from_at, state",
        (list(subjects),),
    )
    return [StateRow(*row) for row in await found.fetchall()]


async def alarms(connection: AsyncConnection, item: UUID) -> list[dict[str, Any]]:
    """Alarms about the names, the passes and the events of an item."""
    found = await connection.execute(
        """
        select name, at, text from trace_alarm
        where owner in (
            select name_key from item_name where item = %(item)s and known_to is null
            union all select member from mention where item = %(item)s
            union all select event from mention where item = %(item)s
        )
        order by at, name, text
        """,
        {"item": item},
    )
    return [{"name": name, "at": at, "text": text} for name, at, text in await found.fetchall()]


_TREE: Final = """
    with recursive tree as (
        select 1 as depth, l.*, array[l.{near}] as path from link l
        where l.{near} = %(item)s and l.known_to is null
        union all
        select t.depth + 1, l.*, t.path || l.{near} from tree t join link l on l.{near} = t.{far}
        where l.known_to is null and t.depth < %(depth)s and not l.{near} = any(t.path)
    )
    select depth, relation, child, parent, holder, place, qty, uom, from_at, to_at, certainty,
           pass_id
    from tree order by depth, from_at, place, link limit %(limit)s
"""
_BELOW: Final = _TREE.format(near="parent", far="child")
_ABOVE: Final = _TREE.format(near="child", far="parent")


async def _links(connection: AsyncConnection, item: UUID, query: str) -> list[LinkRow]:
    found = await connection.execute(query, {"item": item, "depth": DEPTH_MAX, "limit": LINKS_MAX})
    return [LinkRow(*row) for row in await found.fetchall()]


async def _seen(
    connection: AsyncConnection, sites: Sequence[str] | None, ids: Sequence[UUID]
) -> set[UUID]:
    """Which of these items the sites have met in an event of theirs."""
    if sites is None or not ids:
        return set(ids)
    found = await connection.execute(
        "select distinct m.item from mention m join event e on e.id = m.event"
        " where m.item = any(%s) and e.site = any(%s)",
        (list(ids), list(sites)),
    )
    return {item for (item,) in await found.fetchall()}
