"""Carries ingest's receipts from Kafka to the agents.

Rule 1: receipts are said to be sent only after the broker took them; while the broker is away they
wait in Kafka.
"""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Final

from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.ports import Intake, Letter, Letterbox, Trouble
from gateway.standing import Part, Standing
from protocols.errors import Busy, Disconnected
from protocols.retry import Backoff, Tries

LASTING_S: Final = 30.0
RETRY: Final = Backoff(first_s=0.5, limit_s=15.0)


class Mail:
    """Runs until it is cancelled."""

    def __init__(
        self,
        letterbox: Letterbox,
        intake: Intake,
        standing: Standing,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._letterbox = letterbox
        self._intake = intake
        self._standing = standing
        self._metrics = metrics
        self._clock = clock

    async def run(self) -> None:
        tries = Tries(RETRY, LASTING_S)
        try:
            while True:
                tries.begin(self._clock.monotonic_s())
                try:
                    await self._letterbox.open()
                    self._standing.up(Part.RECEIPTS)
                    await self._carry()
                except Trouble as trouble:
                    self._standing.down(Part.RECEIPTS, "receipts_down", trouble.reason)
                await self._letterbox.close()
                now_s = self._clock.monotonic_s()
                await asyncio.sleep(tries.pause_s(now_s, self._clock.draw()))
        finally:
            await self._letterbox.close()

    async def _carry(self) -> None:
        while True:
            letters = await self._letterbox.take()
            for attempt in itertools.count():
                if await self._deliver(letters):
                    break
                await asyncio.sleep(RETRY.delay_s(attempt, self._clock.draw()))
            await self._letterbox.sent()

    async def _deliver(self, letters: Sequence[Letter]) -> bool:
        """False: the broker is away; all of them will have to be sent again."""
        try:
            for letter in letters:
                await self._send(letter)
            await self._intake.answered()
        except Disconnected:
            return False
        self._metrics.receipts.labels("carried").inc(len(letters))
        return True

    async def _send(self, letter: Letter) -> None:
        while True:
            try:
                self._intake.answer(letter)
            except Busy:
                await self._intake.answered()
            else:
                return
