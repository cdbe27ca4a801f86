"""Compaction on a real PostgreSQL: what it moves, what it never touches, whom it meets."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from cloud import compaction
from cloud.compaction import Compacted, Run, compact, compact_lane
from cloud.compactor import Compactor
from cloud.db import AsyncConnection, LockKey, connect, connect_async
from cloud.metrics import CompactionMetrics
from cloud.verify.counter import Counter
from cloud.verify.delivery import BEGINNING, END, Delivery, verify_agent
from cloud.verify.reach import surely_until
from cloud.verify.station import verify_station
from protocols.events import PassEvent, PassKey, event_id, from_us, pass_id
from protocols.frames import Frame, Kind, Lane
from protocols.notices import Drop, Hello, LaneState
from protocols.receipts import Said
from protocols.retry import Backoff
from protocols.samples import DataType
from tests.support.frames import AgentVoice, changed, sample
from tests.support.plant_store import Bench, FixedClock

pytestmark = pytest.mark.integration

T0 = 1_790_000_000_000_000
MINUTE_US = 60_000_000
KEEP = timedelta(days=14)
ROWS = 5


def seal(voice: AgentVoice, *, lane: Lane = Lane.LIVE, minutes: int = 7) -> Frame:
    """Rows of their own values, sealed some minutes after the frame before."""
    voice.now_us += minutes * MINUTE_US
    rows = [sample(f"d.x{n}", DataType.INT32, voice.now_us - n, n) for n in range(ROWS)]
    return voice.samples(rows, lane=lane, filtered=1)


def spoken(epoch: int = 0xABC) -> AgentVoice:
    """Early enough that hours of frames are not ahead of the clock."""
    return AgentVoice(epoch=epoch, now_us=T0 - 24 * 60 * MINUTE_US)


async def say_hello(bench: Bench, voice: AgentVoice, *lanes: LaneState) -> None:
    voice.now_us += MINUTE_US
    at = from_us(voice.now_us)
    hello = Hello(agent=voice.agent, epoch=voice.epoch, at=at, lanes=lanes)
    await bench.send(voice.hello(hello))


def floor(voice: AgentVoice, seq: int, *, lane: Lane = Lane.LIVE) -> LaneState:
    return LaneState(epoch=voice.epoch, lane=lane, floor=seq, head=voice.seqs.get(lane, 0))


def grow_old(bench: Bench, days: int = 15) -> None:
    bench.connection.execute(
        "update ledger set received_at = now() - %s * interval '1 day'", [days]
    )


@asynccontextmanager
async def compactor(dsn: str) -> AsyncIterator[AsyncConnection]:
    connection = await connect_async(dsn, application="threadline compaction")
    try:
        yield connection
    finally:
        await connection.close()


async def compacted(dsn: str, *, frames_max: int = 1000) -> Compacted:
    async with compactor(dsn) as connection:
        done = await compact(connection, KEEP, frames_max=frames_max)
    assert done is not None
    return done


def ranges(bench: Bench) -> list[Run]:
    found = bench.rows("select seq_from, seq_to from ledger_range order by lane_id, seq_from")
    return [Run(*row) for row in found]


def left(bench: Bench) -> list[int]:
    return [seq for (seq,) in bench.rows("select seq from ledger order by lane_id, seq")]


async def sent(
    bench: Bench, count: int, *, below: int | None = None
) -> tuple[AgentVoice, list[Frame]]:
    """`count` frames, stored; then a hello that holds nothing below `below` (None: holds none)."""
    voice = spoken()
    frames = [seal(voice) for _ in range(count)]
    await bench.send(*frames)
    await say_hello(bench, voice, floor(voice, count + 1 if below is None else below))
    return voice, frames


async def test_what_is_old_and_below_the_floor_becomes_one_range(
    bench: Bench, store_dsn: str
) -> None:
    await sent(bench, 30, below=21)
    grow_old(bench)
    assert await compacted(store_dsn) == Compacted(frames=20, lanes=1)
    assert ranges(bench) == [Run(1, 20)]
    assert left(bench) == list(range(21, 31))
    assert await compacted(store_dsn) == Compacted()


async def test_a_range_grows_and_hours_are_summed(bench: Bench, store_dsn: str) -> None:
    voice, _ = await sent(bench, 30, below=11)
    grow_old(bench)
    await compacted(store_dsn)
    await say_hello(bench, voice, floor(voice, 26))
    assert (await compacted(store_dsn)).frames == 15
    assert ranges(bench) == [Run(1, 25)]
    hours = bench.rows(
        "select seq_from, seq_to, rows, rows_before, samples, read, filtered,"
        " extract(minute from hour), sealed_to < hour + interval '1 hour' from ledger_hour"
        " order by seq_from"
    )
    assert [one[0] for one in hours[1:]] == [one[1] + 1 for one in hours[:-1]]
    assert (hours[0][0], hours[-1][1]) == (1, 25)
    assert len(hours) == len({hour for (hour,) in bench.rows("select hour from ledger_hour")}) == 4
    for first, last, rows, before, samples, read, filtered, minute, within in hours:
        assert rows == samples == (last - first + 1) * ROWS
        assert before == (first - 1) * ROWS
        assert (read, filtered) == (last * (ROWS + 1), last)
        assert (minute, within) == (0, True)


async def test_what_is_young_stays(bench: Bench, store_dsn: str) -> None:
    await sent(bench, 10)
    assert await compacted(store_dsn) == Compacted()
    grow_old(bench)
    bench.connection.execute("update ledger set received_at = now() where seq = 4")
    assert (await compacted(store_dsn)).frames == 3
    assert ranges(bench) == [Run(1, 3)]


async def test_what_the_spool_holds_stays(bench: Bench, store_dsn: str) -> None:
    await sent(bench, 10, below=1)
    grow_old(bench)
    assert await compacted(store_dsn) == Compacted()


async def test_the_newest_frame_of_the_newest_epoch_stays(bench: Bench, store_dsn: str) -> None:
    """It tells how far the agent's data has come."""
    voice, _ = await sent(bench, 10)
    grow_old(bench)
    await compacted(store_dsn)
    assert left(bench) == [10]
    successor = replace(spoken(0xDEF), now_us=voice.now_us + MINUTE_US)
    await say_hello(bench, successor)
    await compacted(store_dsn)
    assert (left(bench), ranges(bench)) == ([], [Run(1, 10)])


