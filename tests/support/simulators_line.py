"""A simulated line without servers: hand-shakes in virtual time, the journal in memory."""

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path

from simulators.clock import Clock
from simulators.config import PlantConfig, ProductionConfig, read_plant_file
from simulators.journal import CycleRecord, EventRecord, Journal, Record, parse_lines
from simulators.line import Line
from simulators.memory import DeviceImage, build_images

EDRIVE = Path("simulators/plants/edrive.yaml")
MAILBOXES = {
    "st000": ("ready", "taken"),
    "f07": ("scan_ready", "scan_taken"),
    "r15": ("ready", "taken"),
    "st010": ("ready", "taken"),
    "eol30": ("ready", "taken"),
}
START_US = 1_780_000_000_000_000


class VirtualLine:
    """A line without servers on the loop's own clock."""

    def __init__(self, seed: int = 4711, **production: object) -> None:
        loop = asyncio.get_running_loop()
        clock = Clock(
            mono_us=lambda: round(loop.time() * 1e6),
            utc_us=lambda: START_US + round(loop.time() * 1e6),
        )
        plant = read_plant_file(EDRIVE).model_copy(update={"seed": seed})
        if plant.production is None:
            raise ValueError(f"{EDRIVE} has no line")
        made = ProductionConfig.model_validate(plant.production.model_dump() | production)
        self.plant: PlantConfig = plant.model_copy(update={"production": made})
        self.images: Mapping[str, DeviceImage] = build_images(self.plant, clock.utc_us)
        self.sink = io.StringIO()
        self.journal = Journal(clock, self.sink)
        self.line = Line(self.plant, made, self.images, self.journal)

    async def run(self, deaf: frozenset[str] = frozenset()) -> None:
        """Runs until all units are made, taking every offered mailbox but the deaf ones'."""
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self.line.run()),
                *(tasks.create_task(self.take(name)) for name in MAILBOXES if name not in deaf),
            ]
            await self.line.all_made()
            for task in running:
                task.cancel()

    async def take(self, device: str) -> None:
        ready, taken = MAILBOXES[device]
        image = self.images[device]
        while True:
            await asyncio.sleep(0.1)
            if image.get(ready) and not image.get(taken):
                image.put(taken, value=True)
                self.line.written(device, taken)

    @property
    def records(self) -> list[Record]:
        self.journal.flush()
        return list(parse_lines(io.StringIO(self.sink.getvalue())))

    @property
    def cycles(self) -> list[CycleRecord]:
        return [record for record in self.records if isinstance(record, CycleRecord)]

    def events(self, what: str) -> list[EventRecord]:
        return [r for r in self.records if isinstance(r, EventRecord) and r.what == what]
