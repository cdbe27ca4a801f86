"""What every session with a broker does: the real one through paho, and the fake of the unit tests.

The far side is an ordinary client of that broker; sessions are cut on the wire.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from edge.link import Broker, Link
from edge.mqtt import BrokerAddress, MqttBroker
from protocols.errors import Disconnected
from protocols.frames import Frame, Header, Kind, Lane, seal
from tests.support.fake_broker import FakeBroker
from tests.support.mqtt_cloud import MqttCloud
from tests.support.relay import Relay

AGENT = "plant1.a"


@dataclass
class Rig:
    broker: Broker
    received: Callable[[], list[Frame]]
    deliver: Callable[[bytes], None]
    cut: Callable[[], None]
    settle: Callable[[Callable[[], bool]], Awaitable[None]]


@contextlib.asynccontextmanager
async def fake() -> AsyncIterator[Rig]:
    broker = FakeBroker()

    async def settle(wanted: Callable[[], bool]) -> None:
        await asyncio.sleep(0)
        assert wanted()

    yield Rig(
        broker,
        lambda: [frame for _, _, frame in broker.received],
        broker.deliver,
        broker.cut,
        settle,
    )


@contextlib.asynccontextmanager
async def real(host: str, port: int) -> AsyncIterator[Rig]:
    relay = Relay(host, port)
    await relay.open()
    cloud = MqttCloud(host, port)
    try:
        await cloud.subscribed()
        yield Rig(
            MqttBroker(BrokerAddress(AGENT, host, relay.port)),
            lambda: cloud.frames,
            lambda message: cloud.publish(AGENT, message),
            relay.cut,
            cloud.until,
        )
    finally:
        cloud.close()
        await relay.close()


@pytest.fixture(params=["fake", pytest.param("mosquitto", marks=pytest.mark.integration)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "fake":
        async with fake() as made:
            yield made
        return
    server = request.getfixturevalue("mosquitto")
    async with real(server.host, server.port) as made:
        yield made


def frame(number: int, payload: bytes = b"x") -> Frame:
    return seal(Header(Kind.SAMPLES, Lane.LIVE, AGENT, 1, number), payload)


async def opened(rig: Rig) -> Link:
    return await rig.broker.open()


async def test_what_is_published_arrives_once_and_unchanged(rig: Rig) -> None:
    link = await opened(rig)
    sent = [frame(number, bytes([number]) * number * 1000) for number in range(1, 20)]
    before = len(rig.received())
    for one in sent:
        link.publish(f"tl/1/{AGENT}/live", one.sealed)
    await rig.settle(lambda: len(rig.received()) >= before + len(sent))
    assert rig.received()[before:] == sent
    await link.close()


async def test_a_large_frame_goes_through(rig: Rig) -> None:
    link = await opened(rig)
    large = frame(1, bytes(2 * 1024 * 1024))
    link.publish(f"tl/1/{AGENT}/backlog", large.sealed)
    await rig.settle(lambda: large in rig.received())
    await link.close()


async def test_an_acknowledgement_lowers_what_is_open_and_says_so(rig: Rig) -> None:
    link = await opened(rig)
    link.publish(f"tl/1/{AGENT}/live", frame(1).sealed)
    async with asyncio.timeout(10):
        while link.unacknowledged_bytes:
            await link.flowed()
    await link.close()


async def test_messages_come_in_order(rig: Rig) -> None:
    link = await opened(rig)
    for number in range(200):
        rig.deliver(b"%d" % number)
    async with asyncio.timeout(10):
        assert [await link.receive() for _ in range(200)] == [b"%d" % n for n in range(200)]
    await link.close()


async def test_when_the_session_ends_every_call_says_so(rig: Rig) -> None:
    link = await opened(rig)
    waiting = asyncio.gather(link.receive(), link.flowed(), return_exceptions=True)
    await asyncio.sleep(0.05)
    rig.cut()
    async with asyncio.timeout(10):
        assert [type(one) for one in await waiting] == [Disconnected, Disconnected]
    with pytest.raises(Disconnected):
        link.publish("tl/1/x/live", b"")
    with pytest.raises(Disconnected):
        await link.receive()
    await link.close()
    await link.close()


async def test_i8_a_session_after_a_cut_starts_with_nothing(rig: Rig) -> None:
    first = await opened(rig)
    rig.cut()
    with contextlib.suppress(Disconnected):
        first.publish(f"tl/1/{AGENT}/live", frame(999).sealed)
    await first.close()
    before = len(rig.received())
    second = await opened(rig)
    assert second.unacknowledged_bytes == 0
    second.publish(f"tl/1/{AGENT}/live", frame(1).sealed)
    await rig.settle(lambda: len(rig.received()) > before)
    assert [one.header.seq for one in rig.received()[before:]] == [1]
    await second.close()


async def test_a_closed_session_takes_nothing_more(rig: Rig) -> None:
    link = await opened(rig)
    await link.close()
    with pytest.raises(Disconnected):
        link.publish("tl/1/x/live", b"")
