"""The spool: cuts in, frames out, receipts back. Decides what an entry becomes; a Store keeps it.

Rule 1: one cut is one transaction: its frames, the state that follows from them, the watermark.
Rule 2: an entry leaves only stored, rejected, forked (and appended again), or named in a notice.
Rule 3: nothing here waits or starts a thread; `commit` and `rollback` are the caller's.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.cut import Cut, Recovered
from edge.entries import (
    Entry,
    Holding,
    Key,
    State,
    Store,
    Stream,
    Unheld,
    entry_of,
    whole,
)
from edge.retention import SAMPLE_LANES, STEPS, Limits, Step, drops, enough, releases
from edge.sealing import (
    Moment,
    Sealed,
    Sealer,
    fork,
    seal_again,
    seal_bare,
    seal_cut,
    seal_notices,
)
from protocols.frames import Frame, Kind, Lane
from protocols.notices import Stretch
from protocols.receipts import Receipt, Run, Said

_PAGE: Final = 4096  # entries looked at in one go
_STORE_ID: Final = "store_id"
_LOG_GEN: Final = "log_gen"
_FULL: Final = "spool full"
_OLD: Final = "older than max_age"
_DAMAGED: Final = "damaged"
_LANES: Final = frozenset(int(lane) for lane in Lane)


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


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a receipt.

    Attributes:
        taken: entries that were logged or stored.
        later: entries that are new again, to be tried later.
        renewed: entries sent long ago are new again: look from the beginning.
        forked: an epoch was answered `forked` for the first time.
    """

    taken: tuple[Key, ...] = ()
    later: tuple[Key, ...] = ()
    renewed: bool = False
    forked: bool = False
    let_go: bool = False


