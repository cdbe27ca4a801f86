"""What every outlet of the gateway does: the real one into Kafka, and the fake of the unit tests.

Where Kafka cannot run, librdkafka's mock stands in: it speaks the protocol and keeps records.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import pytest

from gateway.kafka import TOPICS, KafkaOutlet
from gateway.kafka_access import KafkaAccess
from gateway.ports import Message, Outlet, Record, Terms, Trouble
from gateway.sorting import sort
from protocols.topics import sealed_of
from tests.support.gateway_fakes import FakeOutlet, frame
from tests.support.kafka_client import Read, make_topic, read_all

GOOD = {"message_timestamp_type": "LogAppendTime", "max_message_bytes": "3145728"}


@dataclass
class Rig:
    outlet: Outlet
    read: Callable[[str], list[tuple[bytes | None, bytes]]]
    set_trouble: Callable[[Trouble | None], None]


@contextlib.asynccontextmanager
async def fake() -> AsyncIterator[Rig]:
    outlet = FakeOutlet()

    def read(topic: str) -> list[tuple[bytes | None, bytes]]:
        return [
            (one.key, sealed_of(one.headers, bytes(one.value)))
            for one in outlet.written
            if one.topic == topic
        ]

    yield Rig(outlet, read, lambda trouble: setattr(outlet, "refuses", trouble))


@contextlib.asynccontextmanager
async def real(bootstrap: str) -> AsyncIterator[Rig]:
    trouble: Trouble | None = None

    async def inspect() -> Terms:
        if trouble is not None:
            raise trouble
        return Terms(is_single_copy=True)

    def set_trouble(to: Trouble | None) -> None:
        nonlocal trouble
        trouble = to

    before = {topic: len(read_all(bootstrap, topic)) for topic in TOPICS}
    outlet = KafkaOutlet(KafkaAccess(bootstrap), inspect)

    def read(topic: str) -> list[tuple[bytes | None, bytes]]:
        found = read_all(bootstrap, topic)
        assert len(found) >= before[topic]
        return list(map(_sealed, found))

    try:
        yield Rig(outlet, read, set_trouble)
    finally:
        await outlet.close()


def _sealed(record: Read) -> tuple[bytes | None, bytes]:
    headers = [(name, body or b"") for name, body in record.headers]
    return record.key, sealed_of(headers, record.value)


@pytest.fixture(params=["fake", pytest.param("kafka", marks=pytest.mark.integration)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "fake":
        async with fake() as made:
            yield made
        return
    bootstrap = request.getfixturevalue("kafka_bootstrap")
    for topic in TOPICS:
        await asyncio.to_thread(partial(make_topic, bootstrap, topic, partitions=3, **GOOD))
    async with real(bootstrap) as made:
        yield made


def record(seq: int, agent: str, payload: bytes = b"x") -> Record:
    found = sort(Message(agent, "live", frame(seq, payload, agent).sealed, seq))
    assert found is not None
    return found


async def confirmed(outlet: Outlet, count: int) -> list[Record]:
    found: list[Record] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await outlet.confirmed()
    return found


async def test_what_is_confirmed_is_there_once_and_verbatim_and_in_order_of_its_key(
    rig: Rig, request: pytest.FixtureRequest
) -> None:
    agents = [f"order{number}.{abs(hash(request.node.name)) % 1000}" for number in range(5)]
    await rig.outlet.open()
    records = [record(1 + n // 5, agents[n % 5], bytes([n % 256]) * n) for n in range(500)]
    for start in range(0, 500, 50):
        rig.outlet.write(records[start : start + 50])
    found = await confirmed(rig.outlet, 500)
    assert {id(one) for one in found} == {id(one) for one in records}
    assert len(found) == 500
    stored = await asyncio.to_thread(rig.read, "tl.live")
    for agent in agents:
        mine = [data for key, data in stored if key == agent.encode()]
        assert mine == [one.message.data for one in records if one.key == agent.encode()]


async def test_the_largest_frame_goes_through_beside_small_ones(rig: Rig) -> None:
    await rig.outlet.open()
    large = record(1, "large.a", bytes(2 * 1024 * 1024))
    others = [record(seq, "large.a") for seq in range(2, 30)]
    rig.outlet.write([large, *others])
    await confirmed(rig.outlet, 29)
    stored = await asyncio.to_thread(rig.read, "tl.live")
    mine = [data for key, data in stored if key == b"large.a"]
    assert mine[-29:] == [one.message.data for one in (large, *others)]


async def test_opening_says_what_is_wrong(rig: Rig) -> None:
    rig.set_trouble(Trouble("topic_missing", "tl.live"))
    with pytest.raises(Trouble) as said:
        await rig.outlet.open()
    assert said.value.state == "topic_missing"
    rig.set_trouble(None)
    await rig.outlet.open()
    rig.outlet.write([record(1, "again.a")])
    await confirmed(rig.outlet, 1)


async def test_closed_while_another_task_waits_it_says_so(rig: Rig) -> None:
    await rig.outlet.open()
    waiting = asyncio.gather(rig.outlet.confirmed(), return_exceptions=True)
    await asyncio.sleep(0.05)
    await rig.outlet.close()
    async with asyncio.timeout(10):
        (said,) = await waiting
    assert isinstance(said, Trouble)
    await rig.outlet.close()
    with pytest.raises(Trouble):
        await rig.outlet.confirmed()


async def test_a_session_after_another_confirms_only_its_own(rig: Rig) -> None:
    await rig.outlet.open()
    rig.outlet.write([record(1, "twice.a")])
    await rig.outlet.close()
    await rig.outlet.open()
    second = record(2, "twice.a")
    rig.outlet.write([second])
    assert await confirmed(rig.outlet, 1) == [second]
