"""`verify` on a real PostgreSQL: every number of the equation is made wrong once and is seen."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from cloud.db import connect
from cloud.migrate import migrate
from cloud.storage import Policy, Wanted
from cloud.verify.counter import Counter
from cloud.verify.delivery import BEGINNING, END, Delivery, verify_agent, verify_agent_fast
from cloud.verify.station import verify_station
from cloud.verify.text import delivery_text, json_of
from protocols.errors import ConfigError
from protocols.events import (
    GapEvent,
    PassEvent,
    PassKey,
    VoidEvent,
    event_id,
    from_us,
    pass_id,
)
from protocols.frames import Frame, Kind, Lane
from protocols.notices import Drop, Hello, LaneState, Outage, Release
from protocols.samples import DataType
from tests.support.frames import AgentVoice, changed, sample
from tests.support.plant_store import Bench, prepare_database, running_ingest
from threadline.cli import app

pytestmark = pytest.mark.integration

T0 = 1_790_000_000_000_000
SECOND_US = 1_000_000
ROWS = 10


class Line:
    """A voice that seals a frame of ten rows a second, some of what it reads filtered."""

    def __init__(self, bench: Bench, *, epoch: int = 0xABC) -> None:
        self.bench = bench
        self.voice = AgentVoice(epoch=epoch, now_us=T0)

    def seal(
        self, *, lane: Lane = Lane.LIVE, filtered: int = 2, discarded: int = 0, first: int = 0
    ) -> Frame:
        self.voice.now_us += SECOND_US
        at = self.voice.now_us
        rows = [sample(f"d.x{n}", DataType.INT32, at - n, first + n) for n in range(ROWS)]
        return self.voice.samples(rows, lane=lane, filtered=filtered, discarded=discarded)

    async def send(self, frames: Sequence[Frame]) -> None:
        await self.bench.send(*frames)

    def verify(self, from_at: datetime = BEGINNING, to_at: datetime = END) -> Delivery:
        found = verify_agent(self.bench.connection, "berlin.press1", from_at, to_at)
        left = found.read + found.derived + found.surplus
        assert left == (
            found.stored + found.aged + found.filtered + found.waiting + found.rejected
            + found.dropped + found.missing
        ), f"the equation does not add up: {found}"  # fmt: skip
        return found

    async def hello(self, *lanes: LaneState, epoch: int | None = None) -> None:
        mine = self.voice.epoch if epoch is None else epoch
        self.voice.now_us += SECOND_US
        at = from_us(self.voice.now_us)
        hello = Hello(agent=self.voice.agent, epoch=mine, at=at, lanes=lanes)
        await self.bench.send(replace(self.voice, epoch=mine).hello(hello))

    def counted(self, values: Sequence[int], *, first_s: int = 0) -> Frame:
        """A counter, one value a second; sealed with the promise that all before now was read."""
        rows = [
            sample("st010.count", DataType.UINT16, T0 + (first_s + n) * SECOND_US, value)
            for n, value in enumerate(values)
        ]
        return changed(self.voice.samples(rows), watermark=self.voice.now_us)

    def state(self, *, lane: int = 2, floor: int, head: int, rows: int = 0) -> LaneState:
        return LaneState(epoch=self.voice.epoch, lane=lane, floor=floor, head=head, rows=rows)


@pytest.fixture
def line(bench: Bench) -> Line:
    return Line(bench)


def words(found: Delivery) -> list[str]:
    return [finding.what for finding in found.findings]


async def test_everything_stored_holds(line: Line) -> None:
    await line.send([line.seal() for _ in range(5)])
    await line.send([line.seal(lane=Lane.BACKLOG) for _ in range(5)])
    found = line.verify()
    assert found.holds
    assert (found.read, found.stored, found.filtered) == (120, 100, 20)
    assert (found.waiting, found.missing, found.duplicates, found.findings) == (0, 0, 0, ())
    assert found.frames_stored == 10
    fast = verify_agent_fast(line.bench.connection, "berlin.press1")
    assert replace(fast, counted_in_table=True) == found


async def test_an_agent_that_sent_nothing_holds(line: Line) -> None:
    found = line.verify()
    assert found.holds
    assert found.read == found.stored == 0


async def test_an_unknown_agent_is_a_mistake(line: Line) -> None:
    with pytest.raises(ConfigError, match=r"'berlin\.nobody': is not known"):
        verify_agent(line.bench.connection, "berlin.nobody")


async def test_a_row_deleted_is_missing_and_named(line: Line) -> None:
    await line.send([line.seal() for _ in range(5)])
    (frame,) = line.bench.rows("select frame from ledger where seq = 3")[0]
    line.bench.rows(
        "delete from sample where ctid in (select ctid from sample where frame = %s limit 1)"
        " returning frame",
        frame,
    )
    found = line.verify()
    assert not found.holds
    assert (found.stored, found.missing) == (49, 1)
    (finding,) = found.findings
    assert (finding.what, finding.frame, finding.first_seq, finding.rows) == (
        "lacking in the table", frame, 3, 1,
    )  # fmt: skip
    assert verify_agent_fast(line.bench.connection, "berlin.press1").holds, "fast does not look"


async def test_rows_deleted_by_age_are_not_missing_and_said(line: Line, store_dsn: str) -> None:
    """Two frames of before, one with rows on both sides, two of after."""
    day_us = 86_400 * SECOND_US
    midnight = T0 // day_us * day_us
    for after_us, frames in ((-60 * SECOND_US, 2), (ROWS // 2 - SECOND_US, 1), (60 * SECOND_US, 2)):
        line.voice.now_us = midnight + after_us
        await line.send([line.seal() for _ in range(frames)])
    assert line.verify().stored == 50
    kept = from_us(midnight)
    keep = timedelta(days=30)
    with connect(store_dsn, application="test") as connection:
        migrate(connection, Wanted.AUTO, Policy(keep_samples=keep), kept + keep)
    left = line.bench.rows("select count(*) from sample group by frame order by frame")
    assert left == [(6,), (10,), (10,)]
    found = line.verify()
    assert found.holds
    assert (found.stored, found.aged, found.missing, found.findings) == (20, 30, 0, ())
    assert found.kept_from == kept
    said = delivery_text(found).splitlines()
    assert said[0] == "read 60 + derived 0"
    assert said[1].startswith("  = stored 20 + aged 30 + filtered 10 + waiting 0 +")
    assert (
        "- aged: 30 rows were stored in frames older than keep_samples, not looked at:"
        f" samples before {kept.isoformat()} are deleted"
    ) in said
    assert said[-1] == "berlin.press1: 20 stored, 0 missing, 0 duplicate, 30 too old to look at"
    told = json.loads(json_of(found))
    assert (told["aged"], told["holds"]) == (30, True)
    assert datetime.fromisoformat(told["kept_from"]) == kept
    fast = verify_agent_fast(line.bench.connection, "berlin.press1")
    assert (fast.stored, fast.aged, fast.kept_from) == (50, 0, None)
    line.bench.connection.execute(
        "delete from sample where time >= %s and tag = (select min(tag) from sample)",
        [from_us(midnight + 60 * SECOND_US)],
    )
    assert line.verify().missing == 2, "what is young enough is looked at as ever"


async def test_a_row_doubled_is_a_duplicate_and_named(line: Line) -> None:
    await line.send([line.seal() for _ in range(5)])
    (frame,) = line.bench.rows("select frame from ledger where seq = 4")[0]
    line.bench.rows(
        "insert into sample select * from sample where frame = %s limit 2 returning frame", frame
    )
    found = line.verify()
    assert not found.holds
    assert (found.stored, found.missing, found.duplicates) == (50, 0, 2)
    (finding,) = found.findings
    assert (finding.what, finding.frame, finding.rows) == ("more than once in the table", frame, 2)


async def test_a_ledger_line_deleted_is_missing_and_its_rows_are_strays(line: Line) -> None:
    frames = [line.seal() for _ in range(5)]
    line.voice.floors[Lane.LIVE] = 5
    await line.send([*frames, line.seal()])
    line.bench.rows("delete from ledger where seq = 2 returning frame")
    found = line.verify()
    assert not found.holds
    assert (found.stored, found.missing, found.duplicates) == (50, 10, 10)
    assert words(found) == ["in the table and in no ledger line", "missing"]
    missing = found.findings[1]
    assert (missing.lane, missing.first_seq, missing.last_seq, missing.rows) == ("live", 2, 2, 10)
    assert found.frames_missing == 1


async def test_a_whole_frame_that_never_came_waits_until_the_floor_passes_it(line: Line) -> None:
    frames = [line.seal() for _ in range(5)]
    await line.send([*frames[:2], *frames[3:]])
    found = line.verify()
    assert found.holds
    assert (found.stored, found.waiting, found.frames_waiting) == (40, 10, 1)
    line.voice.floors[Lane.LIVE] = 4
    await line.send([line.seal()])
    found = line.verify()
    assert not found.holds
    assert (found.stored, found.waiting, found.missing) == (50, 0, 10)


async def test_what_is_behind_the_last_frame_waits_by_its_rows(line: Line) -> None:
    """Live goes first: its totals tell of the backlog that nobody has seen."""
    backlog = [line.seal(lane=Lane.BACKLOG) for _ in range(3)]
    live = line.seal()
    await line.send([live])
    found = line.verify()
    assert found.holds
    assert (found.read, found.stored, found.waiting) == (48, 10, 30)
    await line.hello(line.state(lane=3, floor=1, head=3, rows=30))
    found = line.verify()
    assert (found.waiting, found.frames_waiting) == (30, 3)
    await line.send(backlog)
    found = line.verify()
    assert (found.stored, found.waiting, found.frames_waiting) == (40, 0, 0)


async def test_a_tail_below_the_floor_is_missing(line: Line) -> None:
    first, _gone, last = line.seal(), line.seal(), line.seal(lane=Lane.BACKLOG)
    await line.send([first, last])
    await line.hello(line.state(floor=3, head=2))
    found = line.verify()
    assert not found.holds
    assert (found.missing, found.frames_missing, found.waiting) == (10, 1, 0)


async def test_an_old_epoch_that_a_new_hello_does_not_name_holds_nothing_back(line: Line) -> None:
    first, _gone, last = line.seal(), line.seal(), line.seal()
    await line.send([first, last])
    assert line.verify().waiting == 10
    await line.hello(epoch=0xDEF)
    found = line.verify()
    assert (found.missing, found.waiting) == (10, 0)


async def test_a_rejected_frame_is_rejected_and_not_missing(line: Line) -> None:
    frames = [line.seal() for _ in range(3)]
    bad = changed(frames[1], payload=b"x", raw_len=1, compressed=False)
    line.voice.floors[Lane.LIVE] = 4
    await line.send([frames[0], bad, frames[2], line.seal()])
    found = line.verify()
    assert found.holds
    assert (found.stored, found.rejected, found.missing, found.frames_rejected) == (30, 10, 0, 1)
    assert words(found) == ["rejected"]


async def test_a_drop_names_what_is_gone(line: Line) -> None:
    frames = [line.seal() for _ in range(6)]
    drop = Drop(
        lane=2, from_time=from_us(T0), to_time=from_us(T0 + 1), from_seq=2, to_seq=4,
        epoch=line.voice.epoch, reason="spool full", rows=30,
    )  # fmt: skip
    line.voice.floors[Lane.LIVE] = 7
    await line.send([frames[0], frames[4], frames[5], line.voice.notices(Kind.DROP, [drop])])
    await line.send([line.seal()])
    found = line.verify()
    assert found.holds
    assert (found.stored, found.dropped, found.missing) == (40, 30, 0)
    assert found.frames_dropped == 3


async def test_i7_dropped_while_under_way_and_stored_after_all_is_stored(line: Line) -> None:
    frames = [line.seal() for _ in range(6)]
    drop = Drop(
        lane=2, from_time=from_us(T0), to_time=from_us(T0 + 1), from_seq=2, to_seq=4,
        epoch=line.voice.epoch, reason="spool full", rows=30,
    )  # fmt: skip
    line.voice.floors[Lane.LIVE] = 7
    await line.send([frames[0], frames[2], *frames[4:], line.voice.notices(Kind.DROP, [drop])])
    await line.send([line.seal()])
    found = line.verify()
    assert found.holds
    assert (found.stored, found.dropped, found.missing) == (50, 20, 0)


async def test_a_drop_excuses_only_what_it_names(line: Line) -> None:
    frames = [line.seal() for _ in range(6)]
    drop = Drop(
        lane=2, from_time=from_us(T0), to_time=from_us(T0 + 1), from_seq=2, to_seq=3,
        epoch=line.voice.epoch, reason="spool full", rows=20,
    )  # fmt: skip
    line.voice.floors[Lane.LIVE] = 7
    await line.send([frames[0], frames[5], line.voice.notices(Kind.DROP, [drop]), line.seal()])
    found = line.verify()
    assert not found.holds
    assert (found.stored, found.dropped, found.missing, found.frames_missing) == (30, 20, 20, 2)


async def test_what_was_released_as_logged_waits(line: Line) -> None:
    frames = [line.seal() for _ in range(3)]
    gone = Release(
        lane=2, from_time=from_us(T0), to_time=from_us(T0 + 1), from_seq=2, to_seq=2,
        epoch=line.voice.epoch, reason="spool full", rows=10,
    )  # fmt: skip
    line.voice.floors[Lane.LIVE] = 4
    await line.send([frames[0], frames[2], line.voice.notices(Kind.RELEASE, [gone]), line.seal()])
    found = line.verify()
    assert found.holds
    assert (found.waiting, found.missing) == (10, 0)


async def test_discards_before_the_spool_are_dropped(line: Line) -> None:
    await line.send([line.seal(discarded=7)])
    found = line.verify()
    assert found.holds
    assert (found.read, found.stored, found.filtered, found.dropped) == (19, 10, 2, 7)


async def test_a_period_is_the_frames_sealed_in_it(line: Line) -> None:
    frames = [line.seal() for _ in range(10)]
    line.voice.floors[Lane.LIVE] = 11
    await line.send([*frames[:3], *frames[4:], line.seal()])
    middle = from_us(frames[5].header.sealed_at)
    first, second = line.verify(to_at=middle), line.verify(from_at=middle)
    assert (first.read, first.stored, first.missing) == (60, 40, 10)
    assert (second.read, second.stored, second.missing) == (72, 60, 0)
    assert second.holds
    whole = line.verify()
    assert whole.read == first.read + second.read
    assert whole.stored == first.stored + second.stored
    assert whole.missing == first.missing + second.missing


async def test_an_event_frame_that_never_came_is_missing_though_it_has_no_rows(line: Line) -> None:
    def tags() -> Frame:
        line.voice.floors[Lane.CONTROL] = 3
        stretch = Outage(from_time=from_us(T0), to_time=from_us(T0 + 1), reason="restart")
        return line.voice.notices(Kind.OUTAGE, [stretch])

    frames = [tags(), tags(), tags()]
    await line.send([frames[0], frames[2], line.seal()])
    found = line.verify()
    assert not found.holds
    assert (found.missing, found.frames_missing) == (0, 1)
    assert [(one.what, one.lane, one.first_seq) for one in found.findings] == [
        ("missing", "control", 2)
    ]
    assert [one.reason for one in found.outages] == ["restart", "restart"]


async def test_two_epochs_and_a_fork_add_up(line: Line) -> None:
    await line.send([line.seal() for _ in range(3)])
    set_back = Line(line.bench)
    forked = [set_back.seal(filtered=5, first=100) for _ in range(2)]
    await line.send(forked)
    assert [kind for frame in forked for kind, _ in line.bench.said(frame)] == ["forked"] * 2
    again = Line(line.bench, epoch=0xEEE)
    again.voice.now_us = set_back.voice.now_us
    await again.send([again.seal(filtered=0, first=100) for _ in range(2)])
    found = line.verify()
    assert found.holds
    assert (found.read, found.stored, found.filtered) == (56, 50, 6)


async def test_more_in_the_ledger_than_was_read_is_no_sum_that_holds(line: Line) -> None:
    frame = line.seal()
    await line.send([changed(frame, totals=replace(line.voice.totals, read=5, filtered=0))])
    found = line.verify()
    assert (found.surplus, found.missing) == (5, 0)
    assert not found.holds


async def test_frames_without_totals_are_counted_by_themselves(line: Line) -> None:
    frames = [changed(line.seal(), totals=None) for _ in range(4)]
    await line.send([frames[0], *frames[2:]])
    found = line.verify()
    assert not found.totals_stated
    assert (found.read, found.stored, found.waiting) == (40, 30, 10)


async def test_two_agents_are_told_apart(line: Line) -> None:
    await line.send([line.seal() for _ in range(3)])
    other = AgentVoice("berlin.press2", now_us=T0 + SECOND_US)
    rows = [sample("other.x", DataType.INT32, T0 + n, n) for n in range(7)]
    await line.bench.send(other.samples(rows))
    assert line.verify().stored == 30
    assert verify_agent(line.bench.connection, "berlin.press2").stored == 7


async def test_lists_are_counted_too(line: Line) -> None:
    rows = [sample("d.l", DataType.FLOAT64S, T0 + n, [1.0, 2.0]) for n in range(3)]
    await line.bench.send(line.voice.samples(rows))
    assert (line.verify().stored, line.verify().holds) == (3, True)


async def test_verify_says_the_same_on_timescale(pglite: str) -> None:
    """Ingest and proof on TimescaleDB, its chunks compressed in between."""
    prepare_database(pglite, [("berlin.press1", "L1/**")])
    async with running_ingest(pglite) as bench:
        line = Line(bench)
        await line.send([line.seal() for _ in range(5)])
    with connect(pglite, application="test") as connection:
        connection.execute("select compress_chunk(c) from show_chunks('sample') c")
        found = verify_agent(connection, "berlin.press1")
        assert found.holds
        assert (found.read, found.stored, found.filtered) == (60, 50, 10)
        connection.execute("delete from sample where i64 = 3")
        assert verify_agent(connection, "berlin.press1").missing == 5


def cycle(count: int, *, closed: bool) -> PassEvent:
    known = pass_id("berlin", "L1/ST010", "", 7, count)
    return PassEvent(
        id=event_id(known, "closed" if closed else "open", 0), site="berlin",
        at=from_us(T0 + count * SECOND_US), pass_id=known, station="L1/ST010",
        key=PassKey(series=7, count=count, modulus=4), started=from_us(T0),
        ended=from_us(T0 + count * SECOND_US) if closed else None,
        replaces=(event_id(known, "open", 0),) if closed else (),
    )  # fmt: skip


async def test_a_stations_cycles_are_passes_and_gaps(line: Line) -> None:
    line.voice.now_us = T0 + 120 * SECOND_US  # long after the last of them
    events = [cycle(n, closed=closed) for n in (1, 2, 3, 6) for closed in (False, True)]
    await line.bench.send(line.voice.events(events))
    found = verify_station(line.bench.connection, "berlin", "L1/ST010")
    (series,) = found.series
    assert (series.counted, series.passes, series.gaps, series.missing) == (6, 4, 0, 2)
    assert not found.holds
    lost = GapEvent(
        id=uuid4(), site="berlin", at=from_us(T0 + 4 * SECOND_US), station="L1/ST010", series=7,
        from_count=4, to_count=5,
    )  # fmt: skip
    await line.bench.send(line.voice.events([lost]))
    found = verify_station(line.bench.connection, "berlin", "L1/ST010")
    assert found.holds
    taken_back = VoidEvent(
        id=uuid4(), site="berlin", at=from_us(T0), replaces=(cycle(2, closed=True).id,)
    )
    await line.bench.send(line.voice.events([taken_back]))
    found = verify_station(line.bench.connection, "berlin", "L1/ST010")
    assert (found.series[0].missing, found.series[0].missing_counts) == (1, (2,))


async def test_the_counters_own_samples_are_counted_against_them(line: Line) -> None:
    line.voice.now_us = T0 + 120 * SECOND_US
    await line.bench.send(line.voice.events([cycle(n, closed=True) for n in range(1, 7)]))
    await line.bench.send(line.counted([0, 1, 1, 2, 3, 0, 1, 2]))
    counter = Counter("st010.count", 4)
    found = verify_station(line.bench.connection, "berlin", "L1/ST010", counter=counter)
    assert found.counter is not None
    assert (found.counter.counted, found.counter.told, found.holds) == (6, 6, True)
    await line.bench.send(line.counted([3], first_s=50))
    found = verify_station(line.bench.connection, "berlin", "L1/ST010", counter=counter)
    assert not found.holds, "the counter went on, and nobody told of a pass"


async def test_a_line_that_runs_is_proven_as_far_as_both_events_and_samples_are_here(
    line: Line,
) -> None:
    """The samples count seven cycles; the events of the last three are on the way."""
    told = [cycle(n, closed=True) for n in range(1, 8)]
    line.voice.now_us = T0 + 4 * SECOND_US + 500_000
    first, second = line.voice.events(told[:4]), line.voice.events(told[4:])
    line.voice.now_us = T0 + 120 * SECOND_US
    await line.bench.send(first, line.counted([0, 1, 2, 3, 0, 1, 2, 3]))
    counter = Counter("st010.count", 4)

    def proven(to_at: datetime | None = None) -> tuple[bool, int, int]:
        found = verify_station(
            line.bench.connection, "berlin", "L1/ST010", to_at=to_at, counter=counter
        )
        assert found.counter is not None
        return found.holds, found.counter.counted, found.counter.told

    assert proven() == (True, 4, 4)
    assert proven(END) == (False, 7, 4), "asked for all: three are counted and not told"
    third = line.voice.events([cycle(8, closed=True)])  # told before the second, which is resent
    await line.bench.send(third)
    assert proven() == (True, 4, 4), "what comes before the newest is still waited for"
    await line.bench.send(second)
    line.voice.now_us += SECOND_US
    await line.bench.send(line.counted([0], first_s=8))
    assert proven() == (True, 8, 8)


async def test_events_that_are_ahead_of_the_samples_wait_for_them(line: Line) -> None:
    line.voice.now_us = T0 + 120 * SECOND_US
    await line.bench.send(line.voice.events([cycle(n, closed=True) for n in range(1, 7)]))
    line.voice.now_us = T0 + 3 * SECOND_US
    await line.bench.send(line.counted([0, 1, 2]))
    counter = Counter("st010.count", 4)
    found = verify_station(line.bench.connection, "berlin", "L1/ST010", counter=counter)
    assert found.to_at == from_us(T0 + 3 * SECOND_US)
    assert found.counter is not None
    assert (found.counter.counted, found.counter.told, found.holds) == (2, 2, True)
    assert found.series[0].counted == 2


async def test_a_station_that_nobody_told_of_is_a_mistake(line: Line) -> None:
    with pytest.raises(ConfigError, match="has no events"):
        verify_station(line.bench.connection, "berlin", "L1/ST099")


async def test_the_command_prints_the_equation_and_ends_with_its_answer(
    line: Line, store_dsn: str
) -> None:
    await line.send([line.seal() for _ in range(3)])

    def run(*words: str) -> tuple[int, str]:
        command = ["verify", *words, "--database", store_dsn]
        done = CliRunner().invoke(app, command)
        return done.exit_code, done.output

    code, said = await asyncio.to_thread(run, "berlin.press1")
    assert (code, said.splitlines()[-1]) == (
        0, "berlin.press1: 30 stored, 0 missing, 0 duplicate",
    )  # fmt: skip
    line.bench.rows("delete from sample where i64 = 1 returning i64")
    code, said = await asyncio.to_thread(run, "berlin.press1", "--output", "json")
    found = json.loads(said)
    assert (code, found["missing"], found["holds"]) == (1, 3, False)
    assert [one["what"] for one in found["findings"]] == ["lacking in the table"] * 3
    code, said = await asyncio.to_thread(run, "berlin.press1", "--fast")
    assert code == 0


def test_a_station_is_of_an_agents_site_or_of_a_named_one(store_dsn: str) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["verify", *words, "--database", store_dsn])
        return done.exit_code, " ".join(done.output.split()) or str(done.exception)

    nobody = "nobody's"
    whose: list[tuple[str, ...]] = [("berlin.press1",), ("--site", "berlin")]
    for words in whose:
        code, said = run(*words, "--station", nobody)
        assert code != 0
        assert "has no events" in said
    nameless: list[tuple[str, ...]] = [("--station", nobody), ("--site", "berlin"), ()]
    for words in nameless:
        code, said = run(*words)
        assert code == 2
        assert "name an agent, or --station with" in said
