"""A migrated database with agents, and an ingest on it: what tests of the cloud begin with."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud.agents import add
from cloud.clock import Clock
from cloud.db import Connection, connect
from cloud.ingest import Ingest
from cloud.metrics import Metrics
from cloud.migrate import migrate
from cloud.sessions import Sessions
from cloud.standing import Standing
from cloud.storage import Policy, Wanted
from protocols.frames import Frame, Kind
from protocols.receipts import Said
from protocols.retry import Backoff
from tests.support.fake_source import FakeSource

NOW_US = 1_790_000_060_000_000  # a minute after the voices' clock
NOW = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOW_US)
PATIENCE_S = 20.0


@dataclass(frozen=True)
class FixedClock(Clock):
    """Wall time stands still at NOW; waiting is real."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class Bench:
    """A running ingest and what to look at."""

    source: FakeSource
    connection: Connection
    standing: Standing
    metrics: Metrics
    ingest: Ingest
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def send(self, *frames: Frame, agent: str | None = None) -> None:
        """Give the frames to the source and wait until each record is acknowledged."""
        before = len(self.source.acknowledged)
        for frame in frames:
            self.source.push(agent or frame.header.agent, channel_of(frame), frame.sealed)
        await self.until(lambda: len(self.source.acknowledged) >= before + len(frames))

    async def until(self, happens: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not happens():
                for task in self.tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, list(values)).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        return self.rows(query, *values)[0][0]

    def said(self, frame: Frame) -> list[tuple[Said, str | None]]:
        """Everything that receipts said of this very frame, in order."""
        header = frame.header
        return [
            (run.kind, run.reason)
            for receipt in self.source.answers
            for run in receipt.runs
            for at, digest in enumerate(run.digests)
            if (run.epoch, run.lane, run.first + at) == (header.epoch, header.lane, header.seq)
            and digest == header.digest
        ]


def channel_of(frame: Frame) -> str:
    if frame.header.kind in (Kind.HELLO, Kind.STATUS):
        return "hello"
    return frame.header.lane.name.lower()


def prepare_database(dsn: str, agents: Sequence[tuple[str, str]] = ()) -> None:
    """Migrate and register the agents with their scope."""
    with connect(dsn, application="test") as connection:
        migrate(connection, Wanted.AUTO, Policy(), NOW)
        for name, scope in agents:
            add(connection, name, [scope])


@asynccontextmanager
async def running_ingest(
    dsn: str, *, clock: Clock | None = None, source: FakeSource | None = None
) -> AsyncIterator[Bench]:
    """Ingest on a fake source until the block ends; its own failure fails the test."""
    ours = source or FakeSource()
    used = clock or FixedClock()
    metrics = Metrics()
    standing = Standing(used, metrics.state.state)
    sessions = Sessions(dsn, used, standing, Backoff(first_s=0.05, limit_s=0.2))
    ingest = Ingest(ours, sessions, standing, metrics, used)
    with connect(dsn, application="test") as connection:
        bench = Bench(ours, connection, standing, metrics, ingest)
        task = asyncio.get_running_loop().create_task(ingest.run())
        bench.tasks.append(task)
        try:
            await bench.until(lambda: ours.is_open)
            yield bench
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # An ended task keeps its frames, and in them a connection that was being made: the
            # server would wait a minute for its password, and with it whoever drops the database.
            bench.tasks.clear()
            del task
            gc.collect()
