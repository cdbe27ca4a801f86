"""The tables of masters: records in, and out of them what the projection depends on."""

import json
from collections.abc import Mapping
from datetime import datetime, time
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter

from cloud.db import AsyncConnection, Jsonb, sql
from cloud.master_records import Record
from cloud.projection.holders import Discipline
from cloud.projection.masters import Masters
from cloud.projection.shifts import Calendar

_MASTERS: Final = TypeAdapter(Masters)


class Kept(StrEnum):
    """What became of a record."""

    NEW = "new"
    CHANGED = "changed"
    REPEAT = "repeat"


async def keep(connection: AsyncConnection, record: Record) -> Kept:
    """A record of the same key and `valid_from` is replaced; the same again changes nothing."""
    values = _values(record)
    cursor = await connection.execute(_upsert(record, tuple(values)), list(values.values()))
    row = await cursor.fetchone()
    if row is None:
        return Kept.REPEAT
    return Kept.NEW if row[0] else Kept.CHANGED


async def read_masters(connection: AsyncConnection) -> Masters:
    """As they stand now. A holder's discipline holds for all its time: the latest record counts."""
    holders = await (await connection.execute(_HOLDERS)).fetchall()
    calendars = await (await connection.execute(_CALENDARS)).fetchall()
    by_site: dict[str, list[Calendar]] = {}
    for site, zone, shifts, valid_from in calendars:
        by_site.setdefault(site, []).append(_calendar(zone, shifts, valid_from))
    return Masters({holder: Discipline(discipline) for holder, discipline in holders}, by_site)


def to_text(masters: Masters) -> str:
    """What the view was made with, as it is kept beside it."""
    return json.dumps(_MASTERS.dump_python(masters, mode="json"), sort_keys=True)


def from_text(text: str) -> Masters:
    return _MASTERS.validate_json(text) if text else Masters()


def _values(record: Record) -> Mapping[str, Any]:
    """Columns as the table has them: the kind of a record is its table."""
    values = record.model_dump(exclude={"kind"})
    if "item_kind" in values:
        values["kind"] = values.pop("item_kind")
    if "shifts" in values:
        said = record.model_dump(mode="json")["shifts"]
        values["shifts"] = Jsonb([{**one, "start": one["start"][:5]} for one in said])
    return {name: list(one) if isinstance(one, tuple) else one for name, one in values.items()}


def _upsert(record: Record, columns: tuple[str, ...]) -> sql.Composed:
    key = (*record.KEY, "valid_from")
    rest = [name for name in columns if name not in key]
    return sql.SQL(
        "insert into {table} as t ({columns}) values ({values}) on conflict ({key})"
        " do update set {sets} where {differs} returning xmax = 0"
    ).format(
        table=sql.Identifier(record.TABLE),
        columns=_listed(columns),
        values=sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
        key=_listed(key),
        sets=sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in rest
        ),
        differs=sql.SQL("({}) is distinct from ({})").format(
            sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in rest),
            sql.SQL(", ").join(
                sql.SQL("excluded.{}").format(sql.Identifier(name)) for name in rest
            ),
        ),
    )


def _listed(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _calendar(zone: str, shifts: list[dict[str, Any]], valid_from: datetime) -> Calendar:
    starts = tuple((one["name"], time.fromisoformat(one["start"])) for one in shifts)
    return Calendar(zone, starts, valid_from)


_HOLDERS: Final = "select holder, discipline from holder order by valid_from"
_CALENDARS: Final = "select site, zone, shifts, valid_from from calendar order by site, valid_from"
