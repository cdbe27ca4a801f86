"""The line: what it makes follows from the seed alone, and every trouble shows where it should."""

import asyncio
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.config import ProductionConfig
from simulators.journal import CycleRecord
from simulators.mailbox import TABLE, Effect, Signal, State, step
from simulators.plan import LinePlan, Purpose, Scan
from tests.support.simulators_line import VirtualLine

EDGES = (
    ("w10", "running"),
    ("w10", "dmc"),
    *(("p20", f"{nest}.{edge}") for nest in "ab" for edge in ("clamped", "done")),
    ("scanner20", "a"),
    ("scanner20", "b"),
)


def made(cycle: CycleRecord) -> dict[str, Any]:
    """A cycle without its times: what must not depend on when anybody asked."""
    fields = dataclasses.asdict(cycle)
    for moving in ("started", "ended", "plc_times"):
        del fields[moving]
    fields["values"].pop("f07.scan.at", None)
    return fields


def key(cycle: CycleRecord) -> tuple[str, str, int]:
    return cycle.station, cycle.nest, cycle.ordinal


async def test_the_same_seed_makes_the_same_line() -> None:
    first, second = VirtualLine(units=10), VirtualLine(units=10, handshake_timeout_s=0.01)
    await first.run()
    await second.run()
    cycles = {key(c): made(c) for c in first.cycles}
    assert cycles == {key(c): made(c) for c in second.cycles}
    assert len(cycles) == 10 * 3 + 10 + 11 + 10 + 2, "five stations, a master, a rework, two reels"
    assert second.events("hold"), "it waited for the agent, and made the same"


async def test_another_seed_makes_other_parts() -> None:
    first, second = VirtualLine(units=2), VirtualLine(seed=4712, units=2)
    await first.run()
    await second.run()
    serials = {cycle.item.dmc for cycle in first.cycles if cycle.item.dmc}
    assert not serials & {cycle.item.dmc for cycle in second.cycles}


async def test_every_trouble_of_the_plant_file_happens_once() -> None:
    line = VirtualLine(units=20)
    await line.run()
    assert [e.fields["unit"] for e in line.events("rework")] == [3]
    assert [e.fields["unit"] for e in line.events("scrapped")] == [5]
    assert [e.fields["unit"] for e in line.events("no_read")] == [4]
    assert [e.fields["unit"] for e in line.events("stale")] == [8]
    assert len(line.events("finished")) == 19
    tested = [c for c in line.cycles if c.station == "L1/EOL30" and c.item.unit == 3]
    assert [(c.attempt, c.verdict) for c in tested] == [(1, "fail"), (2, "pass")]
    assert len({c.count for c in tested}) == 2
    masters = [c for c in line.cycles if c.purpose == Purpose.MASTER]
    assert [(c.station, c.item.unit, c.item.carrier) for c in masters] == [("L1/ST010", None, None)]


async def test_a_late_scan_names_the_true_time_of_the_change() -> None:
    line = VirtualLine(units=20)
    await line.run()
    changed = {e.fields["reel"]: e for e in line.events("reel_changed")}
    scanned = {e.fields["reel"]: e for e in line.events("reel_scanned")}
    assert set(changed) == set(scanned) == {1, 2, 3, 4}
    assert [number for number, e in scanned.items() if e.fields["late"]] == [2]
    for number, scan in scanned.items():
        assert scan.fields["changed_utc_us"] == changed[number].at.utc_us
        late_us = scan.at.mono_us - changed[number].at.mono_us
        assert (late_us > 5_000_000) == (number == 2)
    wound = [c for c in line.cycles if c.station == "L1/WIND10"]
    between = [c for c in wound if changed[2].at.mono_us < c.ended.mono_us < scanned[2].at.mono_us]
    assert [c.item.unit for c in between] == [7, 8, 9]
    assert {c.feeds[0]["lot"] for c in between} == {changed[2].fields["lot"]}


