"""The proof of delivery of one agent and period, and of the cycles of one station.

    read + derived = stored + filtered + waiting + rejected + dropped + missing

and duplicates beside it. A period is the frames sealed in it. Where each number comes from:

- read, derived, filtered, discarded: the totals that every frame's header carries, at the last
  frame sealed in the period less those at the last one sealed before it, per epoch
- stored: rows of `sample` and `sample_list` counted per frame, at most what the ledger says
  (fast: the ledger's word)
- missing: seqs below the newest floor that are in no ledger line, dead letter, drop or release;
  rows by `rows_before` of the frames around them; and rows that the ledger has and the table lacks
- waiting: the same at or above the floor (ledger, hello), and what was released as logged
- rejected: dead letters whose seq never came into the ledger
- dropped: `drop` frames of the spool, and what was discarded before the spool (totals)
- duplicates: rows of a frame beyond the ledger's number, and rows of a frame that no ledger has
- outages: declared; nothing was read then, so nothing is missing

Rows forked away were read again in the epoch that sent them again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cloud.accounts import (
    Account,
    EpochFacts,
    Fate,
    LaneFacts,
    Named,
    Piece,
    Unseen,
    account,
)
from cloud.db import Connection, translated
from cloud.ledger import unsigned
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
class Delivery:
    """The equation, in rows; frames beside it count every lane, events and notices too."""

    agent: str
    from_at: datetime
    to_at: datetime
    counted_in_table: bool
    totals_stated: bool
    read: int
    derived: int
    stored: int
    filtered: int
    waiting: int
    rejected: int
    dropped: int
    missing: int
    duplicates: int
    surplus: int
    frames_stored: int
    frames_waiting: int
    frames_rejected: int
    frames_dropped: int
    frames_missing: int
    findings: tuple[Finding, ...]
    outages: tuple[OutageLine, ...]

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


@dataclass(frozen=True, slots=True)
class _Period:
    agent_id: int
    from_at: datetime
    to_at: datetime

    @property
    def values(self) -> dict[str, Any]:
        return {"agent": self.agent_id, "from": self.from_at, "to": self.to_at}


@dataclass(frozen=True, slots=True)
class _Count:
    """What the table says against the ledger."""

    in_table: bool
    lacking: int
    beyond: int
    findings: tuple[Finding, ...]


def _verify(
    connection: Connection, agent: str, from_at: datetime, to_at: datetime, count: Any
) -> Delivery:
    with translated(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        period = _Period(_agent_id(connection, agent), from_at, to_at)
        sums = account(_epochs(connection, period))
        counted: _Count = count(connection, period)
        outages = _outages(connection, period)
        frames = _frames_stored(connection, period)
    return _delivery(agent, period, sums, counted, (frames, outages))


def _delivery(
    agent: str,
    period: _Period,
    sums: Account,
    counted: _Count,
    rest: tuple[int, tuple[OutageLine, ...]],
) -> Delivery:
    frames_stored, outages = rest
    findings = [_finding(piece) for piece in sorted(sums.pieces, key=_gravity)]
    return Delivery(
        agent=agent,
        from_at=period.from_at,
        to_at=period.to_at,
        counted_in_table=counted.in_table,
        totals_stated=sums.totals_stated,
        read=sums.read,
        derived=sums.derived,
        stored=sums.stored - counted.lacking,
        filtered=sums.filtered,
        waiting=sums.waiting,
        rejected=sums.rejected,
        dropped=sums.dropped,
        missing=sums.missing + counted.lacking,
        duplicates=counted.beyond,
        surplus=sums.surplus,
        frames_stored=frames_stored,
        frames_waiting=sums.frames(Fate.WAITING) + sums.frames(Fate.RELEASED),
        frames_rejected=sums.frames(Fate.REJECTED),
        frames_dropped=sums.frames(Fate.DROPPED),
        frames_missing=sums.frames(Fate.MISSING),
        findings=(*counted.findings, *findings)[:FINDINGS_MAX],
        outages=outages,
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
    rows: dict[int, int] = dict(connection.execute(_LEDGER_ROWS, period.values).fetchall())
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
        for epoch, *counts in connection.execute(_TOTALS, period.values).fetchall()
    }


def _lanes(connection: Connection, period: _Period) -> dict[int, list[LaneFacts]]:
    named = _named(connection, period)
    unseen: dict[tuple[int, int], list[Unseen]] = defaultdict(list)
    for epoch, lane, first, last, rows in connection.execute(_GAPS, period.values).fetchall():
        unseen[epoch, lane].append(Unseen(first, last, int(rows)))
    found: dict[int, list[LaneFacts]] = defaultdict(list)
    for epoch, lane, frames, floor, tail_from, tail_to in connection.execute(
        _LANES, period.values
    ).fetchall():
        key = epoch, lane
        if tail_to is not None and tail_to >= tail_from:
            unseen[key].append(Unseen(tail_from, tail_to, None))
        found[epoch].append(
            LaneFacts(
                _hex(epoch),
                Lane(lane).name.lower(),
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
    for epoch, lane, seq, rows in connection.execute(_LETTERS, period.values).fetchall():
        found[epoch, lane].append(Named(seq, seq, rows, Fate.REJECTED))
    for kind, epoch, lane, first, last, rows in connection.execute(
        _STRETCHES, period.values
    ).fetchall():
        fate = Fate.DROPPED if kind == "drop" else Fate.RELEASED
        found[epoch, lane].append(Named(first, last, max(0, int(rows)), fate))
    return found


def _counted(connection: Connection, period: _Period) -> _Count:
    rows = connection.execute(_COUNT, period.values).fetchall()
    strays = connection.execute(_STRAYS, period.values).fetchall()
    findings = [
        Finding(
            "lacking in the table" if counted < wanted else "more than once in the table",
            _hex(epoch), Lane(lane).name.lower(), seq, seq, abs(counted - wanted), frame,
        )
        for epoch, lane, seq, frame, wanted, counted in rows
    ]  # fmt: skip
    findings += [
        Finding("in the table and in no ledger line", "", "", None, None, counted, frame)
        for frame, counted in strays
    ]
    lacking = sum(max(0, wanted - counted) for *_, wanted, counted in rows)
    beyond = sum(max(0, counted - wanted) for *_, wanted, counted in rows)
    beyond += sum(counted for _, counted in strays)
    found = tuple(findings[:FINDINGS_MAX])
    return _Count(in_table=True, lacking=int(lacking), beyond=int(beyond), findings=found)


def _trusted(_connection: Connection, _period: _Period) -> _Count:
    return _Count(in_table=False, lacking=0, beyond=0, findings=())


def _outages(connection: Connection, period: _Period) -> tuple[OutageLine, ...]:
    rows = connection.execute(_OUTAGES, period.values).fetchall()
    return tuple(OutageLine(*row) for row in rows)


def _frames_stored(connection: Connection, period: _Period) -> int:
    row: Sequence[Any] | None = connection.execute(_FRAMES, period.values).fetchone()
    return 0 if row is None else int(row[0])


def _hex(epoch: int) -> str:
    return f"{unsigned(epoch):016x}"


_MINE: Final = "ledger join lane using (lane_id) where agent_id = %(agent)s"
_SEALED: Final = "sealed_at >= %(from)s and sealed_at < %(to)s"

_FRAMES: Final = f"select count(*) from {_MINE} and {_SEALED}"  # noqa: S608 - our own words

_LEDGER_ROWS: Final = f"""
    select epoch, sum(rows) from {_MINE} and {_SEALED} and kind = 1 group by epoch
