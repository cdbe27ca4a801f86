"""Stand-ins around the edge's own parts: the loop's clock, a scripted device, an outbox in memory.

The outbox here is the port's smallest honest form: it takes cuts in order, syncs them when told or
at once, and is full when told.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge.cut import Cut, Full, NotKept, OutboxStatus, Recovered
from protocols.driver import NodeReading, NotOffered, Plan, TagSpec, Write
from protocols.errors import Disconnected, Rejected
from protocols.notices import Status
from protocols.samples import DataType, Sample, SampleBatch, from_samples
from rules.ports import Outcome, ReadRequest, Staged, WriteRequest

START_US = 1_800_000_000_000_000  # 2027


class LoopClock:
    """The loop's own time, virtual in unit tests. `offset_us` steps the wall clock."""

    def __init__(self, start_us: int = START_US) -> None:
        self.start_us = start_us
        self._zero_s = asyncio.get_running_loop().time()
        self._stood_s = 0.0

    def now_us(self) -> int:
        return self.start_us + round((self.monotonic_s() - self._zero_s) * 1e6)

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time() + self._stood_s

    def stop(self, for_s: float) -> None:
        """The process stood still: time went on, and no timer of the loop has run out yet."""
        self._stood_s += for_s


@dataclass(frozen=True)
class ListPlan:
    """A plan that is its list of tags."""

    tags: tuple[TagSpec, ...]
    requests: int = 1
    readings: tuple[NodeReading, ...] = ()


def plan(*paths: str, kind: DataType | None = DataType.INT32) -> ListPlan:
    return ListPlan(tuple(TagSpec(path, path, kind) for path in paths))


class ScriptedDevice:
    """Answers each read after `delay_s` with a running number, unless it is told to fail.

    `refuse`: open fails. `hang`: reads never answer. `gone`: the next reads raise Disconnected.
    """

    def __init__(self, clock: LoopClock, delay_s: float = 0.002) -> None:
        self.delay_s = delay_s
        self.refuse = self.hang = self.gone = False
        self.bug: Exception | None = None
        self.stopped_s = 0.0  # during the next read the process stands still, and nobody is told
        self.reads: list[tuple[float, tuple[str, ...]]] = []
        self.written: list[tuple[str, object]] = []
        self.opens = self.closes = self.busy = self.busy_max = 0
        self.refuse_writes = False
        self._clock = clock
        self._number = 0

    async def open(self) -> None:
        self.opens += 1
        await asyncio.sleep(self.delay_s)
        if self.refuse:
            raise Disconnected("connection refused")

    async def read(self, wanted: Plan) -> SampleBatch:
        self.busy += 1
        self.busy_max = max(self.busy, self.busy_max)
        try:
            return await self._read(wanted)
        finally:
            self.busy -= 1

    async def _read(self, wanted: Plan) -> SampleBatch:
        self.reads.append((self._clock.monotonic_s(), tuple(tag.path for tag in wanted.tags)))
        if self.bug:
            raise self.bug
        if self.stopped_s:
            stopped_s, self.stopped_s = self.stopped_s, 0.0
            self._clock.stop(stopped_s)
        await asyncio.sleep(3600 if self.hang else self.delay_s)
        if self.gone or self.refuse:
            raise Disconnected("connection reset")
        self._number += 1
        now_us = self._clock.now_us()
        return batch_of(
            {tag.path: self._number for tag in wanted.tags}, now_us, wanted.tags[0].type
        )

    async def write(self, values: Sequence[Write]) -> None:
        await asyncio.sleep(self.delay_s)
        if self.refuse_writes:
            raise Rejected("write protected", (0,))
        self.written.extend((write.tag.path, write.value) for write in values)

    def subscribe(self, wanted: Plan, interval_s: float) -> AsyncIterator[SampleBatch]:
        raise NotOffered(f"poll {len(wanted.tags)} tags every {interval_s} s")

    async def close(self) -> None:
        self.closes += 1

    @property
    def facts(self) -> Mapping[str, str]:
        return {"pdu": "240"}


def batch_of(
    values: Mapping[str, int], time_us: int, kind: DataType | None = DataType.INT32
) -> SampleBatch:
    return from_samples(
        Sample(path, kind or DataType.INT32, time_us, value, 0, None, time_us, None)
        for path, value in values.items()
    )


@dataclass(eq=False)
class MemoryHandover:
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    refused: str = ""

    async def wait_synced(self) -> None:
        await self.synced.wait()
        if self.refused:
            raise NotKept(self.refused)


