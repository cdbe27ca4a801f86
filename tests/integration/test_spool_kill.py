"""A process that writes a spool is killed at any moment; what it said was synced is whole there."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge.entries import Broken, Stream
from edge.spool_file import SpoolFile
from protocols import codec
from protocols.events import decode_event
from protocols.frames import Frame, Lane, split
from tests.support import cuts
from tests.support.power_cut import PowerCut
from tests.support.services import need

pytestmark = pytest.mark.integration

KILLS = 8
POWER_CUTS = 3


def run_and_kill(
    folder: Path,
    first: int,
    after_s: float,
    *how: str,
    environment: Mapping[str, str] | None = None,
) -> list[int]:
    """Numbers that the child said were synced before it was killed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.spool_child", str(folder), str(first), *how],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    said = [int(child.stdout.readline())]  # it has begun
    time.sleep(after_s)
    os.kill(child.pid, signal.SIGKILL)
    said += [
        int(line) for line in child.stdout.read().splitlines(keepends=True) if line[-1] == "\n"
    ]
    child.stdout.close()
    child.wait()
    return said


def test_i12_no_synced_cut_is_lost_and_none_is_half_there(tmp_path: Path) -> None:
    chance = random.Random(20261122)  # noqa: S311 - where it is killed, not a secret
    synced: list[int] = []
    for kill in range(KILLS):
        first = kill * 100_000
        synced += run_and_kill(tmp_path, first, chance.uniform(0.0, 0.3))
    check_whole(tmp_path, synced)
    assert len(synced) > KILLS


def test_i12_no_synced_cut_is_lost_by_a_power_cut(tmp_path: Path) -> None:
    """Each time every write that was not synced is taken back, if one was under way."""
    need("compiler")
    spool = tmp_path / "spool"
    cut = PowerCut.over(spool, tmp_path)
    synced: list[int] = []
    for number in range(POWER_CUTS):
        synced += run_and_kill(spool, number * 100_000, 0.1, environment=cut.environment)
        cut.cut_power()
    check_whole(spool, synced)


def test_bug_commit_without_sync_is_found(tmp_path: Path) -> None:
    need("compiler")
    spool = tmp_path / "spool"
    cut = PowerCut.over(spool, tmp_path)
    synced = run_and_kill(spool, 0, 0.3, "careless", environment=cut.environment)
    assert cut.cut_power() > 0
    with pytest.raises((AssertionError, Broken, ValueError)):
        check_whole(spool, synced)


def check_whole(folder: Path, synced: list[int]) -> None:
    """What was said to be synced is there, and nothing is half there."""
    store = SpoolFile(folder / "current" / "spool.db")
    rows: dict[int, int] = {}
    events: dict[int, int] = {}
    for held in store.holdings():
        frames = read(store, held.stream)
        seqs = [frame.header.seq for frame in frames]
        assert seqs == list(range(1, held.head + 1)), "no hole, in order"
        for frame in frames:
            count(frame, rows, events)
    watermark_us = store.recovered().watermark_us
    last = max(rows)
    assert store.recovered().state == {"binder": b"after %d" % last}
    assert watermark_us == cuts.cut(last).watermark_us
    store.close()
    assert set(synced) <= set(rows)
    assert set(rows) == set(events)
    assert set(rows.values()) == {50}
    assert set(events.values()) == {2}


def read(store: SpoolFile, stream: Stream) -> list[Frame]:
    frames = [split(store.sealed(entry) or b"") for entry in store.unsent(stream, 1, 10**6, ())]
    assert all(isinstance(frame, Frame) for frame in frames)
    return [frame for frame in frames if isinstance(frame, Frame)]


def count(frame: Frame, rows: dict[int, int], events: dict[int, int]) -> None:
    raw = codec.payload_of(frame)
    if frame.header.lane is Lane.EVENTS:
        for line in codec.decode_lines(raw):
            number = int((decode_event(line).reason or "").removeprefix("cut ")) // 100
            events[number] = events.get(number, 0) + 1
        return
    for row in codec.decode_samples(raw).rows():
        assert isinstance(row.value, float)
        number = int(row.value) // 10_000
        rows[number] = rows.get(number, 0) + 1
