"""The ledger: who is admitted, once. Lanes, frame ids, the lock and the admission.

Rule 1: a lane's row is held FOR SHARE from before the admission to the commit.
Rule 2: the same identity with the same digest is a repeat, with another digest a fork.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from cloud.admission import Accepted
from cloud.db import AsyncConnection
from protocols.codec import TIME_US_MAX, TIME_US_MIN
from protocols.events import from_us
from protocols.frames import Header, Totals

FRAME_BLOCK: Final = 1000  # ids per nextval of frame_block, as the sequence is made
LANES_KEPT_MAX: Final = 100_000
_U64: Final = 2**64
_I64: Final = 2**63

LaneKey: TypeAlias = tuple[int, int, int]  # agent_id, epoch (signed), lane


class Outcome(Enum):
    """What the ledger says of a frame."""

    ADMITTED = "admitted"
    REPEAT = "repeat"
    FORKED = "forked"
    COMPACTED = "compacted"


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A frame on its way into the ledger. `span_us`: event times of its samples."""

    accepted: Accepted
    frame: int
    lane_id: int
    span_us: tuple[int, int] | None

    @property
    def header(self) -> Header:
        return self.accepted.frame.header


def signed(number: int) -> int:
    """u64 as the int8 that a column holds."""
    return number - _U64 if number >= _I64 else number


def unsigned(number: int) -> int:
    """Back from the column."""
    return number + _U64 if number < 0 else number


def lane_key(accepted: Accepted) -> LaneKey:
    header = accepted.frame.header
    return accepted.agent.agent_id, signed(header.epoch), int(header.lane)


class LaneBook:
    """Lane ids as far as they are known here. Filled outside the storing transaction."""

    def __init__(self) -> None:
        self._ids: dict[LaneKey, int] = {}

    def clear(self) -> None:
        self._ids.clear()

    def lane_id(self, key: LaneKey) -> int:
        return self._ids[key]

    async def learn(self, connection: AsyncConnection, keys: Iterable[LaneKey]) -> None:
        """Make the missing rows and know all of these lanes."""
        missing = sorted({key for key in keys if key not in self._ids})
        if not missing:
            return
        if len(self._ids) + len(missing) > LANES_KEPT_MAX:
            self._ids.clear()
        columns = [list(column) for column in zip(*missing, strict=True)]
        await connection.execute(
            "insert into lane (agent_id, epoch, lane)"
            " select * from unnest(%s::int4[], %s::int8[], %s::int2[])"
            " on conflict do nothing",
            columns,
        )
        cursor = await connection.execute(
            "select agent_id, epoch, lane, lane_id from lane"
            " join unnest(%s::int4[], %s::int8[], %s::int2[]) as w (agent_id, epoch, lane)"
            " using (agent_id, epoch, lane)",
            columns,
        )
        for agent_id, epoch, lane, lane_id in await cursor.fetchall():
            self._ids[agent_id, epoch, lane] = lane_id


class FrameIds:
    """Ledger ids, taken in blocks. One that is never used is a gap, and gaps mean nothing."""

    def __init__(self) -> None:
        self._free: list[range] = []

    def clear(self) -> None:
        self._free.clear()

    async def take(self, connection: AsyncConnection, count: int) -> list[int]:
        while sum(map(len, self._free)) < count:
            cursor = await connection.execute("select nextval('frame_block')")
            row = await cursor.fetchone()
            first = 0 if row is None else int(row[0])
            self._free.append(range(first, first + FRAME_BLOCK))
        taken: list[int] = []
        while len(taken) < count:
            block = self._free.pop(0)
            wanted = count - len(taken)
            taken += block[:wanted]
            if block[wanted:]:
                self._free.insert(0, block[wanted:])
        return taken


async def lock_lanes(connection: AsyncConnection, lanes: Iterable[int]) -> None:
    """Step 1. Sorted, so that two transactions never wait for each other."""
    await connection.execute(
        "select from lane where lane_id = any(%s) order by lane_id for share",
        [sorted(set(lanes))],
    )


