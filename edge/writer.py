"""The spool's own thread: group commits, a bounded hand-over, and what a failing disk comes to.

Rule 1: only this thread touches the spool; the loop puts cuts and jobs in and never waits for it.
Rule 2: a hand-over is told `synced` after the commit, never before; a cut leaves the queue with it.
Rule 3: a full disk costs samples, counted, never events; a broken file is never written again.
"""

import asyncio
import contextlib
import functools
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import structlog

from edge.cut import Cut, Full, NotKept, Recovered
from edge.entries import Broken, Entry, Holding, NoSpace, Store, Unheld
from edge.spool import Spool
from protocols.driver import Clock
from protocols.errors import Busy, Failure
from protocols.frames import Lane

HANDOVER_S: Final = 2.0
CUTS_MAX: Final = 256
UNSENT_LIVE_MAX: Final = 64
LAZY_S: Final = 0.1  # how long a receipt may wait for the commit of a cut
RETRY_S: Final = 1.0
LOOK_AGAIN_S: Final = 2.0  # so that a disk at its edge is no line of log per cut
STOP_S: Final = 10.0
NEVER: Final = math.inf

OK: Final = "ok"
DISK_FULL: Final = "disk full"
EVENTS_FULL: Final = "full of events"
BROKEN: Final = "broken"

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Disk(Protocol):
    """Where the spool's file lies."""

    def reopen(self) -> tuple[Store, Sequence[Entry]]:
        """Put the broken file aside; a new one with what could be saved, and what is lost."""

    def relieve(self) -> int:
        """Give back the room that was kept for a full disk; by how much the file may grow in it."""

    def prepare(self) -> bool:
        """Take that room again; False: there is none."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the loop may know of the spool between two commits."""

    state: str = OK
    epoch: int = 0
    holdings: tuple[Holding, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    used_bytes: int = 0
    bytes_on_disk: int = 0
    bytes_written: int = 0
    oldest_age_us: int = 0


class Handover:
    """One cut on its way; belongs to the loop."""

    def __init__(self) -> None:
        self._done = asyncio.Event()
        self._why_not: str | None = None

    async def wait_synced(self) -> None:
        await self._done.wait()
        if self._why_not is not None:
            raise NotKept(self._why_not)

    def tell(self, why_not: str | None) -> None:
        self._why_not = why_not
        self._done.set()


@dataclass(frozen=True, slots=True)
class _Pending:
    cut: Cut
    handover: Handover
    put_at_s: float
    now_us: int


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[Spool], Any]
    future: "asyncio.Future[Any]"


