"""The spool's own thread: group commits and a bounded hand-over.

Rule 1: only this thread touches the spool; the loop puts cuts and jobs in and never waits for it.
Rule 2: cuts that come while one commit runs share the next one.
Rule 3: a hand-over is told `synced` after the commit, never before; a cut leaves the queue with it.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from edge.cut import Cut, Full, NotKept, Recovered
from edge.entries import Holding
from edge.keeper import NEVER, OK, RETRY_S, Disk, Keeper, Kept, Offer
from edge.spool import Spool
from protocols.driver import Clock
from protocols.errors import Busy
from protocols.frames import Lane

HANDOVER_S: Final = 2.0
CUTS_MAX: Final = 256
UNSENT_LIVE_MAX: Final = 64
STOP_S: Final = 10.0

T = TypeVar("T")


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
    single_copy: int = 0


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
    offer: Offer
    handover: Handover
    put_at_s: float


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[Spool], Any]
    future: "asyncio.Future[Any]"


class Writer:
    """Made and used on one loop, where its callbacks are called too."""

    def __init__(self, spool: Spool, disk: Disk, clock: Clock) -> None:
        self.on_standing: Callable[[], None] = _nothing
        self.on_let_go: Callable[[], None] = _nothing
        self.on_rolled_back: Callable[[], None] = _nothing
        self.connected: Callable[[], bool] = lambda: False  # both are asked at sealing
        self.live_in_flight: Callable[[], int] = lambda: 0
        self._clock = clock
        self._keeper = Keeper(spool, disk, clock, self._lane)
        self._recovered = spool.recovered
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()
        self._cuts: deque[_Pending] = deque()
        self._jobs: deque[_Job] = deque()
        self._room = asyncio.Event()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
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
            raise Full(f"{len(self._cuts)} cuts wait for the spool ({self._standing.state})")
        handover = Handover()
        offer = Offer(cut, self._clock.now_us())
        with self._wake:
            self._cuts.append(_Pending(offer, handover, self._clock.monotonic_s()))
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
            if self._stopping:
                raise Busy("the spool is closed", RETRY_S)
            self._jobs.append(_Job(job, done))
            self._wake.notify()
        return await done

    async def watch(self) -> None:
        """Return when the thread has ended; a bug in it comes out here."""
        await asyncio.shield(self._ended)

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
        try:
            self._work()
            self._end()
        except BaseException as error:  # noqa: BLE001 - `watch` raises it where somebody looks
            self._call(partial(_fail, self._ended, error))
        else:
            self._call(partial(_finish, self._ended, None))

    def _work(self) -> None:
        last = False
        while not last:
            with self._wake:
                self._wake.wait_for(self._has_work, self._idle_s())
                last = self._stopping
                jobs = list(self._jobs)
                self._jobs.clear()
                cuts = list(self._cuts) if self._may_write() else []
            for job in jobs:
                self._run(job)
            if cuts:
                kept = self._keeper.write([one.offer for one in cuts])
                self._publish()  # first: who hears `synced` may look at once
                self._tell(kept)
            if cuts or last or self._clock.monotonic_s() >= self._keeper.lazy_at_s:
                self._keeper.commit()
            self._publish()

    def _has_work(self) -> bool:
        return bool(self._jobs) or self._stopping or (bool(self._cuts) and self._may_write())

    def _may_write(self) -> bool:
        return self._stopping or self._clock.monotonic_s() >= self._keeper.retry_at_s

    def _idle_s(self) -> float | None:
        """How long nothing has to be done if nothing comes."""
        until_s = self._keeper.lazy_at_s
        if self._cuts:
            until_s = min(until_s, self._keeper.retry_at_s)
        return None if until_s == NEVER else max(0.0, until_s - self._clock.monotonic_s())

    def _lane(self, spool: Spool) -> Lane:
        unsent = spool.waiting(Lane.LIVE) - self.live_in_flight()
        return Lane.LIVE if self.connected() and unsent < UNSENT_LIVE_MAX else Lane.BACKLOG

    def _run(self, job: _Job) -> None:
        try:
            result = self._keeper.do(job.run)
        except Exception as error:  # noqa: BLE001 - whoever waits for the job gets it
            self._call(partial(_fail, job.future, error))
        else:
            self._call(partial(_finish, job.future, result))

    def _tell(self, kept: list[Kept]) -> None:
        for answer in kept:
            with self._wake:
                done = list(islice(self._cuts, answer.count))
                for _ in done:
                    self._cuts.popleft()
            for pending in done:
                self._call(partial(pending.handover.tell, answer.why_not))
        self._call(self._room.set)

    def _publish(self) -> None:
        self._call(partial(self._stand, self._look()))
        news = self._keeper.take_news()
        if news.let_go:
            self._call(self.on_let_go)
        if news.rolled_back:
            self._call(self.on_rolled_back)

    def _stand(self, standing: Standing) -> None:
        self._standing = standing
        self.on_standing()

    def _look(self) -> Standing:
        spool = self._keeper.spool
        return Standing(
            self._keeper.state,
            spool.epoch,
            spool.holdings,
            dict(spool.counts),
            spool.used_bytes,
            spool.store.bytes_on_disk,
            spool.store.bytes_written,
            spool.oldest_age_us,
            spool.single_copy,
        )

    def _end(self) -> None:
        why = f"the agent stopped while the spool was {self._keeper.state}"
        self._tell([Kept(len(self._cuts), why)])
        for job in self._jobs:
            self._call(partial(_fail, job.future, Busy("the spool is closed", RETRY_S)))
        self._keeper.close()

    def _call(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(what)


def _finish(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():  # whoever waited may have been cancelled
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _nothing() -> None:
    """Nobody listens."""
