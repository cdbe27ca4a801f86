"""One membership in a consumer group, from joining to leaving.

Rule 1: Kafka only shares the parts out; how far each was taken, the database says, to whom it
belongs. What is committed to Kafka is for people who watch lags.
Rule 2: before a part is read on, the last record taken of it is read again and compared.
Rule 3: nothing of a part is handed out between its being lost and its being claimed anew.
Rule 4: a member that cannot store for a minute leaves the group, so that another can, and does
not join before its database answers.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from cloud.clock import Clock
from cloud.kafka_desk import Desk
from cloud.kafka_log import KafkaSettings, LogView, Topic, client_options, end, translated
from cloud.kafka_places import Ends, Plan, loss_of_record, plan_of
from cloud.kafka_records import record_of
from cloud.source import (
    Appetite,
    Keeper,
    Loss,
    LossKind,
    Mark,
    Overtaken,
    Part,
    Record,
    SourceState,
    SourceTrouble,
)
from protocols.errors import Disconnected

FETCH_BYTES_MAX: Final = 8 * 1024 * 1024  # of one answer of a server
PART_BYTES_MAX: Final = 512 * 1024  # of a part in it; a single record may be larger
POLL_MS: Final = 500
SESSION_MS: Final = 10_000
REBALANCE_MS: Final = 20_000
LEAVE_MS: Final = 60_000  # without taking anything, or without storing what was taken
QUIET_S: Final = 8.0  # what is under way may end before a part is given up
WATCH_S: Final = 2.0
LOST_S: Final = 10.0  # without an answer of any server
COMPARE_S: Final = 20.0
SURE_S: Final = 2.0
COMMIT_S: Final = 5.0
HANG_S: Final = 60.0  # a reading that takes longer has lost its consumer
CLOSE_S: Final = 15.0  # above the time a request may take


class Member:
    """Takes what the group gives it. Used up by its first failure."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        keeper: Keeper,
        clock: Clock,
        on_lag: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._prefix = settings.prefix
        self._topics = tuple(settings.prefix + topic for topic in topics)
        self._keeper = keeper
        self._clock = clock
        self._bytes_max = settings.bytes_max
        self._on_lag = on_lag
        self._view = LogView(settings)
        self._consumer = AIOKafkaConsumer(**_consumer_options(settings))
        self._desk = Desk(self._topics)
        self._is_given = False  # parts by the group, that it does not want back
        self._is_settled = False  # claimed, compared, at the right places
        self._known: Mapping[str, Topic] = {}
        self._watched_s = self._answered_s = self._committed_s = clock.monotonic_s()
        self._stored_s = clock.monotonic_s()  # or had nothing to store
        self._gone: Disconnected | None = None
        self._changed = asyncio.Event()
        self._log = structlog.get_logger("cloud.kafka_source")

    async def open(self, others: Iterable[str]) -> None:
        """Join. `others`: topics that have to be there too. SourceTrouble: not possible now."""
        await self._keeper.claim((), {})
        await self._view.open()
        await self._view.read([*self._topics, *(self._prefix + topic for topic in others)])
        with translated():
            await self._consumer.start()
            self._consumer.subscribe(list(self._topics), listener=_Listener(self))

    async def take(self, appetite: Appetite) -> Sequence[Record]:
        while True:
            if self._gone is not None:
                raise self._gone
            self._leave_if_stuck()
            await self._watch()
            if not self._is_given:
                await self._read(timeout_ms=POLL_MS)  # says that we live, and waits for our share
            elif not self._is_settled:
                await self._settle()
            elif self._desk.bytes_under_way >= self._bytes_max:
                await self._changes(POLL_MS / 1000)
            else:
                await self._fill(appetite)
            if records := self._hand_out(appetite):
                return records

    def _hand_out(self, appetite: Appetite) -> Sequence[Record]:
        room = self._bytes_max - self._desk.bytes_under_way
        if not (self._is_given and self._is_settled) or room <= 0:
            return ()
        if self._desk.is_quiet:
            self._stored_s = self._clock.monotonic_s()
        return self._desk.pop(Appetite(appetite.records, min(appetite.size, room)))

    def holds(self, records: Sequence[Record]) -> bool:
        return self._desk.holds(records)

    def acknowledge(self, records: Sequence[Record]) -> None:
        self._desk.acknowledge(records)
        self._stored_s = self._clock.monotonic_s()
        self._changed.set()

    def abandon(self, records: Sequence[Record]) -> None:
        """Of this turn: the database says that others count what the group gave to us."""
        if self._desk.holds(records):
            self._end(Overtaken("another reader counts our parts: we join anew"))

    async def close(self) -> None:
        """Leave. What is under way keeps its claims: whoever comes next ends it."""
        self._end(Disconnected("closed"))
        if self._desk.is_quiet and self._is_settled:
            await self._keeper.release(map(_part, self._consumer.assignment()))
        for close in (self._consumer.stop, self._view.close):
            await end(close, CLOSE_S)

    async def lose(self, parts: Collection[TopicPartition]) -> None:
        """The group wants everything back. What is under way may end first, for a while."""
        self._is_given = self._is_settled = False
        await self._quiet()
        self._renew()
        if parts:
            await self._keeper.release(map(_part, parts))

    def gain(self, parts: Collection[TopicPartition]) -> None:
        """Held still until they are claimed: nothing is fetched from where Kafka thinks we are."""
        self._renew()
        for part in parts:
            self._consumer.seek(part, 0)
            self._consumer.pause(part)
        self._is_given = True

    def _leave_if_stuck(self) -> None:
        stuck_s = self._clock.monotonic_s() - self._stored_s
        if not self._desk.is_quiet and stuck_s * 1000 > LEAVE_MS:
            why = Overtaken(f"nothing stored for {stuck_s:.0f} s: our parts are left to others")
            self._end(why)
            raise why

    async def _settle(self) -> None:
        """Claim, find the places, compare. Begins again when the group shares out anew."""
        await self._quiet()
        turn = self._renew()
        parts = sorted(self._consumer.assignment())
        try:
            await self._find_places(parts, turn)
        except _SharedOutAnewError:
            await self._keeper.release(map(_part, parts))

    async def _find_places(self, parts: Sequence[TopicPartition], turn: object) -> None:
        self._known = await self._view.read(self._topics)
        ids = {name: topic.topic_id for name, topic in self._known.items()}
        marks = await self._keeper.claim(map(_part, parts), ids)
        self._still(turn)
        plan = plan_of(marks, await self._ends(parts, turn))
        if any(loss.kind is LossKind.CUT for loss in plan.losses):
            await asyncio.sleep(SURE_S)  # a new leader may not know yet how far it has come
            plan = plan_of(marks, await self._ends(parts, turn))
        losses = (*plan.losses, *await self._compare(plan.doubtful, turn))
        if losses:
            await self._keeper.replaced(losses)
            self._still(turn)
        lost = {loss.part for loss in losses}
        for part in parts:
            self._begin(part, plan, marks[_part(part)], is_lost=_part(part) in lost)
        self._is_settled = True

    def _begin(self, part: TopicPartition, plan: Plan, mark: Mark, *, is_lost: bool) -> None:
        """Compared and found good: the place is already right."""
        ours = _part(part)
        if is_lost or ours not in plan.doubtful:
            self._consumer.seek(part, plan.starts[ours])
            self._consumer.resume(part)
        self._desk.begin(ours, 0 if is_lost else mark.next_offset)

    async def _ends(self, parts: Sequence[TopicPartition], turn: object) -> Ends:
        with translated():
            earliest = await self._consumer.beginning_offsets(parts)
            latest = await self._consumer.end_offsets(parts)
        self._still(turn)
        return {_part(part): (earliest[part], latest[part]) for part in parts}

    async def _compare(self, marks: Mapping[Part, Mark], turn: object) -> list[Loss]:
        """Read the last record taken again. Afterwards the next one read is the next to take."""
        waiting = {TopicPartition(part.topic, part.number): mark for part, mark in marks.items()}
        for part, mark in waiting.items():
            self._consumer.seek(part, mark.next_offset - 1)
            self._consumer.resume(part)
        losses: list[Loss | None] = []
        deadline_s = self._clock.monotonic_s() + COMPARE_S
        while waiting:
            if self._clock.monotonic_s() > deadline_s:
                reason = f"Kafka does not give the last record taken of {min(waiting)} again"
                raise SourceTrouble(SourceState.KAFKA_DOWN, reason)
            found = await self._read(*waiting, timeout_ms=POLL_MS, records=1)
            self._still(turn)
            for part, (read, *_) in found.items():
                record = record_of(read, part.topic, _part(part), 0, turn)
                losses.append(loss_of_record(record, waiting.pop(part)))
        return [loss for loss in losses if loss is not None]

    def _still(self, turn: object) -> None:
        if self._desk.turn is not turn:
            raise _SharedOutAnewError

    async def _fill(self, appetite: Appetite) -> None:
        """Of what has arrived, the more urgent topics first; waits if there is nothing at all."""
        turn = self._desk.turn
        await self._top_up(appetite.records, turn)
        if self._desk.is_empty:  # the first to come may be of any topic
            self._put(await self._read(timeout_ms=POLL_MS, records=1), turn)
            await self._top_up(appetite.records, turn)

    async def _top_up(self, wanted: int, turn: object) -> None:
        for topic in self._topics:
            wanted -= self._desk.waiting(topic)
            parts = [part for part in self._consumer.assignment() if part.topic == topic]
            if parts and wanted > 0:
                wanted -= self._put(await self._read(*parts, records=wanted), turn)

    def _put(self, found: Mapping[TopicPartition, Sequence[Any]], turn: object) -> int:
        """Read in a turn that is over: it will be read again."""
        if self._desk.turn is not turn or not self._is_settled:
            return 0
        for where, reads in found.items():
            part, bare = _part(where), where.topic.removeprefix(self._prefix)
            for read in reads:
                record = record_of(read, bare, part, self._desk.after(part), turn)
                self._desk.put(record, part, read.offset)
        return sum(map(len, found.values()))

    async def _read(
        self, *parts: TopicPartition, timeout_ms: int = 0, records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        """After any failure the consumer is not used again: it miscounts its readers then."""
        try:
            with translated():
                async with asyncio.timeout(HANG_S):
                    found: Mapping[TopicPartition, Sequence[Any]] = await self._consumer.getmany(
                        *parts, timeout_ms=timeout_ms, max_records=records
                    )
        except Disconnected as gone:
            self._end(gone)
            raise
        return found

    async def _watch(self) -> None:
        """Is Kafka there, and its log still the one that we read?"""
        now_s = self._clock.monotonic_s()
        if now_s - self._watched_s < WATCH_S:
            return
        self._watched_s = now_s
        try:
            told = await self._view.read(self._topics)
        except SourceTrouble as trouble:
            is_new = now_s - self._answered_s < LOST_S
            if trouble.state is SourceState.KAFKA_DOWN and is_new:
                return
            self._end(trouble)
            raise
        self._answered_s = now_s
        if self._is_settled and _differ(self._known, told):
            self._log.info("topics or leaders changed: the parts are compared again")
            self._is_settled = False
        self._on_lag(self._lags())
        await self._commit(now_s)

    async def _commit(self, now_s: float) -> None:
        """For those who watch lags; never read by us."""
        if not self._is_settled or now_s - self._committed_s < COMMIT_S:
            return
        self._committed_s = now_s
        taken = self._desk.newly_taken()
        if taken:
            offsets = {TopicPartition(part.topic, part.number): at for part, at in taken.items()}
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._consumer.commit(offsets)

    def _lags(self) -> Mapping[str, int]:
        """By topic: records there and not handed out, as far as the last answers told."""
        lags: dict[str, int] = {}
        for part in self._consumer.assignment() if self._is_settled else ():
            top = self._consumer.highwater(part)
            behind = 0 if top is None else max(0, top - self._desk.after(_part(part)))
            lags[part.topic] = lags.get(part.topic, 0) + behind
        return lags

    def _renew(self) -> object:
        self._desk.renew()
        self._is_settled = False
        self._changed.set()
        return self._desk.turn

    def _end(self, why: Disconnected) -> None:
        self._gone = self._gone or why
        self._changed.set()

    async def _quiet(self) -> None:
        """Until nothing of this turn is under way, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                while not self._desk.is_quiet and self._gone is None:
                    self._changed.clear()
                    await self._changed.wait()

    async def _changes(self, within_s: float) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._changed.wait()


class _SharedOutAnewError(Exception):
    """What was being found out is about a turn that is over."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Called by the consumer, which waits for the answer before it joins or goes on."""

    def __init__(self, member: Member) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._member.lose(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._member.gain(assigned)


def _consumer_options(settings: KafkaSettings) -> dict[str, Any]:
    return {
        **client_options(settings),
        "group_id": settings.group,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "fetch_max_bytes": FETCH_BYTES_MAX,
        "max_partition_fetch_bytes": PART_BYTES_MAX,
        "session_timeout_ms": SESSION_MS,
        "heartbeat_interval_ms": SESSION_MS // 3,
        "rebalance_timeout_ms": REBALANCE_MS,
        "max_poll_interval_ms": LEAVE_MS,
    }


def _part(part: TopicPartition) -> Part:
    return Part(part.topic, part.partition)


def _differ(known: Mapping[str, Topic], told: Mapping[str, Topic]) -> bool:
    """Another topic, or another leader: after either the log may be another one."""
    for name, topic in known.items():
        if told[name].topic_id != topic.topic_id:
            return True
        for number, epoch in topic.leader_epochs.items():
            if told[name].leader_epochs.get(number, epoch) > epoch:
                return True
    return False
