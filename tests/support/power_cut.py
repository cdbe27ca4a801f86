"""What a disk may hold after a power cut: kill -9 leaves the page cache alive, this does not.

A process is started with `unsynced.c` preloaded; after its end `cut_power` takes back every write
to its files that it had not synced.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("unsynced.c")
_HEAD: Final = struct.Struct("=qqq")


def compiler() -> str | None:
    return shutil.which("cc")


@dataclass(frozen=True, slots=True)
class PowerCut:
    """Watches the files below `watched`, from `environment` on."""

    shim: Path
    watched: Path
    undo: Path

    @classmethod
    def over(cls, watched: Path, folder: Path) -> "PowerCut":
        """Builds the shim into `folder`; needs a C compiler."""
        shim = folder / "unsynced.so"
        command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
        subprocess.run([*command, "-o", str(shim), str(SOURCE), "-ldl"], check=True)
        undo = folder / "undo"
        undo.mkdir()
        return cls(shim, watched, undo)

    @property
    def environment(self) -> Mapping[str, str]:
        watch = {"UNSYNCED_WATCH": f"{self.watched.resolve()}/", "UNSYNCED_UNDO": str(self.undo)}
        return {**os.environ, "LD_PRELOAD": str(self.shim), **watch}

    def cut_power(self) -> int:
        """Of a process that has ended. How many writes were taken back."""
        paths = {path.stat().st_ino: path for path in self.watched.rglob("*") if path.is_file()}
        lost = 0
        for record in self.undo.iterdir():
            path = paths.get(int(record.name))
            if path is not None:
                lost += _undo(path, record.read_bytes())
            record.unlink()
        return lost


def _undo(path: Path, records: bytes) -> int:
    lost = 0
    with path.open("r+b") as file:
        for offset, size, old in _backwards(records):
            file.seek(offset)
            file.write(old)
            file.truncate(size)
            lost += 1
    return lost


def _backwards(records: bytes) -> Iterator[tuple[int, int, bytes]]:
    """From the last whole record to the first; one that was being written did not matter yet."""
    found: list[tuple[int, int, bytes]] = []
    at = 0
    while at + _HEAD.size <= len(records):
        offset, size, count = _HEAD.unpack_from(records, at)
        end = at + _HEAD.size + count
        if end > len(records):
            break
        found.append((offset, size, records[at + _HEAD.size : end]))
        at = end
    return reversed(found)
