"""The pipeline in virtual time: when cuts are made, what they hold, and that nothing gets lost."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import async_solipsism
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.catalogue import Catalogue, TagFacts
from edge.channel import (
    Answered,
    Channel,
    Openings,
    Polled,
    Unanswered,
    Unwritten,
    Written,
)
from edge.cut import Cut, Recovered
from edge.pipeline import Parts, Pipeline
from edge.poller import Job, ReadJob, WriteJob
from edge.requests import Desk
from protocols.codec import Curve
from protocols.errors import Rejected
from protocols.events import to_us
from protocols.samples import Code, DataType, Quality, Sample, SampleBatch, concat, from_samples
from rules.ports import Outcome, ReadRequest, WriteRequest
from tests.support.edge_fakes import (
    START_US,
    LoopClock,
    MemoryOutbox,
    Passing,
    ScriptedBinder,
    asks,
    batch_of,
)


class Inbox:
    """A poller that only remembers what it was asked."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def ask(self, job: Job) -> None:
        self.jobs.append(job)


class Bench:
    """A pipeline between a channel and an outbox in memory."""

    def __init__(self, recovered: Recovered | None = None, start_us: int = START_US) -> None:
        self.clock = LoopClock(start_us)
        self.openings = Openings()
        self.channel = Channel(self.clock, self.openings)
        self.outbox = MemoryOutbox(recovered)
        self.stage = Passing()
        self.binder = ScriptedBinder({"box": ("p1.no",), "far": ("p2.no",)})
        self.p1, self.p2 = Inbox(), Inbox()
        desk = Desk(
            {"p1": self.p1, "p2": self.p2},
            {"box": "p1", "far": "p2"},
            {"p1.taken": "p1"},
        )
        self.catalogue = Catalogue(
            {"p1.a": TagFacts(unit="bar", address="MD4", station="L1/S"), "p1.arr": TagFacts("mm")}
        )
        self.pipeline = Pipeline(
            Parts(
                "plant1.line1",
                self.channel,
                self.openings,
                self.clock,
                self.stage,
                self.binder,
                self.outbox,
                desk,
                self.catalogue,
            )
        )

    def say(self, values: dict[str, int] | None = None, batch: SampleBatch | None = None) -> None:
        ticket = self.openings.open(self.clock.now_us())
        rows = batch or batch_of(values or {"p1.a": 1, "p1.b": 2}, self.clock.now_us())
        self.channel.say(Polled(rows, ticket, self.clock.now_us()))

    @property
    def cuts(self) -> list[Cut]:
        return self.outbox.cuts


@asynccontextmanager
async def running(
    recovered: Recovered | None = None, start_us: int = START_US
) -> AsyncIterator[Bench]:
    bench = Bench(recovered, start_us)
    async with asyncio.TaskGroup() as tasks:
        bench.pipeline.begin()
        started = [
            tasks.create_task(bench.pipeline.run()),
            tasks.create_task(bench.pipeline.after_commit.run()),
        ]
        try:
            yield bench
        finally:
            for task in started:
                task.cancel()


async def test_a_cut_is_made_four_times_a_second_rows_or_not() -> None:
    async with running() as bench:
        await asyncio.sleep(10.1)
        assert len(bench.cuts) == 40
        assert all(len(cut.samples) == 0 for cut in bench.cuts)
        watermarks = [cut.watermark_us for cut in bench.cuts]
        assert watermarks[0] == pytest.approx(START_US + 250_000, abs=2_000)
        assert watermarks == sorted(watermarks)


async def test_the_binder_hears_of_time_every_100_ms() -> None:
    async with running() as bench:
        await asyncio.sleep(10)
        ticks = [said[1] for said in bench.binder.heard if said[0] == "tick"]
        assert max(b - a for a, b in itertools.pairwise(ticks)) <= 101_000


async def test_rows_of_several_groups_make_one_cut() -> None:
    async with running() as bench:
        for _ in range(5):
            bench.say()
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        full = [cut for cut in bench.cuts if len(cut.samples)]
        assert len(full) == 1
        assert len(full[0].samples) == 10
        assert full[0].totals.read == 10


async def test_many_rows_make_a_cut_at_once() -> None:
    async with running() as bench:
        await asyncio.sleep(0.01)
        for _ in range(9):
            bench.say({f"p1.t{n}": n for n in range(1000)})
        await asyncio.sleep(0.001)
        assert sum(len(cut.samples) for cut in bench.cuts) >= 7000, "long before 250 ms"
        assert all(len(cut.samples) < 8192 + 1000 for cut in bench.cuts)


