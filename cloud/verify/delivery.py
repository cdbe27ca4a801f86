"""The proof of delivery of one agent and period, and of the cycles of one station.

    read + derived = stored + aged + filtered + waiting + rejected + dropped + missing

and duplicates beside it. A period is the frames sealed in it. Where each number comes from:

- read, derived, filtered, discarded: the totals that every frame's header carries, at the last
  frame sealed in the period less those at the last one sealed before it, per epoch
- stored: rows of `sample` and `sample_list` counted per frame, at most what the ledger says
  (fast: the ledger's word)
- aged: what the ledger says of frames with a row older than `keep_samples`; such rows are deleted,
  so these frames are not looked for in the tables (fast: 0, they are in stored)
- missing: seqs below the newest floor that are in no ledger line, dead letter, drop or release;
  rows by `rows_before` of the frames around them; and rows that the ledger has and the table lacks
- waiting: the same at or above the floor (ledger, hello), and what was released as logged
- rejected: dead letters whose seq never came into the ledger
- dropped: `drop` frames of the spool, and what was discarded before the spool (totals)
- duplicates: rows of a frame beyond the ledger's number, and rows of a frame that no ledger has
- released: of what waits, what the spool let go as logged: it comes from further down, or never
- outages: declared; nothing was read then, so nothing is missing
- lost spools: between the last that is known of the one before and the first hello of the next
  nobody knows what was read, so no number has it and the equation holds without it

Of frames that were compacted the ledger has sums by the hour of their sealing; a period that begins
or ends within such an hour is widened to its whole. Rows forked away were read again in the epoch
that sent them again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from cloud.db import Connection, translated
from cloud.ledger import unsigned
from cloud.storage import kept_from
from cloud.verify import queries
from cloud.verify.accounts import (
    Account,
    EpochFacts,
    Fate,
    LaneFacts,
    Named,
    Piece,
    Unseen,
    account,
)
from protocols.errors import ConfigError, Problem
from protocols.frames import Lane, Totals

FINDINGS_MAX: Final = 100
BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 12, 31, tzinfo=UTC)
_SAMPLE_LANES: Final = (Lane.LIVE, Lane.BACKLOG)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, or not yet. `frame`: ledger id, where it is one."""

    what: str
    epoch: str
    lane: str
    first_seq: int | None
    last_seq: int | None
    rows: int
    frame: int | None = None

    def __str__(self) -> str:
        where = f"frame {self.frame}" if self.frame is not None else ""
        if self.first_seq is not None:
            where = f"{self.lane} seq {self.first_seq} to {self.last_seq} of epoch {self.epoch}"
        return f"{self.what}: {self.rows} rows, {where}"


@dataclass(frozen=True, slots=True)
class OutageLine:
    from_time: datetime
    to_time: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class LostSpoolLine:
    """The agent's spool of `epoch` began without the one before it."""

    epoch: str
    lost_after: datetime
    back_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """The equation, in rows; frames beside it count every lane, events and notices too.

    `released` is a part of `waiting`. `single_copy`: frames whose receipt *logged* told of a log
    that keeps one copy. `is_widened`: the period is larger than was asked for. `kept_from`: no
    sample before is kept; None: all are, or the table was not asked.
    """

    agent: str
    from_at: datetime
    to_at: datetime
    counted_in_table: bool
    totals_stated: bool
    read: int
    derived: int
    stored: int
    aged: int
    filtered: int
    waiting: int
    rejected: int
    dropped: int
    missing: int
    duplicates: int
    surplus: int
    released: int
    single_copy: int
    is_widened: bool
    kept_from: datetime | None
    frames_stored: int
    frames_waiting: int
    frames_rejected: int
    frames_dropped: int
    frames_missing: int
    frames_released: int
    findings: tuple[Finding, ...]
    outages: tuple[OutageLine, ...]
    lost_spools: tuple[LostSpoolLine, ...]

    @property
    def holds(self) -> bool:
        """Nothing is missing, nothing is there twice, no sum is off."""
        return not (self.missing or self.frames_missing or self.duplicates or self.surplus)


def verify_agent(
    connection: Connection,
    agent: str,
    from_at: datetime = BEGINNING,
    to_at: datetime = END,
) -> Delivery:
    """Count every row. ConfigError: no such agent."""
    return _verify(connection, agent, from_at, to_at, _counted)


def verify_agent_fast(
    connection: Connection,
    agent: str,
    from_at: datetime = BEGINNING,
    to_at: datetime = END,
) -> Delivery:
    """Trust the ledger for what is in the table."""
    return _verify(connection, agent, from_at, to_at, _trusted)