"""  # noqa: S608 - our own words

# Every counter only grows, so its highest value before a moment is the one at that moment,
# whatever the agent's clock did in between.
_TOTALS: Final = f"""
    select epoch,
        max(read) filter (where sealed_at < %(to)s)
            - coalesce(max(read) filter (where sealed_at < %(from)s), 0),
        max(derived) filter (where sealed_at < %(to)s)
            - coalesce(max(derived) filter (where sealed_at < %(from)s), 0),
        max(filtered) filter (where sealed_at < %(to)s)
            - coalesce(max(filtered) filter (where sealed_at < %(from)s), 0),
        max(discarded) filter (where sealed_at < %(to)s)
            - coalesce(max(discarded) filter (where sealed_at < %(from)s), 0)
    from {_MINE} and read is not null
    group by epoch
    having bool_or({_SEALED})
"""  # noqa: S608 - our own words

# Frames and compacted ranges of the agent's lanes, in order; a hole before a frame of the period
# belongs to the period.
_GAPS: Final = f"""
    with known as (
        select lane_id, seq as first, seq as last, rows, rows_before, sealed_at from {_MINE}
        union all
        select lane_id, seq_from, seq_to, rows, rows_before, sealed_to
        from ledger_range join lane using (lane_id) where agent_id = %(agent)s
    ),
    ordered as (
        select lane_id, first, rows_before, sealed_at,
            lag(last, 1, 0::int8) over w as before,
            lag(rows_before + rows, 1, 0::int8) over w as rows_seen
        from known window w as (partition by lane_id order by first)
    )
    select epoch, lane, before + 1, first - 1, greatest(0, rows_before - rows_seen)
    from ordered join lane using (lane_id)
    where first > before + 1 and {_SEALED}
    order by epoch, lane, first