class Spool:
    """One agent's spool. `draw_epoch` gives a random u64 and is asked at start and at each fork."""

    def __init__(
        self, store: Store, agent: str, draw_epoch: Callable[[], int], limits: Limits
    ) -> None:
        self._store = store
        self._draw_epoch = draw_epoch
        self._limits = limits
        self._sealer = Sealer(agent, draw_epoch())
        self._forked: frozenset[int] = frozenset()
        self._counts: Counter[str] = Counter()
        self._oldest_age_us = 0
        self._recovered = store.recovered()
        self._safe = self._sealer, self._forked, self._counts.copy()

    @property
    def epoch(self) -> int:
        return self._sealer.epoch

    @property
    def recovered(self) -> Recovered:
        """As it was at opening."""
        return self._recovered

    @property
    def holdings(self) -> tuple[Holding, ...]:
        return self._store.holdings()

    @property
    def store(self) -> Store:
        return self._store

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts

    @property
    def used_bytes(self) -> int:
        return sum(holding.size for holding in self.holdings) + self._store.aside_bytes

    @property
    def oldest_age_us(self) -> int:
        """Of what is not known as stored, at the last `tidy`."""
        return self._oldest_age_us

    def waiting(self, lane: Lane) -> int:
        """NEW frames of a lane, sent ones among them."""
        return sum(one.of(State.NEW).frames for one in self.holdings if one.stream.lane is lane)

    def write(self, cut: Cut, lane: Lane, now_us: int) -> Written:
        """Append one cut. Unheld: it has events and there is no room for them."""
        notices = self._make_room(now_us)
        free = self._limits.bytes_usable - self.used_bytes
        if free >= self._limits.bytes_headroom:
            self._append(seal_cut(self._sealer, cut, self._moment(now_us, lane)), now_us)
            self._store.keep(cut.state, cut.watermark_us)
        else:
            self.write_bare(cut, now_us)
        return Written(let_go=notices > 0)

    def write_bare(self, cut: Cut, now_us: int) -> None:
        """Append a cut without its samples and curves; they count as discarded."""
        lines = (*cut.events, *cut.alarms, *cut.tags, *cut.outages)
        if lines and self.used_bytes > self._limits.bytes_usable:
            raise Unheld(f"{self._limits.bytes_max} bytes full of events")
        self._append(seal_bare(self._sealer, cut, self._moment(now_us, Lane.BACKLOG)), now_us)
        self._store.keep(cut.state, cut.watermark_us)
        self._counts["rows_discarded"] += len(cut.samples)
        self._counts["curves_discarded"] += len(cut.curves)

    def declare(self, lost: Sequence[Entry], now_us: int) -> None:
        """Name what an earlier file held and could not be read any more."""
        self._counts["salvages"] += 1
        self._count_gone(_DAMAGED, lost, sum(entry.rows for entry in lost))
        self._say(Kind.DROP, drops(lost, _DAMAGED), now_us)

    def shrink(self, now_us: int) -> bool:
        """Let a bite go whatever the limit, so that the file has room inside. False: nothing to."""
        return self._let_go(self._limits.bytes_bite, now_us) is not None

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
        entries = self._store.unsent(stream, from_seq, frames_max, skip)
        frames: list[Frame] = []
        damaged: list[Entry] = []
        free = bytes_max
        for entry in entries:
            if entry.size > free:
                return self._taken(frames, entry.key.seq, damaged, now_us, blocked=True)
            frame = self._whole(entry)
            if frame is None:
                damaged.append(entry)
            else:
                frames.append(frame)
                free -= entry.size
        if len(entries) == frames_max:
            after = entries[-1].key.seq + 1
        else:
            heads = [one.head for one in self.holdings if one.stream == stream]
            after = max([from_seq, *(head + 1 for head in heads)])
        return self._taken(frames, after, damaged, now_us)

    def read(self, keys: Iterable[Key]) -> list[Frame]:
        """Those of the keys that are still new and whole."""
        entries = (self._store.find(key) for key in keys)
        frames = (self._whole(entry) for entry in entries if entry and entry.state is State.NEW)
        return [frame for frame in frames if frame is not None]

    def settle(self, receipt: Receipt, now_us: int) -> Settled:
        """Take a receipt in. What it names and the spool does not hold is ignored."""
        renewed = self._compare(receipt, now_us)
        said: dict[Said, list[Entry]] = {kind: [] for kind in Said}
        once: set[Key] = set()
        for run in receipt.runs:
            named = [entry for entry in self._named(run) if entry.key not in once]
            once.update(entry.key for entry in named)
            said[run.kind] += named
            if run.kind is Said.REJECTED:
                self._quarantine(named, f"rejected: {run.reason or 'no reason'}", now_us)
        self._mark(said[Said.LOGGED], {State.NEW}, State.LOGGED, now_us)
        self._mark(said[Said.STORED], {State.NEW, State.LOGGED}, State.STORED, now_us)
        said[Said.LATER] = [one for one in said[Said.LATER] if one.state is not State.STORED]
        self._mark(said[Said.LATER], {State.LOGGED}, State.NEW, now_us)
        forked = self._append_again(said[Said.FORKED], now_us)
        for kind in (Said.LOGGED, Said.STORED, Said.REJECTED, Said.FORKED, Said.LATER):
            self._counts[f"frames_{kind}"] += len(said[kind])
        taken = (entry.key for kind in (Said.LOGGED, Said.STORED) for entry in said[kind])
        later = (entry.key for entry in said[Said.LATER])
        return Settled(tuple(taken), tuple(later), renewed, forked)

    def tidy(self, now_us: int) -> Settled:
        """Free what was kept long enough, renew what was logged too long ago, age out the rest."""
        limits = self._limits
        while freed := self._store.turned(State.STORED, now_us - limits.keep_stored_us, _PAGE):
            self._store.remove(freed)
            self._counts["frames_freed"] += len(freed)
        renewed = False
        while expired := self._store.turned(State.LOGGED, now_us - limits.logged_expires_us, _PAGE):
            self._store.mark(expired, State.NEW, now_us)
            renewed = True
        let_go = self._age_out(now_us)
        oldest = self._store.oldest((State.NEW, State.LOGGED), frozenset(Lane), 1)
        self._oldest_age_us = max(0, now_us - oldest[0].sealed_at_us) if oldest else 0
        return Settled(renewed=renewed, let_go=let_go)

    def commit(self) -> None:
        self._store.commit()
        self._safe = self._sealer, self._forked, self._counts.copy()

    def rollback(self) -> None:
        """As at the last commit, the sealer included."""
        self._restore_safe()
        self._store.rollback()

    def move(self, store: Store) -> None:
        """Go on with what was salvaged from a broken file into this one.

        A transaction whose commit failed may be in it after all: nobody was told of it, and it is
        written again, so its frames go.
        """
        self._restore_safe()
        self._store = store
        for holding in store.holdings():
            stream = holding.stream
            known = self._sealer.count(stream.lane).seq
            if stream.epoch == self._sealer.epoch and holding.head > known:
                while doubted := store.unsent(stream, known + 1, _PAGE, ()):
                    store.remove(doubted)

    def _restore_safe(self) -> None:
        self._sealer, self._forked, counts = self._safe
        self._counts = counts.copy()

    def _moment(self, now_us: int, lane: Lane) -> Moment:
        holdings = self.holdings
        floors = {one.stream.lane: one.floor for one in holdings if one.stream.epoch == self.epoch}
        # What is forked comes again later, with its old times: until then nothing is promised.
        promise = not any(
            one.stream.epoch in self._forked and one.waiting_frames for one in holdings
        )
        return Moment(now_us, floors, lane, promise)

    def _append(self, sealed: Sealed, now_us: int) -> None:
        self._store.append(sealed.frames, now_us)
        self._sealer = sealed.sealer
        for frame in sealed.frames:
            self._counts["frames_sealed"] += 1
            self._counts["rows_sealed"] += frame.header.rows
            self._counts["payload_bytes_sealed"] += len(frame.payload)
        for one in sealed.unsealable:
            key = Key(self.epoch, one.lane, 0)
            self._store.set_aside(key, 0, one.raw, f"too large: {one.what}", now_us)
            self._counts["unsealable"] += 1
            self._bound_aside()

    def _say(self, kind: Kind, notices: Sequence[Stretch], now_us: int) -> None:
        if notices:
            moment = self._moment(now_us, Lane.BACKLOG)
            self._append(seal_notices(self._sealer, kind, notices, moment), now_us)

    def _make_room(self, now_us: int) -> int:
        """Notices written; 0: nothing had to be said."""
        short = self.used_bytes + self._limits.bytes_headroom - self._limits.bytes_usable
        if short <= 0:
            return 0
        return self._let_go(short + self._limits.bytes_bite, now_us) or 0

    def _let_go(self, size: int, now_us: int) -> int | None:
        """Entries worth this many bytes, in the order of the policy; None: there were none."""
        notices: int | None = None
        for step in STEPS:
            while size > 0:
                found = self._store.oldest((step.state,), step.lanes, _PAGE)
                if not found:
                    break
                entries = enough(found, size)
                notices = (notices or 0) + self._release(step, entries, _FULL, now_us)
                size -= sum(entry.size for entry in entries)
        return notices

    def _release(self, step: Step, entries: Sequence[Entry], reason: str, now_us: int) -> int:
        self._store.remove(entries)
        rows = sum(entry.rows for entry in entries)
        if step.said is Kind.RELEASE:
            self._count_gone("released", entries, rows)
            said: Sequence[Stretch] = releases(entries, reason)
        elif step.said is Kind.DROP:
            self._count_gone("dropped", entries, rows)
            said = drops(entries, reason)
        else:
            self._counts["frames_freed"] += len(entries)
            return 0
        self._say(step.said, said, now_us)
        return len(said)

    def _count_gone(self, how: str, entries: Sequence[Entry], rows: int) -> None:
        self._counts[f"frames_{how}"] += len(entries)
        self._counts[f"rows_{how}"] += rows

    def _age_out(self, now_us: int) -> bool:
        before_us = now_us - self._limits.age_max_us
        gone = False
        for step in (Step(State.LOGGED, SAMPLE_LANES, Kind.RELEASE), *_NEW_SAMPLES):
            while old := [
                entry
                for entry in self._store.oldest((step.state,), step.lanes, _PAGE)
                if entry.sealed_at_us < before_us
            ]:
                self._release(step, old, _OLD, now_us)
                gone = True
        return gone

    def _whole(self, entry: Entry) -> Frame | None:
        sealed = self._store.sealed(entry)
        frame = None if sealed is None else whole(sealed)
        if frame is None or entry_of(frame, entry.state, 0).key != entry.key:
            return None
        return frame if frame.header.digest == entry.digest else None

    def _taken(
        self,
        frames: Sequence[Frame],
        next_seq: int,
        damaged: Sequence[Entry],
        now_us: int,
        *,
        blocked: bool = False,
    ) -> Taken:
        if damaged:
            next_seq = min(next_seq, damaged[0].key.seq)
            self._repair(damaged, now_us)
        return Taken(tuple(frames), next_seq, blocked and not damaged, bool(damaged))

    def _repair(self, damaged: Sequence[Entry], now_us: int) -> None:
        """Set damaged entries aside, adopt whole bodies that lost their row, name what is lost."""
        for entry in damaged:
            self._store.set_aside(
                entry.key, entry.digest, self._store.sealed(entry) or b"", _DAMAGED, now_us
            )
        self._store.remove(damaged)
        for stream in {entry.key.stream for entry in damaged}:
            for frame in filter(None, map(whole, self._store.orphans(stream))):
                found = entry_of(frame, State.NEW, now_us)
                if found.key.stream == stream and self._store.find(found.key) is None:
                    self._store.restore(found, frame.sealed)
        lost = [entry for entry in damaged if self._store.find(entry.key) is None]
        self._count_gone(_DAMAGED, lost, sum(entry.rows for entry in lost))
        self._bound_aside()
        self._say(Kind.DROP, drops(lost, _DAMAGED), now_us)

    def _compare(self, receipt: Receipt, now_us: int) -> bool:
        """True: the receipt's store or log is another than before, and entries are renewed."""
        if all(run.kind is Said.LOGGED for run in receipt.runs) and receipt.runs:
            return False  # a gateway knows neither
        renew: set[State] = set()
        if receipt.store_id and self._changed(_STORE_ID, receipt.store_id):
            renew |= {State.LOGGED, State.STORED}
            self._counts["store_changes"] += 1
        if receipt.log_gen is not None and self._changed(_LOG_GEN, str(receipt.log_gen)):
            renew |= {State.LOGGED}
            self._counts["log_changes"] += 1
        if not renew:
            return False
        self._store.renew(renew, now_us)
        return True

    def _changed(self, name: str, value: str) -> bool:
        before = self._store.note(name)
        if before != value:
            self._store.set_note(name, value)
        return before not in (None, value)

    def _named(self, run: Run) -> list[Entry]:
        """Entries that the run names by their own digest."""
        if run.lane not in _LANES:
            return []
        found = []
        for seq, digest in enumerate(run.digests, run.first):
            entry = self._store.find(Key(run.epoch, Lane(run.lane), seq))
            if entry is not None and entry.digest == digest:
                found.append(entry)
            else:
                self._counts["receipts_ignored"] += 1
        return found

    def _mark(
        self, entries: Iterable[Entry], states: Collection[State], state: State, now_us: int
    ) -> None:
        self._store.mark([entry for entry in entries if entry.state in states], state, now_us)

    def _quarantine(self, entries: Sequence[Entry], why: str, now_us: int) -> None:
        for entry in entries:
            sealed = self._store.sealed(entry) or b""
            self._store.set_aside(entry.key, entry.digest, sealed, why, now_us)
        self._store.remove(entries)
        self._counts["rows_rejected"] += sum(entry.rows for entry in entries)
        self._bound_aside()

    def _append_again(self, entries: Sequence[Entry], now_us: int) -> bool:
        found = [(entry, self._whole(entry)) for entry in entries]
        if damaged := [entry for entry, frame in found if frame is None]:
            self._repair(damaged, now_us)
        frames = [frame for _, frame in found if frame is not None]
        entries = [entry for entry, frame in found if frame is not None]
        if not frames:
            return False
        epochs = {entry.key.epoch for entry in entries}
        if self.epoch in epochs or self._sealer.watermark_us > min(
            entry.t_min_us for entry in entries
        ):
            self._sealer = fork(self._sealer, self._draw_epoch())
        first_time = not epochs <= self._forked
        self._forked |= epochs
        self._append(seal_again(self._sealer, frames, self._moment(now_us, Lane.BACKLOG)), now_us)
        self._store.remove(entries)
        return first_time

    def _bound_aside(self) -> None:
        """The quarantine keeps the newest; the bytes of older ones go, counted."""
        excess = self._store.aside_bytes - self._limits.aside_bytes_max
        if excess <= 0:
            return
        gone: list[int] = []
        for one in self._store.aside():
            if excess <= 0:
                break
            gone.append(one.number)
            excess -= len(one.sealed)
        self._store.forget_aside(gone)
        self._counts["quarantine_forgotten"] += len(gone)


_NEW_SAMPLES: Final = tuple(step for step in STEPS if step.said is Kind.DROP)