async def test_many_bytes_make_a_cut_at_once() -> None:
    async with running() as bench:
        long = [
            Sample("p1.text", DataType.TEXT, START_US, "x" * 60_000, 0, None, START_US, None)
        ] * 5
        bench.say(batch=from_samples(long))
        await asyncio.sleep(0.001)
        assert [len(cut.samples) for cut in bench.cuts] == [5]


async def test_the_watermark_waits_for_a_read_that_is_open() -> None:
    async with running() as bench:
        await asyncio.sleep(1.0)
        ticket = bench.openings.open(bench.clock.now_us())
        await asyncio.sleep(1.0)
        assert bench.cuts[-1].watermark_us == ticket.opened_us
        bench.channel.say(Polled(batch_of({"p1.a": 1}, ticket.opened_us), ticket, 0))
        await asyncio.sleep(0.3)
        assert bench.cuts[-1].watermark_us > ticket.opened_us
        rows = [cut for cut in bench.cuts if len(cut.samples)]
        assert all(int(cut.samples.time.min()) >= ticket.opened_us for cut in rows)


async def test_tags_are_declared_once_with_the_first_cut_that_uses_them() -> None:
    async with running() as bench:
        for _ in range(3):
            bench.say({"p1.a": 1, "p1.arr[3]": 2})
            await asyncio.sleep(0.3)
        lines = [line for cut in bench.cuts for line in cut.tags]
        assert [line.path for line in lines] == ["p1.a", "p1.arr[3]"]
        assert (lines[0].unit, lines[0].address, lines[0].station) == ("bar", "MD4", "L1/S")
        assert lines[1].unit == "mm", "an element has its array's facts"
        first = next(cut for cut in bench.cuts if cut.tags)
        assert len(first.samples)
        bench.pipeline.on_forked()
        bench.say({"p1.a": 1})
        await asyncio.sleep(0.3)
        assert [line.path for line in bench.cuts[-1].tags] == ["p1.a"], "a new epoch says it again"
        assert ("fork",) in bench.binder.heard


async def test_a_start_without_a_past_declares_no_outage() -> None:
    async with running() as bench:
        await asyncio.sleep(0.3)
        assert bench.cuts[0].outages == ()
        assert bench.binder.words() == []


async def test_a_restart_declares_the_outage_and_restores_the_state() -> None:
    past = Recovered(START_US - 3_000_000, {"binding": b"b", "conditioning": b"s"}, had_spool=True)
    async with running(past) as bench:
        await asyncio.sleep(0.3)
        (outage,) = bench.cuts[0].outages
        assert to_us(outage.from_time) == START_US - 3_000_000
        assert to_us(outage.to_time) == START_US
        assert bench.binder.words() == ["restore", "restart"]
        assert bench.stage.restored == b"s"
        assert bench.stage.report_alls >= 1
        assert not any(cut.outages for cut in bench.cuts[1:])


async def test_a_state_that_is_refused_starts_afresh_and_says_so() -> None:
    past = Recovered(START_US - 3_000_000, {"binding": b"foreign"}, had_spool=True)
    async with running(past) as bench:
        await asyncio.sleep(0.3)
        assert bench.binder.words() == [], "a binder that was not restored has no past"
        (alarm,) = bench.cuts[0].alarms
        assert alarm.key == "state_refused/binding"
        assert len(bench.cuts[0].outages) == 1


async def test_an_overrun_is_counted_named_and_reported_anew() -> None:
    async with running() as bench:
        await asyncio.sleep(0.3)
        bench.outbox.fill()
        for _ in range(60):
            bench.say()
            await asyncio.sleep(0.1)
        before = bench.stage.report_alls
        assert bench.channel.overrun_rows > 50, "two seconds are kept, no more"
        assert bench.pipeline.counted.full > 0
        bench.outbox.empty()
        await asyncio.sleep(1)
        outages = [outage for cut in bench.cuts for outage in cut.outages]
        assert sum(outage.rows for outage in outages) == bench.channel.overrun_rows
        assert {outage.reason for outage in outages} == {"overrun"}
        assert bench.stage.report_alls > before
        stored = sum(len(cut.samples) for cut in bench.cuts)
        assert stored + bench.channel.overrun_rows == 120