async def admit(connection: AsyncConnection, entries: Sequence[Entry]) -> list[Outcome]:
    """Step 2. What becomes of each entry, in their order."""
    compacted = await _compacted(connection, entries)
    fresh = [entry for entry in entries if (entry.lane_id, entry.header.seq) not in compacted]
    admitted = await _insert(connection, fresh)
    others = [entry for entry in fresh if entry.frame not in admitted]
    digests = await _digests(connection, others)
    return [_outcome(entry, admitted, digests) for entry in entries]


_Key: TypeAlias = tuple[int, int]  # lane_id, seq


def _outcome(entry: Entry, admitted: set[int], digests: dict[_Key, int]) -> Outcome:
    if entry.frame in admitted:
        return Outcome.ADMITTED
    digest = digests.get((entry.lane_id, entry.header.seq))
    if digest is None:
        return Outcome.COMPACTED
    return Outcome.REPEAT if digest == signed(entry.header.digest) else Outcome.FORKED


async def _compacted(connection: AsyncConnection, entries: Sequence[Entry]) -> set[_Key]:
    cursor = await connection.execute(
        "select w.lane_id, w.seq from unnest(%s::int8[], %s::int8[]) as w (lane_id, seq)"
        " join ledger_range r on r.lane_id = w.lane_id and w.seq between r.seq_from and r.seq_to",
        _keys(entries),
    )
    return {(lane_id, seq) for lane_id, seq in await cursor.fetchall()}


async def _digests(connection: AsyncConnection, entries: Sequence[Entry]) -> dict[_Key, int]:
    if not entries:
        return {}
    cursor = await connection.execute(
        "select lane_id, seq, digest from ledger"
        " join unnest(%s::int8[], %s::int8[]) as w (lane_id, seq) using (lane_id, seq)",
        _keys(entries),
    )
    return {(lane_id, seq): digest for lane_id, seq, digest in await cursor.fetchall()}


def _keys(entries: Sequence[Entry]) -> list[list[int]]:
    return [[entry.lane_id for entry in entries], [entry.header.seq for entry in entries]]


_INSERT: Final = """
    insert into ledger (
        frame, lane_id, site_id, seq, digest, kind, rows, rows_before, sealed_at, t_min, t_max,
        time_min, time_max, floor, watermark, read, derived, filtered, discarded
    )
    select * from unnest(
        %s::int8[], %s::int8[], %s::int4[], %s::int8[], %s::int8[], %s::int2[], %s::int8[],
        %s::int8[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],
        %s::timestamptz[], %s::int8[], %s::timestamptz[], %s::int8[], %s::int8[], %s::int8[],
        %s::int8[]
    )
    on conflict (lane_id, seq) do nothing
    returning frame
"""


async def _insert(connection: AsyncConnection, entries: Sequence[Entry]) -> set[int]:
    if not entries:
        return set()
    ordered = sorted(entries, key=lambda entry: (entry.lane_id, entry.header.seq))
    columns = [list(column) for column in zip(*map(_row, ordered), strict=True)]
    cursor = await connection.execute(_INSERT, columns)
    return {frame for (frame,) in await cursor.fetchall()}


def _row(entry: Entry) -> tuple[object, ...]:
    header = entry.header
    totals: Totals | None = header.totals
    counts: tuple[int | None, ...] = (None,) * 4
    if totals is not None:
        counts = (totals.read, totals.derived, totals.filtered, totals.discarded)
    span = (None, None) if entry.span_us is None else tuple(map(from_us, entry.span_us))
    has_promise = TIME_US_MIN <= header.watermark <= TIME_US_MAX
    return (
        entry.frame,
        entry.lane_id,
        entry.accepted.agent.site_id,
        header.seq,
        signed(header.digest),
        int(header.kind),
        header.rows,
        header.rows_before,
        from_us(header.sealed_at),
        from_us(header.t_min),
        from_us(header.t_max),
        *span,
        header.floor,
        from_us(header.watermark) if has_promise else None,
        *counts,
    )
