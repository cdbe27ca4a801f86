"""Keeps the trace view up to the events recorded: one writer, batch by batch, each one transaction.

Rule 1: view and position are committed together; after any stop it goes on where the view stands.
Rule 2: events are taken in order of `recorded_seq`, which is given under a lock held to the commit:
none can appear below one that was seen.
Rule 3: an event that a bug keeps out is left out loudly; the view of all others goes on.
"""

import asyncio
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from cloud import migrate
from cloud.clock import Clock
from cloud.db import AsyncConnection, LockKey, StoreTrouble, connect_async, translated
from cloud.metrics import ProjectorMetrics
from cloud.projection.masters import Masters
from cloud.projection.upkeep.advance import advance
from cloud.projection.upkeep.prefetch import prefetch
from cloud.projection.workspace import Workspace
from cloud.projection_state import read_standing, stand_at
from cloud.recording import CHANNEL
from cloud.trace_store import PostgresStore
from protocols.events import Event, decode_event
from protocols.retry import Backoff

BATCH: Final = 200
BATCH_BYTES_MAX: Final = 16 * 1024 * 1024
SKIPPED_MAX: Final = 20
ERROR_MAX: Final = 2000
WAIT_S: Final = 1.0  # how long a missed notification can go unnoticed
RETRY: Final = Backoff(first_s=0.5, limit_s=15.0)


@dataclass(frozen=True, slots=True)
class Worked:
    """What a batch did. `more`: there may be further events already."""

    events: int
    skipped: int
    position: int
    rows_read: int
    more: bool
    masters_pending: bool


@dataclass(frozen=True, slots=True)
class Lag:
    """Events not in the view yet, counted to a limit, and the age of the oldest."""

    events: int
    age_s: float


class Projector:
    """Runs until it is cancelled. Several take turns, batch by batch."""

    def __init__(self, dsn: str, clock: Clock, metrics: ProjectorMetrics) -> None:
        self._dsn = dsn
        self._clock = clock
        self._metrics = metrics
        self._log = structlog.get_logger("cloud.projector")
        self._attempt = 0
        self._pending = False
        self._is_up = False

    async def run(self) -> None:
        while True:
            try:
                connection = await _open(self._dsn)
                try:
                    await self._keep_up(connection)
                finally:
                    await connection.close()
            except StoreTrouble as trouble:
                if self._is_up or self._attempt == 0:
                    self._log.warning("down", state=trouble.trouble, reason=trouble.reason)
                self._is_up = False
                self._metrics.up.set(0)
            await asyncio.sleep(RETRY.delay_s(self._attempt, self._clock.draw()))
            self._attempt += 1

    async def _keep_up(self, connection: AsyncConnection) -> None:
        with translated():
            await connection.execute(f"listen {CHANNEL}")
        while True:
            started_s = self._clock.monotonic_s()
            worked = await work_off(connection)
            self._note(worked, self._clock.monotonic_s() - started_s)
            with translated():
                lag = await read_lag(connection, worked.position)
                self._metrics.lag_events.set(lag.events)
                self._metrics.lag_s.set(lag.age_s)
                if not worked.more:
                    await _until_notified(connection)

    def _note(self, worked: Worked, took_s: float) -> None:
        metrics = self._metrics
        metrics.up.set(1)
        if not self._is_up:
            self._log.info("up", position=worked.position)
        self._attempt, self._is_up = 0, True
        if worked.events:
            metrics.batch_s.observe(took_s)
            metrics.events.inc(worked.events)
            metrics.rows_read.inc(worked.rows_read)
        metrics.skipped.inc(worked.skipped)
        metrics.position.set(worked.position)
        metrics.masters_pending.set(worked.masters_pending)
        if worked.masters_pending and not self._pending:
            self._log.warning("masters changed", remedy="run `threadline cloud rebuild`")
        self._pending = worked.masters_pending


async def work_off(
    connection: AsyncConnection, limit: int = BATCH, turn: LockKey = LockKey.PROJECTION
) -> Worked:
    """Take the next events into the view. StoreTrouble: nothing was changed."""
    try:
        return await _batch(connection, limit, turn)
    except StoreTrouble:
        raise
    except Exception:  # noqa: BLE001 - whose bug it is shows when each event is taken alone
        return await _one_by_one(connection, limit, turn)


async def read_lag(connection: AsyncConnection, position: int) -> Lag:
    """How far a position is behind what was recorded."""
    row = await (await connection.execute(_LAG, [position])).fetchone()
    return Lag(0, 0.0) if row is None else Lag(row[0], row[1])


