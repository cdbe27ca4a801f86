"""The spool's tables in one file: a Store on disk.

Rule 1: an entry's id is `stream << 40 | seq`: appending stays at the end, no second index.
Rule 2: the body repeats who it is, sealed; where a row and its body differ, the body is right.
Rule 3: a row that cannot be what was written is Broken; the salvage builds it again from bodies.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from edge.cut import Recovered
from edge.database import LOG_BYTES_MAX, Database, Row
from edge.entries import (
    Broken,
    Entry,
    Holding,
    Key,
    SetAside,
    State,
    Stream,
    Tally,
    entry_of,
)
from edge.tallies import Tallies
from protocols.frames import Frame, Kind, Lane, digest

FORMAT: Final = 1
APPLICATION_ID: Final = 0x544C5350  # "TLSP"
STREAMS_REMEMBERED: Final = 256  # of those that hold nothing: their heads are told in `hello`
SEQ_BITS: Final = 40
_SEQ_MASK: Final = (1 << SEQ_BITS) - 1
_WATERMARK: Final = "watermark_us"
_TABLES: Final = """
CREATE TABLE stream (id INTEGER PRIMARY KEY, epoch INTEGER, lane INTEGER, head INTEGER);
CREATE TABLE entry (id INTEGER PRIMARY KEY, state INTEGER, kind INTEGER, digest INTEGER,
  rows INTEGER, size INTEGER, sealed_at INTEGER, t_min INTEGER, t_max INTEGER, since INTEGER);
CREATE INDEX entry_state ON entry (state, sealed_at);
CREATE TABLE body (id INTEGER PRIMARY KEY, sealed BLOB);
CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB, digest INTEGER);
CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE aside (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER, why TEXT, epoch INTEGER,
  lane INTEGER, seq INTEGER, digest INTEGER, sealed BLOB);
