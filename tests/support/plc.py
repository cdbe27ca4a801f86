"""A PLC made of a dictionary, and an edge that does what a binder asks, in virtual time.

Every poll gives one batch per device. Reads are answered from memory at once, or later if a test
holds them; writes of `taken` go into memory once the test commits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from protocols.codec import Curve
from protocols.events import Alarm, Event, PassEvent, encode_line
from protocols.samples import Quality, Sample, SampleBatch, from_samples
from rules.binding.binder import StationBinder
from rules.binding.plan import Compiled, TagFacts
from rules.binding.resolve import POLLED
from rules.ports import Outcome, ReadRequest, WriteRequest

START_US = 1_790_000_000_000_000
POLL_US = 100_000
BAD = int(Quality.BAD_COMMUNICATION_ERROR)


@dataclass
class Bench:
    """Memory, clock, binder and everything it told."""

    compiled: Compiled
    tags: dict[str, TagFacts]
    memory: dict[str, Any] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    devices: frozenset[str] = frozenset({"st010", "f07", "st000", "p20", "scanner20"})
    now_us: int = START_US
    epoch: int = 7
    events: list[Event] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    writes: list[tuple[str, Any]] = field(default_factory=list)
    reads: int = 0
    auto_read: bool = True
    auto_commit: bool = True
    pending_reads: list[ReadRequest] = field(default_factory=list)
    pending_writes: list[WriteRequest] = field(default_factory=list)
    on_write: Callable[["Bench", str, Any], None] | None = None
    before_read: Callable[["Bench", str], None] | None = None
    each_step: Callable[["Bench"], None] | None = None
    split: Callable[[SampleBatch], Iterable[SampleBatch]] | None = None
    series: Any = None
    binder: StationBinder = field(init=False)

    def __post_init__(self) -> None:
        self.series = self.series or count(1)
        self.binder = self.new_binder()

    def new_binder(self) -> StationBinder:
        return StationBinder(
            self.compiled,
            epoch=self.epoch,
            draw_series=self.series.__next__,
            offset_of=lambda _: "+01:00",
        )

    # What a test does.

    def put(self, **values: Any) -> None:
        """`a__b=1` sets tag `a.b`."""
        self.set({path.replace("__", "."): value for path, value in values.items()})

    def set(self, values: dict[str, Any]) -> None:
        unknown = values.keys() - self.tags.keys()
        assert not unknown, unknown
        self.memory.update(values)

    def poll(self, times: int = 1, skip: Iterable[str] = (), step_us: int = POLL_US) -> None:
        """So many rounds of every polled group; `skip`: devices that do not answer."""
        for _ in range(times):
            self.now_us += step_us
            for device in sorted(self.devices - set(skip)):
                batch = self.batch(self._polled(device))
                for part in self.split(batch) if self.split else [batch]:
                    self.take(self.binder.on_batch(part, self.now_us + 1_000))
                    self._step()
            self.take(self.binder.on_tick(self.now_us + 2_000))
            self._step()

    def idle(self, seconds: int) -> None:
        """A long time, polled once a second."""
        self.poll(seconds, step_us=1_000_000)

    def wait(self, seconds: float, skip: Iterable[str] = ()) -> None:
        self.poll(round(seconds * 1_000_000 / POLL_US), skip)

    def restart(self, outage_s: float = 0.0, epoch: int | None = None) -> None:
        """Stop and start: state from the last snapshot, requests forgotten."""
        state, from_us = self.binder.snapshot(), self.now_us
        self.now_us += round(outage_s * 1_000_000)
        self.epoch = self.epoch if epoch is None else epoch
        self.binder = self.new_binder()
        self.binder.restore(state)
        self.pending_reads.clear()
        self.pending_writes.clear()
        if outage_s:
            self.take(self.binder.on_restart(from_us, self.now_us))

    def batch(self, paths: Iterable[str], later_us: int = 0) -> SampleBatch:
        return from_samples([self._sample(path, self.now_us + later_us) for path in paths])

    def take(self, outcome: Outcome) -> None:
        """Keep what was told and do what was asked."""
        self.events += outcome.events
        self.curves += outcome.curves
        self.alarms += outcome.alarms
        self.pending_reads += outcome.reads
        self.pending_writes += outcome.writes
        while self.auto_read and self.pending_reads:
            self.answer(self.pending_reads.pop(0))
        while self.auto_commit and self.pending_writes:
            self.commit(self.pending_writes.pop(0))

    def answer(self, request: ReadRequest) -> None:
        self.reads += 1
        batches = []
        for at, name in enumerate(request.sets, 1):
            if self.before_read:
                self.before_read(self, name)
            batches.append(self.batch(self.compiled.read_sets[name], at * 1_000))
        self.take(self.binder.on_read(request.token, tuple(batches), self.now_us))

    def commit(self, request: WriteRequest) -> None:
        self.writes.append((request.path, request.value))
        self.memory[request.path] = request.value
        if self.on_write:
            self.on_write(self, request.path, request.value)
        self.take(self.binder.on_written(request.token, self.now_us))

    # What a test looks at.

    def passes(self, station: str = "", nest: str = "") -> list[PassEvent]:
        return [
            event
            for event in self.events
            if isinstance(event, PassEvent)
            and station in ("", event.station)
            and nest in ("", event.nest)
        ]

    def of_kind(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def counts(self, station: str = "", nest: str = "") -> list[int]:
        return [event.key.count for event in self.passes(station, nest)]

    def lines(self) -> list[bytes]:
        return [encode_line(event) for event in self.events]

    def _step(self) -> None:
        if self.each_step:
            self.each_step(self)

    def _polled(self, device: str) -> list[str]:
        return [
            path
            for path, facts in self.tags.items()
            if facts.device == device and facts.mode in POLLED and not facts.type.is_array
        ]

    def _sample(self, path: str, time_us: int) -> Sample:
        value = None if path in self.bad else self.memory.get(path)
        quality = 0 if value is not None else BAD
        return Sample(path, self.tags[path].type, time_us, value, quality, None, time_us, None)
