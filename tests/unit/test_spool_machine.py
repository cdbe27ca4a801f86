"""The spool against any order of cuts, receipts, limits, damage and crashes.

Whatever happens: an entry that a commit kept is in the spool, or a receipt with its own digest let
it go, or a notice or the quarantine names it. Nothing freed comes back, no number is given twice.
"""

from collections.abc import Callable, Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from edge.entries import Key, State, Unheld, whole
from edge.retention import Limits
from edge.spool import Spool
from protocols import codec
from protocols.frames import Frame, Kind, Lane
from protocols.notices import Drop, Release, Stretch, decode_notice
from protocols.receipts import Receipt, Run, Said
from tests.support import cuts
from tests.support.memory_store import MemoryStore

LIMITS = Limits(
    bytes_max=48 * 1024,
    age_max_us=400_000_000,
    keep_stored_us=50_000_000,
    logged_expires_us=90_000_000,
)
NOTICES: dict[Kind, type[Stretch]] = {Kind.DROP: Drop, Kind.RELEASE: Release}
SAID = (Said.LOGGED, Said.STORED, Said.REJECTED, Said.FORKED, Said.LATER)


class SpoolMachine(RuleBasedStateMachine):
    """`appended`: every frame that a commit kept, by key. `allowed`: why a key may be gone."""

    frames = Bundle("frames")

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.now_us = cuts.START_US
        self.number = 0
        self.epochs = 0
        self.appended: dict[Key, Frame] = {}
        self.allowed: dict[Key, str] = {}
        self.safe: set[Key] = set()
        self.spool = self.opened()

    def opened(self) -> Spool:
        return Spool(self.store, "plant1.a", self.draw_epoch, LIMITS)

    def draw_epoch(self) -> int:
        self.epochs += 1
        return self.epochs

    @initialize(target=frames)
    def begin(self) -> object:
        return self.write(3, 1, live=True)

    @rule(target=frames, rows=st.integers(0, 1500), events=st.integers(0, 4), live=st.booleans())
    def write(self, rows: int, events: int, *, live: bool) -> object:
        self.number += 1
        cut = cuts.cut(self.number, cuts.rows(self.number, rows), events=events)
        try:
            self.spool.write(cut, Lane.LIVE if live else Lane.BACKLOG, self.now_us)
        except Unheld:
            self.spool.rollback()
            return multiple()
        return multiple(*self.kept(self.spool.commit))

    @rule(rows=st.integers(0, 50), kill=st.booleans())
    def write_in_vain(self, rows: int, *, kill: bool) -> None:
        """A cut whose commit never came."""
        self.number += 1
        cut = cuts.cut(self.number, cuts.rows(self.number, rows), events=1)
        try:
            self.spool.write(cut, Lane.LIVE, self.now_us)
        except Unheld:
            kill = False
        if kill:
            self.crash()
        else:
            self.spool.rollback()

    @rule()
    def crash(self) -> None:
        self.store = self.store.crash()
        self.spool = self.opened()

    @rule(target=frames, named=st.lists(frames, max_size=5), said=st.sampled_from(SAID))
    def hear(self, named: list[Frame], said: Said) -> object:
        for frame in named:
            self.understand(frame, said)
        return self.settle(receipt(named, said))

    @rule(named=st.lists(frames, max_size=5), said=st.sampled_from(SAID))
    def hear_of_another(self, named: list[Frame], said: Said) -> None:
        """Same identities, other digests: changes nothing."""
        before = self.spool.holdings
        self.settle(receipt(named, said, other=1))
        assert self.spool.holdings == before

    @rule(store_id=st.sampled_from("ab"), log_gen=st.integers(1, 2))
    def hear_of_the_store(self, store_id: str, log_gen: int) -> None:
        self.settle(Receipt(agent="plant1.a", store_id=store_id, log_gen=log_gen, runs=()))

    @rule(target=frames, seconds=st.integers(1, 100))
    def time_passes(self, seconds: int) -> object:
        self.now_us += seconds * 1_000_000
        self.spool.tidy(self.now_us)
        return multiple(*self.kept(self.spool.commit))

    @rule(target=frames, frame=consumes(frames))
    def a_bit_flips(self, frame: Frame) -> object:
        key = key_of(frame)
        entry = self.store.find(key)
        if entry is not None:
            self.store.damage(key, frame.sealed[:-1])
        return self.send(frame)

    @rule(target=frames, frame=frames)
    def send(self, frame: Frame) -> object:
        """Take what is new in the frame's stream, as the uplink does."""
        stream = key_of(frame).stream
        taken = self.spool.take(
            stream, 1, frames_max=1000, bytes_max=10**9, skip=(), now_us=self.now_us
        )
        for one in taken.frames:
            assert self.appended[key_of(one)] == one, "sealed bytes never change"
        assert [one.header.seq for one in taken.frames] == sorted(
            one.header.seq for one in taken.frames
        )
        return multiple(*self.kept(self.spool.commit))

    @invariant()
    def nothing_is_lost_without_a_word(self) -> None:
        aside = {one.key for one in self.store.aside()}
        for key in self.appended.keys() - self.allowed.keys() - aside:
            assert self.store.find(key) is not None, f"{key} is gone and nobody said so"

    @invariant()
    def nothing_freed_comes_back(self) -> None:
        for key, entry in self.entries().items():
            if entry is State.STORED:
                assert key in self.safe

    @invariant()
    def its_limit_is_kept(self) -> None:
        assert self.spool.used_bytes <= LIMITS.bytes_max + 40_000, "one cut's notices beyond it"

    def entries(self) -> dict[Key, State]:
        return {
            key: entry.state for key in self.appended if (entry := self.store.find(key)) is not None
        }

    def understand(self, frame: Frame, said: Said) -> None:
        key = key_of(frame)
        if self.store.find(key) is None:
            return
        if said is Said.STORED:
            self.safe.add(key)
            self.allowed[key] = "stored"
        if said is Said.REJECTED:
            self.allowed[key] = "rejected"
        if said is Said.FORKED:
            self.allowed[key] = "forked"

    def settle(self, said: Receipt) -> object:
        forked = [
            self.appended[Key(run.epoch, Lane(run.lane), run.first)]
            for run in said.runs
            if run.kind is Said.FORKED and self.is_in(run)
        ]
        self.spool.settle(said, self.now_us)
        again = self.kept(self.spool.commit)
        payloads = sorted({frame.header.digest for frame in forked})
        assert sorted({frame.header.digest for frame in again} & set(payloads)) == payloads
        return multiple(*again)

    def is_in(self, run: Run) -> bool:
        entry = self.store.find(Key(run.epoch, Lane(run.lane), run.first))
        return entry is not None and entry.digest == run.digests[0]

    def kept(self, commit: Callable[[], None]) -> list[Frame]:
        """Commit, and look at what is there that was not there before."""
        commit()
        fresh = [
            frame
            for key, sealed in self.store._now.bodies.items()
            if key not in self.appended and (frame := whole(sealed)) is not None
        ]
        for frame in fresh:
            key = key_of(frame)
            assert key not in self.appended, "a number is given once"
            self.appended[key] = frame
            self.read_notices(frame)
        self.check_order(fresh)
        return fresh

    def check_order(self, fresh: Sequence[Frame]) -> None:
        """Within a stream numbers go on from the last one, without a hole."""
        for frame in fresh:
            seqs = [key.seq for key in self.appended if key.stream == key_of(frame).stream]
            assert sorted(seqs) == list(range(1, max(seqs) + 1))

    def read_notices(self, frame: Frame) -> None:
        kind = NOTICES.get(frame.header.kind)
        if kind is None:
            return
        for line in codec.decode_lines(codec.payload_of(frame)):
            notice = decode_notice(kind, line)
            assert notice.epoch is not None
            for seq in range(notice.from_seq or 0, (notice.to_seq or 0) + 1):
                key = Key(notice.epoch, Lane(notice.lane), seq)
                self.allowed.setdefault(key, notice.reason)
                if notice.reason != "damaged" and isinstance(notice, Drop):
                    assert key.lane in (Lane.LIVE, Lane.BACKLOG), "events are never dropped"


def receipt(frames: list[Frame], said: Said, other: int = 0) -> Receipt:
    runs = tuple(
        Run(
            epoch=frame.header.epoch,
            lane=frame.header.lane,
            kind=said,
            first=frame.header.seq,
            digests=(frame.header.digest ^ other,),
        )
        for frame in frames
    )
    return Receipt(agent="plant1.a", store_id=None, runs=runs)


def key_of(frame: Frame) -> Key:
    return Key(frame.header.epoch, frame.header.lane, frame.header.seq)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