class Writer:
    """Made and used on one loop. `on_standing` and `on_let_go` are called there."""

    def __init__(self, spool: Spool, disk: Disk, clock: Clock) -> None:
        self.on_standing: Callable[[], None] = _nothing
        self.on_let_go: Callable[[], None] = _nothing
        self.on_rolled_back: Callable[[], None] = _nothing
        self.connected = False  # both set by the loop, read at sealing
        self.live_in_flight = 0
        self._spool = spool
        self._recovered = spool.recovered
        self._disk = disk
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()
        self._cuts: deque[_Pending] = deque()
        self._jobs: deque[_Job] = deque()
        self._room = asyncio.Event()
        self._stopping = False
        self._state = OK
        self._store_lost = False
        self._retry_at_s = 0.0
        self._lazy_at_s = NEVER
        self._look_again_at_s = 0.0
        self._seen_us = clock.now_us()
        self._standing = self._look()
        self._thread = threading.Thread(target=self._main, name="spool", daemon=True)
        self._thread.start()

    @property
    def standing(self) -> Standing:
        return self._standing

    @property
    def recovered(self) -> Recovered:
        return self._recovered

    @property
    def waiting(self) -> int:
        """Cuts that were put and are not committed."""
        return len(self._cuts)

    def put(self, cut: Cut) -> Handover:
        """Full: the oldest cut has waited for 2 s, or there are too many."""
        if self._is_full():
            raise Full(f"{len(self._cuts)} cuts wait for the spool ({self._state})")
        handover = Handover()
        now_s = self._clock.monotonic_s()
        self._seen_us = self._clock.now_us()
        with self._wake:
            self._cuts.append(_Pending(cut, handover, now_s, self._seen_us))
            self._wake.notify()
        return handover

    async def room(self) -> None:
        while self._is_full():
            self._room.clear()
            await self._room.wait()

    async def do(self, job: Callable[[Spool], T]) -> T:
        """Run in the thread, in order. Busy: the spool cannot be used now."""
        done: asyncio.Future[T] = self._loop.create_future()
        with self._wake:
            self._jobs.append(_Job(job, done))
            self._wake.notify()
        return await done

    async def stop(self) -> None:
        """Commit what was put, close the file. What cannot be kept is told `NotKept`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, STOP_S)

    def _is_full(self) -> bool:
        if not self._cuts:
            return False
        waited_s = self._clock.monotonic_s() - self._cuts[0].put_at_s
        return waited_s > HANDOVER_S or len(self._cuts) >= CUTS_MAX

    def _main(self) -> None:
        last = False
        while not last:
            with self._wake:
                self._wake.wait_for(self._has_work, self._idle_s())
                jobs = list(self._jobs)
                self._jobs.clear()
                cuts = list(self._cuts) if self._may_write() else []
                last = self._stopping
            for job in jobs:
                self._run(job)
            if cuts and (self._store_is_there() or self._reopen(None)):
                self._look_again()
                self._write(cuts)
                self._settle()
            if last or self._now_s() >= self._lazy_at_s:
                self._commit_lazily()
            self._publish()
        self._end()

    def _has_work(self) -> bool:
        return bool(self._jobs) or self._stopping or (bool(self._cuts) and self._may_write())

    def _may_write(self) -> bool:
        return self._stopping or self._now_s() >= self._retry_at_s

    def _idle_s(self) -> float | None:
        """How long nothing has to be done if nothing comes."""
        until_s = self._lazy_at_s
        if self._cuts:
            until_s = min(until_s, self._retry_at_s)
        return None if until_s == NEVER else max(0.0, until_s - self._now_s())

    def _run(self, job: _Job) -> None:
        if not self._store_is_there():
            self._answer(job, Busy(self._state, RETRY_S))
            return
        try:
            result = job.run(self._spool)
        except NoSpace as error:
            self._roll_back()
            self._enter(DISK_FULL, error)
            self._confine()
            self._answer(job, Busy(str(error), RETRY_S))
        except Broken as error:
            self._reopen(error)
            self._answer(job, Busy(str(error), RETRY_S))
        except Exception as error:  # noqa: BLE001 - whoever waits for the job gets its bug
            self._roll_back()
            self._answer(job, error)
        else:
            self._lazy_at_s = min(self._lazy_at_s, self._now_s() + LAZY_S)
            self._call(lambda: None if job.future.done() else job.future.set_result(result))

    def _answer(self, job: _Job, error: Exception) -> None:
        self._call(lambda: None if job.future.done() else job.future.set_exception(error))

    def _write(self, cuts: Sequence[_Pending]) -> None:
        """Together if all goes well; else one by one, so that one cut's trouble is its own."""
        try:
            let_go = self._write_whole(cuts)
        except Exception:  # noqa: BLE001 - each is tried alone and fails by its own name
            self._roll_back()
            for pending in cuts:
                if not self._write_alone(pending):
                    break
        else:
            self._written()
            self._tell(cuts, None, let_go=let_go)

    def _write_alone(self, pending: _Pending) -> bool:
        """False: it waits, and all behind it."""
        try:
            let_go = self._keep(pending)
        except NoSpace as error:
            self._hold(DISK_FULL, error)
        except Unheld as error:
            self._hold(EVENTS_FULL, error)
        except Broken as error:
            self._reopen(error)
        except Exception as error:
            self._roll_back()
            log.exception("a cut could not be sealed and is lost")
            self._tell([pending], f"could not be sealed: {error!r}", let_go=True)
            return True
        else:
            self._tell([pending], None, let_go=let_go)
            return True
        return False

    def _keep(self, pending: _Pending) -> bool:
        """Whole; else whole once entries made room in the file; else without its samples."""
        try:
            let_go = self._write_whole([pending])
        except NoSpace as error:
            self._roll_back()
            self._enter(DISK_FULL, error)
        else:
            self._written()
            return let_go
        try:
            more_bytes = self._disk.relieve()
            self._spool.store.confine(more_bytes)
            if not more_bytes:
                self._spool.shrink(pending.now_us)
                self._commit()
            self._write_whole([pending])
        except NoSpace:
            self._roll_back()
            self._spool.write_bare(pending.cut, pending.now_us)
            self._commit()
        return True

    def _write_whole(self, cuts: Sequence[_Pending]) -> bool:
        let_go = False
        for pending in cuts:
            let_go |= self._spool.write(pending.cut, self._lane(), pending.now_us).let_go
        self._commit()
        return let_go

    def _lane(self) -> Lane:
        unsent = self._spool.waiting(Lane.LIVE) - self.live_in_flight
        return Lane.LIVE if self.connected and unsent < UNSENT_LIVE_MAX else Lane.BACKLOG

    def _commit(self) -> None:
        self._spool.commit()
        self._lazy_at_s = NEVER

    def _commit_lazily(self) -> None:
        self._lazy_at_s = NEVER
        if not self._store_is_there():
            return
        try:
            self._spool.commit()
        except NoSpace as error:
            self._roll_back()
            self._enter(DISK_FULL, error)
            self._confine()
        except Broken as error:
            self._reopen(error)
        else:
            self._settle()

    def _settle(self) -> None:
        """Apart from the commit: what is committed stays, whatever comes of this."""
        if not self._store_is_there():
            return
        try:
            self._spool.store.settle()
        except NoSpace as error:  # the next commit fails for the same reason and makes room
            self._enter(DISK_FULL, error)
        except Broken as error:
            self._reopen(error)

    def _roll_back(self) -> None:
        self._lazy_at_s = NEVER
        try:
            self._spool.rollback()
        except Failure as error:
            self._reopen(error)
        self._call(self.on_rolled_back)

    def _hold(self, state: str, why: Failure) -> None:
        self._roll_back()
        self._enter(state, why)
        self._retry_at_s = self._now_s() + RETRY_S

    def _reopen(self, why: Failure | None) -> bool:
        """Never write to a broken file again; go on in a new one. False: not now."""
        self._store_lost = True
        self._retry_at_s = self._now_s() + RETRY_S
        if why is not None:
            self._enter(BROKEN, why)
        self._spool.store.close()
        try:
            store, lost = self._disk.reopen()
            self._spool.move(store)
            self._spool.declare(lost, self._seen_us)
            self._spool.commit()
        except (Failure, OSError) as error:
            self._enter(BROKEN, error)
            return False
        self._store_lost = False
        self._call(self.on_rolled_back)
        self._call(self.on_let_go)
        return True

    def _store_is_there(self) -> bool:
        return not self._store_lost

    def _confine(self) -> None:
        """Give what waits for the disk its room; without any, the next try fails again."""
        with contextlib.suppress(NoSpace, Broken):
            self._spool.store.confine(self._disk.relieve())

    def _look_again(self) -> None:
        """Whether a disk that was full has room again."""
        if self._state != DISK_FULL or self._now_s() < self._look_again_at_s:
            return
        self._look_again_at_s = self._now_s() + LOOK_AGAIN_S
        if self._disk.prepare():
            with contextlib.suppress(NoSpace, Broken):  # whatever it is, the next write says it
                self._spool.store.expand()
            self._recover()

    def _written(self) -> None:
        self._retry_at_s = 0.0
        if self._state in (EVENTS_FULL, BROKEN):
            self._recover()

    def _recover(self) -> None:
        self._state = OK
        log.info("the spool takes everything again")

    def _enter(self, state: str, why: Exception) -> None:
        if self._state != state:
            self._state = state
            self._look_again_at_s = self._now_s() + LOOK_AGAIN_S
            log.error("the spool cannot take everything", state=state, why=str(why))

    def _tell(self, cuts: Sequence[_Pending], why_not: str | None, *, let_go: bool) -> None:
        with self._wake:
            for _ in cuts:
                self._cuts.popleft()
        for pending in cuts:
            self._call(functools.partial(pending.handover.tell, why_not))
        if let_go:
            self._call(self.on_let_go)
        self._call(self._room.set)

    def _publish(self) -> None:
        standing = self._look()
        self._call(functools.partial(self._stand, standing))

    def _stand(self, standing: Standing) -> None:
        self._standing = standing
        self.on_standing()

    def _look(self) -> Standing:
        spool = self._spool
        return Standing(
            self._state,
            spool.epoch,
            spool.holdings,
            dict(spool.counts),
            spool.used_bytes,
            spool.store.bytes_on_disk,
            spool.store.bytes_written,
            spool.oldest_age_us,
        )

    def _end(self) -> None:
        with self._wake:
            cuts, jobs = list(self._cuts), list(self._jobs)
            self._jobs.clear()
        self._tell(cuts, f"the agent stopped while the spool was {self._state}", let_go=False)
        for job in jobs:
            self._answer(job, Busy("the spool is closed", RETRY_S))
        self._spool.store.close()

    def _call(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(what)

    def _now_s(self) -> float:
        return self._clock.monotonic_s()


def _nothing() -> None:
    """Nobody listens."""
