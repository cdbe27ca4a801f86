"""The spool on a disk that is full, damaged, taken or failing: named states, nothing crashes."""

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from edge.cut import Cut, Full, NotKept
from edge.entries import Broken, Entry, State, Store, whole
from edge.keeper import BROKEN, DISK_FULL, EVENTS_FULL, OK
from edge.retention import Limits
from edge.spool import Spool, Written
from edge.spool_file import SpoolFile
from edge.spool_folder import BALLAST_BYTES, SpoolFolder
from edge.writer import Handover, Writer
from protocols.errors import ConfigError
from protocols.frames import Frame, Kind, Lane
from tests.support import cuts
from tests.support.memory_store import MemoryStore
from tests.support.real_clock import RealClock

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
CLOCK = RealClock()
STATES = list(State)
EPOCHS = count(1)  # no two processes have the same


def folder(path: Path) -> SpoolFolder:
    return SpoolFolder(path, CLOCK.now_us)


def spool_on(store: Store, limits: Limits | None = None) -> Spool:
    return Spool(store, "plant1.a", lambda: next(EPOCHS), limits or Limits(bytes_max=64 * MIB))


def filled(path: Path, cuts_written: int = 40, rows: int = 300) -> list[Frame]:
    """A closed spool in this folder, and the frames in it."""
    opened = folder(path).open()
    spool = spool_on(opened.store)
    for number in range(cuts_written):
        spool.write(cuts.cut(number, cuts.rows(number, rows), events=1), Lane.LIVE, CLOCK.now_us())
        spool.commit()
    frames = all_frames(opened.store)
    opened.store.close()
    assert len(frames) == 2 * cuts_written
    return frames


def all_frames(store: Store) -> list[Frame]:
    """Every whole frame in the spool."""
    return [
        frame
        for held in store.holdings()
        for entry in store.unsent(held.stream, 1, 10**6, ())
        if (frame := whole(store.sealed(entry))) is not None
    ]


def database(path: Path) -> Path:
    return path / "current" / "spool.db"


@contextlib.asynccontextmanager
async def writing(spool: Spool, disk: object) -> AsyncIterator[Writer]:
    writer = Writer(spool, disk, CLOCK)  # type: ignore[arg-type]  # a Disk of the test's
    try:
        yield writer
    finally:
        await writer.stop()


async def put(writer: Writer, number: int, rows: int = 500, events: int = 1) -> None:
    handover = writer.put(cuts.cut(number, cuts.rows(number, rows), events=events))
    async with asyncio.timeout(10):
        await handover.wait_synced()


async def until(writer: Writer, wanted: Callable[[], bool]) -> None:
    writer.on_standing = (changed := asyncio.Event()).set
    async with asyncio.timeout(20):
        while not wanted():
            changed.clear()
            await changed.wait()


def test_a_reopened_spool_has_everything(tmp_path: Path) -> None:
    frames = filled(tmp_path)
    opened = folder(tmp_path).open()
    assert all_frames(opened.store) == frames
    assert opened.lost == ()
    opened.store.close()


def test_a_second_agent_is_refused_with_the_remedy(tmp_path: Path) -> None:
    first = folder(tmp_path).open()
    with pytest.raises(ConfigError, match="another process has it open"):
        folder(tmp_path).open()
    first.store.close()
    folder(tmp_path).open().store.close()


def test_a_folder_that_cannot_be_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Name a folder"):
        folder(tmp_path / "file" / "spool").open()


def test_a_file_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    with contextlib.closing(sqlite3.connect(database(tmp_path))) as newer:
        newer.execute("PRAGMA user_version = 99")
    before = database(tmp_path).read_bytes()
    with pytest.raises(ConfigError, match="newer release"):
        folder(tmp_path).open()
    assert database(tmp_path).read_bytes() == before


@pytest.mark.parametrize("keep", [0.9, 0.5, 0.1, 0.01])
def test_a_half_written_file_gives_back_what_is_whole(tmp_path: Path, keep: float) -> None:
    frames = filled(tmp_path, 60)
    file = database(tmp_path)
    os.truncate(file, int(file.stat().st_size * keep))
    opened = folder(tmp_path).open()
    found = all_frames(opened.store)
    assert {frame.sealed for frame in found} <= {frame.sealed for frame in frames}
    if keep >= 0.5:
        assert len(found) >= len(frames) * keep / 3
    assert (tmp_path / "damaged.1" / "spool.db").exists()
    assert opened.store.recovered().had_spool
    spool_on(opened.store).write(cuts.cut(999), Lane.LIVE, CLOCK.now_us())
    opened.store.commit()
    opened.store.close()