async def test_an_old_epoch_still_in_the_spool_stays(bench: Bench, store_dsn: str) -> None:
    voice, _ = await sent(bench, 10, below=6)
    grow_old(bench)
    successor = replace(spoken(0xDEF), now_us=voice.now_us + MINUTE_US)
    await say_hello(bench, successor, floor(voice, 6))
    await compacted(store_dsn)
    assert left(bench) == [6, 7, 8, 9, 10]


async def test_a_hole_stays_a_hole_and_once_filled_two_ranges_are_one(
    bench: Bench, store_dsn: str
) -> None:
    voice = spoken()
    frames = [seal(voice) for _ in range(20)]
    await bench.send(*frames[:9], *frames[10:])
    await say_hello(bench, voice, floor(voice, 20))
    grow_old(bench)
    await compacted(store_dsn)
    assert ranges(bench) == [Run(1, 9), Run(11, 19)]
    await bench.send(frames[9])
    assert bench.said(frames[9]) == [(Said.STORED, None)], "what was never there is taken"
    grow_old(bench)
    await compacted(store_dsn)
    assert ranges(bench) == [Run(1, 19)]
    assert bench.one("select sum(samples) from ledger_hour") == 19 * ROWS


async def test_the_work_of_a_transaction_is_bounded(bench: Bench, store_dsn: str) -> None:
    await sent(bench, 30, below=24)
    grow_old(bench)
    told: list[int] = []
    async with compactor(store_dsn) as connection:
        done = await compact(connection, KEEP, told.append, frames_max=10)
    assert done == Compacted(frames=23, lanes=1)
    assert told == [10, 10, 3]
    assert ranges(bench) == [Run(1, 23)]


