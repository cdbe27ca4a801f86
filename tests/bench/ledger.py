"""The ledger after a year of 500 agents that send two frames a second: size, admission in it.

What is compacted of that year is made whole as to ranges, and for 50 of the 500 agents as to sums
of hours. What is not compacted yet, 1.2 thousand million frames of 14 days, is thinned to ROWS:
every lane has its share, so the tree is a level or two lower than it would be, and the pages that
an admission touches, the ends of lanes, are as they would be. Sizes are of a row, and told for all.

Admission takes turns, transaction by transaction, with the same in a database that has just begun.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cloud.admission import SEQ_BITS, Accepted, Agent, Contents
from cloud.compaction import FRAMES_MAX, compact_lane
from cloud.db import AsyncConnection, Connection, connect, connect_async
from cloud.ledger import Admission, Entry, Outcome
from cloud.migrate import migrate
from cloud.source import Record
from cloud.storage import Policy, Wanted
from cloud.verify.delivery import verify_agent_fast
from protocols.frames import Frame, Header, Kind, Lane, Totals, seal
from tests.bench.report import Figure, of_rounds
from threadline.stack import Stack

AGENTS = 500
FRAMES_A_SECOND = 2  # of one agent
WEEKS = 50  # of them compacted; an epoch each: an agent begins anew with every Monday
NEWEST = WEEKS + 1  # the epoch that has the last 14 days
HOURS_AGENTS = 50
ROWS = int(os.environ.get("BENCH_LEDGER_ROWS", "1200000"))
ROWS_A_LANE = ROWS // AGENTS * 19 // 20
KEEP_DAYS = 14
FRAMES = 10  # of a transaction, each another agent's
TURNS = 40
ROUNDS = 6
OLD_LANES, OLD_FRAMES = 12, 5000  # to measure how fast they go
T0 = 1_790_000_000_000_000
_NOW = datetime.fromtimestamp(T0 / 1e6, UTC)
_GB = 1e9


def measure(stack: Stack) -> list[Figure]:
    """The figures of the ledger, in two databases of the stack."""
    fresh = stack.postgres.create_database("bench_ledger_begun")
    year = stack.postgres.create_database("bench_ledger_year")
    with connect(fresh, application="bench") as one, connect(year, application="bench") as two:
        _begin(one)
        _begin(two)
        _fill(two)
        figures = _sizes(two)
    figures += asyncio.run(_admission(fresh, year))
    figures += asyncio.run(_compaction(year))
    with connect(year, application="bench") as connection:
        return [*figures, _proof(connection)]


def _begin(connection: Connection) -> None:
    """Agents, and the lanes of the newest epoch."""
    migrate(connection, Wanted.PLAIN, Policy(), _NOW)
    connection.execute(_AGENTS, {"newest": NEWEST, "agents": AGENTS})
    connection.execute(_LANES, {"first": NEWEST, "last": NEWEST})


def _fill(connection: Connection) -> None:
    connection.execute(_LANES, {"first": 1, "last": NEWEST - 1})
    connection.execute(_RANGES, {"newest": NEWEST, "agents": HOURS_AGENTS})
    connection.execute(_HOURS, {"newest": NEWEST, "agents": HOURS_AGENTS})
    connection.execute(_ROWS, {"newest": NEWEST, "rows": ROWS_A_LANE, "days": KEEP_DAYS})
    connection.execute("vacuum analyze")
    connection.execute("checkpoint")


def _sizes(connection: Connection) -> list[Figure]:
    def size(table: str) -> float:
        row = connection.execute("select pg_total_relation_size(%s::regclass)", [table]).fetchone()
        assert row is not None
        return float(row[0])

    def count(table: str) -> int:
        row = connection.execute(f"select count(*) from {table}").fetchone()  # noqa: S608 - ours
        assert row is not None
        return int(row[0])

    frames = AGENTS * FRAMES_A_SECOND * 86_400
    row = size("ledger") / count("ledger")
    whole = AGENTS / HOURS_AGENTS
    ranges, hours = size("ledger_range"), size("ledger_hour") * whole
    each = (ranges + hours) / (frames * 7 * WEEKS)
    waiting = row * frames * KEEP_DAYS / _GB
    return [
        Figure("ledger: a frame not compacted", row, "bytes", n=count("ledger")),
        Figure(f"ledger: {KEEP_DAYS} days of {AGENTS} agents", waiting, "GB"),
        Figure("ledger: a year of ranges", ranges / _GB, "GB", n=count("ledger_range")),
        Figure("ledger: a year of hours", hours / _GB, "GB", n=int(count("ledger_hour") * whole)),
        Figure("ledger: a frame compacted", each, "bytes", "not compacted", row, each / row),
    ]


@dataclass(slots=True)
class _Place:
    """A database where frames are admitted, and where its lanes stand."""

    connection: AsyncConnection
    lanes: Sequence[int]
    seq: int

    async def admit(self, turn: int) -> tuple[float, float]:
        """Seconds of one transaction: lock and admission, and with its commit."""
        self.seq += turn % (AGENTS // FRAMES) == 0
        first = turn * FRAMES % AGENTS
        entries = [_entry(lane, self.seq) for lane in self.lanes[first : first + FRAMES]]
        began = time.perf_counter()
        async with self.connection.transaction():
            admission = Admission(self.connection, entries)
            async with self.connection.pipeline():
                await admission.send()
            outcomes = await admission.outcomes()
            admitted = time.perf_counter() - began
        took = time.perf_counter() - began
        if set(outcomes) != {Outcome.ADMITTED}:
            raise AssertionError(f"{outcomes} of {self.seq}")
        return admitted, took


async def _admission(fresh: str, year: str) -> list[Figure]:
    places = [await _place(fresh, 0), await _place(year, ROWS_A_LANE)]
    found = [_Medians(), _Medians()]
    turn = 0
    for number in range(ROUNDS + 1):
        taken: list[list[tuple[float, float]]] = [[], []]
        for _ in range(TURNS):
            for at in (0, 1) if turn % 2 else (1, 0):
                taken[at].append(await places[at].admit(turn))
            turn += 1
        if number:  # the first warms up
            for at in (0, 1):
                found[at].add(taken[at])
    for place in places:
        await place.connection.close()
    new, old = found
    return [
        of_rounds(
            f"ledger: admit {FRAMES} frames after a year", old.admitted_ms, "ms",
            goal="ratio <= 1.1", peer="in a new one", peers=new.admitted_ms,
        ),
        of_rounds(
            "ledger: the same with its commit", old.committed_ms, "ms", goal="ratio <= 1.1",
            peer="in a new one", peers=new.committed_ms,
        ),
    ]  # fmt: skip


@dataclass(slots=True)
class _Medians:
    """Of the rounds of one place."""

    admitted_ms: list[float] = field(default_factory=list)
    committed_ms: list[float] = field(default_factory=list)

    def add(self, taken: Sequence[tuple[float, float]]) -> None:
        self.admitted_ms.append(statistics.median(one for one, _ in taken) * 1e3)
        self.committed_ms.append(statistics.median(one for _, one in taken) * 1e3)


async def _place(dsn: str, seq: int) -> _Place:
    connection = await connect_async(dsn, application="bench")
    cursor = await connection.execute(
        "select lane_id from lane where epoch = %s and lane = 2 order by agent_id", [NEWEST]
    )
    return _Place(connection, [lane_id for (lane_id,) in await cursor.fetchall()], seq)


async def _compaction(year: str) -> list[Figure]:
    """Frames of some agents get old; lane after lane goes, as the process does it but for rests."""
    connection = await connect_async(year, application="bench")
    given = {"newest": NEWEST, "frames": OLD_FRAMES, "lanes": OLD_LANES}
    cursor = await connection.execute(_OLD, given)
    lanes = sorted({lane_id for (lane_id,) in await cursor.fetchall()})
    held: list[float] = []
    moved = 0
    began = time.perf_counter()
    for lane_id in lanes:
        while True:
            at = time.perf_counter()
            async with connection.transaction():
                done = await compact_lane(connection, lane_id, timedelta(days=KEEP_DAYS))
            held.append(time.perf_counter() - at)
            moved += done
            if done < FRAMES_MAX:
                break
    took = time.perf_counter() - began
    await connection.close()
    pace = float(AGENTS * FRAMES_A_SECOND)
    goal = f">= {pace:g}, what comes in"
    return [
        Figure("ledger: compaction", moved / took, "frames/s", goal=goal, n=moved),
        Figure("ledger: a lane is held for it", max(held) * 1e3, "ms at most", n=len(held)),
    ]


def _proof(connection: Connection) -> Figure:
    began = time.perf_counter()
    found = verify_agent_fast(connection, f"bench.a{OLD_LANES + 1:04}")
    took = time.perf_counter() - began
    if not found.holds:
        raise AssertionError(f"the year does not add up: {found}")
    return Figure("ledger: verify --fast of an agent's year", took, "s", n=found.frames_stored)


def _entry(lane_id: int, seq: int) -> Entry:
    agent = Agent(1, 1, "bench.a0001", ("**",))
    record = Record(agent.name, "live", b"", seq)
    return Entry(Accepted(record, agent, _frame(seq), Contents()), lane_id, (T0, T0))


def _frame(seq: int) -> Frame:
    header = Header(
        Kind.SAMPLES, Lane.LIVE, "bench.a0001", NEWEST, seq, seq, 20, seq * 20, T0, T0, T0, T0,
        totals=Totals(seq * 40, 0, seq * 20),
    )  # fmt: skip
    return seal(header, b"")


_AGENTS = """
    with made as (insert into site (name) values ('bench') returning site_id)
    insert into agent (site_id, name, scope, epoch, hello_at)
    select site_id, 'bench.a' || lpad(n::text, 4, '0'), '{**}', %(newest)s::int8, now()
    from made, generate_series(1, %(agents)s::int4) n
