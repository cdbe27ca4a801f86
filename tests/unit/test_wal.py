"""The log as bytes, made by SQLite itself: what a flipped bit hides comes back."""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from edge.wal import frames_of_this_round, mended

COMMITS = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of which everything is still in the log: one row per commit."""
    folder = tmp_path_factory.mktemp("wal")
    source = folder / "live.db"
    db = sqlite3.connect(source, isolation_level=None)
    db.execute("PRAGMA page_size = 1024")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, y BLOB)")
    for number in range(COMMITS):
        db.execute("INSERT INTO t VALUES (?, ?)", (number, bytes([number]) * 2500))
    for suffix in ("", "-wal"):
        shutil.copy(f"{source}{suffix}", f"{folder / 'copy.db'}{suffix}")
    db.close()
    return folder / "copy.db"


def rows(made: Path, folder: Path, log: bytes) -> list[int]:
    """What SQLite finds with this log, as far as it can be read."""
    copy = folder / "read.db"
    shutil.copy(made, copy)
    Path(f"{copy}-wal").write_bytes(log)
    Path(f"{copy}-shm").unlink(missing_ok=True)
    db = sqlite3.connect(copy)
    try:
        return [row[0] for row in db.execute("SELECT x FROM t ORDER BY x")]
    except sqlite3.DatabaseError:
        return []
    finally:
        db.close()


def log_of(made: Path) -> bytes:
    return Path(f"{made}-wal").read_bytes()


def test_a_whole_log_needs_no_mending(made: Path, tmp_path: Path) -> None:
    log = log_of(made)
    assert mended(log) is None
    assert frames_of_this_round(log) == (len(log) - 32) // 1048
    assert rows(made, tmp_path, log) == list(range(COMMITS))


@pytest.mark.parametrize("kept", [0.97, 0.6, 0.3, 0.001, 0.0])
def test_a_torn_end_is_left_to_sqlite(made: Path, kept: float) -> None:
    log = log_of(made)
    assert mended(log[: int(len(log) * kept)]) is None


def test_what_an_earlier_round_left_behind_the_end_is_no_damage(made: Path) -> None:
    log = log_of(made)
    old = bytearray(log)
    for start in range(32 + 20 * 1048, len(old) - 1047, 1048):
        old[start + 8 : start + 16] = b"\x01\x02\x03\x04\x05\x06\x07\x08"  # another round's salts
    assert mended(bytes(old)) is None
    assert frames_of_this_round(bytes(old)) == 20


@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_bit_hides_no_later_commit(made: Path, tmp_path: Path, seed: int) -> None:
    log = log_of(made)
    chance = random.Random(seed)  # noqa: S311 - where the bit is, not a secret
    flipped = bytearray(log)
    # Behind the frames that make the table, before the last commit but one.
    at = chance.randrange(32 + 8 * 1048, len(log) - 10 * 1048)
    flipped[at] ^= 1 << chance.randrange(8)
    without = rows(made, tmp_path, bytes(flipped))
    again = mended(bytes(flipped))
    assert again is not None
    found = rows(made, tmp_path, again)
    assert len(without) < COMMITS
    assert not found or max(found) == COMMITS - 1, "the last commit is there again"


def test_damage_in_the_last_transaction_may_be_a_torn_end(made: Path) -> None:
    flipped = bytearray(log_of(made))
    flipped[-5] ^= 1
    assert mended(bytes(flipped)) is None


def test_any_bytes_are_no_log_or_are_mended(made: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - bytes, not a secret
    log = log_of(made)
    for _ in range(30):
        noise = bytearray(log[: chance.randrange(len(log))])
        for _ in range(chance.randrange(40)):
            if noise:
                noise[chance.randrange(len(noise))] = chance.randrange(256)
        mended(bytes(noise))
    assert mended(b"") is None
    assert frames_of_this_round(b"SQLite") == 0
