"""Compaction on a real PostgreSQL: what it moves, what it never touches, whom it meets."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from cloud import compaction
from cloud.compaction import Compacted, Run, compact, compact_lane
from cloud.compactor import Compactor
from cloud.db import LockKey, connect
from cloud.metrics import CompactionMetrics
from cloud.verify.delivery import verify_agent
from protocols.frames import Lane
from protocols.receipts import Said
from protocols.retry import Backoff
from tests.support.compacting import (
    KEEP,
    MINUTE_US,
    ROWS,
    compacted,
    compactor,
    floor,
    grow_old,
    left,
    ranges,
    say_hello,
    seal,
    sent,
    spoken,
)
from tests.support.plant_store import Bench, FixedClock

pytestmark = pytest.mark.integration


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


async def test_a_compaction_that_is_stopped_in_mid_transaction_is_ended(store_dsn: str) -> None:
    """Its lane would be locked for ever, and ingest behind it."""
    async with compactor(store_dsn) as connection:
        await compact(connection, KEEP)
        cursor = await connection.execute("show idle_in_transaction_session_timeout")
        assert await cursor.fetchone() == ("15s",)


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
