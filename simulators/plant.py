"""A whole plant in this process: memory, servers, signals, line, journal.

The composition root: the only place that builds all of it. Use as an asynchronous context manager;
inside, every device listens and the line works. Leaving stops everything and flushes the journal.
"""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TextIO

from simulators.clock import Clock, system_clock
from simulators.config import PlantConfig
from simulators.journal import Journal
from simulators.line import Line
from simulators.live import LiveSignals
from simulators.memory import DeviceImage, build_images
from simulators.servers import Served, open_servers, ports_of
from simulators.tags import Value


class Plant:
    """One running plant; `journal_sink` takes the journal's lines."""

    def __init__(
        self,
        config: PlantConfig,
        *,
        journal_sink: TextIO | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or system_clock()
        self.journal = Journal(self.clock, journal_sink)
        self.images: dict[str, DeviceImage] = build_images(config, self.clock.utc_us)
        self.signals = LiveSignals(config, self.images, self.clock.mono_us)
        self.servers: dict[str, Served] = open_servers(
            config, self.images, self.journal, self.signals.refresh, self._written
        )
        self.line: Line | None = None
        if config.production is not None:
            self.line = Line(config, config.production, self.images, self.journal)
            self.signals.extra |= self.line.signals()
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.journal.start(self.config.site, self.config.line, self.config.seed)
        self._exit.callback(self.journal.flush)
        async with AsyncExitStack() as undo:
            for server in self.servers.values():
                undo.push_async_callback(server.close)
                await server.start()
            if self.line is not None:
                tasks = await undo.enter_async_context(asyncio.TaskGroup())
                undo.callback(tasks.create_task(self.line.run()).cancel)
            self._exit.push_async_exit(undo.pop_all())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exit.__aexit__(kind, error, trace)

    @property
    def ports(self) -> dict[str, dict[str, Any]]:
        return ports_of(self.config, self.servers)

    def server_of(self, name: str) -> Served | None:
        """Returns the server of a device or controller; None: no such name."""
        device = self.config.devices.get(name)
        return self.servers.get(name if device is None else device.controller)

    def status(self) -> dict[str, Any]:
        return {
            "responses": self.journal.responses,
            "line": None if self.line is None else self.line.status(),
        }

    def _written(self, device: str, name: str, value: Value) -> None:  # noqa: ARG002  # the port's shape
        if self.line is not None:
            self.line.written(device, name)