"""

_LANES = """
    insert into lane (agent_id, epoch, lane)
    select agent_id, week, one from agent, generate_series(%(first)s::int8, %(last)s::int8) week,
        unnest('{1,2,3,4}'::int[]) one
    order by week, agent_id, one
"""

# Frames of a week by lane. In all but the agents with sums, live has two holes a week.
_SENT = """
    sent (lane, frames) as (values (1, 60480), (2, 1149120), (3, 5000), (4, 200))
"""
_RANGES = f"""
    with {_SENT}, run (first, last) as (values (0, 399999), (400001, 799999), (800001, 2000000))
    insert into ledger_range (lane_id, seq_from, seq_to)
    select lane_id, 1, frames from lane join sent using (lane)
    where epoch < %(newest)s and (lane <> 2 or agent_id <= %(agents)s)
    union all
    select lane_id, first + 1, least(last + 1, frames) from lane join sent using (lane), run
    where epoch < %(newest)s and lane = 2 and agent_id > %(agents)s
"""  # noqa: S608 - our own words

_HOURS = f"""
    with {_SENT}, part (lane, hours) as (values (1, 168), (2, 168), (3, 10), (4, 2))
    insert into ledger_hour (
        lane_id, seq_from, seq_to, hour, sealed_to, rows, rows_before, samples, weighed,
        time_min, time_max, t_min, until, floor, read, derived, filtered, discarded
    )
    select lane_id, h * n + 1, (h + 1) * n, at, at + interval '59 min', n * 20, h * n * 20,
        case when lane = 2 then n * 20 else 0 end,
        case when lane = 2 then n * 20000000000 else 0 end,
        at, at + interval '59 min', at, at + interval '59 min', (h + 1) * n,
        (h + 1) * n * 40, 0, (h + 1) * n * 20, 0
    from lane join sent using (lane) join part using (lane), generate_series(0, part.hours - 1) h,
        lateral (select frames / part.hours as n) each,
        lateral (select timestamptz '2025-09-01' + (epoch * 168 + h) * interval '1 h' as at) made
    where epoch < %(newest)s and agent_id <= %(agents)s
