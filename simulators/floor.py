"""The shop floor that all stations stand on: memory, milestones, counters, the journal's cycles.

Owns what stations share while they work. Knows no station.
"""

import asyncio
import hashlib
import struct
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.config import PlantConfig, ProductionConfig
from simulators.image import Image
from simulators.journal import CurveRecord, CycleRecord, ItemRecord, Journal, Moment
from simulators.plan import Job, LinePlan, Purpose, Scan
from simulators.tags import Value, path_of

NO_READ_TEXT = "NOREAD"


@dataclass(slots=True)
class Tally:
    """What `status` shows of the line."""

    born: int = 0
    finished: int = 0
    scrapped: int = 0
    cycles: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """What a station knows at the end of a cycle, beside what its device shows."""

    started: Moment
    text: str | None = None
    curves: tuple[CurveRecord, ...] = ()
    feeds: tuple[dict[str, Any], ...] = ()
    components: tuple[str, ...] = ()
    plc_times: Mapping[str, int] = field(default_factory=dict)


class Milestones:
    """Things that happen once and that exactly one station waits for."""

    def __init__(self) -> None:
        self._events: dict[Hashable, asyncio.Event] = {}

    def reach(self, *milestone: Hashable) -> None:
        self._events.setdefault(milestone, asyncio.Event()).set()

    async def wait(self, *milestone: Hashable) -> None:
        await self._events.setdefault(milestone, asyncio.Event()).wait()
        del self._events[milestone]


class Floor:
    """Shared by the stations of one line, on one loop."""

    def __init__(
        self,
        plant: PlantConfig,
        production: ProductionConfig,
        images: Mapping[str, Image],
        journal: Journal,
    ) -> None:
        self.plan = LinePlan(plant.seed, production)
        self.production = production
        self.journal = journal
        self.milestones = Milestones()
        self.tally = Tally()
        self.all_made = asyncio.Event()
        self._plant = plant
        self._images = images

    async def work(self, job: Job) -> Moment:
        """Takes the time that the job takes; returns when it began."""
        started = self.journal.now()
        await asyncio.sleep(self.plan.cycle_s(job))
        return started

    def put(self, device: str, values: Mapping[str, Value]) -> None:
        """Changes tags of a device; all of one call are in the same snapshot."""
        image = self._images[device]
        for name, value in values.items():
            image.put(name, value)

    def get(self, device: str, name: str) -> Value:
        return self._images[device].get(name)

    def values(self, device: str, names: Iterable[str]) -> dict[str, Any]:
        """Returns tags as the device serves them, by path, arrays by element."""
        image = self._images[device]
        found: dict[str, Any] = {}
        for name in names:
            value, tag = image.get(name), image.slots[name].tag
            if isinstance(value, list):
                path = path_of(device, name)
                found |= {f"{path}[{tag.first + i}]": item for i, item in enumerate(value)}
            else:
                found[path_of(device, name)] = value
        return found

    def points(self, device: str, name: str, count: int) -> list[float]:
        """Returns the first points of an array as the device serves them."""
        value = self.get(device, name)
        return [float(point) for point in value[:count]] if isinstance(value, list) else []

    def plc_time_ns(self, device: str, at: Moment) -> int:
        """Returns what the clock of the device's PLC shows, in UTC."""
        controller = self._plant.controllers[self._plant.devices[device].controller]
        return (at.utc_us + round(controller.clock_offset_s * 1e6)) * 1000

    def dmc(self, job: Job) -> str:
        """Returns the code of the part that a job truly works on; a reel has none."""
        if job.unit is not None:
            return self.plan.unit(job.unit).dmc
        return "" if job.purpose is Purpose.PRODUCTION else self.plan.special_dmc(job)

    def record(self, job: Job, done: Done, values: Mapping[str, Any]) -> None:
        """Journals a cycle that ends now, and counts it."""
        carrier = None if job.unit is None else self.plan.unit(job.unit).carrier
        name = f"{job.station}/{job.nest}" if job.nest else job.station
        self.tally.cycles[name] = self.tally.cycles.get(name, 0) + 1
        self.journal.cycle(
            CycleRecord(
                station=f"{self._plant.line}/{job.station}",
                nest=job.nest,
                count=job.count,
                ordinal=job.ordinal,
                started=done.started,
                ended=self.journal.now(),
                verdict=job.verdict,
                defect=job.defect,
                purpose=job.purpose,
                attempt=job.attempt,
                item=ItemRecord(job.unit, self.dmc(job), done.text, carrier, _outcome(job, done)),
                values=dict(values),
                curves=done.curves,
                feeds=done.feeds,
                components=done.components,
                plc_times=dict(done.plc_times),
            )
        )
        if job.scan is not Scan.READ:
            self.journal.event(
                job.scan, station=job.station, nest=job.nest, count=job.count, unit=job.unit
            )

    def leave(self, unit: int, *, scrapped: bool) -> None:
        """The unit leaves the line and its carrier is free."""
        self.tally.scrapped += scrapped
        self.tally.finished += not scrapped
        what = "scrapped" if scrapped else "finished"
        self.journal.event(what, unit=unit, dmc=self.plan.unit(unit).dmc)
        self.milestones.reach("left", unit)
        left = self.tally.scrapped + self.tally.finished
        if left == self.production.units:
            self.all_made.set()


def curve_record(name: str, place: str, x: list[float], y: list[float]) -> CurveRecord:
    """Returns the record of a curve as served, with its digest."""
    raw = struct.pack(f"<{len(x)}f", *x) + struct.pack(f"<{len(y)}f", *y)
    return CurveRecord(name, place, x, y, hashlib.sha256(raw).hexdigest())


def read_text(job: Job, dmc: str) -> str | None:
    """Returns what the scanner shows for this cycle; None: it shows on what it showed before."""
    match job.scan:
        case Scan.READ:
            return dmc
        case Scan.NO_READ:
            return NO_READ_TEXT
        case Scan.STALE:
            return None


def _outcome(job: Job, done: Done) -> str:
    if done.text is None:
        return "unnamed"
    if job.purpose is not Purpose.PRODUCTION:
        return "bound"
    return "bound" if job.scan is Scan.READ else str(job.scan)
