"""The uplink in virtual time: what it sends when, and what receipts, silence and cuts come to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from edge.entries import State
from edge.uplink import BACKLOG_AHEAD_BYTES, UNACKNOWLEDGED_BYTES_MAX, Uplink
from protocols.frames import Frame, Header, Kind, Lane, seal
from protocols.receipts import Receipt, Run, Said, encode_receipt
from tests.support import cuts
from tests.support.edge_fakes import LoopClock
from tests.support.fake_broker import FakeBroker
from tests.support.inline_spool import InlineSpool

LANES = {Lane.EVENTS: "events", Lane.LIVE: "live", Lane.BACKLOG: "backlog", Lane.CONTROL: "control"}


def said(
    kind: Said,
    frames: Iterable[Frame],
    *,
    store_id: str | None = "a",
    log_gen: int | None = None,
    reason: str | None = None,
    agent: str = "plant1.a",
) -> bytes:
    runs = tuple(
        Run(
            epoch=frame.header.epoch,
            lane=frame.header.lane,
            kind=kind,
            first=frame.header.seq,
            digests=(frame.header.digest,),
            reason=reason,
        )
        for frame in frames
    )
    return encode_receipt(Receipt(agent=agent, store_id=store_id, log_gen=log_gen, runs=runs))


@dataclass
class Line:
    spool: InlineSpool
    broker: FakeBroker
    uplink: Uplink

    def write(self, *numbers: int, lane: Lane = Lane.LIVE, events: int = 0) -> None:
        for number in numbers:
            self.spool.write(cuts.cut(number, events=events), lane)

    def answer(self, kind: Said, frames: Iterable[Frame] | None = None, **more: str) -> None:
        named = self.broker.frames() if frames is None else frames
        self.broker.deliver(said(kind, named, **more))  # type: ignore[arg-type]  # reason or store_id

    def answers(self, kind: Said = Said.STORED) -> None:
        """From now on every frame is answered at once."""
        self.broker.on_frame = lambda frame: (
            self.broker.deliver(said(kind, [frame])) if frame.header.seq else None
        )

    def seqs(self) -> list[int]:
        return [frame.header.seq for frame in self.broker.frames()]

    def states(self) -> list[State]:
        return list(self.spool.states().values())


@contextlib.asynccontextmanager
async def running(line: Line) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(line.uplink.run())
        await asyncio.sleep(0.1)
        yield
        task.cancel()


async def made() -> Line:
    clock = LoopClock()
    spool, broker = InlineSpool(clock), FakeBroker()
    uplink = Uplink("plant1.a", broker, spool, clock, lambda: 0.0)
    spool.on_change = uplink.wake
    return Line(spool, broker, uplink)


async def test_frames_go_by_lane_in_order_to_their_topics() -> None:
    line = await made()
    line.write(1, lane=Lane.BACKLOG)
    line.write(2, 3, events=1)
    async with running(line):
        topics = [topic for _, topic, frame in line.broker.received if frame.header.seq]
        names = ["events", "events", "live", "live", "backlog"]
        assert topics == [f"tl/1/plant1.a/{name}" for name in names]
        line.write(4)
        await asyncio.sleep(0.01)
        assert line.broker.received[-1][1] == "tl/1/plant1.a/live"


async def test_i2_a_broker_that_acknowledges_changes_nothing() -> None:
    line = await made()
    line.write(1, events=1)
    async with running(line):
        assert line.broker.link is not None
        assert line.broker.link.unacknowledged_bytes == 0
        assert line.states() == [State.NEW, State.NEW]
        assert not line.uplink.idle


@pytest.mark.parametrize(
    ("kind", "state"), [(Said.STORED, State.STORED), (Said.LOGGED, State.LOGGED)]
)
async def test_a_receipt_with_the_digest_does(kind: Said, state: State) -> None:
    line = await made()
    line.write(1, 2)
    async with running(line):
        line.answer(kind)
        await asyncio.sleep(0.01)
        assert line.states() == [state, state]
        assert line.uplink.idle
        assert line.seqs() == [1, 2]


async def test_what_is_not_answered_is_sent_again_the_same_and_ever_more_rarely() -> None:
    line = await made()
    line.write(1)
    async with running(line):
        await asyncio.sleep(500)
        assert [round(at_s) for at_s in line.broker.times()] == [0, 30, 90, 210, 450]
        assert len({frame.sealed for frame in line.broker.frames()}) == 1
        assert line.uplink.state == "silent: no receipts"
        line.answer(Said.STORED)
        await asyncio.sleep(1)
        assert line.uplink.state == "connected"


async def test_i2_no_more_than_a_window_is_out_and_each_receipt_lets_more_go() -> None:
    line = await made()
    line.write(*range(300))
    async with running(line):
        assert line.seqs() == list(range(1, 257))
        line.answer(Said.LOGGED, line.broker.frames()[:10])
        await asyncio.sleep(0.01)
        assert line.seqs() == list(range(1, 267))


async def test_the_window_holds_over_silence() -> None:
    line = await made()
    line.write(*range(300))
    async with running(line):
        await asyncio.sleep(100)
        assert set(line.seqs()) == set(range(1, 257))


async def test_a_new_session_sends_again_all_that_was_out() -> None:
    line = await made()
    line.write(1, 2, 3)
    async with running(line):
        line.answer(Said.STORED, line.broker.frames()[:1])
        await asyncio.sleep(0.01)
        line.broker.cut()
        await asyncio.sleep(1)
        assert line.seqs() == [1, 2, 3, 2, 3]
        line.write(4)
        await asyncio.sleep(0.01)
        assert line.seqs()[-1] == 4


async def test_a_receipt_from_a_session_before_counts_all_the_same() -> None:
    line = await made()
    line.write(1)
    async with running(line):
        sent = line.broker.frames()
        line.broker.cut()
        await asyncio.sleep(1)
        line.answer(Said.STORED, sent)
        await asyncio.sleep(0.01)
        assert line.states() == [State.STORED]


async def test_a_new_process_sends_an_old_epoch_under_its_own_identity_after_its_own_live() -> None:
    line = await made()
    line.write(1, 2)
    line.spool.restart()
    line.write(3)
    async with running(line):
        sent = [(frame.header.epoch, frame.header.seq) for frame in line.broker.frames()]
        assert sent == [(2, 1), (1, 1), (1, 2)]


async def test_an_unknown_agent_asks_once_a_minute_until_it_is_taken() -> None:
    line = await made()
    line.write(*range(20))
    line.broker.on_frame = lambda frame: line.broker.deliver(
        said(Said.LATER, [frame] if frame.header.seq else [], reason="unknown_agent")
    )
    async with running(line):
        first = len(line.seqs())
        assert line.uplink.state.startswith("paced")
        await asyncio.sleep(600)
        assert len(line.seqs()) - first == 10
        assert set(line.states()) == {State.NEW}
        line.answers()
        await asyncio.sleep(61)
        assert set(line.states()) == {State.STORED}
        assert line.uplink.state == "connected"


async def test_a_logged_frame_answered_later_is_sent_again() -> None:
    line = await made()
    line.write(1)
    async with running(line):
        (frame,) = line.broker.frames()
        line.answer(Said.LOGGED, [frame])
        await asyncio.sleep(10)
        line.answer(Said.LATER, [frame], reason="unknown_agent")
        await asyncio.sleep(0.1)
        assert line.states() == [State.NEW]
        line.answers()
        await asyncio.sleep(120)
        assert line.seqs() == [1, 1]
        assert line.states() == [State.STORED]


async def test_what_a_log_takes_at_once_is_no_word_of_the_cloud() -> None:
    """Behind a gateway every frame is logged in no time, also one that the cloud does not want."""
    line = await made()
    line.write(*range(20))

    def answer(frame: Frame) -> None:
        if frame.header.seq:
            line.broker.deliver(said(Said.LOGGED, [frame]))
            word = said(Said.LATER, [frame], reason="set_aside")
            asyncio.get_running_loop().call_later(0.05, line.broker.deliver, word)

    line.broker.on_frame = answer
    async with running(line):
        await asyncio.sleep(1)
        first = len(line.seqs())
        await asyncio.sleep(600)
        assert len(line.seqs()) - first == 10, "one a minute"
        assert set(line.states()) == {State.NEW}
        line.answers()
        await asyncio.sleep(61)
        assert set(line.states()) == {State.STORED}


async def test_an_unknown_version_waits_and_holds_nothing_up() -> None:
    """A frame that the cloud cannot read yet; the others are taken meanwhile."""
    line = await made()

    def answer(frame: Frame) -> None:
        if frame.header.lane is Lane.EVENTS:
            line.broker.deliver(said(Said.LATER, [frame], reason="unknown_version"))
        elif frame.header.seq:
            line.broker.deliver(said(Said.STORED, [frame]))

    line.write(1, events=1)
    line.broker.on_frame = answer
    async with running(line):
        for number in range(2, 250):
            line.write(number)
            await asyncio.sleep(1)
        assert line.spool.spool.waiting(Lane.LIVE) == 0
        assert line.spool.spool.waiting(Lane.EVENTS) == 1
        lanes = [frame.header.lane for frame in line.broker.frames()]
        assert lanes.count(Lane.EVENTS) == 3, "now, after a minute, two minutes later"


async def test_i11_a_rejected_frame_is_in_quarantine_and_never_sent_again() -> None:
    line = await made()
    line.write(1, 2)
    async with running(line):
        line.answer(Said.REJECTED, line.broker.frames()[:1], reason="undecodable")
        await asyncio.sleep(200)
        assert line.seqs().count(1) == 1
        assert len(line.spool.store.aside()) == 1


async def test_i1_a_forked_frame_comes_again_in_a_new_epoch() -> None:
    line = await made()
    line.write(1, 2)
    async with running(line):
        first, second = line.broker.frames()
        line.answer(Said.STORED, [first])
        line.answer(Said.FORKED, [second])
        await asyncio.sleep(0.1)
        again = line.broker.frames()[-1]
        assert (again.header.epoch, again.header.seq) == (2, 1)
        assert again.payload == second.payload
        assert line.spool.spool.epoch == 2


async def test_i4_another_store_gets_everything_again() -> None:
    line = await made()
    line.write(1, 2, 3)
    line.answers()
    async with running(line):
        assert set(line.states()) == {State.STORED}
        line.broker.deliver(said(Said.STATE, [], store_id="b"))
        line.broker.on_frame = lambda frame: (
            line.broker.deliver(said(Said.STORED, [frame], store_id="b"))
            if frame.header.seq
            else None
        )
        await asyncio.sleep(0.1)
        assert line.seqs() == [1, 2, 3, 1, 2, 3]
        assert set(line.states()) == {State.STORED}


async def test_i3_another_log_gets_again_what_it_had_only_logged_a_window_at_a_time() -> None:
    """`logged` was a lie: the log was made anew. Nothing floods the way for it."""
    line = await made()
    line.write(*range(600))
    line.answers(Said.LOGGED)
    async with running(line):
        assert set(line.states()) == {State.LOGGED}
        stored = line.broker.frames()[:50]
        line.broker.on_frame = lambda _: None
        line.answer(Said.STORED, stored)
        line.broker.deliver(said(Said.STATE, [], log_gen=1))
        await asyncio.sleep(100)
        assert len(line.seqs()) == 600, "the first word of a log changes nothing"
        line.broker.deliver(said(Said.STATE, [], log_gen=2))
        await asyncio.sleep(1)
        assert line.seqs()[600:] == list(range(51, 307)), "no more than a window is out"
        line.answers()
        line.answer(Said.STORED, line.broker.frames()[600:])
        await asyncio.sleep(60)
        assert set(line.states()) == {State.STORED}
        assert sorted(set(line.seqs()[600:])) == list(range(51, 601)), "nothing that was stored"


async def test_receipts_of_others_unreadable_ones_and_unknown_epochs_change_nothing() -> None:
    line = await made()
    line.write(1)
    async with running(line):
        (frame,) = line.broker.frames()
        other = seal(Header(Kind.SAMPLES, Lane.LIVE, "plant1.a", 999, 1), frame.payload)
        line.broker.deliver(said(Said.STORED, [frame], agent="plant1.b"))
        line.broker.deliver(b"{")
        line.broker.deliver(b"\xff" * 100_000)
        line.answer(Said.STORED, [other])
        await asyncio.sleep(0.1)
        assert line.states() == [State.NEW]
        assert line.uplink.counts["receipts_foreign"] == 1
        assert line.uplink.counts["receipts_unreadable"] == 2
        line.answer(Said.STORED, [frame])
        await asyncio.sleep(0.1)
        assert line.states() == [State.STORED]


async def test_hello_on_connect_and_every_minute() -> None:
    line = await made()
    hello = seal(Header(Kind.HELLO, Lane.NONE, "plant1.a", 1, 0), b"{}")
    line.uplink.make_hello = lambda: hello
    async with running(line):
        await asyncio.sleep(125)
        line.broker.cut()
        await asyncio.sleep(1)
        at = [round(at_s) for at_s, topic, _ in line.broker.received if topic.endswith("/hello")]
        assert at == [0, 60, 120, 126]


async def test_i8_nothing_more_is_read_above_16_mib_unacknowledged() -> None:
    line = await made()
    line.broker.acknowledges = False
    async with running(line):
        assert line.broker.link is not None
        line.broker.link.publish("tl/1/plant1.a/hello", _padding())
        for _ in range(UNACKNOWLEDGED_BYTES_MAX // len(_padding())):
            line.broker.link.publish("tl/1/plant1.a/hello", _padding())
        line.write(1)
        await asyncio.sleep(5)
        assert line.seqs() == []
        line.broker.link.acknowledge()
        await asyncio.sleep(0.1)
        assert line.seqs() == [1]


def _padding() -> bytes:
    return seal(Header(Kind.HELLO, Lane.NONE, "plant1.a", 1, 0), b"x" * 2_000_000).sealed


async def test_i8_what_was_written_while_nobody_was_there_comes_from_the_spool_alone() -> None:
    line = await made()
    line.broker.refuses = "connection refused"
    async with running(line):
        line.write(*range(300), lane=Lane.BACKLOG)
        await asyncio.sleep(100)
        assert line.broker.received == []
        line.broker.refuses = None
        await asyncio.sleep(31)
        assert line.seqs() == list(range(1, 257)), "a window of the oldest, each once"


async def test_a_refusing_broker_is_a_state_one_line_and_goes_on_by_itself() -> None:
    line = await made()
    line.broker.refuses = "refused: not authorized"
    line.write(1)
    with capture_logs() as lines:
        async with running(line):
            await asyncio.sleep(300)
            assert line.uplink.state == "refused: not authorized"
            line.broker.refuses = None
            line.answers()
            await asyncio.sleep(60)
            assert line.uplink.state == "connected"
            assert set(line.states()) == {State.STORED}
            line.broker.cut()
            await asyncio.sleep(10)
    assert [one["event"] for one in lines] == [
        "the broker is away",
        "connected to the broker",
        "the broker is away",
        "connected to the broker",
    ]


async def test_tries_to_connect_are_ever_further_apart_up_to_a_limit() -> None:
    line = await made()
    line.broker.refuses = "connection refused"
    async with running(line):
        await asyncio.sleep(200)
    gaps = [
        after - before
        for before, after in zip(line.broker.opened_at, line.broker.opened_at[1:], strict=False)
    ]
    assert [round(gap, 1) for gap in gaps[:7]] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert max(gaps) < 31


async def test_sessions_that_end_at_once_are_no_reason_to_hurry() -> None:
    """Two agents with one name throw each other out."""
    line = await made()
    async with running(line):
        for _ in range(200):
            line.broker.cut()
            await asyncio.sleep(0.5)
    assert len(line.broker.opened_at) < 12


async def test_a_spool_that_is_busy_is_asked_again_and_no_receipt_is_lost() -> None:
    line = await made()
    line.write(1)
    async with running(line):
        line.spool.busy = 3
        line.answer(Said.STORED)
        await asyncio.sleep(5)
        assert line.states() == [State.STORED]
        line.spool.busy = 2
        line.write(2)
        await asyncio.sleep(5)
        assert line.seqs() == [1, 2]


async def test_what_the_spool_let_go_in_flight_is_not_waited_for() -> None:
    line = await made()
    line.write(1, 2)
    async with running(line):
        entry = line.spool.store.find(next(iter(line.spool.states())))
        assert entry is not None
        line.spool.store.remove([entry])
        line.spool.spool.commit()
        await asyncio.sleep(31)
        assert line.seqs() == [1, 2, 2]
        line.answer(Said.STORED)
        await asyncio.sleep(0.1)
        assert line.uplink.idle


async def test_on_a_slow_wire_little_backlog_stands_before_a_live_frame() -> None:
    line = await made()
    line.broker.acknowledges = False
    for number in range(100):
        line.spool.write(cuts.cut(number, cuts.rows(number, 5000)), Lane.BACKLOG)
    async with running(line):
        ahead = sum(len(frame.sealed) for frame in line.broker.frames())
        assert BACKLOG_AHEAD_BYTES <= ahead < 2 * BACKLOG_AHEAD_BYTES
        line.write(200)
        await asyncio.sleep(0.01)
        assert line.broker.frames()[-1].header.lane is Lane.LIVE
        before = len(line.seqs())
        assert line.broker.link is not None
        line.broker.link.acknowledge()
        await asyncio.sleep(0.01)
        assert len(line.seqs()) > before


async def test_a_backlog_drains_without_anything_new() -> None:
    line = await made()
    line.write(*range(600), lane=Lane.BACKLOG)
    line.answers(Said.LOGGED)
    async with running(line):
        await asyncio.sleep(1)
        assert set(line.states()) == {State.LOGGED}
        assert line.seqs() == list(range(1, 601))