@pytest.mark.parametrize(
    "what", [b"not a database at all" * 500, b"\x00" * 8192, b"SQLite format 3"]
)
def test_a_file_that_is_no_spool_is_put_aside(tmp_path: Path, what: bytes) -> None:
    filled(tmp_path, 2)
    database(tmp_path).write_bytes(what)
    opened = folder(tmp_path).open()
    assert all_frames(opened.store) == []
    assert (tmp_path / "damaged.1" / "spool.db").read_bytes()[: len(what)] == what
    opened.store.close()


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_cost_at_most_what_they_hit(tmp_path: Path, seed: int) -> None:
    frames = {frame.sealed for frame in filled(tmp_path, 30)}
    chance = random.Random(seed)  # noqa: S311 - where the bits are, not a secret
    data = bytearray(database(tmp_path).read_bytes())
    flips = chance.choice([1, 1, 3, 20])
    for _ in range(flips):
        data[chance.randrange(100, len(data))] ^= 1 << chance.randrange(8)
    database(tmp_path).write_bytes(bytes(data))
    opened = folder(tmp_path).open()
    spool = spool_on(opened.store)
    found = drained(spool)
    assert {frame.sealed for frame in found} <= frames, "never bytes that nobody sealed"
    assert len(frames) - len({frame.sealed for frame in found}) <= 12 * flips
    spool.write(cuts.cut(999), Lane.LIVE, CLOCK.now_us())
    spool.commit()
    opened.store.close()


def drained(spool: Spool) -> list[Frame]:
    """Everything that the uplink would ever get of the streams that were there."""
    found: list[Frame] = []
    for held in spool.holdings:
        if held.stream.epoch == spool.epoch:
            continue
        seq = held.floor
        while seq <= held.head:
            try:
                taken = spool.take(
                    held.stream,
                    seq,
                    frames_max=7,
                    bytes_max=64 * MIB,
                    skip=(),
                    now_us=CLOCK.now_us(),
                )
            except Broken:  # found only now: the writer would salvage, and so does this
                return salvaged(spool, found)
            found += taken.frames
            seq = taken.next_seq
    return [frame for frame in found if frame.header.kind in (Kind.SAMPLES, Kind.EVENTS)]


def salvaged(spool: Spool, found: list[Frame]) -> list[Frame]:
    store = spool.store
    assert isinstance(store, SpoolFile)
    path = store.database.path.parent.parent
    store.close()
    again, _ = folder(path).reopen()
    spool.move(again)
    return found + all_frames(again)


