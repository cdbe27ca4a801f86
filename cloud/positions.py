"""Who counts which part of a log, and what follows when the log is another one.

Rule 1: whoever takes a part over first ends the backends of the owner before: a process that is
stopped in mid-COPY keeps its locks for ever otherwise.
Rule 2: `log_gen` is raised in the transaction that lets parts begin anew, once for all readers.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog

from cloud.clock import Clock
from cloud.db import AsyncConnection, LockKey, StoreTrouble, Trouble, translated
from cloud.recording import Raised, alarm_of, record_alarms
from cloud.sessions import Session, Sessions
from cloud.source import Loss, LossKind, Mark, Part, SourceState, SourceTrouble
from cloud.statements import SOURCE
from protocols.events import Severity

TERMINATE_MS: Final = 5000
RELEASE_S: Final = 2.0
CLAIM_TRIES: Final = 5


class Positions:
    """The counts of one reader. A `cloud.source.Keeper`."""

    def __init__(self, sessions: Sessions, owner: UUID, clock: Clock) -> None:
        self._sessions = sessions
        self._owner = owner
        self._clock = clock
        self._log = structlog.get_logger("cloud.positions")

    async def claim(
        self, parts: Iterable[Part], topics: Mapping[str, UUID | None]
    ) -> Mapping[Part, Mark]:
        wanted = sorted(parts)
        return await self._sessions.insist(partial(self._claim, wanted, topics))

    async def release(self, parts: Iterable[Part]) -> None:
        columns = _columns(parts)
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._sessions.attempt(partial(self._release, columns))
        except (StoreTrouble, TimeoutError) as error:
            self._log.info("parts not released: the next reader ends our backend", why=str(error))

    async def replaced(self, losses: Sequence[Loss]) -> None:
        await self._sessions.insist(partial(self._replaced, losses))

    async def _claim(
        self, parts: Sequence[Part], topics: Mapping[str, UUID | None], session: Session
    ) -> Mapping[Part, Mark]:
        async with session.lock:
            for _ in range(CLAIM_TRIES):
                marks = await self._claim_once(session.preparing, parts, topics)
                if marks is not None:
                    return marks
        raise StoreTrouble(Trouble.BLOCKED, "others claim the same parts again and again")

    async def _claim_once(
        self,
        connection: AsyncConnection,
        parts: Sequence[Part],
        topics: Mapping[str, UUID | None],
    ) -> Mapping[Part, Mark] | None:
        """None: another one took some of them meanwhile."""
        columns = _columns(parts)
        with translated():
            ended = await self._end_owners(connection, columns)
            await connection.execute(_MAKE_PARTS, columns)
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock(%s)", [LockKey.LOG])
                lost = await self._know(connection, topics)
                if lost:
                    await self._begin_anew(connection, lost)
                cursor = await connection.execute(_LOCK_PARTS, columns)
                found = await cursor.fetchall()
                if any(owner not in ended for *_, owner in found):
                    return None
                await connection.execute(_TAKE_PARTS, [self._owner, *columns])
        return {
            Part(topic, number): Mark(next_offset, None if stamp is None else bytes(stamp))
            for topic, number, next_offset, stamp, _ in found
        }

    async def _end_owners(
        self, connection: AsyncConnection, columns: Sequence[Any]
    ) -> frozenset[UUID | None]:
        """Those who count nothing any more from now on, nobody and ourselves included."""
        cursor = await connection.execute(_OWNERS, [*columns, self._owner])
        owners = [owner for (owner,) in await cursor.fetchall()]
        if owners:
            cursor = await connection.execute(_END, [TERMINATE_MS, owners])
            ended = await cursor.fetchall()
            if ended:
                self._log.warning(
                    "ended backends of another reader", pids=[pid for pid, _ in ended]
                )
            stubborn = [pid for pid, is_ended in ended if not is_ended]
            if stubborn:
                reason = f"backends {stubborn} of a reader that is gone do not end"
                raise StoreTrouble(Trouble.BLOCKED, reason)
        return frozenset((None, self._owner, *owners))

    async def _know(
        self, connection: AsyncConnection, topics: Mapping[str, UUID | None]
    ) -> list[Loss]:
        """Compare the topics' ids with those known; whole topics that are others now."""
        cursor = await connection.execute(_TOPICS, [list(topics)])
        known: dict[str, Known] = {}
        for topic, topic_id, is_replaced in await cursor.fetchall():
            known.setdefault(topic, Known()).add(topic_id, is_replaced=is_replaced)
        lost = []
        for topic, topic_id in sorted(topics.items()):
            step = step_of(known.get(topic), topic_id)
            if step is Step.STALE:
                reason = f"the server asked still tells the id of {topic} from before"
                raise SourceTrouble(SourceState.KAFKA_DOWN, reason)
            if step is Step.REPLACE:
                detail = f"the topic was {known[topic].now} and is {topic_id}"
                lost.append(Loss(Part(topic, -1), Mark(), LossKind.RECREATED, detail))
            await self._remember(connection, topic, topic_id, step)
        return lost

    async def _remember(
        self, connection: AsyncConnection, topic: str, topic_id: UUID | None, step: "Step"
    ) -> None:
        if step is Step.REPLACE:
            await connection.execute(_RETIRE_TOPIC, [topic])
        if step in (Step.REPLACE, Step.LEARN):
            await connection.execute(_NEW_TOPIC, [topic, topic_id])
        if step is Step.NAME:
            await connection.execute(_NAME_TOPIC, [topic_id, topic])

    async def _release(self, columns: Sequence[Any], session: Session) -> None:
        async with session.lock:
            with translated():
                await session.preparing.execute(_RELEASE_PARTS, [*columns, self._owner])

    async def _replaced(self, losses: Sequence[Loss], session: Session) -> None:
        async with session.lock:
            with translated():
                async with session.preparing.transaction():
                    await session.preparing.execute(
                        "select pg_advisory_xact_lock(%s)", [LockKey.LOG]
                    )
                    await self._begin_anew(session.preparing, losses)

    async def _begin_anew(self, connection: AsyncConnection, losses: Sequence[Loss]) -> None:
        """Raise `log_gen` once for all of these that are still as they were found."""
        found = [loss for loss in losses if await self._reset(connection, loss)]
        if not found:
            return
        cursor = await connection.execute("update kafka_log set gen = gen + 1 returning gen")
        row = await cursor.fetchone()
        gen = 0 if row is None else int(row[0])
        for loss in found:
            number = None if loss.part.number < 0 else loss.part.number
            values = [gen, loss.part.topic, number, loss.kind, loss.detail]
            await connection.execute(_LOSS, values)
            self._log.error("log replaced", log_gen=gen, kind=loss.kind, detail=loss.detail)
        await record_alarms(connection, [self._alarm(gen, found)])

    async def _reset(self, connection: AsyncConnection, loss: Loss) -> bool:
        if loss.kind is LossKind.RECREATED:
            await connection.execute(_RESET_TOPIC, [loss.part.topic])
            return True
        values = [loss.part.topic, loss.part.number, self._owner]
        values += [loss.mark.next_offset, loss.mark.stamp]
        cursor = await connection.execute(_RESET_PART, values)
        return cursor.rowcount == 1

    def _alarm(self, gen: int, losses: Sequence[Loss]) -> Raised:
        first = losses[0]
        more = f" and {len(losses) - 1} more" if len(losses) > 1 else ""
        part = first.part
        where = part.topic if part.number < 0 else f"{part.topic}/{part.number}"
        alarm = alarm_of(
            f"log_replaced/{first.part.topic}",
            f"Kafka's log is not the one that was read ({first.kind}): {where}{more}:"
            f" {first.detail}. It is read from its beginning; agents send again what is not"
            f" stored.",
            at=self._clock.now(),
            source=SOURCE,
            what=str(gen),
            severity=Severity.ERROR,
        )
        return Raised(alarm)


