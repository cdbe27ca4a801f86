"""Compacts the ledger every few minutes, beside ingest; of several processes one at a time does it.

It never hurries: what is not done now is done the next time, and admission works meanwhile.
"""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from cloud import migrate
from cloud.clock import Clock
from cloud.compaction import Compacted, Tell, compact
from cloud.db import StoreTrouble, connect_async
from cloud.metrics import CompactionMetrics
from protocols.retry import Backoff

EVERY_S: Final = 600.0
RETRY: Final = Backoff(first_s=5.0, limit_s=EVERY_S)


class Compactor:
    """Runs until it is cancelled. `keep` None: never compacts."""

    def __init__(
        self,
        dsn: str,
        keep: timedelta | None,
        clock: Clock,
        metrics: CompactionMetrics,
        every_s: float = EVERY_S,
    ) -> None:
        self._dsn = dsn
        self._keep = keep
        self._clock = clock
        self._metrics = metrics
        self._every_s = every_s
        self._log = structlog.get_logger("cloud.compactor")

    async def run(self) -> None:
        if self._keep is None:
            await asyncio.Event().wait()
            return
        attempt = 0
        while True:
            try:
                done = await compact_all(self._dsn, self._keep, self._metrics.frames.inc)
            except StoreTrouble as trouble:
                if attempt == 0:  # ingest's own line tells the rest
                    self._log.warning("down", state=trouble.trouble, reason=trouble.reason)
                await asyncio.sleep(RETRY.delay_s(attempt, self._clock.draw()))
                attempt += 1
                continue
            if attempt:
                self._log.info("up")
            attempt = 0
            self._note(done)
            await asyncio.sleep(self._every_s)

    def _note(self, done: Compacted | None) -> None:
        if done is not None:
            self._metrics.busy.inc(done.busy)
            self._metrics.last.set(self._clock.now().timestamp())


async def compact_all(dsn: str, keep: timedelta, tell: Tell) -> Compacted | None:
    """Every lane once, over a connection of its own. None: another process does it now."""
    connection = await connect_async(dsn, application="threadline compaction")
    try:
        await migrate.check(connection)
        return await compact(connection, keep, tell)
    finally:
        await connection.close()
