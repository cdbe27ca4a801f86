"""A spool's Store in memory: the file's contract without a file, for tests that need no disk.

`room_bytes`: a disk that ends; `broken`: every call fails until somebody opens another one.
"""

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge.cut import Recovered
from edge.entries import Broken, Entry, Holding, Key, NoSpace, SetAside, State, Stream, entry_of
from edge.tallies import Tallies
from protocols.frames import Frame, Lane


@dataclass
class _Kept:
    """Everything that a commit keeps and a rollback brings back."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    bodies: dict[Key, bytes] = field(default_factory=dict)
    heads: dict[Stream, int] = field(default_factory=dict)
    state: dict[str, bytes] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    watermark_us: int | None = None
    aside: list[SetAside] = field(default_factory=list)
    number: int = 0

    def copy(self) -> "_Kept":
        """What is kept never changes itself, so its containers are enough."""
        shallow = {name: copy.copy(value) for name, value in vars(self).items()}
        return _Kept(**shallow)


class MemoryStore:
    def __init__(self) -> None:
        self.room_bytes: int | None = None
        self.broken = False
        self.commits = 0
        self._now = _Kept()
        self._safe = _Kept()
        self._written = 0
        self._holdings: tuple[Holding, ...] | None = None

    def append(self, frames: Sequence[Frame], now_us: int) -> None:
        for frame in frames:
            self.restore(entry_of(frame, State.NEW, now_us), frame.sealed)

    def restore(self, entry: Entry, sealed: bytes) -> None:
        self._check(len(sealed))
        assert entry.key not in self._now.entries, "a key is given once"
        self._now.entries[entry.key] = entry
        self._holdings = None
        self._now.bodies[entry.key] = sealed
        head = self._now.heads.get(entry.key.stream, 0)
        self._now.heads[entry.key.stream] = max(head, entry.key.seq)
        self._written += len(sealed)

    def keep(self, state: Mapping[str, bytes], watermark_us: int) -> None:
        self._check()
        self._now.state = dict(state)
        self._now.watermark_us = watermark_us

    def recovered(self) -> Recovered:
        now = self._now
        return Recovered(now.watermark_us, dict(now.state), had_spool=self.commits > 0)

    def holdings(self) -> tuple[Holding, ...]:
        if self._holdings is None:
            self._holdings = self._count()
        return self._holdings

    def _count(self) -> tuple[Holding, ...]:
        tallies = Tallies()
        for stream, head in self._now.heads.items():
            tallies.open(stream, head)
        for entry in self._now.entries.values():
            tallies.add(entry)
        return tallies.holdings()

    def find(self, key: Key) -> Entry | None:
        self._check()
        return self._now.entries.get(key)

    def sealed(self, entry: Entry) -> bytes | None:
        self._check()
        return self._now.bodies.get(entry.key)

    def unsent(
        self, stream: Stream, from_seq: int, frames_max: int, skip: Collection[int]
    ) -> Sequence[Entry]:
        self._check()
        found = [
            entry
            for key, entry in sorted(self._now.entries.items())
            if key.stream == stream
            and key.seq >= from_seq
            and key.seq not in skip
            and entry.state is State.NEW
        ]
        return found[:frames_max]

    def oldest(
        self, states: Collection[State], lanes: Collection[Lane], frames_max: int
    ) -> Sequence[Entry]:
        self._check()
        found = [
            entry
            for entry in self._now.entries.values()
            if entry.state in states and entry.key.lane in lanes
        ]
        return sorted(found, key=lambda one: one.sealed_at_us)[:frames_max]

    def turned(self, state: State, before_us: int, frames_max: int) -> Sequence[Entry]:
        self._check()
        found = [
            entry
            for entry in self._now.entries.values()
            if entry.state is state and entry.since_us < before_us
        ]
        return sorted(found, key=lambda one: one.sealed_at_us)[:frames_max]

    def passed(
        self, stream: Stream, up_to_seq: int, before_us: int, frames_max: int
    ) -> Sequence[Entry]:
        self._check()
        found = [
            entry
            for key, entry in sorted(self._now.entries.items())
            if key.stream == stream
            and key.seq <= up_to_seq
            and entry.state is State.LOGGED
            and entry.since_us < before_us
        ]
        return found[:frames_max]

    def mark(self, entries: Iterable[Entry], state: State, now_us: int) -> None:
        self._check()
        for entry in entries:
            self._now.entries[entry.key] = replace(entry, state=state, since_us=now_us)
            self._holdings = None

    def renew(self, states: Collection[State], now_us: int) -> int:
        old = [entry for entry in self._now.entries.values() if entry.state in states]
        self.mark(old, State.NEW, now_us)
        return len(old)

    def remove(self, entries: Iterable[Entry]) -> None:
        self._check()
        for entry in entries:
            del self._now.entries[entry.key]
            self._holdings = None
            self._now.bodies.pop(entry.key, None)

    def set_aside(self, key: Key, digest: int, sealed: bytes, why: str, now_us: int) -> None:
        self._check(len(sealed))
        self._now.number += 1
        self._now.aside.append(SetAside(self._now.number, now_us, why, key, digest, sealed))

    def aside(self) -> Sequence[SetAside]:
        return tuple(self._now.aside)

    def forget_aside(self, numbers: Collection[int]) -> None:
        self._now.aside = [one for one in self._now.aside if one.number not in numbers]

    def orphans(self, stream: Stream) -> Sequence[bytes]:
        return [
            sealed
            for key, sealed in sorted(self._now.bodies.items())
            if key.stream == stream and key not in self._now.entries
        ]

    def note(self, name: str) -> str | None:
        self._check()
        return self._now.notes.get(name)

    def set_note(self, name: str, value: str) -> None:
        self._check()
        self._now.notes[name] = value

    @property
    def aside_bytes(self) -> int:
        return sum(len(one.sealed) for one in self._now.aside)

    @property
    def bytes_on_disk(self) -> int:
        return sum(len(sealed) for sealed in self._now.bodies.values()) + self.aside_bytes

    @property
    def bytes_written(self) -> int:
        return self._written

    def commit(self) -> None:
        self._check()
        self.commits += 1
        self._safe = self._now.copy()

    def rollback(self) -> None:
        self._check()
        self._now = self._safe.copy()
        self._holdings = None

    def settle(self) -> None:
        self._check()

    def confine(self, more_bytes: int) -> None:
        self._check(more_bytes)

    def expand(self) -> None:
        self._check()

    def close(self) -> None:
        """Nothing is held."""

    def crash(self) -> "MemoryStore":
        """What a process that starts afterwards finds."""
        found = MemoryStore()
        found._now, found._safe = self._safe.copy(), self._safe
        found.commits = self.commits
        return found

    def damage(self, key: Key, sealed: bytes | None) -> None:
        """Put other bytes (None: none) where a frame's were."""
        for kept in (self._now, self._safe):
            if sealed is None:
                del kept.bodies[key]
            else:
                kept.bodies[key] = sealed

    def _check(self, more: int = 0) -> None:
        if self.broken:
            raise Broken("input/output error")
        if more and self.room_bytes is not None and self.bytes_on_disk + more > self.room_bytes:
            raise NoSpace("no space left on device")