async def test_scanner_texts_are_what_a_scanner_shows() -> None:
    line = VirtualLine(units=10)
    await line.run()
    pressed = {c.item.unit: c for c in line.cycles if c.station == "L1/PRESS20"}
    assert pressed[4].item.text == "NOREAD"
    assert pressed[8].item.text == pressed[6].item.dmc, "nest b still shows its last unit"
    assert pressed[8].item.outcome == "stale"
    assert all(c.item.text == c.item.dmc for unit, c in pressed.items() if unit not in {4, 8})


async def test_values_are_what_the_device_serves() -> None:
    line = VirtualLine(units=1)
    await line.run()
    (screwed,) = (c for c in line.cycles if c.station == "L1/ST010")
    image = line.images["st010"]
    torque = image.get("result.torque")
    assert isinstance(torque, list)
    assert [screwed.values[f"st010.result.torque[{i}]"] for i in range(1, 7)] == torque
    curve = screwed.curves[0]
    cx, cn = image.get("result.cx[1]"), image.get("result.cn")
    assert isinstance(cx, list)
    assert isinstance(cn, list)
    assert curve.x == cx[: int(cn[0])]
    assert len(curve.x) == cn[0]
    assert image.get("t_end") == screwed.plc_times["t_end"]
    offset_us = screwed.plc_times["t_end"] // 1000 - screwed.ended.utc_us
    assert offset_us == pytest.approx(350_000, abs=1000), "the PLC's clock is 0.35 s ahead"


async def test_counters_wrap_at_their_modulus() -> None:
    line = VirtualLine(units=8)
    await line.run()
    wound = [c.count for c in line.cycles if c.station == "L1/WIND10"]
    assert wound == [65531, 65532, 65533, 65534, 65535, 0, 1, 2]


async def test_counters_stand_where_they_were_left_before_the_first_cycle() -> None:
    """Else the counter itself would count cycles that never were, and no balance could hold."""
    line = VirtualLine(count_start={"WIND10": 65_530, "ST010": 41, "PRESS20": 7})
    shown = {
        (device, name): line.images[device].get(name)
        for device, name in (
            ("w10", "cycle_no"),
            ("st010", "cycle_no"),
            ("p20", "a.cycle_no"),
            ("p20", "b.cycle_no"),
            ("eol30", "count"),
        )
    }
    assert list(shown.values()) == [65_530, 41, 7, 7, 0]


async def test_a_poller_of_100_ms_sees_every_edge() -> None:
    line = VirtualLine(units=8, speed=20.0)
    rises: dict[str, int] = {}

    async def poll() -> None:
        before: dict[str, object] = {}
        while True:
            for device, name in EDGES:
                now = line.images[device].get(name)
                if now and now != before.get(name):
                    rises[name] = rises.get(name, 0) + 1
                before[name] = now
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(poll())
        await line.run()
        polling.cancel()
    assert rises == {
        "running": 8,
        "dmc": 8,
        **{f"{nest}.{edge}": 4 for nest in "ab" for edge in ("clamped", "done")},
        "a": 4,
        "b": 3,  # unit 8 stands still on what unit 6 left
    }


@pytest.mark.parametrize("station", ["WIND10", "ST010"])
async def test_other_scanners_fail_in_the_same_ways(station: str) -> None:
    troubles = {"no_read": {station: [2]}, "stale": {station: [4]}}
    line = VirtualLine(units=4, troubles=troubles)
    await line.run()
    cycles = {c.item.unit: c.item for c in line.cycles if c.station == f"L1/{station}"}
    assert [(cycles[n].text, cycles[n].outcome) for n in (1, 2, 4)] == [
        (cycles[1].dmc, "bound"),
        ("NOREAD", "no_read"),
        (cycles[3].dmc, "stale"),
    ]


