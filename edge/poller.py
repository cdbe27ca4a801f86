"""One device: opens it, reads its groups on the grid, answers requests, brings it back.

Rule 1: one task uses the device, one request at a time; every wait is bounded.
Rule 2: whatever happens to this device stays with it: only its own groups turn BAD.
Rule 3: a read that failed is said as BAD rows, each time, because the device may have answered;
the other groups say it once when the device goes. One log line down, one up.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
import structlog

from edge.bad import Shape
from edge.channel import (
    Answered,
    Channel,
    Openings,
    Polled,
    Ticket,
    Unanswered,
    Unwritten,
    Written,
)
from edge.schedule import GroupSchedule
from protocols.driver import Clock, Device, Plan, TagSpec, Write
from protocols.errors import ConfigError, Disconnected, Rejected
from protocols.retry import Backoff
from protocols.samples import Code, SampleBatch, Scalar

REQUESTS_MAX: Final = 64  # of the binder, waiting for one device
_WAITS_TO_OPEN: Final = 5  # connect, negotiate, look up: each bounded by the driver
_GRACE_S: Final = 0.5  # what a busy machine may take beside the waits
_TICK_S: Final = 1e-6  # the shortest wait: a rounding error of time must not spin
_log = structlog.get_logger("edge.poller")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A polled group: its place on the grid and the reads that it costs."""

    name: str
    schedule: GroupSchedule
    plan: Plan
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class ReadSet:
    """Tags that are read together when asked for."""

    plan: Plan
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Role:
    """What one device is for: its polled groups, its sets, the tags that may be written."""

    name: str
    timeout_s: float
    groups: Sequence[Group]
    sets: Mapping[str, ReadSet]
    writable: Mapping[str, TagSpec]


@dataclass(frozen=True, slots=True)
class ReadJob:
    token: int
    sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteJob:
    token: int
    path: str
    value: Scalar


Job = ReadJob | WriteJob