async def test_a_lane_that_is_held_is_left_for_the_next_time(
    bench: Bench, store_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.compaction.HELD_MAX", "100ms")
    voice, _ = await sent(bench, 10)
    await bench.send(seal(voice, lane=Lane.BACKLOG), seal(voice, lane=Lane.BACKLOG))
    await say_hello(bench, voice, floor(voice, 11), floor(voice, 3, lane=Lane.BACKLOG))
    grow_old(bench)
    with connect(store_dsn, application="stopped") as other, other.transaction():
        other.execute("select from lane where lane = 2 for share")
        assert await compacted(store_dsn) == Compacted(frames=1, lanes=1, busy=1)
    assert await compacted(store_dsn) == Compacted(frames=9, lanes=1)


async def test_two_never_compact_at_once(bench: Bench, store_dsn: str) -> None:
    with connect(store_dsn, application="other") as other:
        other.execute("select pg_advisory_lock(%s)", [LockKey.COMPACTION])
        async with compactor(store_dsn) as connection:
            assert await compact(connection, KEEP) is None
    assert await compacted(store_dsn) == Compacted()
    assert bench.one("select count(*) from ledger_range") == 0


async def test_frames_of_before_keep_their_line(bench: Bench, store_dsn: str) -> None:
    """Their rows have ids that no range can name."""
    await sent(bench, 10)
    bench.connection.execute("update ledger set frame = seq where seq <= 4")
    bench.connection.execute("update sample set frame = frame & 15 where (frame & 15) <= 4")
    grow_old(bench)
    assert verify_agent(bench.connection, "berlin.press1").holds
    await compacted(store_dsn)
    assert (left(bench), ranges(bench)) == ([1, 2, 3, 4, 10], [Run(5, 9)])
    assert verify_agent(bench.connection, "berlin.press1").holds


async def test_hello_is_answered_with_the_head_of_what_was_compacted(
    bench: Bench, store_dsn: str
) -> None:
    voice, _ = await sent(bench, 10)
    grow_old(bench)
    await say_hello(bench, replace(spoken(0xDEF), now_us=voice.now_us + MINUTE_US))
    await compacted(store_dsn)
    assert left(bench) == []
    bench.source.answers.clear()
    await say_hello(bench, voice, floor(voice, 11))
    await bench.until(lambda: bool(bench.source.answers))
    heads = [
        run.first
        for receipt in bench.source.answers
        for run in receipt.runs
        if (run.kind, run.lane) == (Said.STATE, 2)
    ]
    assert heads == [10]


# I6: pruning by age doubles what an agent sends after seven months off.
async def test_i6_after_seven_months_off_a_frame_is_rejected_never_doubled(
    bench: Bench, store_dsn: str
) -> None:
    voice, frames = await sent(bench, 10)
    grow_old(bench, days=210)
    await compacted(store_dsn)
    await bench.send(frames[2])
    assert bench.said(frames[2])[-1] == (Said.REJECTED, "compacted")
    assert bench.rows("select reason, seq, data from dead_letter") == [
        ("compacted", 3, frames[2].sealed)
    ]
    (alarm,) = bench.rows("select key, severity from alarm")
    assert alarm == (f"compacted/{voice.agent}", "error")
    assert bench.one("select count(*) from sample") == 10 * ROWS
    found = verify_agent(bench.connection, voice.agent)
    assert found.holds
    assert (found.stored, found.rejected, found.missing) == (10 * ROWS, 0, 0)


async def race(bench: Bench, dsn: str) -> list[tuple[Said, str | None]]:
    """A repeat comes while compaction has moved its seq and not committed. What is said of it."""
    _, frames = await sent(bench, 10)
    grow_old(bench)
    bench.source.answers.clear()
    async with compactor(dsn) as connection:
        async with connection.transaction():
            lane_id = bench.one("select lane_id from lane where lane = 2")
            assert await compact_lane(connection, lane_id, KEEP) == 9
            bench.source.push(frames[2].header.agent, "live", frames[2].sealed)
            await bench.until(lambda: bench.one(_WAITING) == 1)
        await bench.until(lambda: bench.said(frames[2]) != [])
    return bench.said(frames[2])


_WAITING = """
    select count(*) from pg_stat_activity
    where application_name = 'threadline ingest' and wait_event_type = 'Lock'
    and datname = current_database()
"""


async def test_i6_compaction_races_an_admission(bench: Bench, store_dsn: str) -> None:
    assert await race(bench, store_dsn) == [(Said.REJECTED, "compacted")]
    assert bench.one("select count(*) from sample") == 10 * ROWS
    assert verify_agent(bench.connection, "berlin.press1").holds


async def test_planted_compaction_without_lock_is_seen_by_i6(
    bench: Bench, store_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with the lane's lock left out: the repeat is admitted again, and `verify` tells."""
    monkeypatch.setattr(compaction, "_LOCK_LANE", "select from lane where lane_id = %s")
    assert await race(bench, store_dsn) == [(Said.STORED, None)]
    assert bench.one("select count(*) from sample") == 11 * ROWS
    found = verify_agent(bench.connection, "berlin.press1")
    assert not found.holds
    assert found.duplicates >= ROWS
    assert found.missing == 0


async def test_i6_an_admission_under_way_is_waited_for(bench: Bench, store_dsn: str) -> None:
    """The other order: the lane is held by an admission that fills the hole."""
    voice = spoken()
    frames = [seal(voice) for _ in range(10)]
    await bench.send(*frames[:4], *frames[5:])
    await say_hello(bench, voice, floor(voice, 10))
    grow_old(bench)
    lane_id = bench.one("select lane_id from lane where lane = 2")
    async with compactor(store_dsn) as connection, asyncio.TaskGroup() as tasks:
        with connect(store_dsn, application="admission") as other, other.transaction():
            other.execute("select from lane where lane_id = %s for share", [lane_id])

            async def run() -> int:
                async with connection.transaction():
                    return await compact_lane(connection, lane_id, KEEP)

            task = tasks.create_task(run())
            await bench.until(lambda: bench.one(_COMPACTION_WAITING) == 1)
            other.execute(
                "insert into ledger select (jsonb_populate_record(l, jsonb_build_object("
                "'seq', 5, 'frame', l.frame + 1, 'received_at', now()))).*"
                " from ledger l where seq = 4"
            )
        assert await task == 4
    assert ranges(bench) == [Run(1, 4)], "what came meanwhile is seen, and is too young"
    assert 5 in left(bench)


_COMPACTION_WAITING = """
    select count(*) from pg_stat_activity
    where application_name = 'threadline compaction' and wait_event_type = 'Lock'
    and datname = current_database()
"""


async def test_the_process_compacts_by_itself_and_waits_out_trouble(
    bench: Bench, store_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = CompactionMetrics(CollectorRegistry())
    monkeypatch.setattr("cloud.compactor.RETRY", Backoff(first_s=0.05, limit_s=0.1))
    await sent(bench, 10)
    bench.connection.execute("alter table ledger_range rename to away")
    job = Compactor(store_dsn, KEEP, FixedClock(), metrics, every_s=0.05)
    with capture_logs() as lines:
        task = asyncio.get_running_loop().create_task(job.run())
        grow_old(bench)
        await bench.until(lambda: [line["event"] for line in lines] == ["down"])
        bench.connection.execute("alter table away rename to ledger_range")
        await bench.until(lambda: ranges(bench) == [Run(1, 9)])
        await bench.until(lambda: [line["event"] for line in lines] == ["down", "up"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert metrics.registry.get_sample_value("threadline_compaction_frames_total") == 9


class Story:
    """Frames of three lanes over hours, some dropped, some rejected, some missing, one doubled."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - seeded stories
        self.voice = spoken()

    async def tell(self, bench: Bench, count: int) -> None:
        lanes = (Lane.LIVE, Lane.LIVE, Lane.BACKLOG)
        frames = [
            seal(self.voice, lane=self.rng.choice(lanes), minutes=self.rng.randrange(20))
            for _ in range(count)
        ]
        gone = self.rng.sample(frames, count // 8)
        bad = [changed(one, payload=b"x", raw_len=1, compressed=False) for one in gone[:2]]
        drops = [_drop(self.voice, one) for one in gone[2:4]]
        kept = [one for one in frames if one not in gone]
        self.rng.shuffle(kept)
        await bench.send(*kept, *bad, self.voice.notices(Kind.DROP, drops))
        states = [
            floor(self.voice, self.voice.seqs[lane] + 1 - self.rng.randrange(3), lane=lane)
            for lane in (Lane.LIVE, Lane.BACKLOG, Lane.CONTROL)
        ]
        await say_hello(bench, self.voice, *states)

    def moments(self) -> list[tuple[int, int]]:
        """Periods of whole hours, which stay what they are when frames are compacted."""
        hour = 60 * MINUTE_US
        first, last = T0 // hour - 25, self.voice.now_us // hour + 1
        picks = [sorted(self.rng.sample(range(first, last), 2)) for _ in range(6)]
        return [(begin * hour, end * hour) for begin, end in picks]


def _drop(voice: AgentVoice, frame: Frame) -> Drop:
    header = frame.header
    return Drop(
        lane=header.lane, from_time=from_us(header.t_min), to_time=from_us(header.t_max),
        from_seq=header.seq, to_seq=header.seq, epoch=voice.epoch, reason="spool full", rows=ROWS,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
async def test_the_proof_says_the_same_of_compacted_frames(
    bench: Bench, store_dsn: str, seed: int
) -> None:
    story = Story(seed)
    await story.tell(bench, 60)
    doubled = bench.one(
        "select frame from ledger where lane_id = 1 and kind = 1 order by seq limit 1"
    )
    bench.connection.execute("insert into sample select * from sample where frame = %s", [doubled])
    grow_old(bench)
    agent_id = bench.one("select agent_id from agent where name = 'berlin.press1'")
    until = surely_until(bench.connection, agent_id)
    assert until is not None
    periods = [(BEGINNING, END), *((from_us(a), from_us(b)) for a, b in story.moments())]

    def proofs() -> list[Delivery]:
        return [verify_agent(bench.connection, "berlin.press1", *one) for one in periods]

    before = [_comparable(one) for one in proofs()]
    assert before[0].missing > 0
    assert before[0].duplicates == ROWS
    for frames_max in (7, 1000):
        await compacted(store_dsn, frames_max=frames_max)
        assert [_comparable(one) for one in proofs()] == before
        assert surely_until(bench.connection, agent_id) == until
        await bench.send(*[seal(story.voice, lane=Lane.LIVE)])
        before = [_comparable(one) for one in proofs()]
        until = surely_until(bench.connection, agent_id)
        grow_old(bench)
    assert bench.one("select sum(seq_to - seq_from + 1) from ledger_range") > 30


def _comparable(found: Delivery) -> Delivery:
    """Findings of an hour name other seqs than those of a frame."""
    kept = tuple(replace(one, frame=None) for one in found.findings if "table" not in one.what)
    return replace(found, findings=kept)


async def test_a_period_within_a_compacted_hour_is_widened_and_says_so(
    bench: Bench, store_dsn: str
) -> None:
    _, frames = await sent(bench, 30)
    grow_old(bench)
    begin, end = from_us(frames[10].header.sealed_at), from_us(frames[20].header.sealed_at)
    exact = verify_agent(bench.connection, "berlin.press1", begin, end)
    assert (exact.frames_stored, exact.is_widened) == (10, False)
    await compacted(store_dsn)
    found = verify_agent(bench.connection, "berlin.press1", begin, end)
    assert found.is_widened
    assert found.holds
    assert found.from_at == begin.replace(minute=0, second=0, microsecond=0)
    assert found.to_at == end.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    whole = [one for one in frames if found.from_at <= from_us(one.header.sealed_at) < found.to_at]
    assert found.frames_stored == len(whole)
    assert found.read == len(whole) * (ROWS + 1)


def _spoil(bench: Bench, statement: str, seqs: Sequence[int]) -> None:
    for seq in seqs:
        bench.connection.execute(statement, [seq])


_LOSE = "delete from sample where ctid in (select ctid from sample where frame & 63 = %s limit 1)"
_DOUBLE = "insert into sample select * from sample where frame & 63 = %s limit 1"


async def test_rows_of_compacted_frames_are_counted(bench: Bench, store_dsn: str) -> None:
    await sent(bench, 30)
    grow_old(bench)
    await compacted(store_dsn)
    _spoil(bench, _LOSE, [3, 4])
    _spoil(bench, _DOUBLE, [20])
    found = verify_agent(bench.connection, "berlin.press1")
    assert (found.missing, found.duplicates) == (2, 1)
    assert sorted(one.what for one in found.findings) == [
        "lacking in the table", "more than once in the table",
    ]  # fmt: skip


async def test_one_row_lost_and_another_doubled_in_one_hour_do_not_make_up_for_each_other(
    bench: Bench, store_dsn: str
) -> None:
    await sent(bench, 30)
    grow_old(bench)
    await compacted(store_dsn)
    _spoil(bench, _LOSE, [3])
    _spoil(bench, _DOUBLE, [4])
    found = verify_agent(bench.connection, "berlin.press1")
    assert (found.missing, found.duplicates, found.holds) == (1, 1, False)
    (finding,) = found.findings
    assert finding.what == "lacking of some frames, more than once of others"


async def test_a_row_that_no_frame_brought_is_still_a_stray(bench: Bench, store_dsn: str) -> None:
    await sent(bench, 30)
    grow_old(bench)
    await compacted(store_dsn)
    bench.connection.execute(
        "insert into sample (time, frame, tag, i64)"
        " select time, frame + 40, tag, i64 from sample where frame & 63 = 1 limit 1"
    )
    found = verify_agent(bench.connection, "berlin.press1")
    assert (found.duplicates, found.missing) == (1, 0)


async def test_a_hole_before_which_all_is_compacted_bounds_what_is_sure(
    bench: Bench, store_dsn: str
) -> None:
    """The oldest that waits is the first above the floor."""
    voice = spoken()
    frames = [seal(voice) for _ in range(10)]
    await bench.send(*frames[:6], *frames[7:])
    await say_hello(bench, voice, floor(voice, 7))
    grow_old(bench)
    agent_id = bench.one("select agent_id from agent where name = 'berlin.press1'")
    until = surely_until(bench.connection, agent_id)
    assert until == from_us(frames[5].header.t_max)
    await compacted(store_dsn)
    assert (ranges(bench), left(bench)) == ([Run(1, 6)], [8, 9, 10])
    assert surely_until(bench.connection, agent_id) == until


async def test_who_sampled_a_counter_is_known_when_its_frames_are_compacted(
    bench: Bench, store_dsn: str
) -> None:
    voice = spoken()
    key = PassKey(series=7, count=1, modulus=65_536)
    known = pass_id("berlin", "L1/ST010", "", 7, 1)
    at = from_us(voice.now_us)
    done = PassEvent(
        id=event_id(known, "closed", 0), site="berlin", at=at, pass_id=known, station="L1/ST010",
        key=key, started=at, ended=at,
    )  # fmt: skip
    rows = [sample("st010.count", DataType.UINT16, voice.now_us - 9 + n, n) for n in range(2)]
    await bench.send(voice.events([done]), voice.samples(rows), seal(voice), seal(voice))
    await say_hello(bench, voice, floor(voice, 4), floor(voice, 2, lane=Lane.EVENTS))
    counter = Counter("st010.count", 65_536)
    before = verify_station(bench.connection, "berlin", "L1/ST010", counter=counter)
    grow_old(bench)
    await compacted(store_dsn)
    assert ranges(bench) == [Run(1, 2)]
    assert verify_station(bench.connection, "berlin", "L1/ST010", counter=counter) == before
    assert before.counter is not None
