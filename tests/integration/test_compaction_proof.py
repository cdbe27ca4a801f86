"""The proof of delivery says the same of frames that were compacted, to the hour."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from cloud.compaction import Run
from cloud.verify.counter import Counter
from cloud.verify.delivery import BEGINNING, END, Delivery, verify_agent
from cloud.verify.reach import surely_until
from cloud.verify.station import verify_station
from protocols.events import PassEvent, PassKey, event_id, from_us, pass_id
from protocols.frames import Frame, Kind, Lane
from protocols.notices import Drop
from protocols.samples import DataType
from tests.support.compacting import (
    MINUTE_US,
    ROWS,
    T0,
    compacted,
    floor,
    grow_old,
    left,
    ranges,
    say_hello,
    seal,
    sent,
    spoken,
)
from tests.support.frames import AgentVoice, changed, sample
from tests.support.plant_store import Bench

pytestmark = pytest.mark.integration


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