def account_of(
    connection: Connection, agent_id: int, from_at: datetime = BEGINNING, to_at: datetime = END
) -> Account:
    """What the ledger says of one agent, without the words; inside the caller's transaction."""
    return account(_epochs(connection, _Period(agent_id, from_at, to_at)))


@dataclass(frozen=True, slots=True)
class _Period:
    agent_id: int
    from_at: datetime
    to_at: datetime
    is_widened: bool = False

    @property
    def values(self) -> dict[str, Any]:
        return {"agent": self.agent_id, "from": self.from_at, "to": self.to_at}


@dataclass(frozen=True, slots=True)
class _Count:
    """What the table says against the ledger."""

    in_table: bool
    lacking: int = 0
    beyond: int = 0
    aged: int = 0
    kept_from: datetime | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Beside:
    """What stands beside the equation."""

    frames_stored: int
    single_copy: int
    outages: tuple[OutageLine, ...]
    lost_spools: tuple[LostSpoolLine, ...]


def _verify(
    connection: Connection, agent: str, from_at: datetime, to_at: datetime, count: Any
) -> Delivery:
    with translated(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        period = _widened(connection, _Period(_agent_id(connection, agent), from_at, to_at))
        sums = account_of(connection, period.agent_id, period.from_at, period.to_at)
        counted: _Count = count(connection, period)
        beside = _Beside(
            _number(connection, queries.FRAMES, period.values),
            _number(connection, queries.SINGLE_COPY, period.values),
            _outages(connection, period),
            _lost_spools(connection, period),
        )
    return _delivery(agent, period, sums, counted, beside)


def _widened(connection: Connection, period: _Period) -> _Period:
    row = connection.execute(queries.WIDENED, period.values).fetchone()
    begin, end = row or (None, None)
    if begin is None and end is None:
        return period
    return replace(
        period, from_at=begin or period.from_at, to_at=end or period.to_at, is_widened=True
    )


def _delivery(
    agent: str, period: _Period, sums: Account, counted: _Count, beside: _Beside
) -> Delivery:
    findings = [_finding(piece) for piece in sorted(sums.pieces, key=_gravity)]
    return Delivery(
        agent=agent,
        from_at=period.from_at,
        to_at=period.to_at,
        counted_in_table=counted.in_table,
        totals_stated=sums.totals_stated,
        read=sums.read,
        derived=sums.derived,
        stored=sums.stored - counted.lacking - counted.aged,
        aged=counted.aged,
        filtered=sums.filtered,
        waiting=sums.waiting,
        rejected=sums.rejected,
        dropped=sums.dropped,
        missing=sums.missing + counted.lacking,
        duplicates=counted.beyond,
        surplus=sums.surplus,
        released=sums.released,
        single_copy=beside.single_copy,
        is_widened=period.is_widened,
        kept_from=counted.kept_from,
        frames_stored=beside.frames_stored,
        frames_waiting=sums.frames(Fate.WAITING) + sums.frames(Fate.RELEASED),
        frames_rejected=sums.frames(Fate.REJECTED),
        frames_dropped=sums.frames(Fate.DROPPED),
        frames_missing=sums.frames(Fate.MISSING),
        frames_released=sums.frames(Fate.RELEASED),
        findings=(*counted.findings, *findings)[:FINDINGS_MAX],
        outages=beside.outages,
        lost_spools=beside.lost_spools,
    )


def _gravity(piece: Piece) -> tuple[int, str, str, int]:
    order = (Fate.MISSING, Fate.REJECTED, Fate.DROPPED, Fate.RELEASED, Fate.WAITING)
    return order.index(piece.fate), piece.epoch, piece.lane, piece.first


def _finding(piece: Piece) -> Finding:
    rows = (piece.rows or 0) if piece.has_samples else 0
    return Finding(piece.fate.value, piece.epoch, piece.lane, piece.first, piece.last, rows)


def _agent_id(connection: Connection, agent: str) -> int:
    row = connection.execute("select agent_id from agent where name = %s", [agent]).fetchone()
    if row is None:
        remedy = "See `threadline cloud agents list`."
        raise ConfigError([Problem("AGENT", repr(agent), "is not known here", remedy)])
    return int(row[0])


def _epochs(connection: Connection, period: _Period) -> list[EpochFacts]:
    lanes = _lanes(connection, period)
    totals = _totals(connection, period)
    rows: dict[int, int] = dict(connection.execute(queries.LEDGER_ROWS, period.values).fetchall())
    return [
        EpochFacts(
            _hex(epoch), totals.get(epoch), int(rows.get(epoch, 0)), tuple(lanes.get(epoch, ()))
        )
        for epoch in sorted({*lanes, *totals, *rows})
    ]


def _totals(connection: Connection, period: _Period) -> dict[int, Totals]:
    """Of each epoch that has a frame in the period: what was counted from its start to its end."""
    return {
        epoch: Totals(*map(int, counts))
        for epoch, *counts in connection.execute(queries.TOTALS, period.values).fetchall()
    }


def _lanes(connection: Connection, period: _Period) -> dict[int, list[LaneFacts]]:
    named = _named(connection, period)
    unseen: dict[tuple[int, int], list[Unseen]] = defaultdict(list)
    for epoch, lane, first, last, rows in connection.execute(
        queries.GAPS, period.values
    ).fetchall():
        unseen[epoch, lane].append(Unseen(first, last, int(rows)))
    found: dict[int, list[LaneFacts]] = defaultdict(list)
    for epoch, lane, frames, floor, tail_from, tail_to in connection.execute(
        queries.LANES, period.values
    ).fetchall():
        key = epoch, lane
        if tail_to is not None and tail_to >= tail_from:
            unseen[key].append(Unseen(tail_from, tail_to, None))
        found[epoch].append(
            LaneFacts(
                _hex(epoch),
                _name(lane),
                has_samples=lane in _SAMPLE_LANES,
                stored_frames=frames,
                unseen=tuple(unseen[key]),
                named=tuple(named.get(key, ())),
                floor=floor,
            )
        )
    return found


def _named(connection: Connection, period: _Period) -> Mapping[tuple[int, int], list[Named]]:
    found: dict[tuple[int, int], list[Named]] = defaultdict(list)
    for epoch, lane, seq, rows in connection.execute(queries.LETTERS, period.values).fetchall():
        found[epoch, lane].append(Named(seq, seq, rows, Fate.REJECTED))
    for kind, epoch, lane, first, last, rows in connection.execute(
        queries.STRETCHES, period.values
    ).fetchall():
        fate = Fate.DROPPED if kind == "drop" else Fate.RELEASED
        found[epoch, lane].append(Named(first, last, max(0, int(rows)), fate))
    return found


def _counted(connection: Connection, period: _Period) -> _Count:
    kept = kept_from(connection)
    values = {**period.values, "kept_from": kept or BEGINNING}
    rows = connection.execute(queries.COUNT, values).fetchall()
    strays = connection.execute(queries.STRAYS, period.values).fetchall()
    differences = [
        _difference(Finding("", _hex(epoch), _name(lane), first, last, 0, frame), wanted, counted)
        for epoch, lane, first, last, frame, wanted, counted in rows
    ]
    findings = [one.finding for one in differences]
    findings += [
        Finding("in the table and in no ledger line", "", "", None, None, counted, frame)
        for frame, counted in strays
    ]
    return _Count(
        in_table=True,
        lacking=sum(one.lacking for one in differences),
        beyond=sum(one.beyond for one in differences) + sum(counted for _, counted in strays),
        aged=_number(connection, queries.AGED, values),
        kept_from=kept,
        findings=tuple(findings[:FINDINGS_MAX]),
    )


@dataclass(frozen=True, slots=True)
class _Difference:
    """Of a frame, or of the compacted frames of an hour, between ledger and table."""

    lacking: int
    beyond: int
    finding: Finding


def _difference(place: Finding, wanted: int, counted: int) -> _Difference:
    off = abs(counted - wanted)
    if counted < wanted:
        what, lacking, beyond = "lacking in the table", off, 0
    elif counted > wanted:
        what, lacking, beyond = "more than once in the table", 0, off
    else:  # as many as there should be, but not each frame's own: at least one of both
        off = lacking = beyond = 1
        what = "lacking of some frames, more than once of others"
    return _Difference(lacking, beyond, replace(place, what=what, rows=off))


def _name(lane: int) -> str:
    return Lane(lane).name.lower()


def _trusted(_connection: Connection, _period: _Period) -> _Count:
    return _Count(in_table=False)


def _outages(connection: Connection, period: _Period) -> tuple[OutageLine, ...]:
    rows = connection.execute(queries.OUTAGES, period.values).fetchall()
    return tuple(OutageLine(*row) for row in rows)


def _lost_spools(connection: Connection, period: _Period) -> tuple[LostSpoolLine, ...]:
    rows = connection.execute(queries.LOST_SPOOLS, period.values).fetchall()
    return tuple(LostSpoolLine(_hex(epoch), *times) for epoch, *times in rows)


def _number(connection: Connection, query: str, values: Mapping[str, Any]) -> int:
    row: Sequence[Any] | None = connection.execute(query, values).fetchone()
    return 0 if row is None else int(row[0])


def _hex(epoch: int) -> str:
    return f"{unsigned(epoch):016x}"