async def test_a_standstill_of_the_process_is_an_outage_after_which_all_is_said_anew() -> None:
    async with running() as bench:
        await asyncio.sleep(0.3)
        bench.say({"p1.a": 1})
        await asyncio.sleep(0.001)  # it is taken, and in no cut yet
        before, since_us = bench.stage.report_alls, bench.clock.now_us()
        bench.clock.stop(5.0)
        bench.say({"p1.a": 2})
        await asyncio.sleep(0.3)
        (outage,) = [outage for cut in bench.cuts for outage in cut.outages]
        assert (outage.reason, outage.rows) == ("agent stood still", 0)
        assert to_us(outage.from_time) == pytest.approx(since_us, abs=2_000)
        assert to_us(outage.to_time) == pytest.approx(since_us + 5_000_000, abs=2_000)
        assert bench.stage.report_alls == before + 1
        first, second = (cut for cut in bench.cuts if len(cut.samples))
        assert not first.outages, "what was read before it is no part of it"
        assert second.outages == (outage,)


async def test_what_is_let_go_after_a_standstill_says_nothing_anew_of_before_it() -> None:
    async with running() as bench:
        await asyncio.sleep(0.3)
        bench.say({"p1.a": 1})
        await asyncio.sleep(0.001)  # it is taken, and in no cut yet
        before = bench.stage.report_alls
        bench.say({"p1.a": 2})  # in the channel while nothing runs
        bench.clock.stop(5.0)
        bench.say({"p1.a": 3})  # 5 s behind, as it seems
        await asyncio.sleep(0.3)
        first, second = bench.stage.anew
        assert first == before, "what was read before it is as it was"
        assert second > before
        outages = [outage for cut in bench.cuts for outage in cut.outages]
        assert sorted(outage.reason for outage in outages) == ["agent stood still", "overrun"]
        assert sum(cut.totals.discarded for cut in bench.cuts) == 1


async def test_a_short_stop_and_a_full_outbox_are_no_standstill() -> None:
    async with running() as bench:
        await asyncio.sleep(0.3)
        bench.clock.stop(1.5)
        await asyncio.sleep(0.3)
        bench.outbox.fill()
        await asyncio.sleep(6)
        bench.outbox.empty()
        await asyncio.sleep(0.3)
        assert not any(cut.outages for cut in bench.cuts)


async def test_a_write_after_commit_waits_for_the_sync() -> None:
    async with running() as bench:
        bench.outbox.hold = True
        later = WriteRequest(2, "p1.taken", 1, after_commit=True)
        now = WriteRequest(1, "p1.taken", 0, after_commit=False)
        bench.binder.outcomes.append(asks(writes=(later, now)))
        bench.say()
        await asyncio.sleep(5)
        assert bench.p1.jobs == [WriteJob(1, "p1.taken", 0)]
        bench.outbox.sync()
        await asyncio.sleep(0.01)
        assert bench.p1.jobs[1:] == [WriteJob(2, "p1.taken", 1)]


async def test_a_write_whose_cut_was_not_kept_is_told_to_the_binder() -> None:
    async with running() as bench:
        bench.outbox.hold = True
        later = WriteRequest(2, "p1.taken", 1, after_commit=True)
        bench.binder.outcomes.append(asks(writes=(later,)))
        bench.say()
        await asyncio.sleep(1)
        for handover in bench.outbox.handovers:
            handover.refused = "events full"
        bench.outbox.sync()
        await asyncio.sleep(1)
        assert bench.p1.jobs == []
        failed = [said for said in bench.binder.heard if said[0] == "write_failed"]
        assert [said[1:3] for said in failed] == [(2, "not kept: events full")]


async def test_requests_go_out_and_their_answers_come_back() -> None:
    async with running() as bench:
        bench.binder.outcomes.append(asks(ReadRequest(5, ("box", "box"))))
        bench.say()
        await asyncio.sleep(0.01)
        assert bench.p1.jobs == [ReadJob(5, ("box", "box"))]
        rows = batch_of({"p1.no": 7}, bench.clock.now_us())
        ticket = bench.openings.open(bench.clock.now_us())
        bench.channel.say(Answered(5, (rows, rows), ticket))
        bench.channel.say(Written(6))
        bench.channel.say(Unwritten(7, "refused"))
        failed = bench.openings.open(bench.clock.now_us())
        bench.channel.say(Unanswered(8, "away", (), failed))
        await asyncio.sleep(0.3)
        assert bench.binder.words() == ["batch", "read", "written", "write_failed", "read_failed"]
        assert sum(len(cut.samples) for cut in bench.cuts) == 4, "what is read is carried"
        assert bench.openings.watermark_us(10**18) == 10**18


