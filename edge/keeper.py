"""Commits cuts come what may: what a full disk, a broken file and a spool full of events come to.

Rule 1: a full disk costs samples, counted, never events; what waits for room waits in order.
Rule 2: a broken file is never written again: what is whole in it goes on in another one.
Rule 3: a cut is told to be kept after its commit, never before; nobody here knows a thread.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog

from edge.cut import Cut
from edge.entries import Broken, Entry, NoSpace, Store, Unheld
from edge.spool import Spool
from protocols.driver import Clock
from protocols.errors import Busy, Failure
from protocols.frames import Lane

LAZY_S: Final = 0.1  # how long a receipt may wait for the commit of a cut
RETRY_S: Final = 1.0
LOOK_AGAIN_S: Final = 2.0  # so that a disk at its edge is no line of log per cut
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
class Offer:
    """A cut and when it was put."""

    cut: Cut
    now_us: int


@dataclass(frozen=True, slots=True)
class Kept:
    """How many of the cuts offered are dealt with, and why one of them could not be kept."""

    count: int
    why_not: str | None = None


@dataclass(slots=True)
class News:
    """What happened that the uplink or the pipeline must know; gathered until it is looked at."""

    let_go: bool = False
    rolled_back: bool = False


class Keeper:
    """Works one spool. `lane` chooses live or backlog when a cut is sealed."""

    def __init__(
        self, spool: Spool, disk: Disk, clock: Clock, lane: Callable[[Spool], Lane]
    ) -> None:
        self.state = OK
        self._spool = spool
        self._disk = disk
        self._clock = clock
        self._lane = lane
        self._store_lost = False
        self._retry_at_s = 0.0
        self._lazy_at_s = NEVER
        self._look_again_at_s = 0.0
        self._seen_us = clock.now_us()
        self._news = News()

    @property
    def spool(self) -> Spool:
        return self._spool

    @property
    def retry_at_s(self) -> float:
        """When a cut that waits may be tried again."""
        return self._retry_at_s

    @property
    def lazy_at_s(self) -> float:
        """When what is done must be committed, cut or not."""
        return self._lazy_at_s

    def take_news(self) -> News:
        news, self._news = self._news, News()
        return news

    def do(self, job: Callable[[Spool], T]) -> T:
        """Run a job in the open transaction. Busy: the spool cannot be used now."""
        if self._store_lost:
            raise Busy(f"spool {self.state}", RETRY_S)
        try:
            result = job(self._spool)
        except NoSpace as error:
            self._roll_back()
            self._enter(DISK_FULL, error)
            self._confine()
            raise Busy(str(error), RETRY_S) from error
        except Broken as error:
            self._reopen(error)
            raise Busy(str(error), RETRY_S) from error
        except Exception:
            self._roll_back()
            raise
        self._lazy_at_s = min(self._lazy_at_s, self._now_s() + LAZY_S)
        return result

    def write(self, offers: Sequence[Offer]) -> list[Kept]:
        """Commit cuts: together if all goes well, else one by one, each with its own trouble.

        Cuts that none of the answers counts wait: offer them again, in order, at `retry_at_s`.
        """
        self._seen_us = offers[-1].now_us
        if self._store_lost and not self._reopen(None):
            return []
        self._look_again()
        try:
            self._write_whole(offers)
        except Exception:  # noqa: BLE001 - each is tried alone and fails by its own name
            self._roll_back()
        else:
            self._went_well()
            return [Kept(len(offers))]
        kept: list[Kept] = []
        for offer in offers:
            alone = self._write_alone(offer)
            if alone is None:
                break
            kept.append(alone)
        return kept

    def commit(self) -> None:
        """Commit what jobs have done, and keep the log short."""
        self._lazy_at_s = NEVER
        if self._store_lost:
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
            self._shorten()

    def close(self) -> None:
        self._spool.store.close()

    def _write_alone(self, offer: Offer) -> Kept | None:
        """None: it waits, and all behind it."""
        try:
            self._keep(offer)
        except NoSpace as error:
            self._hold(DISK_FULL, error)
        except Unheld as error:
            self._hold(EVENTS_FULL, error)
        except Broken as error:
            self._reopen(error)
        except Exception as error:
            self._roll_back()
            self._news.let_go = True
            log.exception("a cut could not be sealed and is lost")
            return Kept(1, f"could not be sealed: {error!r}")
        else:
            return Kept(1)
        return None

    def _keep(self, offer: Offer) -> None:
        """Whole; else whole once there is room inside the file; else without its samples."""
        try:
            self._write_whole([offer])
        except NoSpace as error:
            self._roll_back()
            self._enter(DISK_FULL, error)
        else:
            self._went_well()
            return
        self._news.let_go = True
        try:
            self._make_room_inside(offer.now_us)
            self._write_whole([offer])
        except NoSpace:
            self._roll_back()
            self._spool.write_bare(offer.cut, offer.now_us)
            self._spool.commit()

    def _write_whole(self, offers: Sequence[Offer]) -> None:
        let_go = False
        for offer in offers:
            lane = self._lane(self._spool)
            let_go |= self._spool.write(offer.cut, lane, offer.now_us).let_go
        self._spool.commit()
        self._lazy_at_s = NEVER
        self._news.let_go |= let_go

    def _make_room_inside(self, now_us: int) -> None:
        """Let the file grow into the ballast while there is one; then entries must go."""
        more_bytes = self._disk.relieve()
        self._spool.store.confine(more_bytes)
        if not more_bytes:
            self._spool.shrink(now_us)
            self._spool.commit()

    def _confine(self) -> None:
        """Give what waits for the disk its room; without any, the next try fails again."""
        with contextlib.suppress(NoSpace, Broken):
            self._spool.store.confine(self._disk.relieve())

    def _shorten(self) -> None:
        """Apart from the commit: what is committed stays, whatever comes of this."""
        try:
            self._spool.store.settle()
        except NoSpace as error:  # the next commit fails for the same reason and makes room
            self._enter(DISK_FULL, error)
        except Broken as error:
            self._reopen(error)

    def _roll_back(self) -> None:
        self._lazy_at_s = NEVER
        self._news.rolled_back = True
        try:
            self._spool.rollback()
        except Failure as error:
            self._reopen(error)

    def _hold(self, state: str, why: Failure) -> None:
        self._roll_back()
        self._enter(state, why)
        self._retry_at_s = self._now_s() + RETRY_S

    def _reopen(self, why: Failure | None) -> bool:
        """Go on in another file. False: there is none now."""
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
        self._news.rolled_back = True
        self._news.let_go = True
        return True

    def _look_again(self) -> None:
        """Whether a disk that was full has room again."""
        if self.state != DISK_FULL or self._now_s() < self._look_again_at_s:
            return
        self._look_again_at_s = self._now_s() + LOOK_AGAIN_S
        if self._disk.prepare():
            with contextlib.suppress(NoSpace, Broken):  # whatever it is, the next write says it
                self._spool.store.expand()
            self._recover()

    def _went_well(self) -> None:
        self._retry_at_s = 0.0
        if self.state in (EVENTS_FULL, BROKEN):
            self._recover()

    def _recover(self) -> None:
        self.state = OK
        log.info("the spool takes everything again")

    def _enter(self, state: str, why: Exception) -> None:
        if self.state != state:
            self.state = state
            self._look_again_at_s = self._now_s() + LOOK_AGAIN_S
            log.error("the spool cannot take everything", state=state, why=str(why))

    def _now_s(self) -> float:
        return self._clock.monotonic_s()