"""
ENTRIES: Final = (
    "SELECT id, state, kind, digest, rows, size, sealed_at, t_min, t_max, since FROM entry"
)
SALVAGED_NOTE: Final = "salvaged_from"
_FIELDS: Final = 10
_FEW: Final = 4096
_STATES: Final = frozenset(int(state) for state in State)
_KINDS: Final = frozenset(int(kind) for kind in Kind)
_LANES: Final = frozenset(int(lane) for lane in Lane)


class SpoolFile:
    """A Store in the file `path`. Opening: see Database."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, tables=_TABLES, application=APPLICATION_ID, version=FORMAT)
        self._strange = False  # there is a state that nobody wrote: the index does not find it
        try:
            self._load()
        except BaseException:
            self._db.close()
            raise

    @property
    def database(self) -> Database:
        return self._db

    def append(self, frames: Sequence[Frame], now_us: int) -> None:
        for frame in frames:
            self.restore(entry_of(frame, State.NEW, now_us), frame.sealed)

    def restore(self, entry: Entry, sealed: bytes) -> None:
        number = self._number(entry.key)
        values = (
            number,
            entry.state,
            entry.kind,
            _signed(entry.digest),
            entry.rows,
            entry.size,
            entry.sealed_at_us,
            entry.t_min_us,
            entry.t_max_us,
            entry.since_us,
        )
        self._db.change("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._db.change("INSERT OR REPLACE INTO body VALUES (?, ?)", (number, sealed))
        self._tallies.add(entry)

    def keep(self, state: Mapping[str, bytes], watermark_us: int) -> None:
        self.keep_states(state)
        self.set_note(_WATERMARK, str(watermark_us))

    def keep_states(self, state: Mapping[str, bytes]) -> None:
        for name, value in state.items():
            stamp = digest(value)
            if self._kept.get(name) != stamp:
                self._db.change(
                    "INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (name, value, _signed(stamp))
                )
                self._kept[name] = stamp
        for name in self._kept.keys() - state.keys():
            self._db.change("DELETE FROM state WHERE name = ?", (name,))
            del self._kept[name]

    def recovered(self) -> Recovered:
        """A state that is not what was written is left out: its owner starts afresh."""
        state = states_from(self._db.rows("SELECT name, value, digest FROM state"))
        stated = self.note(_WATERMARK) or ""
        plain = stated.removeprefix("-").isdecimal()
        had_spool = not self._db.fresh or self.note(SALVAGED_NOTE) is not None
        return Recovered(int(stated) if plain else None, state, had_spool)

    def holdings(self) -> tuple[Holding, ...]:
        return self._tallies.holdings()

    def find(self, key: Key) -> Entry | None:
        if key.stream not in self._numbers:
            return None
        found = self._entries("WHERE id = ?", (self._number(key),))
        return found[0] if found else None

    def sealed(self, entry: Entry) -> bytes | None:
        row = self._db.row("SELECT sealed FROM body WHERE id = ?", (self._number(entry.key),))
        return row[0] if row and isinstance(row[0], bytes) else None

    def unsent(
        self, stream: Stream, from_seq: int, frames_max: int, skip: Collection[int]
    ) -> Sequence[Entry]:
        if stream not in self._numbers:
            return ()
        low = self._numbers[stream] << SEQ_BITS
        # Few new ones stand far behind many kept: by state. Many new ones: in their order.
        few = sum(one.of(State.NEW).frames for one in self.holdings()) <= _FEW
        found = self._entries(
            f"WHERE {'state' if few else '+state'} = ? AND id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (State.NEW, low + from_seq, low + _SEQ_MASK, frames_max + len(skip)),
        )
        return [entry for entry in found if entry.key.seq not in skip][:frames_max]

    def oldest(
        self, states: Collection[State], lanes: Collection[Lane], frames_max: int
    ) -> Sequence[Entry]:
        streams = [number for stream, number in self._numbers.items() if stream.lane in lanes]
        return self._entries(
            "WHERE state IN (SELECT value FROM json_each(?))"
            " AND id >> 40 IN (SELECT value FROM json_each(?)) ORDER BY sealed_at, id LIMIT ?",
            (_listed(states), _listed(streams), frames_max),
        )

    def turned(self, state: State, before_us: int, frames_max: int) -> Sequence[Entry]:
        return self._entries(  # nothing comes into a state before it was sealed
            "WHERE state = ? AND sealed_at < ? AND since < ? ORDER BY sealed_at LIMIT ?",
            (state, before_us, before_us, frames_max),
        )

    def passed(
        self, stream: Stream, up_to_seq: int, before_us: int, frames_max: int
    ) -> Sequence[Entry]:
        if stream not in self._numbers:
            return ()
        low = self._numbers[stream] << SEQ_BITS
        return self._entries(  # by state: what is logged is little beside what is kept stored
            "WHERE state = ? AND +id BETWEEN ? AND ? AND since < ? ORDER BY id LIMIT ?",
            (State.LOGGED, low, low + min(up_to_seq, _SEQ_MASK), before_us, frames_max),
        )

    def mark(self, entries: Iterable[Entry], state: State, now_us: int) -> None:
        for entry in entries:
            self._db.change(
                "UPDATE entry SET state = ?, since = ? WHERE id = ?",
                (state, now_us, self._number(entry.key)),
            )
            self._tallies.mark(entry, state)

    def renew(self, states: Collection[State], now_us: int) -> int:
        changed = self._db.change(
            "UPDATE entry SET state = ?, since = ? WHERE state IN (SELECT value FROM json_each(?))",
            (State.NEW, now_us, _listed(states)),
        )
        self._load()
        return changed

    def remove(self, entries: Iterable[Entry]) -> None:
        touched: set[Stream] = set()
        for entry in entries:
            number = self._number(entry.key)
            self._db.change("DELETE FROM entry WHERE id = ?", (number,))
            self._db.change("DELETE FROM body WHERE id = ?", (number,))
            self._tallies.remove(entry)
            touched.add(entry.key.stream)
        for stream in touched:
            self._lower_bound(stream)

    def set_aside(self, key: Key, digest: int, sealed: bytes, why: str, now_us: int) -> None:
        values = (now_us, why, _signed(key.epoch), key.lane, key.seq, _signed(digest), sealed)
        self._db.change(
            "INSERT INTO aside (at, why, epoch, lane, seq, digest, sealed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        self._aside_bytes += len(sealed)

    def aside(self) -> Sequence[SetAside]:
        rows = self._db.rows(
            "SELECT id, at, why, epoch, lane, seq, digest, sealed FROM aside ORDER BY id"
        )
        return [set_aside_from(row) for row in rows]

    def forget_aside(self, numbers: Collection[int]) -> None:
        self._db.change(
            "DELETE FROM aside WHERE id IN (SELECT value FROM json_each(?))", (_listed(numbers),)
        )
        self._aside_bytes = self._count_aside()

    def orphans(self, stream: Stream) -> Sequence[bytes]:
        low = self._numbers[stream] << SEQ_BITS
        rows = self._db.rows(
            "SELECT sealed FROM body WHERE id BETWEEN ? AND ?"
            " AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.id = body.id) ORDER BY id",
            (low, low + _SEQ_MASK),
        )
        return [row[0] for row in rows if isinstance(row[0], bytes)]

    def note(self, name: str) -> str | None:
        row = self._db.row("SELECT value FROM note WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def set_note(self, name: str, value: str) -> None:
        self._db.change("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    @property
    def aside_bytes(self) -> int:
        return self._aside_bytes

    @property
    def bytes_on_disk(self) -> int:
        return self._db.bytes_on_disk

    @property
    def bytes_written(self) -> int:
        return self._db.bytes_written

    def commit(self) -> None:
        self._db.commit()

    def rollback(self) -> None:
        self._db.rollback()
        self._load()

    def settle(self) -> None:
        self._forget_streams()
        if self._strange:
            self._db.change(
                "UPDATE entry SET state = ? WHERE state NOT IN (?, ?, ?)", (State.NEW, *State)
            )
            self._db.commit()
            self._strange = False
        self._db.checkpoint(least_bytes=LOG_BYTES_MAX)

    def confine(self, more_bytes: int) -> None:
        self._db.confine(more_bytes)

    def expand(self) -> None:
        self._db.expand()

    def close(self) -> None:
        self._db.close()

    def _load(self) -> None:
        """Count everything afresh: at opening, and after what was not counted one by one."""
        self._tallies = Tallies()
        self._numbers: dict[Stream, int] = {}
        self._streams: dict[int, Stream] = {}
        for number, epoch, lane, head in self._db.rows("SELECT * FROM stream ORDER BY id"):
            stream = stream_from(epoch, lane)
            self._numbers[stream], self._streams[number] = number, stream
            self._tallies.open(stream, int(head))
        for number, state, frames, rows, size, low, high in self._db.rows(
            "SELECT id >> 40, state, COUNT(*), TOTAL(rows), TOTAL(size), MIN(id), MAX(id)"
            " FROM entry GROUP BY id >> 40, state"
        ):
            stream = self._stream(number)
            self._strange |= state not in _STATES
            self._tallies.open(stream, high & _SEQ_MASK)
            self._tallies.count(stream, state_from(state), Tally(frames, int(rows), int(size)))
            self._tallies.lower_floor(stream, low & _SEQ_MASK)
        self._kept = {
            str(name): _unsigned(stamp)
            for name, stamp in self._db.rows("SELECT name, digest FROM state")
        }
        self._aside_bytes = self._count_aside()

    def _forget_streams(self) -> None:
        empty = [holding.stream for holding in self._tallies.holdings() if not holding.tallies]
        if len(empty) < 2 * STREAMS_REMEMBERED:
            return
        for stream in empty[:-STREAMS_REMEMBERED]:
            self._db.change("DELETE FROM stream WHERE id = ?", (self._numbers[stream],))
            del self._streams[self._numbers.pop(stream)]
            self._tallies.forget(stream)
        self._db.commit()

    def _lower_bound(self, stream: Stream) -> None:
        """After entries of a stream went: its lowest seq, and its head while that is known."""
        number = self._numbers[stream]
        low = number << SEQ_BITS
        row = self._db.row(
            "SELECT MIN(id) FROM entry WHERE id BETWEEN ? AND ?", (low, low + _SEQ_MASK)
        )
        floor = None if row is None or row[0] is None else row[0] & _SEQ_MASK
        self._tallies.set_floor(stream, floor)
        self._db.change(
            "UPDATE stream SET head = ? WHERE id = ?", (self._tallies.head(stream), number)
        )

    def _number(self, key: Key) -> int:
        if key.stream not in self._numbers:
            number = max(self._streams, default=0) + 1
            self._db.change(
                "INSERT INTO stream VALUES (?, ?, ?, 0)", (number, _signed(key.epoch), key.lane)
            )
            self._numbers[key.stream], self._streams[number] = number, key.stream
            self._tallies.open(key.stream)
        return self._numbers[key.stream] << SEQ_BITS | key.seq

    def _stream(self, number: int) -> Stream:
        found = self._streams.get(number)
        if found is None:
            raise Broken(f"{self._db.path}: entries of an unknown stream {number}")
        return found

    def _entries(self, where: str, values: Sequence[object]) -> list[Entry]:
        rows = self._db.rows(f"{ENTRIES} {where}", values)
        return [entry_from(row, self._stream(row[0] >> SEQ_BITS)) for row in rows]

    def _count_aside(self) -> int:
        row = self._db.row("SELECT TOTAL(LENGTH(sealed)) FROM aside")
        return int(row[0]) if row else 0


def entry_from(row: Row, stream: Stream) -> Entry:
    """Broken: the row holds what was never written."""
    if len(row) != _FIELDS or not all(isinstance(value, int) for value in row):
        raise Broken(f"entry {row[0]} of {stream} holds what was never written")
    number, state, kind, stamp, rows, size, sealed_at, t_min, t_max, since = row
    if kind not in _KINDS or rows < 0 or size < 0:
        raise Broken(f"entry {number} of {stream} has kind {kind}, {rows} rows, {size} bytes")
    return Entry(
        Key(stream.epoch, stream.lane, number & _SEQ_MASK),
        state_from(state),
        Kind(kind),
        _unsigned(stamp),
        rows,
        size,
        sealed_at,
        t_min,
        t_max,
        since,
    )


def state_from(code: object) -> State:
    """A code that nobody wrote is a damaged one: sent again, such an entry is at worst a repeat."""
    return next((state for state in State if state == code), State.NEW)


def stream_from(epoch: object, lane: object) -> Stream:
    if isinstance(epoch, int) and isinstance(lane, int) and lane in _LANES:
        return Stream(_unsigned(epoch), Lane(lane))
    raise Broken(f"stream of epoch {epoch!r} and lane {lane!r}")


def states_from(rows: Iterable[Row]) -> dict[str, bytes]:
    """Those that are what was written; the owner of another one starts afresh."""
    return {
        str(name): value
        for name, value, stamp in rows
        if isinstance(value, bytes) and _signed(digest(value)) == stamp
    }


def set_aside_from(row: Row) -> SetAside:
    number, at_us, why, epoch, lane, seq, stamp, sealed = row
    key = Key(*stream_from(epoch, lane), seq)
    return SetAside(number, at_us, str(why), key, _unsigned(stamp), bytes(sealed))


def _listed(numbers: Collection[int]) -> str:
    return json.dumps([int(number) for number in numbers])


def _signed(number: int) -> int:
    """SQLite's integers are signed; our identities are not."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _unsigned(number: int) -> int:
    return number & ((1 << 64) - 1)