async def test_sets_of_two_devices_are_read_in_order_and_answered_once() -> None:
    async with running() as bench:
        bench.binder.outcomes.append(asks(ReadRequest(5, ("box", "far", "box"))))
        bench.say()
        await asyncio.sleep(0.01)
        for inbox, name in ((bench.p1, "p1"), (bench.p2, "p2"), (bench.p1, "p1")):
            job = inbox.jobs.pop()
            assert isinstance(job, ReadJob)
            ticket = bench.openings.open(bench.clock.now_us())
            rows = batch_of({f"{name}.no": 7}, bench.clock.now_us())
            bench.channel.say(Answered(job.token, (rows,), ticket))
            await asyncio.sleep(0.01)
        reads = [said for said in bench.binder.heard if said[0] == "read"]
        assert [said[1:3] for said in reads] == [(5, 3)]
        await asyncio.sleep(0.3)
        assert sum(len(cut.samples) for cut in bench.cuts) == 2 + 3


async def test_events_curves_and_their_state_are_in_the_cut_of_their_rows() -> None:
    async with running() as bench:
        curve = Curve(
            UUID(int=1), "force", "", "way", ("way", "f"), ("mm", "kN"), (np.zeros(2),) * 2
        )
        bench.binder.outcomes.append(Outcome(curves=(curve,)))
        bench.say()
        await asyncio.sleep(0.3)
        cut = next(cut for cut in bench.cuts if len(cut.samples))
        assert cut.curves == (curve,)
        assert cut.state == {"conditioning": b"stage", "binding": b"binder"}


async def test_an_unset_clock_marks_every_row() -> None:
    async with running(start_us=60_000_000) as bench:  # one minute after 1970
        bench.say()
        await asyncio.sleep(0.3)
        rows = bench.cuts[0].samples.rows()
        assert {row.quality for row in rows} == {int(Quality.UNCERTAIN)}
        assert {row.code for row in rows} == {int(Code.CLOCK_UNSET)}


async def test_stop_drains_the_channel_and_makes_a_last_cut() -> None:
    bench = Bench()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running_task = tasks.create_task(bench.pipeline.run())
        await asyncio.sleep(0.3)
        for _ in range(200):
            bench.say()
        bench.pipeline.stop()
        await running_task
    assert sum(len(cut.samples) for cut in bench.cuts) == 400


async def test_a_bug_loses_no_row_uncounted() -> None:
    bench = Bench()
    bench.pipeline.begin()
    bench.binder.bug = ZeroDivisionError("a bug")
    for _ in range(10):
        bench.say()
    with pytest.raises(ZeroDivisionError):
        await bench.pipeline.run()
    bench.pipeline.stop()
    await bench.pipeline.run()  # as the supervisor starts it again
    assert sum(cut.totals.read for cut in bench.cuts) == 20
    assert sum(cut.totals.discarded for cut in bench.cuts) == 2
    assert sum(len(cut.samples) for cut in bench.cuts) == 18
    (outage,) = [outage for cut in bench.cuts for outage in cut.outages]
    assert (outage.reason, outage.rows) == ("bug", 2)
    assert bench.openings.watermark_us(10**18) == 10**18


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0, 0.4), st.booleans()), max_size=40),
    st.integers(1, 5),
)
def test_rows_are_conserved(steps: list[tuple[int, float, bool]], every: int) -> None:
    """Whatever is said, however slow the disk: read + derived = stored + filtered + discarded."""
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(_conserved(steps, every))


async def _conserved(steps: list[tuple[int, float, bool]], every: int) -> None:
    bench = Bench()
    bench.stage.every = every
    said = 0
    async with asyncio.TaskGroup() as tasks:
        running_task = tasks.create_task(bench.pipeline.run())
        for rows, pause_s, full in steps:
            (bench.outbox.fill if full else bench.outbox.empty)()
            bench.say({f"p1.t{n}": n for n in range(rows)})
            said += rows
            await asyncio.sleep(pause_s)
        bench.outbox.empty()
        bench.pipeline.stop()
        await running_task
    for cut in bench.cuts:
        totals = cut.totals
        assert totals.read + totals.derived == len(cut.samples) + totals.filtered + totals.discarded
    assert sum(cut.totals.read for cut in bench.cuts) == said
    merged = concat([cut.samples for cut in bench.cuts])
    assert len(merged) == sum(len(cut.samples) for cut in bench.cuts)


async def test_a_stage_that_refuses_its_state_is_said_too() -> None:
    past = Recovered(START_US - 1, {"conditioning": b"foreign"}, had_spool=True)
    async with running(past) as bench:
        await asyncio.sleep(0.3)
        assert [alarm.key for alarm in bench.cuts[0].alarms] == ["state_refused/conditioning"]
    with pytest.raises(Rejected):
        bench.stage.restore(b"foreign")
