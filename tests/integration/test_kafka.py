"""The embedded Kafka: it keeps what it must, makes no topic by itself, and can be ill-treated."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.kafka_client import make_topic, read_all, topics, write
from tests.support.relay import Relay
from tests.support.services import need
from threadline.children import Children
from threadline.kafka import Kafka, SideDoor, answers
from threadline.ports import free_port

pytestmark = pytest.mark.integration
WAIT_S = 30.0


def wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_kafka_keeps_topics_and_records_over_a_kill_and_loses_them_with_its_disks(
    tmp_path: Path,
) -> None:
    need("kafka")
    with Children(tmp_path) as children:
        server = Kafka(children)
        server.start()
        make_topic(server.bootstrap, "kept", partitions=2)
        write(server.bootstrap, "kept", [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
        server.kill()
        server.start()
        assert sorted(one.value or b"" for one in read_all(server.bootstrap, "kept")) == [
            b"1", b"2", b"3",
        ]  # fmt: skip
        server.stop()
        server.wipe()
        server.start()
        assert "kept" not in topics(server.bootstrap)


def test_kafka_that_was_stopped_answers_again_when_it_goes_on(tmp_path: Path) -> None:
    need("kafka")
    with Children(tmp_path) as children:
        server = Kafka(children)
        server.start()
        server.child.send(signal.SIGSTOP)
        assert not answers(server.port)
        server.child.send(signal.SIGCONT)
        wait(lambda: answers(server.port))


def test_kafka_makes_no_topic_by_itself(kafka: Kafka) -> None:
    with pytest.raises(RuntimeError, match="records"):
        write(kafka.bootstrap, "nobody-made-this", [(b"k", b"v")], timeout_s=3.0)
    assert "nobody-made-this" not in topics(kafka.bootstrap)


async def test_a_side_door_leads_through_its_relay_only(tmp_path: Path) -> None:
    need("kafka")
    behind, told = free_port(), free_port()
    relay = Relay("127.0.0.1", behind)
    await relay.open(told)
    with Children(tmp_path) as children:
        server = Kafka(children, side_doors=[SideDoor("GATEWAY", behind, told)])
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(make_topic, server.bootstrap, "way")
        async with _producer(f"127.0.0.1:{told}") as producer:
            await producer.send_and_wait("way", b"1")
            relay.hang()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(producer.send_and_wait("way", b"2"), 1.0)
            relay.flow()
            relay.cut()
            await producer.send_and_wait("way", b"3")
        values = [one.value for one in await asyncio.to_thread(read_all, server.bootstrap, "way")]
    await relay.close()
    assert values[0] == b"1"
    assert values[-1] == b"3"


async def test_the_stand_in_carries_records_as_kafka_does(kafka_mock: str) -> None:
    await _there_and_back(kafka_mock)


async def test_whatever_serves_the_contracts_carries_records(kafka_bootstrap: str) -> None:
    await _there_and_back(kafka_bootstrap)


async def _there_and_back(bootstrap: str) -> None:
    topic = f"carried-{time.monotonic_ns()}"
    await asyncio.to_thread(make_topic, bootstrap, topic)
    async with _producer(bootstrap) as producer:
        await producer.send_and_wait(topic, b"value", key=b"key", headers=[("frame", b"\x00\xff")])
    found = await asyncio.to_thread(read_all, bootstrap, topic)
    assert [(one.key, one.value, one.headers) for one in found] == [
        (b"key", b"value", (("frame", b"\x00\xff"),))
    ]


@asynccontextmanager
async def _producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=5000
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()
