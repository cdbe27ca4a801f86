"""What frames other than samples and events bring: declarations, stretches, curves."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from cloud.db import AsyncConnection, Jsonb
from cloud.ledger import Entry, signed
from cloud.tags import TagBook
from protocols.codec import Curve, curve_sha256
from protocols.notices import Drop, Outage, Stretch, TagLine
from protocols.samples import Tag


async def insert_tag_lines(
    connection: AsyncConnection, tags: TagBook, entries: Sequence[Entry]
) -> None:
    rows = [
        _tag_row(entry, line, tags) for entry in entries for line in entry.accepted.contents.tags
    ]
    if rows:
        await connection.cursor().executemany(_TAG_LINE, rows)


async def insert_stretches(connection: AsyncConnection, entries: Sequence[Entry]) -> None:
    rows = [
        _stretch_row(entry, at, stretch)
        for entry in entries
        for at, stretch in enumerate(entry.accepted.contents.stretches)
    ]
    if rows:
        await connection.cursor().executemany(_STRETCH, rows)


async def insert_curves(connection: AsyncConnection, entries: Sequence[Entry]) -> None:
    """A curve that is there already is the same one: its name is its content."""
    found = [(entry, entry.accepted.contents.curve) for entry in entries]
    rows = [_curve_row(entry, curve) for entry, curve in found if curve is not None]
    if rows:
        await connection.cursor().executemany(_CURVE, rows)


def curve_data(curve: Curve) -> bytes:
    """float64, little-endian, column after column."""
    return b"".join(np.ascontiguousarray(column, "<f8").tobytes() for column in curve.data)


_TAG_LINE: Final = """
    insert into tag_line (
        tag, since, agent_id, unit, scale, "offset", address, station, nest, report, was, frame
    )
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict do nothing
"""

_STRETCH: Final = """
    insert into stretch (
        frame, line, kind, agent_id, epoch, lane, from_time, to_time, from_seq, to_seq, reason, rows
    )
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

_CURVE: Final = """
    insert into curve (
        pass_id, name, place, sha256, site_id, axis, columns, units, n, data, frame
    )
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict do nothing
"""

_KINDS: Final[dict[type[Stretch], str]] = {Outage: "outage", Drop: "drop"}


def _tag_row(entry: Entry, line: TagLine, tags: TagBook) -> tuple[Any, ...]:
    agent = entry.accepted.agent
    return (
        tags.tag_id(agent.site_id, Tag(line.path, line.type)),
        line.since,
        agent.agent_id,
        line.unit,
        line.scale,
        line.offset,
        line.address,
        line.station,
        line.nest,
        None if line.report is None else Jsonb(line.report),
        line.was,
        entry.frame,
    )


def _stretch_row(entry: Entry, at: int, stretch: Stretch) -> tuple[Any, ...]:
    epoch = entry.header.epoch if stretch.epoch is None else stretch.epoch
    return (
        entry.frame,
        at,
        _KINDS.get(type(stretch), "release"),
        entry.accepted.agent.agent_id,
        signed(epoch),
        stretch.lane,
        stretch.from_time,
        stretch.to_time,
        stretch.from_seq,
        stretch.to_seq,
        stretch.reason,
        stretch.rows,
    )


def _curve_row(entry: Entry, curve: Curve) -> tuple[Any, ...]:
    return (
        curve.pass_id,
        curve.name,
        curve.place,
        curve_sha256(curve),
        entry.accepted.agent.site_id,
        curve.axis,
        list(curve.columns),
        list(curve.units),
        len(curve.data[0]),
        curve_data(curve),
        entry.frame,
    )
