"""The outbox put together on a real file: lanes, alarms of its own, what the agent is told."""

import asyncio
import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge.keeper import DISK_FULL, Disk
from edge.outbox import Chance, OutboxSettings, SpoolOutbox, open_outbox
from edge.retention import Limits
from edge.spool import Spool
from edge.spool_file import SpoolFile
from edge.spool_folder import SpoolFolder
from edge.uplink import Pace
from edge.writer import UNSENT_LIVE_MAX, Writer
from protocols import codec
from protocols.events import Alarm, AlarmState
from protocols.frames import Frame, Kind, Lane
from protocols.notices import Drop, Hello, Release, decode_notice
from protocols.receipts import Said, encode_receipt
from protocols.retry import Backoff
from tests.support import cuts
from tests.support.fake_broker import FakeBroker
from tests.support.mqtt_cloud import receipt_of
from tests.support.real_clock import RealClock

pytestmark = pytest.mark.integration

AGENT = "plant1.a"
MIB = 1024 * 1024
CLOCK = RealClock()
PACE = Pace(reconnect=Backoff(first_s=0.02, limit_s=0.1))


def settings(path: Path, limits: Limits | None = None) -> OutboxSettings:
    return OutboxSettings(
        AGENT, path, limits or Limits(bytes_max=64 * MIB), "1", PACE, 0.2, restarting=False
    )


@dataclass
class Case:
    outbox: SpoolOutbox
    broker: FakeBroker

    async def put(self, number: int, rows: int = 3, events: int = 0) -> None:
        handover = self.outbox.put(cuts.cut(number, cuts.rows(number, rows), events=events))
        async with asyncio.timeout(10):
            await handover.wait_synced()

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not wanted():
                await self.outbox._source.changed()

    def lanes(self) -> list[Lane]:
        """Of the samples' streams that hold anything."""
        held = self.outbox.holdings
        return [one.stream.lane for one in held if one.stream.lane in (Lane.LIVE, Lane.BACKLOG)]


@contextlib.asynccontextmanager
async def running(outbox: SpoolOutbox, broker: FakeBroker) -> AsyncIterator[Case]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.run())
        yield Case(outbox, broker)
        await outbox.drain_and_stop()


def opened(path: Path, broker: FakeBroker, limits: Limits | None = None) -> SpoolOutbox:
    chance = Chance(lambda: secrets.randbits(64), lambda: 0.5)
    return open_outbox(settings(path, limits), broker, CLOCK, chance)


def stores(broker: FakeBroker) -> None:
    """From now on every frame is answered `stored`."""

    def answer(frame: Frame) -> None:
        if frame.header.seq:
            broker.deliver(encode_receipt(receipt_of(frame, Said.STORED)))

    broker.on_frame = answer


def alarms(frames: list[Frame]) -> list[Alarm]:
    lines = [
        line
        for frame in frames
        if frame.header.kind is Kind.ALARMS
        for line in codec.decode_lines(codec.payload_of(frame))
    ]
    return [Alarm.model_validate_json(line) for line in lines]