class Step(Enum):
    """What a topic's id, as the server tells it, means beside those known."""

    NOTHING = "nothing"
    LEARN = "learn"  # never heard of it
    NAME = "name"  # known, and told its id for the first time
    REPLACE = "replace"  # another topic of the same name
    STALE = "stale"  # one that was replaced: this server lags behind


@dataclass(slots=True)
class Known:
    """A topic's ids as they are remembered."""

    now: UUID | None = None
    before: set[UUID] = field(default_factory=set)

    def add(self, topic_id: UUID | None, *, is_replaced: bool) -> None:
        if not is_replaced:
            self.now = topic_id
        elif topic_id is not None:
            self.before.add(topic_id)


def step_of(known: Known | None, topic_id: UUID | None) -> Step:
    """Pure. An id never comes back, so one of before is only an old answer."""
    if known is None:
        return Step.LEARN
    if topic_id is None or topic_id == known.now:
        return Step.NOTHING
    if topic_id in known.before:
        return Step.STALE
    return Step.NAME if known.now is None else Step.REPLACE


def _columns(parts: Iterable[Part]) -> list[list[Any]]:
    ordered = sorted(parts)
    return [[part.topic for part in ordered], [part.number for part in ordered]]


# Whoever counts a part holds its row to the commit: of rows that are there nothing may wait.
_MAKE_PARTS: Final = """
    insert into kafka_position (topic, part)
    select w.* from unnest(%s::text[], %s::int4[]) as w (topic, part)
    where not exists (
        select from kafka_position p where p.topic = w.topic and p.part = w.part
    )
    on conflict do nothing
"""

