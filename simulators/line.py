"""The line's life: all stations as tasks, writes of agents to the mailbox they belong to."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from simulators.catalogue import NESTS
from simulators.config import PlantConfig, ProductionConfig, Station
from simulators.edges import (
    press_nest,
    press_signals,
    winding_signals,
    winding_station,
)
from simulators.floor import Floor
from simulators.handshake import Handshake
from simulators.image import Image
from simulators.journal import Journal
from simulators.live import Extra
from simulators.stations import (
    ReelQueue,
    end_of_line_station,
    first_station,
    reel_scanner,
    rotor_station,
    screwing_station,
)

_MOST_WAITING_REELS = 4
_COUNTERS: dict[Station, tuple[str, tuple[str, ...]]] = {
    "ST000": ("st000", ("count",)),
    "WIND10": ("w10", ("cycle_no",)),
    "F07-LOAD": ("f07", ("scan_no",)),
    "ROTOR15": ("r15", ("count",)),
    "PRESS20": ("p20", tuple(f"{nest}.cycle_no" for nest in NESTS)),
    "ST010": ("st010", ("cycle_no",)),
    "EOL30": ("eol30", ("count",)),
}


class Line:
    """One line; `run` ends only by cancellation, after the last unit it holds still."""

    def __init__(
        self,
        plant: PlantConfig,
        production: ProductionConfig,
        images: Mapping[str, Image],
        journal: Journal,
    ) -> None:
        self._floor = Floor(plant, production, images, journal)
        for station, (device, names) in _COUNTERS.items():
            # A counter stands where yesterday's last cycle left it.
            self._floor.put(device, dict.fromkeys(names, self._floor.plan.count(station, 0)))
        self._scans = ReelQueue(maxsize=_MOST_WAITING_REELS)
        self._mailboxes = {
            "st000": Handshake(self._floor, "ST000", "st000"),
            "f07": Handshake(self._floor, "F07-LOAD", "f07", "scan_"),
            "r15": Handshake(self._floor, "ROTOR15", "r15"),
            "st010": Handshake(self._floor, "ST010", "st010"),
            "eol30": Handshake(self._floor, "EOL30", "eol30"),
        }

    async def run(self) -> None:
        floor, mailboxes = self._floor, self._mailboxes
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first_station(floor, mailboxes["st000"]))
            tasks.create_task(winding_station(floor, self._scans))
            tasks.create_task(reel_scanner(floor, mailboxes["f07"], self._scans))
            tasks.create_task(rotor_station(floor, mailboxes["r15"]))
            for nest in NESTS:
                tasks.create_task(press_nest(floor, nest))
            tasks.create_task(screwing_station(floor, mailboxes["st010"]))
            tasks.create_task(end_of_line_station(floor, mailboxes["eol30"]))

    async def all_made(self) -> None:
        """Returns when the plant file's last unit has left; never, when it names no number."""
        await self._floor.all_made.wait()

    def signals(self) -> dict[str, Extra]:
        """Returns the signals that follow the stations' state, by device."""
        return {
            "w10": lambda tick: winding_signals(self._floor, tick),
            "p20": lambda tick: press_signals(self._floor, tick),
        }

    def written(self, device: str, name: str) -> None:
        if device in self._mailboxes:
            self._mailboxes[device].written(name)

    def status(self) -> dict[str, Any]:
        return asdict(self._floor.tally)
