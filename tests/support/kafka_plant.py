"""Kafka as gateways and ingest share it: topics of a test's own, frames put there, receipts read.

Frames are put there by librdkafka as a gateway does it; the product reads them with another client.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.cimpl import NewPartitions

from cloud.clock import Clock
from cloud.db import Connection, connect
from cloud.ingest import Ingest
from cloud.kafka_log import KafkaSettings
from cloud.kafka_source import KafkaSource
from cloud.metrics import Metrics
from cloud.positions import Positions
from cloud.sessions import Sessions
from cloud.source import CHANNELS
from cloud.standing import Standing
from protocols.frames import Frame
from protocols.receipts import Receipt, Said, decode_receipt
from protocols.retry import Backoff
from protocols.topics import DEAD_TOPIC, FRAME_HEADER, KAFKA_TOPICS, RECEIPTS_TOPIC
from tests.support.kafka_client import ANSWER_S, delete_topic, make_topic, read_all
from tests.support.plant_store import PATIENCE_S, FixedClock, channel_of

TOPICS = (*dict.fromkeys(KAFKA_TOPICS.values()), DEAD_TOPIC, RECEIPTS_TOPIC)
_numbers = count(1)

Headers = Sequence[tuple[str, str | bytes | None]]


@dataclass
class KafkaPlant:
    """Topics with a prefix of their own on a Kafka that others use too."""

    bootstrap: str
    prefix: str = field(default_factory=lambda: f"t{next(_numbers)}-{uuid4().hex[:6]}.")

    def make(self, partitions: int = 1) -> None:
        for topic in TOPICS:
            self.make_topic(topic, partitions)

    def make_topic(self, topic: str, partitions: int = 1) -> None:
        make_topic(
            self.bootstrap,
            self.prefix + topic,
            partitions=partitions,
            message_timestamp_type="LogAppendTime",
            max_message_bytes=str(3 * 2**20),
        )

    def delete_topic(self, topic: str) -> None:
        delete_topic(self.bootstrap, self.prefix + topic)

    def delete(self) -> None:
        for topic in TOPICS:
            self.delete_topic(topic)

    def make_anew(self, topic: str, partitions: int = 1) -> None:
        """As an operator does who believes that nothing was in it."""
        self.delete_topic(topic)
        self.make_topic(topic, partitions)

    def send(self, *frames: Frame, agent: str | None = None, partition: int | None = None) -> None:
        """As a gateway does. Returns when Kafka has them all."""
        producer = self._producer()
        for frame in frames:
            channel = channel_of(frame)
            headers: list[tuple[str, str | bytes | None]] = [
                (FRAME_HEADER, frame.head),
                ("agent", frame.header.agent.encode()),
                ("lane", channel.encode()),
                ("seq", b"%d" % frame.header.seq),
                ("kind", b"%d" % frame.header.kind),
            ]
            producer.produce(
                self.prefix + KAFKA_TOPICS[channel],
                frame.payload,
                (agent or frame.header.agent).encode(),
                partition=-1 if partition is None else partition,
                headers=headers,
            )
        assert producer.flush(ANSWER_S) == 0

    def send_raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Headers = (),
    ) -> None:
        producer = self._producer()
        producer.produce(self.prefix + topic, value, key, headers=list(headers))
        assert producer.flush(ANSWER_S) == 0

    def receipts(self) -> list[Receipt]:
        return [
            decode_receipt(read.value or b"")
            for read in read_all(self.bootstrap, self.prefix + RECEIPTS_TOPIC)
        ]

    def said(self, frame: Frame) -> list[tuple[Said, str | None]]:
        """Everything that receipts said of this very frame."""
        header = frame.header
        return [
            (run.kind, run.reason)
            for receipt in self.receipts()
            for run in receipt.runs
            for at, digest in enumerate(run.digests)
            if (run.epoch, run.lane, run.first + at) == (header.epoch, header.lane, header.seq)
            and digest == header.digest
        ]

    def add_parts(self, topic: str, partitions: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        more = NewPartitions(self.prefix + topic, partitions)
        admin.create_partitions([more])[self.prefix + topic].result(ANSWER_S)

    def forget_before(self, topic: str, partition: int, offset: int) -> None:
        """As retention does it."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        where = TopicPartition(self.prefix + topic, partition, offset)
        admin.delete_records([where])[where].result(ANSWER_S)

    def settings(self, group: str = "ingest") -> KafkaSettings:
        return KafkaSettings(self.bootstrap, self.prefix + group, prefix=self.prefix)

    def _producer(self) -> Producer:
        return Producer({"bootstrap.servers": self.bootstrap, "acks": "all", "linger.ms": 1})