"""  # noqa: S608 - our own words

# Nineteen of twenty frames are live. As they came: all lanes side by side.
_ROWS = f"""
    insert into ledger (
        frame, lane_id, site_id, seq, digest, kind, rows, rows_before, sealed_at, t_min, t_max,
        time_min, time_max, floor, watermark, read, derived, filtered, discarded, received_at
    )
    select lane_id << {SEQ_BITS} | seq, lane_id, 1, seq, seq * 7919,
        case lane when 2 then 1 else 2 end, 20, (seq - 1) * 20, at, at,
        at, at, at, seq, at, seq * 40, 0, seq * 20, 0, at
    from generate_series(1, %(rows)s::int8) moment, lane,
        lateral (select case lane when 2 then moment else moment / 19 end as seq) s,
        lateral (select %(days)s * (1 - moment::float8 / %(rows)s::float8) as old) g,
        lateral (select now() - old * interval '1 day' as at) t
    where epoch = %(newest)s and (lane = 2 or (lane = 1 and moment %% 19 = 0))
    order by moment, lane_id
"""  # noqa: S608 - our own number

# Lanes of backlog that got old.
_OLD = f"""
    insert into ledger (
        frame, lane_id, site_id, seq, digest, kind, rows, rows_before, sealed_at, t_min, t_max,
        time_min, time_max, floor, watermark, read, derived, filtered, discarded, received_at
    )
    select lane_id << {SEQ_BITS} | seq, lane_id, 1, seq, seq * 7919, 1, 20, (seq - 1) * 20, at, at,
        at, at, at, seq, at, seq * 40, 0, seq * 20, 0, at
    from lane, generate_series(1, %(frames)s::int8) seq,
        lateral (select now() - interval '20 days' + seq * interval '500 ms' as at) t
    where epoch = %(newest)s and lane = 3 and agent_id <= %(lanes)s
    returning lane_id
"""  # noqa: S608 - our own number