@pytest.mark.parametrize("seed", range(10))
def test_a_bit_flipped_in_the_log_costs_at_most_what_it_hit(tmp_path: Path, seed: int) -> None:
    """After a kill most of a spool stands in the log, where SQLite would stop at the first flaw."""
    opened = folder(tmp_path / "live").open()
    spool = spool_on(opened.store)
    for number in range(40):
        spool.write(cuts.cut(number, cuts.rows(number, 300), events=1), Lane.LIVE, CLOCK.now_us())
        spool.commit()
    frames = {frame.sealed for frame in all_frames(opened.store)}
    shutil.copytree(tmp_path / "live", tmp_path / "killed")  # as kill -9 leaves it
    opened.store.close()
    file = tmp_path / "killed" / "current" / "spool.db-wal"
    data = bytearray(file.read_bytes())
    chance = random.Random(seed)  # noqa: S311 - where the bit is, not a secret
    data[chance.randrange(len(data) // 3, len(data) * 2 // 3)] ^= 1 << chance.randrange(8)
    file.write_bytes(bytes(data))
    again = folder(tmp_path / "killed").open()
    found = {frame.sealed for frame in drained(spool_on(again.store))}
    assert found <= frames
    assert len(frames) - len(found) <= 12
    again.store.close()


def test_a_salvage_that_was_interrupted_begins_again(tmp_path: Path) -> None:
    frames = filled(tmp_path)
    (tmp_path / "current").rename(tmp_path / "damaged.1")
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "spool.db").write_bytes(b"half")
    opened = folder(tmp_path).open()
    assert {one.sealed for one in all_frames(opened.store)} == {one.sealed for one in frames}
    opened.store.close()
    reopened = folder(tmp_path).open()
    assert len(all_frames(reopened.store)) == len(frames)
    reopened.store.close()


def test_states_and_quarantine_survive_a_salvage(tmp_path: Path) -> None:
    opened = folder(tmp_path).open()
    spool = spool_on(opened.store)
    for number in range(3):
        spool.write(cuts.cut(number), Lane.LIVE, CLOCK.now_us())
    entries = opened.store.oldest(STATES, [Lane.LIVE], 9)
    opened.store.mark(entries[:1], State.STORED, CLOCK.now_us())
    opened.store.set_aside(entries[1].key, 7, b"bytes", "rejected: x", 5)
    opened.store.set_note("store_id", "s")
    opened.store.commit()
    opened.store.close()
    store, lost = folder(tmp_path).reopen()
    assert not lost
    assert store.recovered().state == {"binder": b"after 2"}
    assert store.recovered().watermark_us == cuts.cut(2).watermark_us
    found = store.find(entries[0].key)
    assert found is not None
    assert found.state is State.STORED
    assert store.note("store_id") == "s"
    assert [(one.sealed, one.why) for one in store.aside()] == [(b"bytes", "rejected: x")]
    store.close()


class TightDisk(SpoolFolder):
    """Never has room beside the file until it is told otherwise."""

    tight = True

    def relieve(self) -> int:
        return 0

    def prepare(self) -> bool:
        return not self.tight


async def test_a_file_that_may_not_grow_lets_the_oldest_go_and_keeps_every_event(
    tmp_path: Path,
) -> None:
    disk = TightDisk(tmp_path, CLOCK.now_us)
    store = disk.open().store
    assert isinstance(store, SpoolFile)
    store.database._limit(150)
    spool = spool_on(store)
    async with writing(spool, disk) as writer:
        for number in range(150):
            await put(writer, number, rows=2000)
        assert writer.standing.state == DISK_FULL
        assert writer.standing.counts["rows_dropped"] > 0
        held = await writer.do(lambda one: all_frames(one.store))
        events = sum(one.header.rows for one in held if one.header.lane is Lane.EVENTS)
        assert events == 150
        assert writer.standing.counts.get("rows_discarded", 0) == 0
        disk.tight = False
        await recovered(writer, 1000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB, for a disk that is really full."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount", path="/usr/bin:/bin:/sbin:/usr/sbin")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mount: only root may make a small file system")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"mount: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_disk_that_is_really_full_costs_samples_never_events(small_disk: Path) -> None:
    disk = folder(small_disk / "spool")
    spool = spool_on(disk.open().store)
    async with writing(spool, disk) as writer:
        await put(writer, 0)
        assert (small_disk / "spool" / "ballast").stat().st_size == BALLAST_BYTES
        other = small_disk / "other"
        fill(other)
        for number in range(1, 400):
            await put(writer, number, rows=3000)
        standing = writer.standing
        assert standing.state == DISK_FULL
        lost = standing.counts.get("rows_discarded", 0) + standing.counts.get("rows_dropped", 0)
        held = await writer.do(lambda one: all_frames(one.store))
        kept = sum(one.header.rows for one in held if one.header.kind is Kind.SAMPLES)
        assert kept + lost == 500 + 399 * 3000, "every row is there or counted"
        events = sum(one.header.rows for one in held if one.header.lane is Lane.EVENTS)
        assert events == 400
        other.unlink()
        await recovered(writer, 1000)


async def recovered(writer: Writer, number: int) -> None:
    """It goes on by itself, with the cuts that come anyhow."""
    async with asyncio.timeout(20):
        for later in count(number):
            await put(writer, later)
            if writer.standing.state == OK:
                return
            await asyncio.sleep(0.1)


def fill(file: Path) -> None:
    """Until nothing more goes on that file system."""
    with file.open("wb", buffering=0) as out:
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    out.write(b"\x00" * size)


class FailingDisk:
    """Gives stores in memory; the first is broken after some commits, as after a failed sync."""

    def __init__(self, *, keeps_the_last: bool) -> None:
        self.stores = [MemoryStore()]
        self._keeps_the_last = keeps_the_last
        self.refuses = False

    def break_at_commit(self) -> None:
        """The next commit fails; whether it reached the disk nobody knows."""
        store = self.stores[-1]
        commit = store.commit

        def fail() -> None:
            if self._keeps_the_last:
                commit()
            store.broken = True
            raise Broken("fsync: input/output error")

        store.commit = fail  # type: ignore[method-assign]  # a disk that fails now

    def reopen(self) -> tuple[Store, list[Entry]]:
        if self.refuses:
            raise Broken("still failing")
        self.stores.append(self.stores[-1].crash())
        return self.stores[-1], []

    def relieve(self) -> int:
        return 0  # nothing is kept for that

    def prepare(self) -> bool:
        return True


@pytest.mark.parametrize("keeps_the_last", [True, False], ids=["reached the disk", "did not"])
async def test_a_failed_sync_is_never_tried_again_on_the_same_file(*, keeps_the_last: bool) -> None:
    disk = FailingDisk(keeps_the_last=keeps_the_last)
    async with writing(spool_on(disk.stores[0]), disk) as writer:
        await put(writer, 1)
        await put(writer, 2)
        disk.break_at_commit()
        await put(writer, 3)
        await put(writer, 4)
        assert len(disk.stores) == 2
        found = [
            frame for frame in all_frames(disk.stores[1]) if frame.header.lane is not Lane.EVENTS
        ]
        assert [frame.header.seq for frame in found] == [1, 2, 3, 4]
        assert len({frame.header.t_min for frame in found}) == 4, "each cut once"
        await recovered(writer, 5)


def put_if_room(writer: Writer, number: int) -> Handover | None:
    try:
        return writer.put(cuts.cut(number, events=1))
    except Full:
        return None


async def test_while_no_file_can_be_had_the_handover_fills_and_then_goes_on() -> None:
    disk = FailingDisk(keeps_the_last=False)
    async with writing(spool_on(disk.stores[0]), disk) as writer:
        await put(writer, 1)
        disk.refuses = True
        disk.break_at_commit()
        late = [writer.put(cuts.cut(2, events=1))]
        await until(writer, lambda: writer.standing.state == BROKEN)
        async with asyncio.timeout(20):
            while (handover := put_if_room(writer, len(late) + 2)) is not None:
                late.append(handover)
                await asyncio.sleep(0.05)
        assert writer.standing.state == BROKEN
        disk.refuses = False
        async with asyncio.timeout(20):
            await writer.room()
            for handover in late:
                await handover.wait_synced()
        events = [one for one in all_frames(disk.stores[-1]) if one.header.lane is Lane.EVENTS]
        assert len(events) == len(late) + 1


async def test_full_of_events_nothing_is_told_synced_until_there_is_room() -> None:
    disk = FailingDisk(keeps_the_last=False)
    spool = spool_on(disk.stores[0], Limits(bytes_max=64 * 1024))
    async with writing(spool, disk) as writer:
        handover = writer.put(cuts.bare(0, events=50))
        for number in count(1):
            await until(writer, lambda: not writer.waiting or writer.standing.state != OK)
            if writer.standing.state != OK:
                break
            handover = writer.put(cuts.bare(number, events=50))
        assert writer.standing.state == EVENTS_FULL
        late = asyncio.timeout(0.5)
        with pytest.raises(TimeoutError):
            async with late:
                await handover.wait_synced()
        await writer.do(lambda one: one.store.remove(one.store.oldest(STATES, list(Lane), 5)))
        async with asyncio.timeout(5):
            await handover.wait_synced()
        await recovered(writer, 1000)


async def test_a_bug_in_one_cut_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FailingDisk(keeps_the_last=False)
    spool = spool_on(disk.stores[0])
    write = spool.write

    def fails_at_two(cut: Cut, lane: Lane, now_us: int) -> Written:
        if cut.state["binder"] == b"after 2":
            raise ZeroDivisionError
        return write(cut, lane, now_us)

    monkeypatch.setattr(spool, "write", fails_at_two)
    async with writing(spool, disk) as writer:
        handovers = [writer.put(cuts.cut(number, events=1)) for number in (1, 2, 3)]
        await handovers[0].wait_synced()
        with pytest.raises(NotKept, match="ZeroDivisionError"):
            await handovers[1].wait_synced()
        await handovers[2].wait_synced()
        assert len(all_frames(disk.stores[0])) == 4


async def test_what_was_put_is_committed_at_a_stop(tmp_path: Path) -> None:
    disk = folder(tmp_path)
    writer = Writer(spool_on(disk.open().store), disk, CLOCK)
    handovers = [writer.put(cuts.cut(number, events=1)) for number in range(20)]
    await writer.stop()
    for handover in handovers:
        await handover.wait_synced()
    opened = folder(tmp_path).open()
    assert len(all_frames(opened.store)) == 40
    opened.store.close()
