"""Saving what is whole from a damaged spool file into a new one.

Rule 1: a body that is whole says itself who it is: entries are built from bodies, rows only help.
Rule 2: an entry of which only the row is left is named as lost. One of which nothing is left cannot
be named: it stays missing, which is what it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.database import Row, Wreck
from edge.entries import Broken, Entry, NoSpace, State, Stream, entry_of, whole
from edge.spool_file import (
    ENTRIES,
    SEQ_BITS,
    SpoolFile,
    entry_from,
    set_aside_from,
    states_from,
    stream_from,
)

_BATCH_BYTES: Final = 32 * 1024 * 1024
_ASIDE: Final = "SELECT id, at, why, epoch, lane, seq, digest, sealed FROM aside ORDER BY id"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """`saved`: whole entries in the new file. `lost`: entries of which only the row is left.

    `complete`: False when the new file could not take everything; the old one still has the rest.
    """

    saved: int = 0
    lost: tuple[Entry, ...] = ()
    complete: bool = True


def salvage(damaged: Path, into: SpoolFile, now_us: int) -> Salvaged:
    """Copy what is whole and commit it. Broken: the new file is no better."""
    try:
        old = Wreck(damaged)
    except Broken:  # not even its first page can be read
        return Salvaged()
    try:
        return _Rescue(old, into, now_us).run()
    finally:
        old.close()


class _Rescue:
    def __init__(self, old: Wreck, into: SpoolFile, now_us: int) -> None:
        self._old = old
        self._into = into
        self._now_us = now_us
        self._saved = 0
        self._bytes = 0

    def run(self) -> Salvaged:
        entries = self._entries()
        try:
            self._rest()
            for number, sealed in self._bodies(entries):
                self._save(sealed, entries.get(number))
            self._into.commit()
        except NoSpace:
            self._into.rollback()
            return Salvaged(self._saved, (), complete=False)
        lost = (
            entry
            for entry in entries.values()
            if entry.state is not State.STORED and self._into.find(entry.key) is None
        )
        return Salvaged(self._saved, tuple(lost))

    def _entries(self) -> Mapping[int, Entry]:
        streams: dict[int, Stream] = {}
        for number, epoch, lane, _ in self._every("SELECT * FROM stream ORDER BY id"):
            try:
                streams[number] = stream_from(epoch, lane)
            except Broken:
                continue
        found: dict[int, Entry] = {}
        for row in self._every(f"{ENTRIES} ORDER BY id"):
            stream = streams.get(row[0] >> SEQ_BITS) if isinstance(row[0], int) else None
            try:
                if stream is not None:
                    found[row[0]] = entry_from(row, stream)
            except Broken:
                continue
        return found

    def _bodies(self, entries: Mapping[int, Entry]) -> Iterator[Row]:
        """In both directions up to the damage, then one by one across it."""
        seen: set[int] = set()
        for row in self._every("SELECT id, sealed FROM body ORDER BY id"):
            seen.add(row[0])
            yield row
        for number in entries.keys() - seen:
            try:
                found = self._old.rows("SELECT id, sealed FROM body WHERE id = ?", (number,))
            except Broken:
                continue
            yield from found

    def _save(self, sealed: object, row: Entry | None) -> None:
        frame = whole(sealed)
        if frame is None:
            return
        entry = entry_of(frame, State.NEW, self._now_us)
        if self._into.find(entry.key) is not None:
            return
        if row is not None and (row.key, row.digest) == (entry.key, entry.digest):
            entry = row
        self._into.restore(entry, frame.sealed)
        self._saved += 1
        self._bytes += entry.size
        if self._bytes >= _BATCH_BYTES:
            self._into.commit()
            self._bytes = 0

    def _rest(self) -> None:
        notes = {
            str(name): str(value)
            for name, value in self._every("SELECT name, value FROM note ORDER BY name")
        }
        for name, value in notes.items():
            self._into.set_note(name, value)
        self._into.keep_states(
            states_from(self._every("SELECT name, value, digest FROM state ORDER BY name"))
        )
        for row in self._every(_ASIDE):
            try:
                one = set_aside_from(row)
            except (Broken, TypeError):
                continue
            self._into.set_aside(one.key, one.digest, one.sealed, one.why, one.at_us)

    def _every(self, ascending: str) -> Iterator[Row]:
        """Rows up to the damage from the front, then up to it from the back; none twice."""
        seen: set[object] = set()
        for statement in (ascending, f"{ascending} DESC"):
            try:
                for row in self._old.each(statement):
                    if row[0] in seen:
                        return
                    yield row
                    seen.add(row[0])
            except Broken:
                continue
            return
