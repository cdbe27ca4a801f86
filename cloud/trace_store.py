"""Rows of the projection in PostgreSQL: all SQL of the workspace, made from the row classes.

Rule 1: one connection, inside the caller's transaction; names are found by its search path.
"""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from types import UnionType
from typing import Any, Final, LiteralString, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from cloud.db import AsyncConnection, Jsonb, sql
from cloud.projection.holders import Order
from cloud.projection.rows import MEMORY, VIEW, HolderOpRow, Row, StatementRow
from cloud.projection.workspace import Changes, Tail, Version
from protocols.events import Event, decode_event

COPY_MIN: Final = 50  # rows from which on COPY is cheaper than arrays


class PostgresStore:
    """Answers a `Workspace` from tables. `rows_read` counts what was answered."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.rows_read = 0

    async def read(
        self, kind: type[Row], column: str, values: Collection[Any]
    ) -> Sequence[Version]:
        plan = _PLANS[kind]
        rows = await self._rows(plan.reads[column], [list(values)])
        return [plan.version(row) for row in rows]

    async def events(self, ids: Collection[UUID]) -> Sequence[Event]:
        rows = await self._rows(_EVENTS, [list(ids)])
        return [decode_event(body) for (body,) in rows]

    async def tails(self, holders: Collection[str]) -> dict[str, Tail]:
        rows = await self._rows(_TAILS, [list(holders)])
        return {
            row[0]: Tail((row[1], row[2], row[3], row[4]), _op_or_none(row[5:])) for row in rows
        }

    async def state_before(self, holder: str, order: Order) -> HolderOpRow | None:
        rows = await self._rows(_STATE_BEFORE, [holder, holder, *order])
        return _op_or_none(rows[0]) if rows else None

    async def ops_from(self, holder: str, order: Order, limit: int) -> Sequence[HolderOpRow]:
        rows = await self._rows(_OPS_FROM, [holder, holder, *order, limit])
        return [HolderOpRow(*row) for row in rows]

    async def count_passes(self, line: UUID, low: Decimal, high: Decimal) -> int:
        rows = await self._rows(_COUNT_PASSES, [line, low, high])
        return int(rows[0][0])

    async def read_few(
        self, kind: type[Row], column: str, values: Collection[Any], most: int
    ) -> Sequence[Version]:
        plan = _PLANS[kind]
        rows = await self._rows(plan.few[column], [list(values), most])
        return [plan.version(row) for row in rows]

    async def statements_within(
        self, key: UUID, from_us: int, to_us: int
    ) -> Sequence[StatementRow]:
        rows = await self._rows(_WITHIN, [key, from_us, to_us, key, from_us, from_us])
        return [StatementRow(*row) for row in rows]

    async def write(self, changes: dict[type[Row], Changes]) -> None:
        many: list[tuple[_Plan, list[tuple[Any, ...]]]] = []
        async with self._connection.pipeline():
            for kind, one in changes.items():
                plan = _PLANS[kind]
                await self._end(plan, one)
                rows = _rows_to_add(plan, one)
                if len(rows) >= COPY_MIN:
                    many.append((plan, rows))
                elif rows:
                    await self._connection.execute(plan.add, _columns(rows, len(rows[0])))
        for plan, rows in many:  # a pipeline has no COPY
            await self._copy(plan, rows)

    async def _end(self, plan: "_Plan", changes: Changes) -> None:
        if changes.removed:
            keys = _columns(changes.removed, len(plan.key))
            await self._connection.execute(plan.remove, keys)
        if changes.ended:
            keys = _columns([key for key, _ in changes.ended], len(plan.key))
            ends = [known_to for _, known_to in changes.ended]
            await self._connection.execute(plan.end, [*keys, ends])

    async def _copy(self, plan: "_Plan", rows: Sequence[tuple[Any, ...]]) -> None:
        async with self._connection.cursor() as cursor, cursor.copy(plan.copy) as copy:
            for row in rows:
                await copy.write_row(row)

    async def _rows(self, query: str, given: Sequence[Any]) -> list[Any]:
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(query, given)
            rows = await cursor.fetchall()
        self.rows_read += len(rows)
        return rows


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is said to PostgreSQL about one table."""

    kind: type[Row]
    key: tuple[str, ...]
    get: Callable[[Row], tuple[Any, ...]]
    known: bool
    width: int
    jsons: frozenset[int]
    reads: dict[str, str]
    few: dict[str, str]
    remove: str
    end: str
    add: str
    copy: str

    def version(self, row: Sequence[Any]) -> Version:
        known_from = row[-1] if self.known else 0
        return Version(self.kind(*row[: self.width]), known_from)

    def values(self, row: Row) -> tuple[Any, ...]:
        values = self.get(row)
        return tuple(
            Jsonb(value) if i in self.jsons and value is not None else value
            for i, value in enumerate(values)
        )