async def take_turn(connection: AsyncConnection, turn: LockKey = LockKey.PROJECTION) -> None:
    """Be the only writer of the view until the transaction ends."""
    await connection.execute("select pg_advisory_xact_lock(%s)", [turn])


async def _batch(connection: AsyncConnection, limit: int, turn: LockKey) -> Worked:
    with translated():
        async with connection.transaction():
            await take_turn(connection, turn)
            standing = await read_standing(connection)
            events, more = await _next_events(connection, standing.position, limit)
            store = PostgresStore(connection)
            position = standing.position
            if events:
                await _take_in(Workspace(store), events, standing.masters)
                position = events[-1][0]
                await stand_at(connection, position, standing.masters)
    return Worked(len(events), 0, position, store.rows_read, more, standing.pending)


async def _one_by_one(connection: AsyncConnection, limit: int, turn: LockKey) -> Worked:
    """The same events, each in a transaction of its own; one that fails is put aside."""
    taken = skipped = rows = in_a_row = 0
    while True:
        try:
            worked = await _batch(connection, 1, turn)
        except StoreTrouble:
            raise
        except Exception as bug:
            in_a_row += 1
            if in_a_row > SKIPPED_MAX:  # not an event's fault: stand still rather than skip all
                raise
            await _skip(connection, bug, turn)
            skipped += 1
            continue
        in_a_row = 0
        taken, rows = taken + worked.events, rows + worked.rows_read
        if not worked.more or taken + skipped >= limit:
            return replace(worked, events=taken, skipped=skipped, rows_read=rows)


async def _skip(connection: AsyncConnection, bug: Exception, turn: LockKey) -> None:
    log = structlog.get_logger("cloud.projector")
    with translated():
        async with connection.transaction():
            await take_turn(connection, turn)
            standing = await read_standing(connection)
            cursor = await connection.execute(_SKIP, [_told(bug), standing.position])
            row = await cursor.fetchone()
            if row is not None:
                await stand_at(connection, row[0], standing.masters)
                log.error("an event is left out of the view", id=str(row[1]), error=repr(bug))


def _told(bug: Exception) -> str:
    """The end of the traceback, without what no text of the database can hold."""
    return "".join(traceback.format_exception(bug))[-ERROR_MAX:].replace("\x00", "")


async def _take_in(ws: Workspace, events: Sequence[tuple[int, Event]], masters: Masters) -> None:
    await prefetch(ws, [event for _, event in events], masters)
    for recorded_seq, event in events:
        await advance(ws, event, recorded_seq, masters)
    await ws.flush()


async def _open(dsn: str) -> AsyncConnection:
    connection = await connect_async(dsn, application="threadline projector")
    try:
        await migrate.check(connection)
        with translated():
            await connection.execute(_IMPATIENT)
    except BaseException:
        await connection.close()
        raise
    return connection


# Stopped in mid-batch it would keep its turn, and every other projector would wait for it.
_IMPATIENT: Final = "set idle_in_transaction_session_timeout = '60s'"


async def _next_events(
    connection: AsyncConnection, position: int, limit: int
) -> tuple[list[tuple[int, Event]], bool]:
    """The next events, as many as the memory of a batch takes, and whether there may be more."""
    cursor = await connection.execute(_NEXT, [position, limit, BATCH_BYTES_MAX])
    rows = await cursor.fetchall()
    near = rows[0][2] if rows else 0
    more = near == limit or near > len(rows)
    return [(seq, decode_event(body)) for seq, body, _ in rows], more


async def _until_notified(connection: AsyncConnection) -> None:
    async for _ in connection.notifies(timeout=WAIT_S, stop_after=1):
        return


_NEXT: Final = """
    select recorded_seq, body, near from (
        select recorded_seq, body, count(*) over () as near,
               sum(octet_length(body)) over (order by recorded_seq) - octet_length(body) as before
        from (
            select recorded_seq, body::text as body from event where recorded_seq > %s
            order by recorded_seq limit %s
        ) as waiting
    ) as sized
    where before < %s order by recorded_seq
"""
_LAG: Final = """
    select count(*), coalesce(extract(epoch from clock_timestamp() - min(recorded_at)), 0)::float8
    from (
        select recorded_at from event where recorded_seq > %s order by recorded_seq limit 100000
    ) as waiting
"""
_SKIP: Final = """
    insert into projection_skipped (recorded_seq, event, error)
    select recorded_seq, id, %s from event where recorded_seq > %s
    order by recorded_seq limit 1
    on conflict (recorded_seq) do update set error = excluded.error
    returning recorded_seq, event
"""