async def test_a_set_up_part_is_shown_as_one() -> None:
    line = VirtualLine(units=2, troubles={"setup": [2]})
    seen: list[tuple[object, object]] = []
    image = line.images["st010"]

    async def watch() -> None:
        while True:
            if image.get("ready"):
                seen.append((image.get("setup_on"), image.get("cycle_no")))
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        await line.run()
        watching.cancel()
    assert set(seen) == {(False, 42), (True, 43), (False, 44)}
    (part,) = (c for c in line.cycles if c.purpose == Purpose.SETUP)
    assert part.item.dmc == "PEDU4711A#SSETUPX000001#VTLD"


async def test_a_station_nobody_empties_holds_and_never_overwrites() -> None:
    line = VirtualLine(units=13, handshake_timeout_s=5)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(line.run(frozenset({"r15"})))
        await asyncio.sleep(60)
        assert [c.count for c in line.cycles if c.station == "L1/ROTOR15"] == [1]
        assert line.line.status()["waiting"]["ROTOR15"] == {"count": 1, "state": "held"}
        assert len(line.events("hold")) == 1
        assert line.line.status()["born"] == 12, "carriers bound what is in the line"
        taking = tasks.create_task(line.take("r15"))
        await running
        taking.cancel()
    assert line.line.status()["finished"] == 12


async def test_a_taken_that_nobody_asked_for_is_reset() -> None:
    line = VirtualLine(units=1)
    line.images["eol30"].put("taken", value=True)
    line.line.written("eol30", "taken")
    await line.run()
    assert line.images["eol30"].get("taken") is False
    assert [e.fields["station"] for e in line.events("taken_unasked")] == ["EOL30"]


def test_the_mailbox_table_is_the_protocol() -> None:
    state, effect = step(State.IDLE, Signal.OFFER)
    assert (state, effect) == (State.OFFERED, Effect.RAISE_READY)
    assert step(State.OFFERED, Signal.LATE) == (State.HELD, Effect.HOLD_PRODUCTION)
    for waiting in (State.OFFERED, State.HELD):
        assert step(waiting, Signal.TAKEN) == (State.IDLE, Effect.RESET_BOTH)
        with pytest.raises(ValueError, match="cannot be told offer"):
            step(waiting, Signal.OFFER)
    assert len(TABLE) == 5


@given(st.integers(0, 2**40), st.integers(1, 300))
def test_serials_fit_the_pattern_and_never_repeat(seed: int, number: int) -> None:
    plan = LinePlan(seed, ProductionConfig())
    dmc = plan.unit(number).dmc
    material, serial, issuer = dmc.split("#")
    assert material[0] == "P"
    assert issuer[0] == "V"
    assert serial[0] == "S"
    assert len(serial) == 13
    assert serial[1:].isalnum()
    assert serial[1:] == serial[1:].upper()
    assert plan.unit(number + 1).dmc != dmc


@given(
    st.lists(st.integers(1, 40), max_size=6, unique=True),
    st.lists(st.integers(1, 40), max_size=6, unique=True),
    st.integers(1, 40),
)
def test_every_unit_leaves_the_end_of_line_once(
    rework: list[int], scrap: list[int], units: int
) -> None:
    troubles = {"rework": rework, "scrap": scrap}
    plan = LinePlan(1, ProductionConfig.model_validate({"units": units, "troubles": troubles}))
    passed = [job.unit for job in plan.jobs("EOL30") if not job.defect]
    assert sorted(n for n in passed if n) == [n for n in range(1, units + 1) if n not in scrap]


def test_a_pattern_of_troubles_repeats() -> None:
    plan = LinePlan(
        1,
        ProductionConfig.model_validate(
            {"units": 100, "troubles": {"every": 40, "no_read": {"PRESS20": [4]}}}
        ),
    )
    jobs = [*plan.jobs("PRESS20", "a"), *plan.jobs("PRESS20", "b")]
    assert sorted(job.unit or 0 for job in jobs if job.scan is Scan.NO_READ) == [4, 44, 84]
