"""Pollers in virtual time: the grid, the device's failures, requests, and nothing but its own."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from edge.bad import Shape
from edge.channel import (
    Answered,
    Channel,
    Item,
    Openings,
    Polled,
    Unanswered,
    Unwritten,
    Written,
)
from edge.poller import Group, Poller, ReadJob, ReadSet, Role, Surroundings, WriteJob
from edge.schedule import GroupSchedule
from protocols.driver import TagSpec
from protocols.errors import Disconnected
from protocols.samples import Code, DataType, Quality
from tests.support.edge_fakes import ListPlan, LoopClock, ScriptedDevice, batch_of, plan


class Bench:
    """One poller, its device and all that it said."""

    def __init__(self, name: str, around: Surroundings, clock: LoopClock):
        self.device = ScriptedDevice(clock)
        groups = [
            group(f"{name}.fast", 0.1, clock, paths=(f"{name}.a", f"{name}.b")),
            group(f"{name}.slow", 1.0, clock, paths=(f"{name}.c",)),
        ]
        cycle = plan(f"{name}.box.no", f"{name}.box.torque")
        role = Role(
            name,
            0.5,
            groups,
            {"box": ReadSet(cycle, Shape(cycle.tags))},
            {f"{name}.taken": TagSpec(f"{name}.taken", "M0.0", DataType.BOOL)},
        )
        self.fast, self.slow = groups[0].schedule.counters, groups[1].schedule.counters
        self.poller = Poller(role, self.device, around)


def group(name: str, interval_s: float, clock: LoopClock, paths: Sequence[str]) -> Group:
    wanted = plan(*paths)
    schedule = GroupSchedule(interval_s, 0.03, clock.monotonic_s())
    return Group(name, schedule, wanted, Shape(wanted.tags))


@asynccontextmanager
async def running(*names: str) -> AsyncIterator[tuple[list[Bench], Channel, Openings]]:
    clock = LoopClock()
    openings = Openings()
    channel = Channel(clock, openings)
    around = Surroundings(channel, openings, clock, lambda: 0.0)
    benches = [Bench(name, around, clock) for name in names]
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(bench.poller.run()) for bench in benches]
        try:
            yield benches, channel, openings
        finally:
            for task in started:
                task.cancel()


async def listen(channel: Channel, openings: Openings, for_s: float) -> list[Item]:
    """All that is said in that time, processed at once."""
    until = asyncio.get_running_loop().time() + for_s
    heard: list[Item] = []
    while (left := until - asyncio.get_running_loop().time()) > 1e-6:
        for item in await channel.take(left):
            heard.append(item)
            if isinstance(item, Polled | Answered | Unanswered):
                openings.close(item.ticket)
    return heard


async def test_a_minute_on_the_grid_misses_nothing() -> None:
    async with running("p1") as ((bench,), channel, openings):
        heard = await listen(channel, openings, 60)
        assert bench.fast.started == bench.fast.finished == 600
        assert bench.fast.overruns == bench.fast.down == 0
        assert bench.slow.started == 60
        assert len(heard) == 600 + 60
        assert bench.device.busy_max == 1, "one request at a time"


async def test_a_slow_read_is_counted_as_overrun_and_never_made_up() -> None:
    async with running("p1") as ((bench,), channel, openings):
        await listen(channel, openings, 10)
        bench.device.delay_s = 0.25
        await listen(channel, openings, 10)
        assert bench.fast.overruns > 50
        assert bench.fast.scheduled == bench.fast.started + bench.fast.overruns
        times = [at for at, paths in bench.device.reads if "p1.a" in paths and at > 10.5]
        assert min(b - a for a, b in itertools.pairwise(times)) > 0.24


@pytest.mark.parametrize("failure", ["refuse", "hang", "gone"])
async def test_a_failing_device_disturbs_no_other(failure: str) -> None:
    async with running("dead", "well") as ((dead, well), channel, openings):
        setattr(dead.device, failure, True)
        heard = await listen(channel, openings, 30)
        assert well.fast.overruns == 0
        assert well.fast.finished == 300
        assert dead.fast.finished == 0
        assert dead.poller.health.state == "down"
        good = [item for item in heard if isinstance(item, Polled) and is_of(item, "well")]
        assert len(good) == 300 + 30


async def test_a_device_that_was_off_at_start_says_bad_once_and_comes_back() -> None:
    async with running("p1") as ((bench,), channel, openings):
        bench.device.refuse = True
        heard = await listen(channel, openings, 100)
        assert [len(item.batch) for item in heard if isinstance(item, Polled)] == [2, 1]
        codes = {
            row.code for item in heard if isinstance(item, Polled) for row in item.batch.rows()
        }
        assert codes == {int(Code.DISCONNECTED)}
        bench.device.refuse = False
        heard = await listen(channel, openings, 40)
        assert bench.poller.health.state == "up"
        assert bench.fast.down > 900, "slots that passed while it was away are no overruns"
        assert bench.fast.overruns == 0
        assert bench.fast.scheduled == bench.fast.started + bench.fast.down
        assert all(not has_bad(item) for item in heard)


async def test_each_read_under_way_when_the_device_goes_meets_bad_rows() -> None:
    async with running("p1") as ((bench,), channel, openings):
        await listen(channel, openings, 5)
        bench.device.hang = True
        heard = await listen(channel, openings, 30)
        failed = bench.fast.started - bench.fast.finished + bench.slow.started - bench.slow.finished
        assert failed >= 2, "it hung, was opened again and hung again"
        bad = [item for item in heard if has_bad(item)]
        assert len(bad) == failed + 1, "the other group once, when it went"
        first = bad[0]
        assert isinstance(first, Polled)
        assert first.batch.row(0).code == Code.TIMEOUT
        assert first.batch.row(0).quality == Quality.BAD_TIMEOUT
        assert first.batch.row(0).value is None
        assert first.to_us - first.ticket.opened_us == pytest.approx(1e6, abs=1e4)


async def test_what_arrived_while_the_process_was_stopped_is_no_value_of_now() -> None:
    """A stopped process finds the answer first and only then that its time is over."""
    async with running("p1") as ((bench,), channel, openings):
        await listen(channel, openings, 5)
        bench.device.stopped_s = 13.0
        heard = await listen(channel, openings, 20)
        bad = [item for item in heard if has_bad(item)]
        assert [item.batch.row(0).code for item in bad if isinstance(item, Polled)] == [
            Code.TIMEOUT,
            Code.TIMEOUT,
        ]
        late = [item for item in heard if isinstance(item, Polled) and not has_bad(item)]
        assert all(item.to_us - item.ticket.opened_us < 1e6 for item in late)


async def test_a_flapping_device_is_opened_with_growing_pauses() -> None:
    async with running("p1") as ((bench,), channel, openings):
        bench.device.gone = True  # opens, then fails its first read
        await listen(channel, openings, 300)
        assert 10 <= bench.device.opens <= 20, "half a second doubling to thirty"
        assert bench.device.closes in (bench.device.opens, bench.device.opens - 1)


async def test_the_watermark_stands_at_the_oldest_open_read() -> None:
    async with running("dead", "well") as ((dead, _), channel, openings):
        await listen(channel, openings, 5)
        dead.device.hang = True
        await listen(channel, openings, 0.6)
        clock = LoopClock()
        assert openings.watermark_us(clock.now_us()) < clock.now_us() + 10**15
        oldest = min(openings._open.values())
        await listen(channel, openings, 0.2)
        assert openings.watermark_us(10**18) == oldest, "the hanging read holds it"


async def test_requests_take_turns_with_polling() -> None:
    async with running("p1") as ((bench,), channel, openings):
        await listen(channel, openings, 1)
        for token in range(50):
            bench.poller.ask(ReadJob(token, ("box", "box")))
        heard = await listen(channel, openings, 5)
        answers = [item for item in heard if isinstance(item, Answered)]
        assert [answer.token for answer in answers] == list(range(50))
        assert all(len(answer.batches) == 2 for answer in answers)
        assert bench.fast.overruns == 0
        assert bench.device.busy_max == 1


async def test_more_requests_than_fit_are_refused_at_once() -> None:
    async with running("p1") as ((bench,), channel, openings):
        await listen(channel, openings, 1)
        for token in range(200):
            bench.poller.ask(ReadJob(token, ("box",)))
        heard = await listen(channel, openings, 5)
        refused = [item.token for item in heard if isinstance(item, Unanswered)]
        answered = [item.token for item in heard if isinstance(item, Answered)]
        assert sorted(refused + answered) == list(range(200)), "each answered once"
        assert len(refused) == 200 - 64


async def test_a_read_on_request_that_fails_keeps_what_was_read_and_marks_the_rest() -> None:
    async with running("p1") as ((bench,), channel, openings):
        await listen(channel, openings, 1)
        bench.device.gone = True
        bench.poller.ask(ReadJob(7, ("box", "box")))
        bench.poller.ask(WriteJob(8, "p1.taken", 1))
        heard = await listen(channel, openings, 1)
        failed = [item for item in heard if isinstance(item, Unanswered)]
        assert [item.token for item in failed] == [7]
        assert failed[0].batches[-1].row(0).code == Code.DISCONNECTED
        assert any(isinstance(item, Unwritten) and item.token == 8 for item in heard), (
            "what waits for a device that is away is answered, not kept"
        )


async def test_writes_are_answered_with_what_the_device_said() -> None:
    async with running("p1") as ((bench,), channel, openings):
        bench.poller.ask(WriteJob(1, "p1.taken", 1))
        heard = await listen(channel, openings, 1)
        assert Written(1) in heard
        assert bench.device.written == [("p1.taken", 1)]
        bench.device.refuse_writes = True
        bench.poller.ask(WriteJob(2, "p1.taken", 0))
        heard = await listen(channel, openings, 1)
        assert Unwritten(2, "write protected") in heard
        assert bench.poller.health.state == "up", "a refused write is no lost device"


async def test_stop_finishes_the_read_under_way() -> None:
    clock = LoopClock()
    openings = Openings()
    channel = Channel(clock, openings)
    bench = Bench("p1", Surroundings(channel, openings, clock, lambda: 0.0), clock)
    bench.device.delay_s = 0.05
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.poller.run())
        await asyncio.sleep(0.16)  # opened at 0.05, so the first read began at 0.13
        assert bench.device.busy
        bench.poller.stop()
    assert bench.poller.health.state == "stopped"
    assert bench.fast.finished == bench.fast.started == 1
    assert not channel.is_empty


async def test_stop_gives_connecting_up_at_once() -> None:
    clock = LoopClock()
    openings = Openings()
    channel = Channel(clock, openings)
    bench = Bench("p1", Surroundings(channel, openings, clock, lambda: 0.0), clock)
    bench.device.delay_s = 3600
    async with asyncio.timeout(0.2), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.poller.run())
        await asyncio.sleep(0.1)
        bench.poller.stop()
    assert bench.poller.health.state == "stopped"
    assert channel.is_empty, "that nobody waited for it says nothing of the device"


async def test_a_bug_in_a_driver_is_raised_with_its_hole_marked() -> None:
    clock = LoopClock()
    openings = Openings()
    channel = Channel(clock, openings)
    bench = Bench("p1", Surroundings(channel, openings, clock, lambda: 0.0), clock)
    bench.device.bug = ZeroDivisionError("oops")
    with pytest.raises(ZeroDivisionError):
        await bench.poller.run()
    (item,) = await channel.take(0.1)
    assert has_bad(item)
    assert bench.device.closes == 1


def test_bad_rows_have_the_versions_that_the_device_told() -> None:
    shape = Shape((TagSpec("p.a", "x"), TagSpec("p.b", "y", DataType.INT16, scale=0.1)))
    gone = Disconnected("away", 0x80100000)
    assert [row.type for row in shape.bad_rows(gone, 5).rows()] == [DataType.FLOAT64]
    told = batch_of({"p.a": 1}, 5, DataType.UINT8)
    shape.learn(told)
    shape.learn(told)
    rows = shape.bad_rows(gone, 6).rows()
    assert [(row.path, row.type) for row in rows] == [
        ("p.a", DataType.UINT8),
        ("p.b", DataType.FLOAT64),
    ]
    assert {row.code for row in rows} == {0x80100000}
    assert {row.quality for row in rows} == {int(Quality.BAD_COMMUNICATION_ERROR)}


def is_of(item: Polled, device: str) -> bool:
    return item.batch.tags[0].path.startswith(f"{device}.")


def has_bad(item: Item) -> bool:
    return isinstance(item, Polled) and bool((item.batch.quality >= 0x80000000).any())


def test_a_plan_without_types_gives_no_bad_rows() -> None:
    wanted = ListPlan((TagSpec("p.a", "ns=2;s=a"),))
    assert len(Shape(wanted.tags).bad_rows(Disconnected("away"), 1)) == 0
