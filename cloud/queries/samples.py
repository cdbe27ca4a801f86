"""Samples by tag and time, in pages that hold still while production goes on.

A page is found by (time, frame, position): a row has no identity of its own, but a frame is stored
once and whole, and rows that agree in all they say are the same to a reader.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from cloud.db import AsyncConnection
from protocols.errors import Rejected
from protocols.events import from_us, to_us
from protocols.samples import DataType, ValueClass

_CURSOR: Final = struct.Struct("<qqI")


class Cursor(NamedTuple):
    """Where a page ended: its last row's time (µs) and frame, and how many rows of both it had."""

    time_us: int
    frame: int
    taken: int

    def text(self) -> str:
        return base64.urlsafe_b64encode(_CURSOR.pack(*self)).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """Rejected: not a cursor of ours."""
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return Cursor(*_CURSOR.unpack(packed))
    except (binascii.Error, ValueError, struct.error) as error:
        raise Rejected("not a cursor that this API gave") from error


@dataclass(frozen=True, slots=True)
class TagVersion:
    """A tag of one type; `declared`: what was last said of it, None for a stub."""

    tag: int
    site: str
    path: str
    type: DataType
    unit: str
    address: str
    station: str
    nest: str
    agent: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One stored sample; `value` as JSON shows it, 64-bit integers as text."""

    time: datetime
    path: str
    type: DataType
    value: Any
    quality: int
    code: int | None
    agent_time: datetime
    device_time: datetime | None


@dataclass(frozen=True, slots=True)
class SamplePage:
    rows: tuple[SampleRow, ...]
    next: Cursor | None


async def tag_versions(
    connection: AsyncConnection,
    sites: Sequence[str] | None,
    *,
    like: str = "",
    path: str | None = None,
    after: str = "",
    limit: int = 1000,
) -> list[TagVersion]:
    """Tag versions by path, in order of path; `like` is a part of the path."""
    found = await connection.execute(
        """
        select t.tag, s.name, t.path, t.type, l.unit, l.address, l.station, l.nest, a.name, l.since
        from tag t
        join site s using (site_id)
        left join lateral (
            select * from tag_line l where l.tag = t.tag order by l.since desc limit 1
        ) l on true
        left join agent a on a.agent_id = l.agent_id
        where (%(sites)s::text[] is null or s.name = any(%(sites)s))
          and (%(path)s::text is null or t.path = %(path)s)
          and position(%(like)s in t.path) > 0
          and t.path > %(after)s
        order by t.path, t.tag
        limit %(limit)s
        """,
        {
            "sites": None if sites is None else list(sites),
            "path": path,
            "like": like,
            "after": after,
            "limit": limit,
        },
    )
    return [_version(row) for row in await found.fetchall()]


async def sample_page(
    connection: AsyncConnection,
    tags: Sequence[TagVersion],
    since: datetime,
    until: datetime,
    cursor: Cursor | None,
    limit: int,
) -> SamplePage:
    """Rows with since ≤ time < until, by time; whole arrays come from their own table."""
    start = since if cursor is None else max(since, from_us(cursor.time_us))
    skip = 0 if cursor is None else cursor.taken
    by_id = {tag.tag: tag for tag in tags}
    table = _LISTS if any(tag.type.is_array for tag in tags) else _PLAIN
    found = await connection.execute(
        table,
        {
            "tags": list(by_id),
            "since": start,
            "until": until,
            "after_frame": -1 if cursor is None else cursor.frame,
            "after_time": start,
            "limit": limit + 1 + skip,
        },
    )
    rows = (await found.fetchall())[skip:]
    page = [(_row(by_id[row[0]], row), row[1]) for row in rows[:limit]]
    return SamplePage(
        tuple(row for row, _ in page), _next(page, cursor) if len(rows) > limit else None
    )


# Rows before (after_time, after_frame) are gone already; those of exactly it may be half taken.
# The order goes on over the values, so that rows of one time and frame stand still between pages.
_WHERE: Final = """
    where tag = any(%(tags)s) and time >= %(since)s and time < %(until)s
      and (time > %(after_time)s or frame >= %(after_frame)s)
    order by time, frame, tag, 8, 9, 10, 11, quality, code
    limit %(limit)s
"""
_PLAIN: Final = (
    "select tag, frame, time, quality, code, agent_time, device_time, f64, i64, text, bytes "
    "from sample" + _WHERE
)
_LISTS: Final = (
    "select tag, frame, time, quality, code, agent_time, device_time, f64s, i64s, texts, bools "
    "from sample_list" + _WHERE
)


def _version(row: Sequence[Any]) -> TagVersion:
    tag, site, path, kind, *declared, since = row
    unit, address, station, nest, agent = (text or "" for text in declared)
    return TagVersion(tag, site, path, DataType(kind), unit, address, station, nest, agent, since)


def _next(page: Sequence[tuple[SampleRow, int]], before: Cursor | None) -> Cursor:
    last, frame = page[-1]
    time_us = to_us(last.time)
    taken = sum(1 for row, one in page if one == frame and row.time == last.time)
    if before is not None and (before.time_us, before.frame) == (time_us, frame):
        taken += before.taken
    return Cursor(time_us, frame, taken)


def _row(tag: TagVersion, row: Sequence[Any]) -> SampleRow:
    _, _, time, quality, code, agent_time, device_time, *values = row
    return SampleRow(
        time,
        tag.path,
        tag.type,
        shown(tag.type, next((value for value in values if value is not None), None)),
        quality or 0,
        code,
        agent_time or time,
        device_time,
    )


def shown(kind: DataType, value: Any) -> Any:
    """A stored value as JSON holds it exactly: 64-bit integers, times as text; bytes in hex."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, list):
        return [shown(kind.element, one) for one in value]
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # NaN and infinity have no JSON
    return _shown_integer(kind, value)


def _shown_integer(kind: DataType, value: int) -> Any:
    if kind.value_class is ValueClass.BOOL:
        return bool(value)
    if kind is DataType.UINT64:
        return str(value % 2**64)
    if kind is DataType.DATETIME:
        whole, part = divmod(value, 1_000_000_000)
        return f"{from_us(whole * 1_000_000):%Y-%m-%dT%H:%M:%S}.{part:09d}Z"
    return str(value) if kind in _WIDE else value


_WIDE: Final = {DataType.INT64, DataType.DATE, DataType.TIME, DataType.DURATION}
