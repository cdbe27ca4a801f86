"""The stations with a hand-shake: first station, reel scanner, rotor, screwing, end-of-line test.

Each is one task that works through its jobs: wait for the part, work, show the data, hand it over,
pass the part on. A station holds its part, and so the line, until an agent has taken the cycle.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from simulators.catalogue import SCREW_POINTS
from simulators.floor import Done, Floor, curve_record, read_text
from simulators.handshake import Handshake
from simulators.journal import CurveRecord, Moment
from simulators.plan import Job, Purpose, Reel
from simulators.results import TORQUE_HIGH, TORQUE_LOW, Screw, end_of_line, rotor, screws
from simulators.tags import Value

ReelQueue = asyncio.Queue[tuple[Reel, Moment]]

SCREW_PROGRAM = 17
_MASTER_RFID = "MASTER"


async def first_station(floor: Floor, mailbox: Handshake) -> None:
    """A unit is born: its code is lasered and its carrier leaves with it."""
    for job in floor.plan.jobs("ST000"):
        number = _number(job)
        if number > floor.production.carriers:
            await floor.milestones.wait("left", number - floor.production.carriers)
        started = await floor.work(job)
        unit = floor.plan.unit(number)
        marks: dict[str, Value] = {
            "mark.dmc": unit.dmc,
            "mark.type": unit.type,
            "mark.order": unit.order,
            "mark.carrier": unit.carrier,
        }
        floor.put("st000", {"count": job.count, **marks})
        floor.tally.born += 1
        floor.journal.event("born", unit=number, dmc=unit.dmc, carrier=unit.carrier)
        floor.record(job, Done(started, text=unit.dmc), floor.values("st000", marks))
        await mailbox.hand_over(job.count)
        floor.milestones.reach("ST000", number)


async def reel_scanner(floor: Floor, mailbox: Handshake, scans: ReelQueue) -> None:
    """The label of a mounted reel is scanned, soon or late; the scan names the true time."""
    for job in floor.plan.jobs("F07-LOAD"):
        reel, changed = await scans.get()
        shown: dict[str, Value] = {
            "scan.lot": reel.lot,
            "scan.qty": reel.quantity_kg,
            "scan.at": changed.utc_us,
        }
        floor.put("f07", {"scan_no": job.count, **shown})
        scanned = floor.journal.event(
            "reel_scanned",
            reel=reel.number,
            lot=reel.lot,
            count=job.count,
            changed_utc_us=changed.utc_us,
            late=reel.late,
        )
        floor.record(job, Done(scanned), floor.values("f07", shown))
        await mailbox.hand_over(job.count)


async def rotor_station(floor: Floor, mailbox: Handshake) -> None:
    """A rotor with its own serial is joined to the unit."""
    for job in floor.plan.jobs("ROTOR15"):
        number = _number(job)
        await floor.milestones.wait("WIND10", number)
        started = await floor.work(job)
        unit = floor.plan.unit(number)
        shown: dict[str, Value] = {
            "result.dmc": unit.dmc,
            "result.rotor_dmc": unit.rotor_dmc,
            **rotor(floor.plan.seed, job),
        }
        floor.put("r15", {"count": job.count, **shown})
        done = Done(started, text=unit.dmc, components=(unit.rotor_dmc,))
        floor.record(job, done, floor.values("r15", shown))
        await mailbox.hand_over(job.count)
        floor.milestones.reach("ROTOR15", number)


async def screwing_station(floor: Floor, mailbox: Handshake) -> None:
    """Six screws and a cover; also works on master and set-up parts."""
    shown_dmc = ""
    for job in floor.plan.jobs("ST010"):
        if job.unit is not None:
            await floor.milestones.wait("PRESS20", job.unit)
        started = await floor.work(job)
        text = read_text(job, floor.dmc(job))
        shown_dmc = shown_dmc if text is None else text
        _screw(floor, job, started, shown_dmc)
        await mailbox.hand_over(job.count)
        if job.unit is None:
            continue
        if floor.plan.is_scrapped(job.unit):
            floor.leave(job.unit, scrapped=True)
        else:
            floor.milestones.reach("ST010", job.unit)


async def end_of_line_station(floor: Floor, mailbox: Handshake) -> None:
    """The last test; a unit that fails comes back once."""
    for job in floor.plan.jobs("EOL30"):
        number = _number(job)
        if job.attempt == 1:
            await floor.milestones.wait("ST010", number)
        started = await floor.work(job)
        dmc = floor.dmc(job)
        shown: dict[str, Value] = {"result.dmc": dmc, **end_of_line(floor.plan.seed, job)}
        floor.put("eol30", {"count": job.count, **shown})
        floor.record(job, Done(started, text=dmc), floor.values("eol30", shown))
        await mailbox.hand_over(job.count)
        if job.defect:
            floor.journal.event("rework", unit=number, dmc=dmc, attempt=job.attempt)
        else:
            floor.leave(number, scrapped=False)


def _number(job: Job) -> int:
    if job.unit is None:
        raise ValueError(f"{job.station} works on units only")
    return job.unit


def _screw(floor: Floor, job: Job, started: Moment, shown_dmc: str) -> None:
    """Shows a finished cycle and journals it."""
    ended = floor.journal.now()
    unit = None if job.unit is None else floor.plan.unit(job.unit)
    cover = "" if unit is None else unit.cover_dmc
    results = screws(floor.plan.seed, job)
    shown = _screw_values(job, results)
    times = {
        "t_start": floor.plc_time_ns("st010", started),
        "t_end": floor.plc_time_ns("st010", ended),
    }
    head: dict[str, Value] = {
        "cycle_no": job.count,
        "dmc": shown_dmc,
        "rfid": _MASTER_RFID if unit is None else unit.carrier,
        "cover_dmc": cover,
        "program": SCREW_PROGRAM,
        "master_on": job.purpose is Purpose.MASTER,
        "setup_on": job.purpose is Purpose.SETUP,
    }
    curves = _curve_arrays(results)
    floor.put("st010", {**head, **times, **shown, **curves})
    feeds: tuple[dict[str, Any], ...] = ({"holder": "feeder/ST010-M6", "quantity": len(results)},)
    done = Done(
        started,
        text=shown_dmc,
        curves=_curve_records(floor, results),
        feeds=feeds,
        components=(cover,) if cover else (),
        plc_times=times,
    )
    floor.record(job, done, floor.values("st010", [*head, *shown]))


def _screw_values(job: Job, results: list[Screw]) -> dict[str, Value]:
    return {
        "result.code": 2 if job.defect else 1,
        "result.nok_code": job.defect,
        "result.t_low": TORQUE_LOW,
        "result.t_high": TORQUE_HIGH,
        "result.torque": [screw.torque for screw in results],
        "result.angle": [screw.angle for screw in results],
        "result.cn": [len(screw.curve.x) for screw in results],
    }


def _curve_arrays(results: list[Screw]) -> Mapping[str, Value]:
    arrays: dict[str, Value] = {}
    for number, screw in enumerate(results, start=1):
        x, y = screw.curve.padded(SCREW_POINTS)
        arrays[f"result.cx[{number}]"] = x
        arrays[f"result.cy[{number}]"] = y
    return arrays


def _curve_records(floor: Floor, results: list[Screw]) -> tuple[CurveRecord, ...]:
    return tuple(
        curve_record(
            "torque_angle",
            str(number),
            floor.points("st010", f"result.cx[{number}]", len(screw.curve.x)),
            floor.points("st010", f"result.cy[{number}]", len(screw.curve.x)),
        )
        for number, screw in enumerate(results, start=1)
    )
