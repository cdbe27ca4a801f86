"""The stations without a hand-shake: winding and the two-nest press. An agent watches their edges.

Counter and start edge change in one snapshot, results and end edge too; every level stands at least
`LEVEL_S`, so that a poller of 100 ms sees each. What it does not read in time is overwritten.
"""

import asyncio

from simulators.catalogue import PRESS_POINTS
from simulators.floor import Done, Floor, curve_record, read_text
from simulators.journal import Moment
from simulators.plan import LEVEL_S, Job, Scan
from simulators.results import press_curve, winding
from simulators.signals import level
from simulators.stations import ReelQueue
from simulators.tags import Value

WINDING_PROGRAM, PRESS_PROGRAM = 3, 8
_WIRE_KG = 0.85
_COUNTER = 65_536


async def winding_station(floor: Floor, scans: ReelQueue) -> None:
    """Winds the stator from the reel on feeder F07; changes the reel when it is used up."""
    changes: dict[int, Moment] = {}
    last = 0
    for job in floor.plan.jobs("WIND10"):
        number = job.unit or 0
        await floor.milestones.wait("ST000", number)
        reel = floor.plan.reel_of(number)
        if reel.first_unit == number:
            changes[reel.number] = _change_reel(floor, number)
        for due in floor.plan.scans_before(number):
            await scans.put((due, changes.pop(due.number)))
        await _wind(floor, job)
        floor.milestones.reach("WIND10", number)
        last = number
    for due in floor.plan.scans_after(last):
        await scans.put((due, changes.pop(due.number)))


async def press_nest(floor: Floor, nest: str) -> None:
    """One nest of the press; the other works beside it."""
    for job in floor.plan.jobs("PRESS20", nest):
        number = job.unit or 0
        await floor.milestones.wait("ROTOR15", number)
        await _press(floor, job)
        floor.milestones.reach("PRESS20", number)


def winding_signals(floor: Floor, tick: int) -> None:
    """The wire's tension lives while the machine runs."""
    running = floor.get("w10", "running")
    tension = level(floor.plan.seed, "tension", tick, 24.0, 1.2) if running else 0.0
    floor.put("w10", {"tension": tension})


def press_signals(floor: Floor, tick: int) -> None:
    floor.put("p20", {"oil_temp": level(floor.plan.seed, "oil", tick // 20, 46.0, 0.8)})


def _change_reel(floor: Floor, unit: int) -> Moment:
    reel = floor.plan.reel_of(unit)
    return floor.journal.event(
        "reel_changed",
        holder="feeder/F07",
        reel=reel.number,
        lot=reel.lot,
        quantity_kg=reel.quantity_kg,
        before_unit=unit,
        late=reel.late,
    )


async def _wind(floor: Floor, job: Job) -> None:
    text = read_text(job, floor.dmc(job))
    if text is not None:
        floor.put("w10", {"dmc": text})
    shown_text = str(floor.get("w10", "dmc"))
    await asyncio.sleep(LEVEL_S)
    start: dict[str, Value] = {"cycle_no": job.count, "program": WINDING_PROGRAM}
    floor.put("w10", {**start, "running": True})
    started = await floor.work(job)
    results = winding(floor.plan.seed, job)
    floor.put("w10", {**results, "running": False})
    lot = floor.plan.reel_of(job.unit or 0).lot
    feeds = ({"holder": "feeder/F07", "lot": lot, "quantity": _WIRE_KG},)
    done = Done(started, text=shown_text, feeds=feeds)
    floor.record(job, done, floor.values("w10", [*start, *results]))
    await asyncio.sleep(LEVEL_S)
    if floor.plan.scan("WIND10", (job.unit or 0) + 1) is not Scan.STALE:
        floor.put("w10", {"dmc": ""})


async def _press(floor: Floor, job: Job) -> None:
    nest = job.nest
    text = read_text(job, floor.dmc(job))
    if text is not None:
        scanned = floor.get("scanner20", f"{nest}_no")
        number = (int(scanned) if isinstance(scanned, int) else 0) + 1
        floor.put("scanner20", {nest: text, f"{nest}_no": number % _COUNTER})
    shown_text = str(floor.get("scanner20", nest))
    await asyncio.sleep(LEVEL_S)
    start: dict[str, Value] = {f"{nest}.cycle_no": job.count, f"{nest}.program": PRESS_PROGRAM}
    floor.put("p20", {**start, f"{nest}.clamped": True, f"{nest}.done": False})
    started = await floor.work(job)
    _show_pressed(floor, job, Done(started, text=shown_text), start)
    await asyncio.sleep(LEVEL_S)
    floor.put("p20", {f"{nest}.clamped": False})
    if floor.plan.scan("PRESS20", (job.unit or 0) + 2) is not Scan.STALE:
        floor.put("scanner20", {nest: ""})
    await asyncio.sleep(LEVEL_S)


def _show_pressed(floor: Floor, job: Job, done: Done, start: dict[str, Value]) -> None:
    """Curve, verdict and the end edge in one snapshot."""
    nest = job.nest
    curve = press_curve(floor.plan.seed, job)
    points = len(curve.x)
    way, force = curve.padded(PRESS_POINTS)
    results: dict[str, Value] = {
        f"{nest}.result": 2 if job.defect else 1,
        f"{nest}.nok": job.defect,
        f"{nest}.curve.n": points,
    }
    arrays: dict[str, Value] = {f"{nest}.curve.way": way, f"{nest}.curve.force": force}
    floor.put("p20", {**arrays, **results, f"{nest}.done": True})
    record = curve_record(
        "force_way",
        nest,
        floor.points("p20", f"{nest}.curve.way", points),
        floor.points("p20", f"{nest}.curve.force", points),
    )
    feeds = ({"holder": f"magazine/P20-{nest}", "quantity": 1},)
    pressed = Done(done.started, text=done.text, curves=(record,), feeds=feeds)
    floor.record(job, pressed, floor.values("p20", [*start, *results]))
