"""The folder of one agent's spool: the file in use, damaged ones kept aside, room for a bad day.

Rule 1: `current` holds the file and its log, so that one rename puts both aside at once.
Rule 2: a damaged file is never written to again; what is whole in it is copied into a new one.
Rule 3: the ballast is disk space given back when the disk is full: the spool needs some to let go.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from edge.database import sync_folder
from edge.entries import Broken, Entry, Store
from edge.salvage import Salvaged, salvage
from edge.spool_file import SALVAGED_NOTE, SpoolFile
from edge.wal import frames_of_this_round, mended
from protocols.errors import ConfigError, Problem

BALLAST_BYTES: Final = 8 * 1024 * 1024  # half for the log, half for the file to grow
DAMAGED_KEPT: Final = 4
_CURRENT: Final = "current"
_INCOMING: Final = "incoming"
_FILE: Final = "spool.db"
_LOG: Final = "spool.db-wal"
_DONE: Final = "salvaged"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """`lost`: entries that a damaged file named and did not hold any more."""

    store: Store
    lost: tuple[Entry, ...] = ()


class SpoolFolder:
    """A Disk. `now_us` is asked when a file is salvaged."""

    def __init__(self, path: Path, now_us: Callable[[], int]) -> None:
        self._path = path
        self._now_us = now_us
        self._ballast = path / "ballast"

    def open(self) -> Opened:
        """ConfigError: the folder cannot be used, or another process has the spool."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            opened = self._open()
        except OSError as error:
            raise _unusable(self._path, error) from error
        self.prepare()
        return opened

    def reopen(self) -> tuple[Store, Sequence[Entry]]:
        opened = self._start_afresh()
        return opened.store, opened.lost

    def relieve(self) -> int:
        try:
            self._ballast.unlink()
        except OSError:  # gone already, or the disk fails, which others say
            return 0
        return BALLAST_BYTES // 2

    def prepare(self) -> bool:
        """Only where as much again stays free, so that the ballast itself fills no disk."""
        try:
            if self._ballast.exists() and self._ballast.stat().st_size == BALLAST_BYTES:
                return True
            disk = os.statvfs(self._path)
            if disk.f_bavail * disk.f_frsize < 2 * BALLAST_BYTES:
                return False
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError:
            self.relieve()
            return False
        return True

    def _open(self) -> Opened:
        current = self._path / _CURRENT
        if not current.exists() and self._unfinished() is not None:
            return self._refill()
        current.mkdir(exist_ok=True)
        sync_folder(self._path)
        written = _bytes_of(current / _LOG)
        try:
            store = SpoolFile(current / _FILE)
        except Broken as error:
            log.warning("the spool file is damaged; what is whole is saved", why=str(error))
            return self._start_afresh()
        if frames_of_this_round(written) > store.database.log_frames:
            return self._mend(store, written)
        return Opened(store)

    def _mend(self, store: SpoolFile, written: bytes) -> Opened:
        """SQLite stopped reading the log before its end: at a torn end, or at damage?"""
        better = mended(written)
        if better is None:
            return Opened(store)
        log.warning("the spool's log is damaged; what is whole is saved")
        store.close()
        current = self._path / _CURRENT
        (current / f"{_LOG}.damaged").write_bytes(written)
        (current / _LOG).write_bytes(better)
        return self._start_afresh()

    def _start_afresh(self) -> Opened:
        """Put the file in use aside and go on with what could be saved of it."""
        numbers = [int(folder.suffix[1:]) for folder in self._damaged()]
        aside = self._path / f"damaged.{max(numbers, default=0) + 1}"
        current = self._path / _CURRENT
        if current.exists():
            current.rename(aside)
        return self._refill()

    def _refill(self) -> Opened:
        """A new file out of the newest one put aside; begun again if a crash came between."""
        aside = self._unfinished()
        incoming = self._path / _INCOMING
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        saved = Salvaged()
        store = SpoolFile(incoming / _FILE)
        try:
            if aside is not None:
                saved = salvage(aside / _FILE, store, self._now_us())
                store.set_note(SALVAGED_NOTE, aside.name)
                store.commit()
                log.warning("saved from the damaged spool", entries=saved.saved, file=str(aside))
        finally:
            store.close()
        sync_folder(incoming)
        incoming.rename(self._path / _CURRENT)
        sync_folder(self._path)
        if aside is not None and saved.complete:
            (aside / _DONE).touch()
        self._forget_oldest()
        return Opened(SpoolFile(self._path / _CURRENT / _FILE), saved.lost)

    def _damaged(self) -> list[Path]:
        """Oldest first."""
        found = [one for one in self._path.glob("damaged.*") if one.suffix[1:].isdecimal()]
        return sorted(found, key=lambda one: int(one.suffix[1:]))

    def _unfinished(self) -> Path | None:
        newest = self._damaged()[-1:]
        return newest[0] if newest and not (newest[0] / _DONE).exists() else None

    def _forget_oldest(self) -> None:
        for folder in self._damaged()[:-DAMAGED_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def _unusable(path: Path, error: OSError) -> ConfigError:
    why = error.strerror or str(error)
    return ConfigError(
        [Problem(f"spool {path}", "", why, "Name a folder that this user may write to.")]
    )
