"""The ledger: who is admitted, once. Lanes, frame ids, the lock and the admission.

Rule 1: a lane's row is held FOR SHARE from before the admission to the commit.
Rule 2: the same identity with the same digest is a repeat, with another digest a fork.
Rule 3: a frame's id is its place, so that ids of a range of seqs are a range too.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from cloud.admission import SEQ_BITS, Accepted
from cloud.db import AsyncConnection, AsyncCursor, TupleRow
from protocols.codec import TIME_US_MAX, TIME_US_MIN
from protocols.events import from_us
from protocols.frames import Header

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
    lane_id: int
    span_us: tuple[int, int] | None

    @property
    def header(self) -> Header:
        return self.accepted.frame.header

    @property
    def frame(self) -> int:
        return frame_id(self.lane_id, self.header.seq)


def signed(number: int) -> int:
    """u64 as the int8 that a column holds."""
    return number - _U64 if number >= _I64 else number


def unsigned(number: int) -> int:
    """Back from the column."""
    return number + _U64 if number < 0 else number


def frame_id(lane_id: int, seq: int) -> int:
    """What every row says of the frame that brought it."""
    return lane_id << SEQ_BITS | seq


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
        wanted = set(keys)
        missing = sorted(wanted - self._ids.keys())
        if not missing:
            return
        if len(self._ids) + len(missing) > LANES_KEPT_MAX:
            self._ids.clear()
            missing = sorted(wanted)
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


class Admission:
    """Steps 1 and 2: sent on one journey to the server with whatever else goes with it, then heard.

    Of several entries of one identity the first is the one that may be admitted.
    """

    def __init__(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        self._connection = connection
        self._entries = entries
        self._first = {entry.frame: entry for entry in reversed(entries)}
        self._inserted: AsyncCursor[TupleRow] | None = None

    async def send(self) -> None:
        """In the caller's pipeline. Of no entries there is nothing to send."""
        if not self._entries:
            return
        lanes = sorted({entry.lane_id for entry in self._entries})
        rows = [_row(entry) for entry in self._first.values()]
        await self._connection.execute(_LOCK_LANES, [lanes])
        self._inserted = await self._connection.execute(_INSERT, [json.dumps(rows)])

    async def outcomes(self) -> list[Outcome]:
        """What becomes of each entry, in their order, once the pipeline has ended."""
        if self._inserted is None:
            return []
        admitted = {id(self._first[frame]) for (frame,) in await self._inserted.fetchall()}
        others = [entry for entry in self._entries if id(entry) not in admitted]
        digests = await _digests(self._connection, others)
        return [
            Outcome.ADMITTED if id(entry) in admitted else _outcome(entry, digests)
            for entry in self._entries
        ]


# Sorted, so that two transactions never wait for each other.
_LOCK_LANES: Final = "select from lane where lane_id = any(%s) order by lane_id for share"

_Key: TypeAlias = tuple[int, int]  # lane_id, seq


def _outcome(entry: Entry, digests: dict[_Key, int]) -> Outcome:
    """Of an entry that was not admitted."""
    digest = digests.get((entry.lane_id, entry.header.seq))
    if digest is None:
        return Outcome.COMPACTED
    return Outcome.REPEAT if digest == signed(entry.header.digest) else Outcome.FORKED


async def _digests(connection: AsyncConnection, entries: Sequence[Entry]) -> dict[_Key, int]:
    if not entries:
        return {}
    cursor = await connection.execute(
        "select lane_id, seq, digest from ledger"
        " join unnest(%s::int8[], %s::int8[]) as w (lane_id, seq) using (lane_id, seq)",
        [[entry.lane_id for entry in entries], [entry.header.seq for entry in entries]],
    )
    return {(lane_id, seq): digest for lane_id, seq, digest in await cursor.fetchall()}


# One text for all of it: adapting nineteen arrays costs the client more than the copy of a frame.
_INSERT: Final = """
    insert into ledger (
        frame, lane_id, site_id, seq, digest, kind, rows, rows_before, sealed_at, t_min, t_max,
        time_min, time_max, floor, watermark, read, derived, filtered, discarded
    )
    select w.* from jsonb_to_recordset(%s::jsonb) as w (
        frame int8, lane_id int8, site_id int4, seq int8, digest int8, kind int2, rows int8,
        rows_before int8, sealed_at timestamptz, t_min timestamptz, t_max timestamptz,
        time_min timestamptz, time_max timestamptz, floor int8, watermark timestamptz,
        read int8, derived int8, filtered int8, discarded int8
    )
    left join lateral (
        select seq_to from ledger_range r where r.lane_id = w.lane_id and r.seq_from <= w.seq
        order by seq_from desc limit 1
    ) compacted on true
    where compacted.seq_to is null or compacted.seq_to < w.seq
    order by w.lane_id, w.seq
    on conflict (lane_id, seq) do nothing
    returning frame
"""


def _row(entry: Entry) -> dict[str, int | str | None]:
    header = entry.header
    row: dict[str, int | str | None] = {
        "frame": entry.frame,
        "lane_id": entry.lane_id,
        "site_id": entry.accepted.agent.site_id,
        "seq": header.seq,
        "digest": signed(header.digest),
        "kind": int(header.kind),
        "rows": header.rows,
        "rows_before": header.rows_before,
        "sealed_at": _said(header.sealed_at),
        "t_min": _said(header.t_min),
        "t_max": _said(header.t_max),
        "floor": header.floor,
    }
    if entry.span_us is not None:
        row["time_min"], row["time_max"] = map(_said, entry.span_us)
    if TIME_US_MIN <= header.watermark <= TIME_US_MAX:
        row["watermark"] = _said(header.watermark)
    totals = header.totals
    if totals is not None:
        row["read"], row["derived"] = totals.read, totals.derived
        row["filtered"], row["discarded"] = totals.filtered, totals.discarded
    return row


def _said(time_us: int) -> str:
    return from_us(time_us).isoformat()