@dataclass(slots=True)
class Health:
    """What is known of the device now. `state`: connecting, up, down or stopped."""

    state: str = "connecting"
    reason: str = ""
    since_us: int = 0
    opened: int = 0
    failed: int = 0
    bad_rows: int = 0
    requests_failed: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What every poller of an agent shares."""

    channel: Channel
    openings: Openings
    clock: Clock
    draw: Callable[[], float]


class Poller:
    """Owns one device. `ask` and `stop` are called from the same loop."""

    def __init__(
        self, role: Role, device: Device, around: Surroundings, backoff: Backoff | None = None
    ) -> None:
        self.role = role
        self.health = Health(since_us=around.clock.now_us())
        self._device = device
        self._channel = around.channel
        self._openings = around.openings
        self._clock = around.clock
        self._draw = around.draw
        self._backoff = backoff or Backoff()
        self._jobs: deque[Job] = deque()
        self._woken = asyncio.Event()
        self._stopping = False
        self._job_was_last = False
        self._attempt = 0
        self._connecting: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Until `stop`. A read under way is finished first."""
        try:
            while not self._stopping:
                if await self._come_up():
                    await self._serve()
        finally:
            self._refuse_jobs("the agent stops" if self._stopping else "the poller restarts")
            await self._close_device()
            self._turn("stopped" if self._stopping else "connecting", self.health.reason)

    def stop(self) -> None:
        """Nothing new begins. A read under way is finished; connecting is given up."""
        self._stopping = True
        self._woken.set()
        if self._connecting is not None:
            self._connecting.reschedule(0.0)

    def ask(self, job: Job) -> None:
        """Answered once through the channel, whatever happens."""
        if self._stopping or len(self._jobs) >= REQUESTS_MAX:
            self._refuse(job, "too many requests wait for this device")
            return
        self._jobs.append(job)
        self._woken.set()

    # Coming up and going down.

    async def _come_up(self) -> bool:
        """Try once to open; after a failure wait for the next try. True: the device is there."""
        try:
            await self._connect()
        except (Disconnected, ConfigError) as error:
            if self._stopping:
                return False
            gone = error if isinstance(error, Disconnected) else Disconnected(str(error))
            self._go_down(gone)
            await self._close_device()
            await self._wait_away(self._backoff.delay_s(self._attempt, self._draw()))
            self._attempt += 1
            return False
        self._let_slots_go()  # those that came while it was opened
        self.health.opened += 1
        self.health.facts = dict(self._device.facts)
        if not self.role.groups:  # nothing is read until somebody asks
            self._go_up()
        return True

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self.role.timeout_s * _WAITS_TO_OPEN) as self._connecting:
                await self._device.open()
        except TimeoutError as error:
            raise Disconnected("no answer in time", Code.TIMEOUT) from error
        finally:
            self._connecting = None

    def _go_up(self) -> None:
        self._attempt = 0
        if self.health.state != "up":
            self._turn("up", "")
            _log.info("device up", device=self.role.name, facts=self.health.facts)

    def _go_down(self, gone: Disconnected, under_way: Group | None = None) -> None:
        self.health.failed += 1
        self.health.reason = gone.reason
        if self.health.state == "down":
            return
        self._turn("down", gone.reason)
        _log.warning("device down", device=self.role.name, reason=gone.reason)
        for group in self.role.groups:
            if group is not under_way:
                self._say_bad(group, self._open_ticket(), gone)

    def _turn(self, state: str, reason: str) -> None:
        self.health.state = state
        self.health.reason = reason
        self.health.since_us = self._clock.now_us()

    async def _wait_away(self, delay_s: float) -> None:
        """Requests are refused at once while the device is away; slots are let go."""
        until_s = self._clock.monotonic_s() + delay_s
        while not self._stopping and self._clock.monotonic_s() < until_s:
            self._refuse_jobs(f"{self.role.name} is away: {self.health.reason}")
            await self._sleep_until(until_s)
        self._refuse_jobs(f"{self.role.name} is away: {self.health.reason}")
        self._let_slots_go()

    def _let_slots_go(self) -> None:
        for group in self.role.groups:
            group.schedule.stay_away(self._clock.monotonic_s())

    async def _close_device(self) -> None:
        try:
            await self._bounded(self._device.close(), waits=1)
        except Disconnected:  # it does not even let go: `open` starts afresh anyway
            _log.warning("device does not close", device=self.role.name)

    # Serving.

    async def _serve(self) -> None:
        """Until the device goes away or `stop`."""
        while (work := await self._next()) is not None:
            try:
                await self._do(work)
            except Disconnected as gone:
                self._go_down(gone, work if isinstance(work, Group) else None)
                await self._close_device()
                await self._wait_away(self._backoff.delay_s(self._attempt, self._draw()))
                self._attempt += 1
                return
            self._go_up()

    async def _next(self) -> Group | Job | None:
        """The next thing to do: requests and groups that are due take turns."""
        while not self._stopping:
            now_s = self._clock.monotonic_s()
            group = min(self.role.groups, key=_due_s, default=None)
            due = group is not None and group.schedule.is_due(now_s)
            if self._jobs and not (due and self._job_was_last):
                self._job_was_last = True
                return self._jobs.popleft()
            if group is not None and due:
                self._job_was_last = False
                return group
            await self._sleep_until(group.schedule.due_s if group else None)
        return None

    async def _do(self, work: Group | Job) -> None:
        match work:
            case Group():
                await self._poll(work)
            case ReadJob():
                await self._read_on_request(work)
            case WriteJob():
                await self._write_on_request(work)

    async def _poll(self, group: Group) -> None:
        ticket = self._open_ticket()
        group.schedule.start(self._clock.monotonic_s())
        try:
            batch = await self._read(group.plan, group.shape)
        except Exception as error:
            self._say_bad(group, ticket, _as_gone(error))
            raise
        group.schedule.finish(self._clock.monotonic_s())
        self._channel.say(Polled(batch, ticket, self._clock.now_us()))

    async def _read_on_request(self, job: ReadJob) -> None:
        ticket = self._open_ticket()
        batches: list[SampleBatch] = []
        wanted = [self.role.sets[name] for name in job.sets]
        try:
            for each in wanted:
                batches.append(await self._read(each.plan, each.shape))  # noqa: PERF401 - kept when one fails
        except Exception as error:
            gone = _as_gone(error)
            batches.append(wanted[len(batches)].shape.bad_rows(gone, self._clock.now_us()))
            self.health.requests_failed += 1
            self._channel.say(Unanswered(job.token, gone.reason, tuple(batches), ticket))
            raise
        self._channel.say(Answered(job.token, tuple(batches), ticket))

    async def _write_on_request(self, job: WriteJob) -> None:
        write = Write(self.role.writable[job.path], job.value)
        try:
            await self._bounded(self._device.write([write]), waits=1)
        except Rejected as error:
            self.health.requests_failed += 1
            self._channel.say(Unwritten(job.token, error.reason))
        except Exception as error:
            self.health.requests_failed += 1
            self._channel.say(Unwritten(job.token, _as_gone(error).reason))
            raise
        else:
            self._channel.say(Written(job.token))

    async def _read(self, plan: Plan, shape: Shape) -> SampleBatch:
        batch = await self._bounded(self._device.read(plan), waits=plan.requests)
        shape.learn(batch)
        self.health.bad_rows += int(np.count_nonzero(batch.quality & np.uint32(0x80000000)))
        return batch

    async def _bounded(self, doing: Awaitable[T], *, waits: int) -> T:
        """A driver bounds each of its own waits; this holds even if one does not.

        A process that was stopped meanwhile, as a paused machine stops it, finds answers of long
        ago before it finds that their time is over: they would pass for values of now.
        """
        begun_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self.role.timeout_s * (waits + 1)):
                done = await doing
        except TimeoutError as error:
            raise Disconnected("no answer in time", Code.TIMEOUT) from error
        if self._clock.monotonic_s() - begun_s > self.role.timeout_s * waits + _GRACE_S:
            raise Disconnected("the answer was taken too late", Code.TIMEOUT)
        return done

    # Saying.

    def _open_ticket(self) -> Ticket:
        return self._openings.open(self._clock.now_us())

    def _say_bad(self, group: Group, ticket: Ticket, gone: Disconnected) -> None:
        now_us = self._clock.now_us()
        batch = group.shape.bad_rows(gone, now_us)
        self.health.bad_rows += len(batch)
        if len(batch):
            self._channel.say(Polled(batch, ticket, now_us))
        else:
            self._openings.close(ticket)

    def _refuse_jobs(self, reason: str) -> None:
        while self._jobs:
            self._refuse(self._jobs.popleft(), reason)

    def _refuse(self, job: Job, reason: str) -> None:
        self.health.requests_failed += 1
        match job:
            case ReadJob():
                self._channel.say(Unanswered(job.token, reason, (), self._open_ticket()))
            case WriteJob():
                self._channel.say(Unwritten(job.token, reason))

    async def _sleep_until(self, until_s: float | None) -> None:
        """Until that time, or until somebody asks or stops. None: only until somebody does."""
        delay_s = None
        if until_s is not None:
            delay_s = max(_TICK_S, until_s - self._clock.monotonic_s())
        try:
            async with asyncio.timeout(delay_s):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()


def _due_s(group: Group) -> float:
    return group.schedule.due_s


def _as_gone(error: Exception) -> Disconnected:
    """A bug in a driver leaves the same hole in the data as a device that went away."""
    if isinstance(error, Disconnected):
        return error
    return Disconnected(f"{type(error).__name__}: {error}")
