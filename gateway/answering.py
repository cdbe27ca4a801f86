"""Says `logged` to the agents: gathers what Kafka confirmed for a moment, and publishes receipts.

Rule 1: while the broker is away what is to be said is remembered, up to a bound; beyond it the
frames come again, and are answered then.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.metrics import Metrics
from gateway.ports import Intake, Record
from gateway.receipting import SINGLE_COPY, Logged, letters_of, logged_of
from protocols.errors import Busy, Disconnected

GATHER_S: Final = 0.01
REMEMBERED_MAX: Final = 20_000  # frames


class Answers:
    """One per bridge. `is_single_copy` as Kafka's settings are now."""

    def __init__(self, intake: Intake, metrics: Metrics) -> None:
        self.is_single_copy = False
        self._intake = intake
        self._metrics = metrics
        self._logged: list[Logged] = []
        self._due = asyncio.Event()
        self._silent = asyncio.Event()

    def note(self, records: Sequence[Record]) -> None:
        """Kafka confirmed these."""
        self._logged += logged_of(records)
        self._due.set()

    def connected(self) -> None:
        """The broker is back: what was remembered can go."""
        self._due.set()

    async def said(self) -> None:
        """Wait until nothing is left to say."""
        while self._logged:
            self._silent.clear()
            await self._silent.wait()

    async def run(self) -> None:
        while True:
            await self._due.wait()
            await asyncio.sleep(GATHER_S)
            self._due.clear()
            self._say()
            self._silent.set()

    def _say(self) -> None:
        logged, self._logged = self._logged, []
        reason = SINGLE_COPY if self.is_single_copy else None
        for letter in letters_of(logged, reason):
            try:
                self._intake.answer(letter)
            except Busy:
                self._metrics.receipts_lost.inc()
            except Disconnected:
                self._remember(logged)
                return
            else:
                self._metrics.receipts.labels("logged").inc()

    def _remember(self, logged: Sequence[Logged]) -> None:
        """Said twice is no matter: a receipt can be repeated."""
        self._logged = [*logged, *self._logged]
        excess = len(self._logged) - REMEMBERED_MAX
        if excess > 0:
            del self._logged[:excess]
            self._metrics.receipts_lost.inc()
