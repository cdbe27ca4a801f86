"""One SQLite file in WAL mode, synced at every commit: the only door to sqlite3.

Rule 1: what `commit` returned for survives a power cut; what it did not return for is gone whole.
Rule 2: one process at a time has the file (exclusive lock), so that no two agents share a spool.
Rule 3: sqlite3's failures leave as NoSpace, Broken or ConfigError, nothing else.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from edge.entries import Broken, NoSpace
from protocols.errors import ConfigError, Problem

LOG_BYTES_MAX: Final = 4 * 1024 * 1024  # then it is moved, and written over from its beginning
LOCK_S: Final = 1.0  # a process that was just killed may still hold its lock for a moment
_PAGE_BYTES: Final = 1024  # a commit rewrites half-filled pages: at 4096 three times as many bytes
_PAGES_MAX: Final = 0x7FFFFFFF  # SQLite's own limit in its older releases; 2 TiB of ours
_LOG_HEADER_BYTES: Final = 24  # of each page in the log
_IN_USE: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_REFUSED: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_PRIMARY: Final = 0xFF  # of an extended error code

Row = tuple[Any, ...]


class Wreck:
    """A damaged file, to read what can be read; every read may be Broken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _translated(path):
            self._db = sqlite3.connect(path, timeout=LOCK_S, isolation_level=None)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            # Without this SQLite refuses a file that is shorter than its first page says.
            self._db.execute("PRAGMA writable_schema = ON").fetchall()

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        with _translated(self.path):
            return self._db.execute(sql, values).fetchall()

    def each(self, sql: str) -> Iterator[Row]:
        """Row by row, as far as it goes: Broken comes where the damage is."""
        with _translated(self.path):
            yield from self._db.execute(sql)

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.close()


class Database:
    """An open file with its tables. Any thread may use it, one at a time."""

    def __init__(self, path: Path, *, tables: str, application: int, version: int) -> None:
        """Broken: not such a file, or damaged. NoSpace. ConfigError: in use, forbidden, too new."""
        self.path = path
        self._log = Path(f"{path}-wal")
        self._bytes_written = 0
        self.log_frames = 0  # that SQLite found in the log at opening
        self.fresh = fresh = _size(path) == 0
        with _opening(path):
            self._db = sqlite3.connect(
                path, timeout=LOCK_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _opening(path):
                self._set_up()
                if fresh:
                    self._create(tables, application, version)
            if not fresh:
                self._check(application, version)
                self.log_frames = self._count_log()
        except BaseException:
            self.close()
            raise

    def change(self, sql: str, values: Sequence[object] = ()) -> int:
        """One statement inside the transaction, which it begins; rows changed."""
        with _translated(self.path):
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            return self._db.execute(sql, values).rowcount

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        with _translated(self.path):
            return self._db.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        with _translated(self.path):
            found: Row | None = self._db.execute(sql, values).fetchone()
        return found

    def commit(self) -> None:
        with _translated(self.path):
            if self._db.in_transaction:
                self._db.execute("COMMIT")

    def rollback(self) -> None:
        with _translated(self.path):
            if self._db.in_transaction:  # SQLite ends it by itself after some failures
                self._db.execute("ROLLBACK")

    def checkpoint(self, least_bytes: int = 0) -> None:
        """Move the log into the file, so that it is written over from its beginning."""
        if least_bytes and _size(self._log) < least_bytes:
            return
        with _translated(self.path):
            _, logged, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._bytes_written += max(0, logged) * (_PAGE_BYTES + _LOG_HEADER_BYTES)
        self._bytes_written += max(0, moved) * _PAGE_BYTES

    @property
    def bytes_on_disk(self) -> int:
        return _size(self.path) + _size(self._log)

    @property
    def bytes_written(self) -> int:
        """Log and file together, up to the last checkpoint."""
        return self._bytes_written

    def confine(self, more_bytes: int) -> None:
        """Let the file grow no further: then a page too many fails at once and for itself.

        Else it would be taken into the log, and fail whenever that is moved into the file.
        """
        self.checkpoint()
        with _translated(self.path):
            (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        self._limit(pages + more_bytes // _PAGE_BYTES)

    def expand(self) -> None:
        self._limit(_PAGES_MAX)

    def close(self) -> None:
        """Safe twice. What was committed is on the disk already, so a failure loses nothing."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _count_log(self) -> int:
        with _translated(self.path):
            found: Row = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        _, logged, _ = found
        return max(0, int(logged))

    def _limit(self, pages: int) -> None:
        with _translated(self.path):
            self._db.execute(f"PRAGMA max_page_count = {pages:d}").fetchall()

    def _set_up(self) -> None:
        for line in (
            "locking_mode = EXCLUSIVE",  # before the first access: the log's index stays in memory
            f"page_size = {_PAGE_BYTES}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            "temp_store = MEMORY",
            "cache_size = -16384",  # KiB
            "cell_size_check = ON",
            "trusted_schema = OFF",
        ):
            self._db.execute(f"PRAGMA {line}").fetchall()

    def _create(self, tables: str, application: int, version: int) -> None:
        self._db.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {application:d};"
            f" PRAGMA user_version = {version:d}; {tables} COMMIT;"
        )
        sync_folder(self.path.parent)

    def _check(self, application: int, version: int) -> None:
        with _opening(self.path):
            self._db.execute("BEGIN IMMEDIATE").fetchall()  # takes the lock, or says who has it
            self._db.execute("COMMIT")
            (found,) = self._db.execute("PRAGMA application_id").fetchone()
            (made,) = self._db.execute("PRAGMA user_version").fetchone()
        if found != application:
            raise Broken(f"{self.path} is not a spool: application id {found:#x}")
        if made > version:
            raise _refused(self.path, f"format {made}", "made by a newer release", "install that")


def sync_folder(folder: Path) -> None:
    """A new name in a folder lasts only once the folder itself is synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _failure(path, error) from error


@contextlib.contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code in _IN_USE:
            raise _refused(path, "", "another process has it open", "stop that agent") from error
        if code in _REFUSED:
            raise _refused(path, "", str(error), "let this user read and write it") from error
        raise _failure(path, error) from error


def _failure(path: Path, error: sqlite3.Error) -> NoSpace | Broken:
    code = getattr(error, "sqlite_errorcode", 0)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code & _PRIMARY == sqlite3.SQLITE_FULL:
        return NoSpace(f"{path}: {error}")
    return Broken(f"{path}: {error} ({name})")


def _refused(path: Path, value: str, why: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(f"spool {path}", value, why, f"{remedy[0].upper()}{remedy[1:]}.")])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