class MemoryOutbox:
    """Keeps every cut. `hold`: nothing is synced until `sync`. `full`: puts are refused."""

    def __init__(self, recovered: Recovered | None = None) -> None:
        self.recovered = recovered or Recovered()
        self.epoch = 0x1234
        self.cuts: list[Cut] = []
        self.handovers: list[MemoryHandover] = []
        self.notices: list[Status] = []
        self.hold = False
        self.on_report_all: Callable[[], None] = _nobody
        self.on_forked: Callable[[], None] = _nobody
        self.stopped = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, cut: Cut) -> MemoryHandover:
        if not self._room.is_set():
            raise Full
        handover = MemoryHandover()
        self.cuts.append(cut)
        self.handovers.append(handover)
        if not self.hold:
            handover.synced.set()
        return handover

    @property
    def synced(self) -> list[Cut]:
        pairs = zip(self.cuts, self.handovers, strict=True)
        return [cut for cut, handover in pairs if handover.synced.is_set()]

    def sync(self) -> None:
        for handover in self.handovers:
            handover.synced.set()

    def fill(self) -> None:
        self._room.clear()

    def empty(self) -> None:
        self._room.set()

    async def room(self) -> None:
        await self._room.wait()

    def send_notice(self, notice: Status) -> None:
        self.notices.append(notice)

    async def run(self) -> None:
        await self.stopped.wait()

    async def drain_and_stop(self) -> None:
        self.sync()
        self.stopped.set()

    def status(self) -> OutboxStatus:
        return OutboxStatus(spool_bytes=4096, uplink="connected", connected=True)


def _nobody() -> None:
    """Nobody listens yet."""


class Passing:
    """A stage that lets everything through, or every n-th row."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.report_alls = 0
        self.anew: list[int] = []  # `report_alls` at each batch with rows
        self.restored: bytes | None = None
        self.seen = 0

    def apply(self, batch: SampleBatch) -> Staged:
        if len(batch):
            self.anew.append(self.report_alls)
        keep = [n for n in range(len(batch)) if (self.seen + n) % self.every == 0]
        self.seen += len(batch)
        return Staged(batch.take(np.array(keep, np.intp)), filtered=len(batch) - len(keep))

    def report_all(self) -> None:
        self.report_alls += 1

    def snapshot(self) -> bytes:
        return b"stage"

    def restore(self, state: bytes) -> None:
        if state == b"foreign":
            raise Rejected("not a state of this revision")
        self.restored = state


class ScriptedBinder:
    """Writes down what it hears; answers with the outcomes it was given, one per batch."""

    def __init__(self, read_sets: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.read_sets = dict(read_sets or {})
        self.heard: list[tuple[Any, ...]] = []
        self.outcomes: list[Outcome] = []
        self.bug: Exception | None = None

    def on_batch(self, batch: SampleBatch, now_us: int) -> Outcome:
        self.heard.append(("batch", len(batch), now_us))
        if self.bug:
            bug, self.bug = self.bug, None
            raise bug
        return self.outcomes.pop(0) if self.outcomes else Outcome()

    def on_read(self, token: int, batches: tuple[SampleBatch, ...], now_us: int) -> Outcome:
        self.heard.append(("read", token, len(batches), now_us))
        return self.outcomes.pop(0) if self.outcomes else Outcome()

    def on_read_failed(self, token: int, reason: str, now_us: int) -> Outcome:
        self.heard.append(("read_failed", token, reason, now_us))
        return Outcome()

    def on_written(self, token: int, now_us: int) -> Outcome:
        self.heard.append(("written", token, now_us))
        return Outcome()

    def on_write_failed(self, token: int, reason: str, now_us: int) -> Outcome:
        self.heard.append(("write_failed", token, reason, now_us))
        return Outcome()

    def on_tick(self, now_us: int) -> Outcome:
        self.heard.append(("tick", now_us))
        return Outcome()

    def on_restart(self, from_us: int, to_us: int) -> Outcome:
        self.heard.append(("restart", from_us, to_us))
        return Outcome()

    def on_fork(self) -> None:
        self.heard.append(("fork",))

    def snapshot(self) -> bytes:
        return b"binder"

    def restore(self, state: bytes) -> None:
        if state == b"foreign":
            raise Rejected("not a state of this revision")
        self.heard.append(("restore", state))

    def words(self) -> list[object]:
        """What was heard but ticks, first word only."""
        return [said[0] for said in self.heard if said[0] != "tick"]


def asks(*reads: ReadRequest, writes: Sequence[WriteRequest] = ()) -> Outcome:
    return Outcome(reads=tuple(reads), writes=tuple(writes))
