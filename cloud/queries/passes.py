"""Passes of items, their values, curves and samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import numpy as np

from cloud.db import AsyncConnection
from cloud.queries.samples import TagVersion, shown
from protocols.samples import DataType

SAMPLES_MAX: Final = 50_000  # of one pass


@dataclass(frozen=True, slots=True)
class PassRow:
    """A pass as one of its items met it. `count` unwrapped; `windows`: device, from, to."""

    pass_id: UUID
    site: str
    station: str
    nest: str
    operation: str
    series: str
    count: Decimal
    at: datetime
    started: datetime | None
    ended: datetime | None
    ended_by: str | None
    windows: list[dict[str, Any]]
    recipe: str | None
    purpose: str
    binding_rev: str
    missing: list[str]
    item: UUID | None
    place: str
    role: str
    verdict: str
    how: str
    certainty: str
    defects: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ValueRow:
    pass_id: UUID
    name: str
    place: str
    value: Any
    unit: str
    low: float | None
    high: float | None
    ok: bool | None
    critical: bool
    quality: int
    method: str


@dataclass(frozen=True, slots=True)
class CurveRow:
    """A curve as announced; `arrived`: its points are here."""

    pass_id: UUID
    name: str
    place: str
    axis: str
    units: list[str]
    n: int
    sha256: str
    arrived: bool


@dataclass(frozen=True, slots=True)
class CurveData:
    """The points: one list a column, the axis first."""

    axis: str
    columns: list[str]
    units: list[str]
    n: int
    sha256: str
    points: list[list[float | None]]


async def passes_of(connection: AsyncConnection, item: UUID) -> list[PassRow]:
    """Every pass that the item met, in order of time."""
    found = await connection.execute(
        _PASSES + "where i.item = %s and i.known_to is null"
        " order by p.at, p.count, p.pass_id, i.slot",
        (item,),
    )
    return [PassRow(*row) for row in await found.fetchall()]


async def pass_by_id(
    connection: AsyncConnection, sites: Sequence[str] | None, pass_id: UUID
) -> PassRow | None:
    found = await connection.execute(
        _PASSES + "where p.pass_id = %s and (%s::text[] is null or p.site = any(%s)) limit 1",
        (pass_id, *([None if sites is None else list(sites)] * 2)),
    )
    row = await found.fetchone()
    return None if row is None else PassRow(*row)


async def values_of(connection: AsyncConnection, passes: Sequence[UUID]) -> list[ValueRow]:
    found = await connection.execute(
        "select pass_id, name, place, num, int_num, text, flag, unit, low, high, ok, critical,"
        " quality, method from value where pass_id = any(%s) order by pass_id, ordinal",
        (list(passes),),
    )
    return [
        ValueRow(row[0], row[1], row[2], _value(row[3:7]), *row[7:])
        for row in await found.fetchall()
    ]


async def curves_of(connection: AsyncConnection, passes: Sequence[UUID]) -> list[CurveRow]:
    found = await connection.execute(
        """
        select a.pass_id, a.name, a.place, a.axis, a.units, a.n, a.sha256,
               exists (select from curve c where c.pass_id = a.pass_id and c.sha256 = a.sha256
                       and c.name = a.name and c.place = a.place)
        from pass_curve a where a.pass_id = any(%s) order by a.pass_id, a.ordinal
        """,
        (list(passes),),
    )
    return [CurveRow(*row) for row in await found.fetchall()]


async def curve_data(
    connection: AsyncConnection, pass_id: UUID, name: str, place: str
) -> CurveData | None:
    """None: not announced, or not here yet."""
    found = await connection.execute(
        """
        select c.axis, c.columns, c.units, c.n, c.sha256, c.data from pass_curve a
        join curve c using (pass_id, name, place, sha256)
        where a.pass_id = %s and a.name = %s and a.place = %s
        """,
        (pass_id, name, place),
    )
    row = await found.fetchone()
    if row is None:
        return None
    axis, columns, units, n, sha256, data = row
    points = np.frombuffer(data, "<f8").reshape(len(columns), n)
    return CurveData(
        axis, columns, units, n, sha256, [[_finite(one) for one in column] for column in points]
    )


async def samples_of(
    connection: AsyncConnection, met: PassRow
) -> list[tuple[TagVersion, list[tuple[datetime, Any, int]]]]:
    """Per tag of the pass's devices the last sample at or before the start, and all to the end.

    Tags declared for another station or nest are left out.
    """
    found: dict[int, tuple[TagVersion, list[tuple[datetime, Any, int]]]] = {}
    for window in met.windows:
        tags = await _tags(connection, met, window["device"])
        rows = await connection.execute(
            _WINDOW,
            {
                "tags": list(tags),
                "from": window["from"],
                "to": window.get("to") or met.ended or met.at,
                "limit": SAMPLES_MAX,
            },
        )
        for tag, time, quality, *values in await rows.fetchall():
            version = tags[tag]
            value = next((one for one in values if one is not None), None)
            entry = found.setdefault(tag, (version, []))
            entry[1].append((time, shown(version.type, value), quality or 0))
    return sorted(found.values(), key=lambda one: one[0].path)


async def _tags(connection: AsyncConnection, met: PassRow, device: str) -> dict[int, TagVersion]:
    found = await connection.execute(
        """
        select t.tag, t.path, t.type, coalesce(l.unit, ''), coalesce(l.station, ''),
               coalesce(l.nest, ''), l.since
        from tag t join site s using (site_id)
        left join lateral (
            select * from tag_line l where l.tag = t.tag and l.since <= %(at)s
            order by l.since desc limit 1
        ) l on true
        where s.name = %(site)s and starts_with(t.path, %(device)s)
          and coalesce(l.station, '') in ('', %(station)s)
          and coalesce(l.nest, '') in ('', %(nest)s)
        """,
        {
            "at": met.at,
            "site": met.site,
            "device": f"{device}.",
            "station": met.station,
            "nest": met.nest,
        },
    )
    return {
        tag: TagVersion(tag, met.site, path, DataType(kind), unit, "", station, nest, "", since)
        for tag, path, kind, unit, station, nest, since in await found.fetchall()
    }


def _value(columns: Sequence[Any]) -> Any:
    num, int_num, text, flag = columns
    if int_num is not None:
        return str(int_num) if abs(int_num) > 2**53 else int(int_num)
    return next((one for one in (num, text, flag) if one is not None), None)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


_PASSES: Final = """
    select p.pass_id, p.site, p.station, p.nest, p.operation, p.series, p.count, p.at, p.started,
           p.ended, p.ended_by, p.windows, p.recipe, p.purpose, p.binding_rev, p.missing,
           i.item, coalesce(i.place, ''), coalesce(i.role, ''), coalesce(i.verdict, ''),
           coalesce(i.how, ''), coalesce(i.certainty, ''), coalesce(i.defects, '[]')
    from pass p left join pass_item i on i.pass_id = p.pass_id and i.known_to is null
"""
_WINDOW: Final = """
    select * from (
        select b.* from unnest(%(tags)s::int4[]) t(tag)
        cross join lateral (
            select tag, time, quality, f64, i64, text, bytes from sample s
            where s.tag = t.tag and s.time <= %(from)s order by s.time desc limit 1
        ) b
        union all
        select tag, time, quality, f64, i64, text, bytes from sample
        where tag = any(%(tags)s) and time > %(from)s and time <= %(to)s
    ) w order by tag, time limit %(limit)s
"""
