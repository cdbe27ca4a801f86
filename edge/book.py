"""The spool's book-keeping: what is appended, by which numbers, and what is said of what is gone.

Rule 1: the sealer and the store advance together, by `commit`, and go back together.
Rule 2: an entry that goes without being safe elsewhere is named, in the same transaction.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge.cut import Cut
from edge.entries import Entry, Holding, Key, State, Store, entry_of, whole
from edge.retention import Limits, drops
from edge.sealing import Moment, Sealed, Sealer, fork, seal_again, seal_notices
from protocols.events import from_us
from protocols.frames import Frame, Kind, Lane
from protocols.notices import Outage, Stretch

PAGE: Final = 4096  # entries looked at in one go
_DAMAGED: Final = "damaged"
_NO_ROOM: Final = "no room in the spool"
_DOUBTED: Final = "doubted"
_GAP: Final = "gap"
_GAP_TEXT: Final = re.compile(r"(\d{1,17}) (\d{1,17}) (\d{1,17})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows that were read and found no room."""

    from_us: int
    until_us: int
    rows: int

    def __str__(self) -> str:
        return f"{self.from_us} {self.until_us} {self.rows}"


class Book:
    """`draw_epoch` gives a random u64 and is asked at start and at each fork."""

    def __init__(
        self, store: Store, agent: str, draw_epoch: Callable[[], int], limits: Limits
    ) -> None:
        self.store = store
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self._draw_epoch = draw_epoch
        self._sealer = Sealer(agent, draw_epoch())
        self._forked: frozenset[int] = frozenset()
        self._gap = _gap_from(store.note(_GAP))
        self._single_copy = 0
        self._safe = self._as_it_is()

    @property
    def epoch(self) -> int:
        return self._sealer.epoch

    @property
    def sealer(self) -> Sealer:
        return self._sealer

    @property
    def holdings(self) -> tuple[Holding, ...]:
        return self.store.holdings()

    @property
    def used_bytes(self) -> int:
        return sum(holding.size for holding in self.holdings) + self.store.aside_bytes

    @property
    def is_doubted(self) -> bool:
        """The cloud's last word was that it does not take this agent."""
        return self.store.note(_DOUBTED) == "1"

    def doubt(self, *, doubted: bool) -> None:
        if self.is_doubted != doubted:
            self.store.set_note(_DOUBTED, "1" if doubted else "0")

    @property
    def single_copy(self) -> int:
        """Entries since the epoch began that a log took which keeps one copy."""
        return self._single_copy

    def count_single_copy(self, entries: int) -> None:
        self._single_copy += entries

    def moment(self, now_us: int, lane: Lane = Lane.BACKLOG) -> Moment:
        floors = {
            one.stream.lane: one.floor for one in self.holdings if one.stream.epoch == self.epoch
        }
        # What is forked comes again later, with its old times: until then nothing is promised.
        promise = not any(
            one.stream.epoch in self._forked and one.waiting_frames for one in self.holdings
        )
        return Moment(now_us, floors, lane, promise)

    def append(self, sealed: Sealed, now_us: int) -> None:
        self.store.append(sealed.frames, now_us)
        self._sealer = sealed.sealer
        for frame in sealed.frames:
            self.counts["frames_sealed"] += 1
            self.counts["rows_sealed"] += frame.header.rows
            self.counts["payload_bytes_sealed"] += len(frame.payload)
        for one in sealed.unsealable:
            self.counts["unsealable"] += 1
            key = Key(self.epoch, one.lane, 0)
            self._put_aside(key, 0, one.raw, f"too large: {one.what}", now_us)

    @property
    def gap_us(self) -> int:
        """How long the stretch is that was discarded for want of room and is not said yet."""
        return self._gap.until_us - self._gap.from_us if self._gap else 0

    def widen_gap(self, cut: Cut) -> None:
        """The cut's samples and curves find no room."""
        self.counts["rows_discarded"] += len(cut.samples)
        self.counts["curves_discarded"] += len(cut.curves)
        if len(cut.samples):
            times = cut.samples.agent_times
            before = self._gap or Gap(int(times.min()), int(times.max()), 0)
            self._keep_gap(
                Gap(
                    min(before.from_us, int(times.min())),
                    max(before.until_us, int(times.max())),
                    before.rows + len(cut.samples),
                )
            )

    def with_gap(self, cut: Cut) -> Cut:
        """The cut, and in it what was discarded before, as an outage."""
        gap = self._gap
        if gap is None:
            return cut
        self._keep_gap(None)
        outage = Outage(
            from_time=from_us(gap.from_us),
            to_time=from_us(gap.until_us),
            reason=_NO_ROOM,
            rows=gap.rows,
        )
        return replace(cut, outages=(*cut.outages, outage))

    def say(self, kind: Kind, notices: Sequence[Stretch], now_us: int) -> None:
        if notices:
            self.append(seal_notices(self._sealer, kind, notices, self.moment(now_us)), now_us)

    def count_gone(self, how: str, entries: Sequence[Entry]) -> None:
        self.counts[f"frames_{how}"] += len(entries)
        self.counts[f"rows_{how}"] += sum(entry.rows for entry in entries)

    def whole(self, entry: Entry) -> Frame | None:
        """The entry's frame; None: what is there is not what was written."""
        frame = whole(self.store.sealed(entry))
        if frame is None or entry_of(frame, entry.state, 0).key != entry.key:
            return None
        return frame if frame.header.digest == entry.digest else None

    def repair(self, damaged: Sequence[Entry], now_us: int) -> None:
        """Set damaged entries aside, adopt whole bodies that lost their row, name what is lost."""
        self.quarantine(damaged, _DAMAGED, now_us)
        for stream in {entry.key.stream for entry in damaged}:
            for frame in filter(None, map(whole, self.store.orphans(stream))):
                found = entry_of(frame, State.NEW, now_us)
                if found.key.stream == stream and self.store.find(found.key) is None:
                    self.store.restore(found, frame.sealed)
        self.declare([one for one in damaged if self.store.find(one.key) is None], now_us)

    def declare(self, lost: Sequence[Entry], now_us: int) -> None:
        """Name what was in the spool and cannot be read any more."""
        self.count_gone(_DAMAGED, lost)
        self.say(Kind.DROP, drops(lost, _DAMAGED), now_us)

    def quarantine(self, entries: Sequence[Entry], why: str, now_us: int) -> None:
        for entry in entries:
            sealed = self.store.sealed(entry) or b""
            self._put_aside(entry.key, entry.digest, sealed, why, now_us)
        self.store.remove(entries)

    def append_again(self, entries: Sequence[Entry], now_us: int) -> bool:
        """Forked entries, in an epoch that nobody else has. True: the first of their epoch."""
        found = [(entry, self.whole(entry)) for entry in entries]
        if damaged := [entry for entry, frame in found if frame is None]:
            self.repair(damaged, now_us)
        forked = [(entry, frame) for entry, frame in found if frame is not None]
        if not forked:
            return False
        epochs = {entry.key.epoch for entry, _ in forked}
        promised = self._sealer.watermark_us > min(entry.t_min_us for entry, _ in forked)
        if self.epoch in epochs or promised:
            self._sealer = fork(self._sealer, self._draw_epoch())
            self._single_copy = 0
        first_time = not epochs <= self._forked
        self._forked |= epochs
        frames = [frame for _, frame in forked]
        self.append(seal_again(self._sealer, frames, self.moment(now_us)), now_us)
        self.store.remove([entry for entry, _ in forked])
        return first_time

    def commit(self) -> None:
        self.store.commit()
        self._safe = self._as_it_is()

    def rollback(self) -> None:
        self._go_back()
        self.store.rollback()

    def move(self, store: Store) -> None:
        """Go on with what was salvaged from a broken file into this one.

        A transaction whose commit failed may be in it after all: nobody was told of it, and it is
        written again, so its frames go.
        """
        self._go_back()
        self.store = store
        if _gap_from(store.note(_GAP)) != self._gap:
            self._keep_gap(self._gap)
        for holding in store.holdings():
            known = self._sealer.count(holding.stream.lane).seq
            if holding.stream.epoch == self.epoch and holding.head > known:
                while doubted := store.unsent(holding.stream, known + 1, PAGE, ()):
                    store.remove(doubted)

    def _keep_gap(self, gap: Gap | None) -> None:
        """With the cut: what is discarded before a kill is said after it."""
        self._gap = gap
        self.store.set_note(_GAP, "" if gap is None else str(gap))

    def _as_it_is(self) -> tuple[Sealer, frozenset[int], Gap | None, int, Counter[str]]:
        return self._sealer, self._forked, self._gap, self._single_copy, self.counts.copy()

    def _go_back(self) -> None:
        self._sealer, self._forked, self._gap, self._single_copy, counts = self._safe
        self.counts = counts.copy()

    def _put_aside(self, key: Key, digest: int, sealed: bytes, why: str, now_us: int) -> None:
        """The quarantine keeps the newest; the bytes of older ones go, counted."""
        self.store.set_aside(key, digest, sealed, why, now_us)
        excess = self.store.aside_bytes - self.limits.aside_bytes_max
        gone: list[int] = []
        for one in self.store.aside() if excess > 0 else ():
            if excess <= 0:
                break
            gone.append(one.number)
            excess -= len(one.sealed)
        if gone:
            self.store.forget_aside(gone)
            self.counts["quarantine_forgotten"] += len(gone)


def _gap_from(text: str | None) -> Gap | None:
    """None: there is none, or it is not what was written."""
    found = _GAP_TEXT.fullmatch(text or "")
    return Gap(*map(int, found.groups())) if found else None
