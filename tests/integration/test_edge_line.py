"""The example's line bound from first unit to last, in virtual time and without wire.

Every cycle of the line's own journal must be a pass, whatever stops and starts in between.
"""

from collections.abc import Sequence
from pathlib import Path

import async_solipsism
import pytest

from edge.check import Checked
from edge.cut import Recovered
from protocols.codec import curve_sha256
from protocols.events import GapEvent, MoveEvent, NameEvent, PassEvent, to_us
from simulators.journal import CycleRecord
from tests.support.edge_line import Run, checked_example, living, watch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:delta is less than resolution"),
]
WITH_COUNT = ("L1/WIND10", "L1/ROTOR15", "L1/PRESS20", "L1/ST010", "L1/EOL30")
HAND_SHAKEN = ("L1/ROTOR15", "L1/ST010", "L1/EOL30")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": async_solipsism.EventLoop}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    folder: Path = tmp_path_factory.mktemp("agent")
    return checked_example(folder)


async def test_every_cycle_of_the_line_becomes_its_pass(checked: Checked) -> None:
    async with living(units=9) as run:
        await watch(run, checked)
    passes = [one for one in run.events(PassEvent) if one.station in WITH_COUNT]
    truth = {key(cycle): cycle for cycle in cycles(run, WITH_COUNT)}
    assert keys(passes) == sorted(truth)
    assert not run.events(GapEvent)
    for one in passes:
        cycle = truth[one.station, one.nest, int(one.key.raw or 0)]
        assert one.items[0].verdict == cycle.verdict
        assert one.purpose == cycle.purpose
        assert len(one.curves) == len(cycle.curves)
    born = [name.value for event in run.events(NameEvent) for name in event.names]
    assert len(born) == len(set(born)) == 9
    assert len(run.events(MoveEvent)) >= 9 + 2, "onto carriers, and the first reels"
    named = {curve.sha256 for one in passes for curve in one.curves}
    carried = {curve_sha256(curve) for cut in run.cuts for curve in cut.curves}
    assert named
    assert carried == named, "a curve travels once, named by its pass"


async def test_a_clean_restart_misses_no_hand_over_and_doubles_none(checked: Checked) -> None:
    async with living(units=6) as run:
        recovered: Recovered | None = None
        for _ in range(6):
            watching = await watch(run, checked, 4.3, recovered)
            recovered = watching.recovered
        await watch(run, checked, None, recovered)
    passes = [one for one in run.events(PassEvent) if one.station in HAND_SHAKEN]
    assert keys(passes) == sorted(map(key, cycles(run, HAND_SHAKEN)))
    assert len({one.id for one in passes}) == len(passes)
    outages = [outage for cut in run.cuts for outage in cut.outages]
    assert len(outages) == 6
    assert all(to_us(one.from_time) <= to_us(one.to_time) for one in outages)


async def test_what_was_lost_with_a_crash_is_said_again_and_counted_once(checked: Checked) -> None:
    """kill -9: the next agent goes on from an older cut; nothing *taken* was lost with it."""
    async with living(units=4) as run:
        first = await watch(run, checked, 9.0, hold_from_s=7.0)
        synced = first.synced
        kept = Recovered(synced[-1].watermark_us, synced[-1].state, had_spool=True)
        run.cuts = list(synced)
        await watch(run, checked, None, kept)
    passes = [one for one in run.events(PassEvent) if one.station in HAND_SHAKEN]
    assert keys(passes) == sorted(map(key, cycles(run, HAND_SHAKEN)))
    assert len({one.id for one in run.events(PassEvent)}) == len(run.events(PassEvent))
    counted = len(cycles(run, WITH_COUNT))
    bound = [one for one in run.events(PassEvent) if one.station in WITH_COUNT]
    missed = sum(
        int(gap.to_count) - int(gap.from_count) + 1
        for gap in run.events(GapEvent)
        if gap.station in WITH_COUNT
    )
    assert len(bound) + missed == counted, "cycles counted = passes + gaps"


def keys(passes: Sequence[PassEvent]) -> list[tuple[str, str, int]]:
    return sorted((one.station, one.nest, int(one.key.raw or 0)) for one in passes)


def key(cycle: CycleRecord) -> tuple[str, str, int]:
    return cycle.station, cycle.nest, cycle.count


def cycles(run: Run, stations: Sequence[str]) -> list[CycleRecord]:
    return [cycle for cycle in run.line.cycles if cycle.station in stations]
