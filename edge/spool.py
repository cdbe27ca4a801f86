"""The spool: cuts in, frames out, receipts back. Decides what an entry becomes; a Store keeps it.

Rule 1: one cut is one transaction: its frames, the state that follows from them, the watermark.
Rule 2: an entry leaves only stored, rejected, forked (and appended again), or named in a notice.
Rule 3: nothing here waits or starts a thread; `commit` and `rollback` are the caller's.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.book import PAGE, Book
from edge.cut import Cut, Recovered
from edge.entries import Entry, Holding, Key, State, Store, Stream, Unheld
from edge.retention import Limits
from edge.room import age_out, let_go, make_room
from edge.sealing import bare, seal_cut
from edge.settling import Settled, settle
from protocols.frames import Frame, Lane
from protocols.receipts import Receipt

GAP_SAID_US: Final = 60_000_000  # a stretch without room is said when it ends, or this often


@dataclass(frozen=True, slots=True)
class Written:
    """What came of one cut. `let_go`: something not yet stored is gone, report everything once."""

    let_go: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """Frames to send. `next_seq`: where to look next; `blocked`: the next one is too large now."""

    frames: tuple[Frame, ...]
    next_seq: int
    blocked: bool = False
    let_go: bool = False


class Spool:
    """One agent's spool. `draw_epoch` gives a random u64 and is asked at start and at each fork."""

    def __init__(
        self, store: Store, agent: str, draw_epoch: Callable[[], int], limits: Limits
    ) -> None:
        self._book = Book(store, agent, draw_epoch, limits)
        self._oldest_age_us = 0
        self._recovered = store.recovered()

    @property
    def epoch(self) -> int:
        return self._book.epoch

    @property
    def recovered(self) -> Recovered:
        """As it was at opening."""
        return self._recovered

    @property
    def holdings(self) -> tuple[Holding, ...]:
        return self._book.holdings

    @property
    def store(self) -> Store:
        return self._book.store

    @property
    def counts(self) -> Mapping[str, int]:
        return self._book.counts

    @property
    def single_copy(self) -> int:
        """Entries since the epoch began that a log took which keeps one copy."""
        return self._book.single_copy

    @property
    def used_bytes(self) -> int:
        return self._book.used_bytes

    @property
    def oldest_age_us(self) -> int:
        """Of what is not known as stored, at the last `tidy`."""
        return self._oldest_age_us

    def waiting(self, lane: Lane) -> int:
        """NEW frames of a lane, sent ones among them."""
        return sum(one.of(State.NEW).frames for one in self.holdings if one.stream.lane is lane)

    def write(self, cut: Cut, lane: Lane, now_us: int) -> Written:
        """Append one cut. Unheld: it has events and there is no room for them."""
        book = self._book
        named = make_room(book, now_us)
        if book.limits.bytes_usable - book.used_bytes < book.limits.bytes_headroom:
            self.write_bare(cut, now_us)
            return Written(let_go=True)
        self._append(book.with_gap(cut), lane, now_us)
        return Written(named)

    def write_bare(self, cut: Cut, now_us: int) -> None:
        """Append a cut without its samples and curves; they count as discarded."""
        book = self._book
        lines = (*cut.events, *cut.alarms, *cut.tags, *cut.outages)
        if lines and book.used_bytes > book.limits.bytes_usable:
            raise Unheld(f"{book.limits.bytes_max} bytes full of events")
        book.widen_gap(cut)
        kept = bare(cut)
        if book.gap_us > GAP_SAID_US:
            kept = book.with_gap(kept)
        self._append(kept, Lane.BACKLOG, now_us)

    def declare(self, lost: Sequence[Entry], now_us: int) -> None:
        """Name what an earlier file held and could not be read any more."""
        self._book.counts["salvages"] += 1
        self._book.declare(lost, now_us)

    def shrink(self, now_us: int) -> bool:
        """Let a bite go whatever the limit, so that the file has room inside. False: nothing to."""
        return let_go(self._book, self._book.limits.bytes_bite, now_us) is not None

    def take(
        self,
        stream: Stream,
        from_seq: int,
        *,
        frames_max: int,
        bytes_max: int,
        skip: Collection[int],
        now_us: int,
    ) -> Taken:
        """New frames of a stream in order, without `skip`; damaged ones are set aside."""
        entries = self.store.unsent(stream, from_seq, frames_max, skip)
        frames: list[Frame] = []
        damaged: list[Entry] = []
        next_seq = self._after(entries, stream, from_seq, frames_max)
        blocked = False
        for entry in entries:
            if entry.size > bytes_max:
                next_seq, blocked = entry.key.seq, True
                break
            frame = self._book.whole(entry)
            if frame is None:
                damaged.append(entry)
            else:
                frames.append(frame)
                bytes_max -= entry.size
        if damaged:  # what the repair finds may stand before them
            self._book.repair(damaged, now_us)
            next_seq = min(next_seq, damaged[0].key.seq)
        return Taken(tuple(frames), next_seq, blocked, bool(damaged))

    def read(self, keys: Iterable[Key], now_us: int) -> list[Frame]:
        """Those of the keys that are still new and whole."""
        entries = [self.store.find(key) for key in keys]
        found = [
            (entry, self._book.whole(entry))
            for entry in entries
            if entry is not None and entry.state is State.NEW
        ]
        if damaged := [entry for entry, frame in found if frame is None]:
            self._book.repair(damaged, now_us)
        return [frame for _, frame in found if frame is not None]

    def settle(self, receipt: Receipt, now_us: int) -> Settled:
        """Take a receipt in. What it names and the spool does not hold is ignored."""
        return settle(self._book, receipt, now_us)

    def tidy(self, now_us: int) -> Settled:
        """Free what was kept long enough, renew what was logged too long ago, age out the rest."""
        store, limits = self.store, self._book.limits
        while freed := store.turned(State.STORED, now_us - limits.keep_stored_us, PAGE):
            store.remove(freed)
            self._book.counts["frames_freed"] += len(freed)
        renewed = False
        while expired := store.turned(State.LOGGED, now_us - limits.logged_expires_us, PAGE):
            store.mark(expired, State.NEW, now_us)
            renewed = True
        gone = age_out(self._book, now_us)
        oldest = store.oldest((State.NEW, State.LOGGED), frozenset(Lane), 1)
        self._oldest_age_us = max(0, now_us - oldest[0].sealed_at_us) if oldest else 0
        return Settled(renewed=renewed, let_go=gone)

    def commit(self) -> None:
        self._book.commit()

    def rollback(self) -> None:
        """As at the last commit, the sealer included."""
        self._book.rollback()

    def move(self, store: Store) -> None:
        """Go on with what was salvaged from a broken file into this one."""
        self._book.move(store)

    def _append(self, cut: Cut, lane: Lane, now_us: int) -> None:
        book = self._book
        book.append(seal_cut(book.sealer, cut, book.moment(now_us, lane)), now_us)
        book.store.keep(cut.state, cut.watermark_us)

    def _after(
        self, entries: Sequence[Entry], stream: Stream, from_seq: int, frames_max: int
    ) -> int:
        """Where to look next when all of these are taken."""
        if len(entries) == frames_max:
            return entries[-1].key.seq + 1
        heads = [one.head + 1 for one in self.holdings if one.stream == stream]
        return max([from_seq, *heads])
