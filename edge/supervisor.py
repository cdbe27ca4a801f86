"""Keeps the agent's tasks going: a bug in one restarts that one, counted, and nothing else.

Expected failures never come here: pollers, uplink and servers answer those themselves.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from protocols.driver import Clock
from protocols.retry import Backoff, Tries

STEADY_S: Final = 60.0  # a task that ran this long begins anew with the shortest pause
_log = structlog.get_logger("edge.supervisor")


class Supervisor:
    """`restarting` False: a bug ends everything, as tests want it."""

    def __init__(self, clock: Clock, draw: Callable[[], float], *, restarting: bool = True) -> None:
        self.restarts: Counter[str] = Counter()
        self._clock = clock
        self._draw = draw
        self._restarting = restarting

    async def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run until it returns by itself; begin again after a bug."""
        tries = Tries(Backoff(), STEADY_S)
        while True:
            tries.begin(self._clock.monotonic_s())
            try:
                return await work()
            except Exception:
                if not self._restarting:
                    raise
                self.restarts[name] += 1
                _log.exception("bug: the task starts again", task=name)
            await asyncio.sleep(tries.pause_s(self._clock.monotonic_s(), self._draw()))