_OWNERS: Final = """
    select distinct owner from kafka_position
    join unnest(%s::text[], %s::int4[]) as w (topic, part) using (topic, part)
    where owner is not null and owner <> %s
"""

# A backend by its number and its birth: numbers come back.
_END: Final = """
    select pid, pg_terminate_backend(pid, %s)
    from ingest_owner join pg_stat_activity using (pid, backend_start)
    where owner = any(%s)
"""

_TOPICS: Final = """
    select topic, topic_id, replaced_at is not null from kafka_topic where topic = any(%s)
"""

_RETIRE_TOPIC: Final = """
    update kafka_topic set replaced_at = now() where topic = %s and replaced_at is null
"""

_NEW_TOPIC: Final = "insert into kafka_topic (topic, topic_id) values (%s, %s)"

_NAME_TOPIC: Final = """
    update kafka_topic set topic_id = %s where topic = %s and replaced_at is null
"""

_LOCK_PARTS: Final = """
    select topic, part, next_offset, stamp, owner from kafka_position
    join unnest(%s::text[], %s::int4[]) as w (topic, part) using (topic, part)
    order by topic, part for update of kafka_position
"""

_TAKE_PARTS: Final = """
    update kafka_position p set owner = %s
    from unnest(%s::text[], %s::int4[]) as w (topic, part)
    where p.topic = w.topic and p.part = w.part
"""

_RELEASE_PARTS: Final = """
    update kafka_position p set owner = null
    from unnest(%s::text[], %s::int4[]) as w (topic, part)
    where p.topic = w.topic and p.part = w.part and p.owner = %s
"""

_RESET_TOPIC: Final = "update kafka_position set next_offset = 0, stamp = null where topic = %s"

_RESET_PART: Final = """
    update kafka_position set next_offset = 0, stamp = null
    where topic = %s and part = %s and owner = %s and next_offset = %s
    and stamp is not distinct from %s
"""

_LOSS: Final = """
    insert into kafka_loss (gen, topic, part, why, detail) values (%s, %s, %s, %s, %s)
"""