async def test_samples_are_live_while_connected_and_backlog_else(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.refuses = "connection refused"
    async with running(opened(tmp_path, broker), broker) as case:
        await case.put(1)
        assert case.lanes() == [Lane.BACKLOG]
        broker.refuses = None
        while not case.outbox.status().connected:  # noqa: ASYNC110 - a state
            await asyncio.sleep(0.01)
        await case.put(2)
        assert case.lanes() == [Lane.BACKLOG, Lane.LIVE]


async def test_above_64_unsent_live_frames_samples_are_backlog(tmp_path: Path) -> None:
    """Connected, but nothing goes: 256 are out, 64 wait."""
    broker = FakeBroker()
    async with running(opened(tmp_path, broker), broker) as case:
        while not case.outbox.status().connected:  # noqa: ASYNC110 - a state
            await asyncio.sleep(0.01)
        for number in range(256 + UNSENT_LIVE_MAX + 10):
            await case.put(number)
        held = {one.stream.lane: one.head for one in case.outbox.holdings}
        assert 256 + UNSENT_LIVE_MAX <= held[Lane.LIVE] <= 256 + UNSENT_LIVE_MAX + 9
        assert held[Lane.BACKLOG] >= 1
        sent = [frame.header.lane for frame in broker.frames()]
        assert sent.count(Lane.LIVE) == 256


def logs(broker: FakeBroker) -> None:
    """From now on every frame is answered `logged`, with one copy."""

    def answer(frame: Frame) -> None:
        if frame.header.seq:
            told = receipt_of(frame, Said.LOGGED)
            run = told.runs[0].model_copy(update={"reason": "single copy"})
            broker.deliver(encode_receipt(told.model_copy(update={"runs": (run,)})))

    broker.on_frame = answer


async def test_i7_after_a_release_everything_is_reported_once_and_it_is_named(
    tmp_path: Path,
) -> None:
    """What is only logged may be lost further down: no value is carried across it."""
    broker = FakeBroker()
    logs(broker)
    outbox = opened(tmp_path, broker, Limits(bytes_max=256 * 1024))
    told: list[int] = []
    async with running(outbox, broker) as case:
        outbox.on_report_all = lambda: told.append(1)
        for number in range(80):
            await case.put(number, rows=2000)
        await case.until(lambda: bool(told))
        await case.until(lambda: any(one.header.kind is Kind.RELEASE for one in broker.frames()))
        counted = outbox.status().counters
    assert counted["rows_released"] > 0
    assert counted.get("rows_dropped", 0) == 0
    named = [
        decode_notice(Release, line)
        for frame in broker.frames()
        if frame.header.kind is Kind.RELEASE
        for line in codec.decode_lines(codec.payload_of(frame))
    ]
    assert sum(one.rows for one in named) <= counted["rows_released"]


async def test_hello_says_how_much_a_log_keeps_only_once(tmp_path: Path) -> None:
    broker = FakeBroker()
    logs(broker)
    outbox = opened(tmp_path, broker)
    async with running(outbox, broker) as case:
        for number in range(3):
            await case.put(number)
        await case.until(lambda: outbox.status().counters.get("frames_logged", 0) >= 3)
        await case.put(4)
        broker.cut()
        async with asyncio.timeout(10):
            while len(hellos(broker)) < 2:  # noqa: ASYNC110 - a message
                await asyncio.sleep(0.01)
    assert hellos(broker)[0].single_copy is None
    assert (hellos(broker)[-1].single_copy or 0) >= 3


@pytest.mark.parametrize("is_lost", [False, True], ids=["kept", "lost"])
async def test_only_a_spool_without_a_past_is_said_to_have_none(
    tmp_path: Path,
    *,
    is_lost: bool,
) -> None:
    """A hello names the epochs before as long as the folder is the same, stored or not."""
    broker = FakeBroker()
    stores(broker)
    first = opened(tmp_path / "spool", broker)
    async with running(first, broker) as case:
        await case.put(1)
        await asyncio.wait_for(first.emptied(), 10)
    if is_lost:
        shutil.rmtree(tmp_path / "spool")
    broker = FakeBroker()
    with capture_logs() as lines:
        again = opened(tmp_path / "spool", broker)
    async with running(again, broker) as case:
        await case.put(2)
        async with asyncio.timeout(10):
            while not hellos(broker):  # noqa: ASYNC110 - a message
                await asyncio.sleep(0.01)
    named = {lane.epoch for hello in hellos(broker) for lane in hello.lanes}
    assert (first.epoch not in named) == is_lost
    assert any("no spool was here" in line["event"] for line in lines) == is_lost


def hellos(broker: FakeBroker) -> list[Hello]:
    found = [one for _, _, one in broker.received if one.header.kind is Kind.HELLO]
    return [decode_notice(Hello, codec.payload_of(one)) for one in found]


async def test_i13_a_commit_never_holds_up_the_loop(tmp_path: Path) -> None:
    """A sync takes as long as it takes; on the loop this one would never end."""
    store = SpoolFolder(tmp_path, CLOCK.now_us).open().store
    spool = Spool(store, AGENT, lambda: secrets.randbits(64), Limits(bytes_max=64 * MIB))
    went_on = threading.Event()
    commit = store.commit

    def slow() -> None:
        assert went_on.wait(20), "the loop stood still"
        commit()

    store.commit = slow  # type: ignore[method-assign]  # a disk that takes its time
    writer = Writer(spool, SpoolFolder(tmp_path, CLOCK.now_us), CLOCK)
    handover = writer.put(cuts.cut(1))
    for _ in range(100):
        await asyncio.sleep(0)
    assert writer.waiting == 1
    went_on.set()
    async with asyncio.timeout(10):
        await handover.wait_synced()
    await writer.stop()


async def test_after_a_drop_everything_is_reported_once(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.refuses = "connection refused"
    outbox = opened(tmp_path, broker, Limits(bytes_max=256 * 1024))
    told: list[int] = []
    async with running(outbox, broker) as case:
        outbox.on_report_all = lambda: told.append(1)
        for number in range(60):
            await case.put(number, rows=2000)
        await case.until(lambda: bool(told))
        assert outbox.status().counters["rows_dropped"] > 0


class TightDisk(SpoolFolder):
    """Has no room until it is told otherwise."""

    tight = True

    def relieve(self) -> int:
        return 0

    def prepare(self) -> bool:
        return not self.tight


async def test_a_full_disk_is_a_state_an_alarm_and_its_end(tmp_path: Path) -> None:
    broker = FakeBroker()
    stores(broker)
    disk = TightDisk(tmp_path, CLOCK.now_us)
    store = disk.open().store
    assert isinstance(store, SpoolFile)
    spool = Spool(store, AGENT, lambda: secrets.randbits(64), Limits(bytes_max=64 * MIB))
    checked: Disk = disk
    writer = Writer(spool, checked, CLOCK)
    outbox = SpoolOutbox(settings(tmp_path), writer, broker, CLOCK, lambda: 0.5)
    async with running(outbox, broker) as case:
        await case.put(0)
        store.database._limit(40)
        number = 0
        while outbox.status().spool != DISK_FULL:
            number += 1
            await case.put(number, rows=2000)
        disk.tight = False
        async with asyncio.timeout(20):
            while len(alarms(broker.frames())) < 2:
                number += 1
                await case.put(number, rows=10)
                await asyncio.sleep(0.05)
        assert outbox.status().spool == "ok"
    raised, cleared = alarms(broker.frames())
    assert (raised.key, raised.state) == ("spool/disk_full", AlarmState.RAISED)
    assert (cleared.key, cleared.state) == ("spool/disk_full", AlarmState.CLEARED)
    assert raised.id != cleared.id


async def test_what_a_damaged_file_lost_is_named_to_the_cloud_and_the_agent(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    broker.refuses = "connection refused"
    first = opened(tmp_path, broker)
    async with running(first, broker) as case:
        for number in range(60):
            await case.put(number, rows=300)
    file = tmp_path / "current" / "spool.db"
    os.truncate(file, file.stat().st_size * 6 // 10)
    broker = FakeBroker()
    stores(broker)
    told: list[int] = []
    again = opened(tmp_path, broker)
    again.on_report_all = lambda: told.append(1)
    assert again.recovered.had_spool
    async with running(again, broker) as case:
        await case.put(1000)
        await asyncio.wait_for(again.emptied(), 20)
    assert told
    named = [
        decode_notice(Drop, line)
        for frame in broker.frames()
        if frame.header.kind is Kind.DROP
        for line in codec.decode_lines(codec.payload_of(frame))
    ]
    old = {
        frame.header.seq
        for frame in broker.frames()
        if frame.header.kind is Kind.SAMPLES and frame.header.epoch == first.epoch
    }
    lost = {seq for one in named for seq in range(one.from_seq or 0, (one.to_seq or 0) + 1)}
    assert lost
    assert not lost & old
    assert {one.reason for one in named} == {"damaged"}
    assert sum(one.rows for one in named) == 300 * len(lost)


async def test_a_cut_put_before_a_stop_is_kept_though_nobody_waited(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.refuses = "connection refused"
    outbox = opened(tmp_path, broker)
    async with running(outbox, broker):
        for number in range(30):
            outbox.put(cuts.cut(number))
    again = opened(tmp_path, broker)
    assert again.recovered.state == {"binder": b"after 29"}
    async with running(again, broker):
        assert sum(one.waiting_rows for one in again.holdings) == 90