class Access:
    """Who may read a topic. Without a rule everybody may."""

    def __init__(self, plant: KafkaPlant, topic: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": plant.bootstrap})
        self._topic = plant.prefix + topic

    def only_for_somebody_else(self) -> None:
        rule = AclBinding(*self._about, "User:else", "*", AclOperation.READ, ALLOW)
        self._admin.create_acls([rule])[rule].result(ANSWER_S)

    def for_all(self) -> None:
        rules = AclBindingFilter(*self._about, "User:else", "*", AclOperation.ANY, ANY)
        self._admin.delete_acls([rules])[rules].result(ANSWER_S)

    @property
    def _about(self) -> tuple[ResourceType, str, ResourcePatternType]:
        return ResourceType.TOPIC, self._topic, ResourcePatternType.LITERAL


ALLOW, ANY = AclPermissionType.ALLOW, AclPermissionType.ANY


@dataclass
class KafkaBench:
    """An ingest that reads a plant's topics, and what to look at."""

    plant: KafkaPlant
    connection: Connection
    standing: Standing
    metrics: Metrics
    source: KafkaSource
    task: asyncio.Task[None]

    async def until(self, happens: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(patience_s):
            while not happens():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return self.connection.execute(query, list(values)).fetchall()

    def one(self, query: str, *values: object) -> object:
        return self.rows(query, *values)[0][0]

    def counts(self) -> tuple[int, int]:
        """Rows, and frames that have any: neither may be more nor less than what was sent."""
        return self.rows("select count(*), count(distinct frame) from sample")[0]  # type: ignore[return-value] # two numbers

    def log_gen(self) -> int:
        return int(str(self.one("select gen from kafka_log")))

    async def until_stored(self, frames: Iterable[Frame], patience_s: float = 60.0) -> None:
        wanted = {(frame.header.epoch, frame.header.lane, frame.header.seq) for frame in frames}

        def missing() -> bool:
            found = self.rows("select l.epoch, l.lane, seq from ledger join lane l using (lane_id)")
            return not wanted - {(int(str(e)) % 2**64, lane, seq) for e, lane, seq in found}

        await self.until(missing, patience_s)


@asynccontextmanager
async def kafka_ingest(
    plant: KafkaPlant,
    dsn: str,
    *,
    channels: Sequence[str] = CHANNELS,
    clock: Clock | None = None,
    group: str = "ingest",
    through: str | None = None,
) -> AsyncIterator[KafkaBench]:
    """One line until the block ends; its own failure fails the test.

    `through`: another way for the ingest to the same database.
    """
    used = clock or FixedClock()
    metrics = Metrics()
    standing = Standing(used, metrics.state.state)
    owner = uuid4()
    sessions = Sessions(through or dsn, used, standing, Backoff(first_s=0.05, limit_s=0.2), owner)
    positions = Positions(sessions, owner, used)
    source = KafkaSource(plant.settings(group), channels, positions, used)
    ingest = Ingest(source, sessions, standing, metrics, used)
    with connect(dsn, application="test") as connection:
        task = asyncio.get_running_loop().create_task(ingest.run())
        bench = KafkaBench(plant, connection, standing, metrics, source, task)
        try:
            yield bench
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