"""  # noqa: S608 - our own words

# Per lane: its floor (null: a later hello does not name it any more, so all was let go), and the
# seqs behind the last frame known, if the period reaches so far.
_LANES: Final = f"""
    with mine as (
        select epoch, lane, count(*) filter (where {_SEALED}) as frames,
            max(seq) as last, max(floor) as floor, max(sealed_at) as sealed_at
        from {_MINE} group by epoch, lane
    ),
    everything as (
        select coalesce(m.epoch, h.epoch) as epoch, coalesce(m.lane, h.lane) as lane,
            coalesce(m.frames, 0) as frames, coalesce(m.last, 0) as last,
            m.floor, m.sealed_at, h.floor as said_floor, h.head, h.at
        from mine m full join (select * from hello where agent_id = %(agent)s) h
            on h.epoch = m.epoch and h.lane = m.lane
    )
    select e.epoch, e.lane, e.frames,
        case
            when a.epoch is distinct from e.epoch and a.hello_at > e.sealed_at
                and (e.at is null or e.at < a.hello_at) then null
            else greatest(coalesce(e.floor, 1), coalesce(e.said_floor, 1))
        end,
        e.last + 1,
        case when e.head > e.last and %(to)s > coalesce(e.sealed_at, e.at) then e.head end
    from everything e cross join (select * from agent where agent_id = %(agent)s) a
    where e.frames > 0 or (e.head > e.last and %(to)s > coalesce(e.sealed_at, e.at)
        and e.at >= %(from)s)
    order by e.epoch, e.lane
"""  # noqa: S608 - our own words

_LETTERS: Final = """
    select d.epoch, d.lane, d.seq, max(case when d.kind = 1 then d.rows else 0 end)
    from dead_letter d join agent a on a.name = d.agent
    where a.agent_id = %(agent)s and d.reason in ('rejected', 'compacted') and d.seq > 0
    and not exists (
        select from ledger l join lane using (lane_id)
        where lane.agent_id = %(agent)s and lane.epoch = d.epoch and lane.lane = d.lane
        and l.seq = d.seq
    )
    group by d.epoch, d.lane, d.seq
"""

# Of what was dropped while it was under way, some was stored after all.
_STRETCHES: Final = """
    select s.kind, s.epoch, s.lane, s.from_seq, s.to_seq, s.rows - coalesce((
        select sum(l.rows) from ledger l join lane using (lane_id)
        where lane.agent_id = s.agent_id and lane.epoch = s.epoch and lane.lane = s.lane
        and l.seq between s.from_seq and s.to_seq
    ), 0)
    from stretch s
    where s.agent_id = %(agent)s and s.kind in ('drop', 'release')
    and s.from_seq is not null and s.to_seq is not null
"""

_OUTAGES: Final = """
    select from_time, to_time, reason from stretch
    where agent_id = %(agent)s and kind = 'outage'
    and from_time < %(to)s and to_time > %(from)s
    order by from_time
"""

# Frames of the period whose rows in the tables are not as many as the ledger says.
_COUNT: Final = f"""
    with wanted as (
        select epoch, lane, seq, frame, rows, time_min, time_max
        from {_MINE} and {_SEALED} and kind = 1
    ),
    span as (select min(time_min) as first, max(time_max) as last from wanted),
    counted as (
        select frame, count(*) as n from sample, span
        where time between span.first and span.last group by frame
        union all
        select frame, count(*) from sample_list, span
        where time between span.first and span.last group by frame
    )
    select epoch, lane, seq, frame, rows, coalesce(sum(n), 0)::int8
    from wanted left join counted using (frame)
    group by epoch, lane, seq, frame, rows
    having rows <> coalesce(sum(n), 0)
    order by frame
"""  # noqa: S608 - our own words

# Rows of the agent's tags in the period that no frame of any ledger brought.
_STRAYS: Final = """
    with stray as (
        select s.frame from sample s join tag_user u on u.tag = s.tag and u.agent_id = %(agent)s
        where s.time >= %(from)s and s.time < %(to)s
        and not exists (select from ledger l where l.frame = s.frame)
        union all
        select s.frame from sample_list s
        join tag_user u on u.tag = s.tag and u.agent_id = %(agent)s
        where s.time >= %(from)s and s.time < %(to)s
        and not exists (select from ledger l where l.frame = s.frame)
    )
    select frame, count(*) from stray group by frame order by frame
"""