def _plan(kind: type[Row]) -> _Plan:
    table = kind.TABLE
    names = _names(kind)
    types = _types(kind)
    known_types = {**types, "known_from": "int8", "known_to": "int8"}
    written = (*names, "known_from", "known_to") if table.known else names
    shown = (*names, "known_from") if table.known else names
    current = sql.SQL(" and known_to is null") if table.known else sql.SQL("")
    parts = {
        "table": sql.Identifier(table.name),
        "shown": _listed(shown),
        "written": _listed(written),
        "current": current,
        "keys": _listed(table.key),
        "given_keys": _unnested([types[name] for name in table.key]),
        "given_ends": _unnested([*(types[name] for name in table.key), "int8"]),
        "given": _unnested([known_types[name] for name in written]),
        "same": sql.SQL(" and ").join(
            sql.SQL("t.{0} = k.{0}").format(sql.Identifier(name)) for name in table.key
        ),
    }
    found = "select {shown} from {table} where {column} = any(%s){current}"
    few = (
        "select f.* from unnest(%s::{type}[]) as asked (value) cross join lateral"
        " (select {shown} from {table} where {column} = asked.value{current} limit %s) f"
    )
    remove = "delete from {table} t using {given_keys} as k ({keys}) where {same}{current}"
    end = (
        "update {table} t set known_to = k.ends from {given_ends} as k ({keys}, ends)"
        " where {same}{current}"
    )
    add = "insert into {table} ({written}) select * from {given}"
    return _Plan(
        kind,
        table.key,
        operator.attrgetter(*names),
        table.known,
        len(names),
        frozenset(i for i, name in enumerate(names) if types[name] == "jsonb"),
        {
            column: _said(found, {**parts, "column": sql.Identifier(column)})
            for column in table.found_by
        },
        {
            column: _said(
                few, {**parts, "column": sql.Identifier(column), "type": sql.SQL(types[column])}
            )
            for column in table.found_by
        },
        _said(remove, parts),
        _said(end, parts),
        _said(add, parts),
        _said("copy {table} ({written}) from stdin", parts),
    )


def _said(text: LiteralString, parts: Mapping[str, sql.Composable]) -> str:
    """Put together once: psycopg remembers what it made of a text, not of its parts."""
    return sql.SQL(text).format(**parts).as_string()


def _names(kind: type[Row]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))  # type: ignore[arg-type]  # rows are dataclasses


def _types(kind: type[Row]) -> dict[str, str]:
    hints = get_type_hints(kind)
    return {name: _type_of(hints[name]) for name in _names(kind)}


def _type_of(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (one for one in get_args(hint) if one is not type(None))
    return _SQL_TYPES[hint]


_SQL_TYPES: Final = {
    UUID: "uuid",
    str: "text",
    int: "int8",
    bool: "boolean",
    float: "float8",
    Decimal: "numeric",
    datetime: "timestamptz",
    Any: "jsonb",
}


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _unnested(types: Sequence[str]) -> sql.Composed:
    arrays = sql.SQL(", ").join(sql.SQL("%s::" + one + "[]") for one in types)
    return sql.SQL("unnest({})").format(arrays)


def _rows_to_add(plan: _Plan, changes: Changes) -> list[tuple[Any, ...]]:
    if not plan.known:
        return [plan.values(one.row) for one in changes.added]
    rows = [(*plan.values(one.row), one.known_from, None) for one in changes.added]
    return rows + [(*plan.values(p.row), p.known_from, p.known_to) for p in changes.past]


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[i] for row in rows] for i in range(width)]


def _op_or_none(row: Sequence[Any]) -> HolderOpRow | None:
    return None if row[0] is None else HolderOpRow(*row)


_OP_COLUMNS: Final = _listed(_names(HolderOpRow))
_PLANS: Final = {kind: _plan(kind) for kind in (*VIEW, *MEMORY)}

_EVENTS: Final = "select body::text from event where id = any(%s)"
_COUNT_PASSES: Final = "select count(*) from pass where line = %s and count between %s and %s"


def _query(text: LiteralString) -> str:
    return _said(text, {"columns": _OP_COLUMNS})


# What begins in the stretch, and what began before and reaches into it.
_WITHIN: Final = _said(
    "select {columns} from statement where key = %s and from_us >= %s and from_us < %s"
    " union all select {columns} from statement"
    " where key = %s and to_us > from_us and to_us >= %s and from_us < %s",
    {"columns": _listed(_names(StatementRow))},
)
_STATE_BEFORE: Final = _query(
    "select {columns} from holder_op where md5(holder) = md5(%s) and holder = %s"
    " and state is not null and (at_us, rank, event, ordinal) < (%s, %s, %s, %s)"
    " order by at_us desc, rank desc, event desc, ordinal desc limit 1"
)
_OPS_FROM: Final = _query(
    "select {columns} from holder_op where md5(holder) = md5(%s) and holder = %s"
    " and (at_us, rank, event, ordinal) >= (%s, %s, %s, %s)"
    " order by at_us, rank, event, ordinal limit %s"
)
_TAILS: Final = _query(
    """
    select asked.holder, l.at_us, l.rank, l.event, l.ordinal, s.*
    from unnest(%s::text[]) as asked (holder)
    cross join lateral (
        select at_us, rank, event, ordinal from holder_op o
        where md5(o.holder) = md5(asked.holder) and o.holder = asked.holder
        order by at_us desc, rank desc, event desc, ordinal desc limit 1
    ) l
    left join lateral (
        select {columns} from holder_op o
        where md5(o.holder) = md5(asked.holder) and o.holder = asked.holder
          and state is not null
        order by at_us desc, rank desc, event desc, ordinal desc limit 1
    ) s on true
    """
)
