"""The spool's words: entry, state, stream, and the port of whatever keeps them.

Rule 1: a stream is the frames of one epoch and lane; its entries are named by their seq.
Rule 2: an entry changes state only if its own digest is the one named; who decides is the spool.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from edge.cut import Recovered
from protocols.errors import Failure, Rejected
from protocols.frames import Frame, Kind, Lane, split

ENTRY_OVERHEAD_BYTES: Final = 128  # rows, page links and half-filled pages of one entry, about


class NoSpace(Failure):
    """The disk has no room for what was asked; nothing of it was kept."""


class Broken(Failure):
    """The file cannot be trusted any more: never write to it again, salvage what it holds."""


class Unheld(Failure):
    """The spool is at its limit and holds nothing that may be let go for an event."""


class State(IntEnum):
    """What a later hop has said of an entry; `sent` is the uplink's own and never kept.

    The numbers differ in many bits, so that a flipped one never turns one state into another.
    """

    NEW = 0x1E3C5A69
    LOGGED = 0x2D69A5C3
    STORED = 0x7B96C35A


class Stream(NamedTuple):
    epoch: int
    lane: Lane


class Key(NamedTuple):
    epoch: int
    lane: Lane
    seq: int

    @property
    def stream(self) -> Stream:
        return Stream(self.epoch, self.lane)


@dataclass(frozen=True, slots=True)
class Entry:
    """One frame in the spool, payload apart. `since_us`: when it came into its state."""

    key: Key
    state: State
    kind: Kind
    digest: int
    rows: int
    size: int
    sealed_at_us: int
    t_min_us: int
    t_max_us: int
    since_us: int


def entry_of(frame: Frame, state: State, since_us: int) -> Entry:
    header = frame.header
    return Entry(
        Key(header.epoch, header.lane, header.seq),
        state,
        header.kind,
        header.digest,
        header.rows,
        size_of(frame),
        header.sealed_at,
        header.t_min,
        header.t_max,
        since_us,
    )


def size_of(frame: Frame) -> int:
    """Bytes that a frame takes from the spool's limit."""
    return len(frame.head) + len(frame.payload) + ENTRY_OVERHEAD_BYTES


def whole(sealed: object) -> Frame | None:
    """The frame of these bytes, if they are one of ours and undamaged."""
    if not isinstance(sealed, bytes):
        return None
    try:
        found = split(sealed)
    except Rejected:
        return None
    return found if isinstance(found, Frame) else None


@dataclass(frozen=True, slots=True)
class Tally:
    """Frames, rows and bytes of one state of a stream."""

    frames: int = 0
    rows: int = 0
    size: int = 0

    def plus(self, rows: int, size: int) -> "Tally":
        return Tally(self.frames + 1, self.rows + rows, self.size + size)

    def minus(self, rows: int, size: int) -> "Tally":
        return Tally(self.frames - 1, self.rows - rows, self.size - size)


NOTHING: Final = Tally()


@dataclass(frozen=True, slots=True)
class Holding:
    """What the spool holds of one stream. `floor` is `head` + 1 when it holds nothing.

    `head`: the highest seq that was ever appended.
    """

    stream: Stream
    floor: int
    head: int
    tallies: Mapping[State, Tally] = field(default_factory=dict)

    def of(self, state: State) -> Tally:
        return self.tallies.get(state, NOTHING)

    @property
    def size(self) -> int:
        return sum(tally.size for tally in self.tallies.values())

    @property
    def waiting_frames(self) -> int:
        """Not yet known as stored."""
        return self.of(State.NEW).frames + self.of(State.LOGGED).frames

    @property
    def waiting_rows(self) -> int:
        return self.of(State.NEW).rows + self.of(State.LOGGED).rows


class SetAside(NamedTuple):
    """A quarantined frame: who it was, why it is here, its bytes as far as there are any."""

    number: int
    at_us: int
    why: str
    key: Key
    digest: int
    sealed: bytes


class Store(Protocol):
    """Where a spool keeps its entries. One thread; changes last once `commit` has returned.

    NoSpace or Broken may come from every call; after either, only `rollback` or `close` follow.
    """

    def append(self, frames: Sequence[Frame], now_us: int) -> None:
        """Add as NEW, in order. A key is given once."""

    def restore(self, entry: Entry, sealed: bytes) -> None:
        """Add an entry in the state that it had elsewhere."""

    def keep(self, state: Mapping[str, bytes], watermark_us: int) -> None:
        """Replace these states and the time of the last cut."""

    def recovered(self) -> Recovered: ...

    def holdings(self) -> tuple[Holding, ...]:
        """Every stream, oldest epoch first; from memory."""

    def find(self, key: Key) -> Entry | None: ...

    def sealed(self, entry: Entry) -> bytes | None:
        """Its bytes as they are found; None: they are gone."""

    def unsent(
        self, stream: Stream, from_seq: int, frames_max: int, skip: Collection[int]
    ) -> Sequence[Entry]:
        """NEW entries in order of seq, without those of `skip`."""

    def oldest(
        self, states: Collection[State], lanes: Collection[Lane], frames_max: int
    ) -> Sequence[Entry]:
        """By time of sealing."""

    def turned(self, state: State, before_us: int, frames_max: int) -> Sequence[Entry]:
        """Entries that came into this state before a time, by time of sealing."""

    def passed(
        self, stream: Stream, up_to_seq: int, before_us: int, frames_max: int
    ) -> Sequence[Entry]:
        """LOGGED entries of a stream up to a seq that were so before a time, in order of seq."""

    def mark(self, entries: Iterable[Entry], state: State, now_us: int) -> None: ...

    def renew(self, states: Collection[State], now_us: int) -> int:
        """All entries of these states become NEW; how many."""

    def remove(self, entries: Iterable[Entry]) -> None: ...

    def set_aside(self, key: Key, digest: int, sealed: bytes, why: str, now_us: int) -> None:
        """Put bytes into quarantine; the entry itself is removed by `remove`."""

    def aside(self) -> Sequence[SetAside]:
        """The quarantine, oldest first."""

    def forget_aside(self, numbers: Collection[int]) -> None: ...

    def orphans(self, stream: Stream) -> Sequence[bytes]:
        """Sealed bytes of the stream that no entry names."""

    def note(self, name: str) -> str | None: ...

    def set_note(self, name: str, value: str) -> None: ...

    @property
    def aside_bytes(self) -> int: ...

    @property
    def bytes_on_disk(self) -> int: ...

    @property
    def bytes_written(self) -> int:
        """Since it was opened, log and file together."""

    def commit(self) -> None:
        """Return once everything since the last commit is on the disk."""

    def rollback(self) -> None: ...

    def settle(self) -> None:
        """Between transactions: whatever keeps the next commit quick."""

    def confine(self, more_bytes: int) -> None:
        """From now on take only so much more of the disk: further room is made inside."""

    def expand(self) -> None:
        """The end of `confine`."""

    def close(self) -> None:
        """Release the file; what was not committed is gone. Safe twice."""
