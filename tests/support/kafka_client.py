"""Topics made, records written and read, from a test that is no loop: librdkafka's client.

The product uses another client, so the two ends of a test share no code with it.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

ANSWER_S = 30.0
ASK_AGAIN_S = 0.05
_NOT_YET = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)


@dataclass(frozen=True)
class Read:
    """One record as it lies in Kafka."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    time_ms: int


def make_topic(bootstrap: str, name: str, *, partitions: int = 1, **config: str) -> None:
    """`config`: settings of the topic, with underscores for dots."""
    settings = {key.replace("_", "."): value for key, value in config.items()}
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if admin.list_topics(name, timeout=ANSWER_S).topics[name].error is None:
        return  # the mock has just made it
    admin.create_topics([topic], operation_timeout=ANSWER_S)[name].result(ANSWER_S)


def delete_topic(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([name], operation_timeout=ANSWER_S)[name].result(ANSWER_S)


def topics(bootstrap: str) -> frozenset[str]:
    return frozenset(
        AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=ANSWER_S).topics
    )


def begins(bootstrap: str, topic: str) -> dict[int, int]:
    """The offset of the first record that is still there, by partition."""
    return {part: low for part, (low, _) in _watermarks(bootstrap, topic).items()}


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    """The offset of the next record, by partition."""
    return {part: high for part, (_, high) in _watermarks(bootstrap, topic).items()}


def write(
    bootstrap: str,
    topic: str,
    records: Iterable[tuple[bytes, bytes]],
    *,
    time_ms: int = 0,
    timeout_s: float = ANSWER_S,
) -> None:
    """Key and value of each, acknowledged by all. RuntimeError: not all were.

    `time_ms`: what the records say of themselves; 0: now.
    """
    failed: list[str] = []
    producer = Producer(
        {"bootstrap.servers": bootstrap, "acks": "all", "message.timeout.ms": int(timeout_s * 1000)}
    )
    for key, value in records:
        producer.produce(
            topic,
            key=key,
            value=value,
            timestamp=time_ms,
            on_delivery=lambda error, _: failed.append(str(error)) if error else None,
        )
    left = producer.flush(ANSWER_S)
    if left or failed:
        raise RuntimeError(f"{left} records without an answer, refused: {failed[:3]}")


def read_all(bootstrap: str, topic: str) -> list[Read]:
    """Every record of the topic that was there when this began, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "nobody",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
        }
    )
    try:
        numbers = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions
        missing = {number: _records_of(consumer, topic, number) for number in numbers}
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
        found = list(_read_until(consumer, missing))
    finally:
        consumer.close()
    return sorted(found, key=lambda one: (one.partition, one.offset))


def _watermarks(bootstrap: str, topic: str) -> dict[int, tuple[int, int]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "nobody"})
    try:
        parts = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions
        return {part: _bounds(consumer, topic, part) for part in parts}
    finally:
        consumer.close()


def _records_of(consumer: Consumer, topic: str, number: int) -> int:
    low, high = _bounds(consumer, topic, number)
    return high - low


def _bounds(consumer: Consumer, topic: str, number: int) -> tuple[int, int]:
    """A part that has just been made is known before its leader answers for it."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            low, high = consumer.get_watermark_offsets(
                TopicPartition(topic, number), timeout=ANSWER_S
            )
        except KafkaException as refused:
            error = refused.args[0]
            if error.code() not in _NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(ASK_AGAIN_S)
        else:
            return int(low), int(high)


def _read_until(consumer: Consumer, missing: dict[int, int]) -> Iterator[Read]:
    """`missing`: records of each partition; what is written meanwhile is left out."""
    while any(count > 0 for count in missing.values()):
        message = consumer.poll(ANSWER_S)
        if message is None or message.error():
            why = "no answer" if message is None else message.error()
            raise RuntimeError(f"{missing} records are missing: {why}")
        partition = message.partition()
        assert partition is not None
        missing[partition] -= 1
        if missing[partition] >= 0:
            yield _read(partition, message)


def _read(partition: int, message: Message) -> Read:
    offset = message.offset()
    assert offset is not None
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])  # as it always gives
    time_ms = message.timestamp()[1]
    return Read(partition, offset, message.key(), message.value(), tuple(headers), time_ms)
