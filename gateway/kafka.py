"""The way into Kafka: an idempotent producer, every replica in sync, whole batches at a time.

Rule 1: of one partition one batch is under way, the next gathers meanwhile: at any pace that is
the right size, and no frame waits for company.
Rule 2: any batch that fails ends the session: whether and what of it was written is not known, so
a new producer writes again what was not confirmed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer, errors
from aiokafka.partitioner import DefaultPartitioner

from gateway.kafka_access import (
    REQUEST_S,
    START_S,
    KafkaAccess,
    client_options,
    translated,
    trouble_of,
)
from gateway.ports import Record, Terms, Trouble
from gateway.topics import FRAME_TOPICS
from protocols.tasks import end
from protocols.topics import DEAD_TOPIC

BATCH_BYTES_MAX: Final = 512 * 1024  # a single larger record goes alone
REQUEST_BYTES_MAX: Final = 3 * 1024 * 1024
CLOSE_S: Final = 2.0
BURIAL_S: Final = REQUEST_S + 3 * CLOSE_S
KEYS_MAX: Final = 10_000  # whose partition is remembered
TOPICS: Final = (*FRAME_TOPICS, DEAD_TOPIC)


class KafkaOutlet:
    """An `Outlet`. `inspect` looks at the topics before anything is written."""

    def __init__(self, access: KafkaAccess, inspect: Callable[[], Awaitable[Terms]]) -> None:
        self._access = access
        self._inspect = inspect
        self._session: _Session | None = None
        self._burial: asyncio.Task[None] | None = None

    async def open(self) -> Terms:
        await self.close()
        await self._buried(BURIAL_S)  # one at a time: each may hold as much as there is room for
        terms = await self._inspect()
        self._session = session = _Session(self._access)
        try:
            await session.open()
        except BaseException:
            await self.close()
            raise
        return terms

    def write(self, records: Iterable[Record]) -> None:
        if self._session is not None:
            self._session.write(records)

    async def confirmed(self) -> Sequence[Record]:
        if self._session is None:
            raise Trouble("kafka_down", "not connected to Kafka")
        return await self._session.confirmed()

    async def inspect(self) -> Terms:
        return await self._inspect()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
            self._burial = session.burial
        await self._buried(CLOSE_S)

    async def _buried(self, timeout_s: float) -> None:
        if self._burial is not None:
            await asyncio.wait([self._burial], timeout=timeout_s)


@dataclass(slots=True, eq=False)
class _Partition:
    """What waits for one partition, and whether a batch of it is under way."""

    topic: str
    number: int
    waiting: deque[Record] = field(default_factory=deque)
    is_busy: bool = False  # under way, or in line for it


class _Session:
    """One producer from its start to its end."""

    def __init__(self, access: KafkaAccess) -> None:
        self._producer = AIOKafkaProducer(
            **client_options(access),
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=REQUEST_BYTES_MAX,
            linger_ms=0,
        )
        self._is_running = False
        self._numbers: dict[str, list[int]] = {}  # of the partitions of each topic
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._places: dict[tuple[str, bytes], _Partition] = {}
        self._ready: deque[_Partition] = deque()
        self._wake = asyncio.Event()
        self._done: list[Record] = []
        self._news = asyncio.Event()
        self._trouble: Trouble | None = None
        self._bug: BaseException | None = None
        self._pump: asyncio.Task[None] | None = None
        self.burial: asyncio.Task[None] | None = None

    async def open(self) -> None:
        with translated():
            async with asyncio.timeout(START_S):
                await self._producer.start()
                for topic in TOPICS:
                    self._numbers[topic] = sorted(await self._producer.partitions_for(topic))
        self._pump = asyncio.get_running_loop().create_task(self._pump_for_ever())
        self._pump.add_done_callback(self._pump_ended)

    def write(self, records: Iterable[Record]) -> None:
        for record in records:
            place = self._places.get((record.topic, record.key)) or self._place(record)
            place.waiting.append(record)
            if not place.is_busy:
                place.is_busy = True
                self._ready.append(place)
        if self._ready:
            self._wake.set()

    async def confirmed(self) -> Sequence[Record]:
        while not self._done:
            if self._bug is not None:
                raise self._bug
            if self._trouble is not None:
                raise self._trouble
            self._news.clear()
            await self._news.wait()
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """At once; what dies slowly is `burial`."""
        self._fail(Trouble("kafka_down", "closed"))
        if self._pump is not None:
            self._pump.cancel()
        self.burial = asyncio.get_running_loop().create_task(_bury(self._producer))

    def _place(self, record: Record) -> _Partition:
        """Where a key belongs, as every Kafka client reckons."""
        numbers = self._numbers[record.topic]
        number = _PARTITIONER(record.key, numbers, numbers)
        place = self._partitions.setdefault(
            (record.topic, number), _Partition(record.topic, number)
        )
        if len(self._places) >= KEYS_MAX:
            self._places.clear()
        self._places[record.topic, record.key] = place
        return place

    async def _pump_for_ever(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._ready:
                    await self._send(self._ready.popleft())
        except Trouble as trouble:
            self._fail(trouble)

    def _pump_ended(self, pump: "asyncio.Task[None]") -> None:
        """Anything but trouble is a bug, and whoever waits for confirmations must hear of it."""
        if not pump.cancelled() and pump.exception() is not None:
            self._bug = pump.exception()
            self._news.set()

    async def _send(self, place: _Partition) -> None:
        with translated():
            batch = self._producer.create_batch()
            records = _fill(batch, place.waiting)
            sent = await self._producer.send_batch(batch, place.topic, partition=place.number)
            sent.add_done_callback(partial(self._sent, place, records))

    def _sent(
        self, place: _Partition, records: Sequence[Record], sent: "asyncio.Future[Any]"
    ) -> None:
        if sent.cancelled():
            return
        error = sent.exception()
        if error is not None:
            self._fail(trouble_of(error))
            return
        self._done += records
        self._news.set()
        place.is_busy = bool(place.waiting)
        if place.is_busy:
            self._ready.append(place)
            self._wake.set()

    def _fail(self, trouble: Trouble) -> None:
        """The first failure is the reason."""
        if self._trouble is None:
            self._trouble = trouble
        self._news.set()


_PARTITIONER: Final = DefaultPartitioner()


def _fill(batch: Any, waiting: deque[Record]) -> Sequence[Record]:
    """As many records as a batch holds; they no longer wait."""
    taken: list[Record] = []
    while waiting:
        record = waiting[0]
        held = batch.append(
            timestamp=None, key=record.key, value=record.value, headers=record.headers
        )
        if held is None:
            break
        taken.append(waiting.popleft())
    batch.close()
    return taken


async def _bury(producer: Any) -> None:
    """End a producer that may never flush. It does so before it stops, for ever if need be.

    First its sender, then its connections, so that what was under way ends by itself; then what
    was never sent. Written after all or not, it is written again by the next session.
    """
    sender = producer._sender.sender_task  # noqa: SLF001 - no public way ends it without a flush
    if sender is not None:
        sender.cancel()
        for connection in list(producer.client._conns.values()):  # noqa: SLF001 - as above
            connection.close()
        await asyncio.wait([sender], timeout=REQUEST_S + CLOSE_S)
        sender.cancel()
    waiting = producer._message_accumulator  # noqa: SLF001 - as above
    for batches in waiting._batches.values():  # noqa: SLF001 - as above
        for batch in batches:
            batch.drain_ready()  # nobody waits for it any more
    waiting.fail_all(errors.ProducerClosed())
    with suppress(Trouble), translated():  # it was in trouble before
        await end(producer.stop, CLOSE_S)
