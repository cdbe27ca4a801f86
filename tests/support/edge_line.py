"""The whole agent in virtual time: the example's file, the simulated line, an outbox in memory.

Real: check, compile, pollers, schedule, pipeline, conditioning, binding, line. Only wire and disk
are left out.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ruamel.yaml import YAML

from edge.agent import Agent, Outside
from edge.check import Checked, check
from edge.cut import Cut, Recovered
from protocols.driver import Clock, Device
from protocols.registry import AnyConnection
from tests.support.edge_fakes import LoopClock, MemoryOutbox
from tests.support.line_device import LineDevice
from tests.support.simulators_line import START_US, VirtualLine

E = TypeVar("E")
EXAMPLE = Path(__file__).parents[2] / "edge" / "examples" / "edrive.yaml"


def checked_example(folder: Path, *devices: str) -> Checked:
    """The example without its analogue groups; only these devices and no stations, if any named."""
    yaml = YAML(typ="rt", pure=True)
    data = yaml.load(EXAMPLE)
    for name in list(data["devices"]):
        data["devices"][name]["groups"].pop("analog", None)
        if devices and name not in devices:
            del data["devices"][name]
    if devices:
        del data["stations"]
    file = folder / "agent.yaml"
    with file.open("w", encoding="utf-8") as out:
        yaml.dump(data, out)
    return check(file)


@dataclass
class Run:
    """A line and the agents that watched it, one after the other."""

    line: VirtualLine
    cuts: list[Cut] = field(default_factory=list)

    def events(self, kind: type[E]) -> list[E]:
        return [event for cut in self.cuts for event in cut.events if isinstance(event, kind)]


class Watching:
    """One agent on a line, started and ended by the test."""

    def __init__(self, checked: Checked, line: VirtualLine, recovered: Recovered | None) -> None:
        self.outbox = MemoryOutbox(recovered)
        self.devices: dict[str, LineDevice] = {}
        self.synced: list[Cut] = []
        self.clock = LoopClock(START_US + round(asyncio.get_running_loop().time() * 1e6))
        names = iter(checked.plan.devices)

        def opened(_: AnyConnection, clock: Clock) -> Device:
            name = next(names).name
            self.devices[name] = LineDevice(name, line, clock)
            return self.devices[name]

        numbers = itertools.count(0x5EED)
        outside = Outside(self.clock, lambda: 0.0, lambda: next(numbers), opened, restarting=False)
        self.agent = Agent(checked, self.outbox, outside)

    @property
    def recovered(self) -> Recovered:
        last = self.outbox.cuts[-1]
        return Recovered(last.watermark_us, last.state, had_spool=True)


@asynccontextmanager
async def living(units: int) -> AsyncIterator[Run]:
    """A line that makes so many units."""
    line = VirtualLine(units=units)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(line.line.run())
        yield Run(line)
        task.cancel()


async def watch(
    run: Run,
    checked: Checked,
    for_s: float | None = None,
    recovered: Recovered | None = None,
    *,
    hold_from_s: float | None = None,
) -> Watching:
    """Until all is made (or for that long), then a clean stop.

    `hold_from_s`: from then on nothing is synced, as a crash finds it.
    """
    watching = Watching(checked, run.line, recovered)
    async with asyncio.timeout(3600), asyncio.TaskGroup() as tasks:
        tasks.create_task(watching.agent.run())
        if hold_from_s is not None:
            await asyncio.sleep(hold_from_s)
            watching.outbox.hold = True
        if for_s is None:
            await run.line.line.all_made()
            await asyncio.sleep(8)  # the last hand-over and what waits for a late read
        else:
            await asyncio.sleep(for_s - (hold_from_s or 0.0))
        watching.synced = watching.outbox.synced
        watching.agent.stop()
    run.cuts += watching.outbox.cuts
    return watching
