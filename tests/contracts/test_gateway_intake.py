"""What every intake of the gateway does: the real one through paho, and the fake of unit tests.

The far side is an ordinary client of that broker; connections are cut on the wire.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count

import pytest

from gateway.mqtt import MqttIntake
from gateway.mqtt_access import MqttSettings
from gateway.ports import Intake, Letter, Message
from protocols.errors import Disconnected
from tests.support.gateway_fakes import AGENT, FakeIntake
from tests.support.mqtt_agents import MqttAgents
from tests.support.relay import Relay

BYTES_MAX = 300_000
_names = count(1)


@dataclass
class Rig:
    intake: Intake
    publish: Callable[[str, bytes], None]
    cut: Callable[[], None]
    heard: Callable[[], list[tuple[str, bytes]]]
    settle: Callable[[Callable[[], bool]], Awaitable[None]]


@contextlib.asynccontextmanager
async def fake() -> AsyncIterator[Rig]:
    intake = FakeIntake(bytes_max=BYTES_MAX)

    async def settle(wanted: Callable[[], bool]) -> None:
        await asyncio.sleep(0)
        assert wanted()

    yield Rig(
        intake,
        lambda channel, data: void(intake.publish(channel, data)),
        intake.cut,
        lambda: [(one.agent, one.receipt) for one in intake.sent],
        settle,
    )


@contextlib.asynccontextmanager
async def real(host: str, port: int) -> AsyncIterator[Rig]:
    relay = Relay(host, port)
    await relay.open()
    agents = MqttAgents(host, port)
    group = f"contract{next(_names)}"
    intake = MqttIntake(
        MqttSettings(host, relay.port, client_id=group, group=group), bytes_max=BYTES_MAX
    )
    try:
        await agents.subscribed()
        yield Rig(intake, agents.publish, relay.cut, lambda: agents.heard, agents.until)
    finally:
        await intake.close()
        agents.close()
        await relay.close()


def void(_: object) -> None:
    """A publisher says nothing."""


@pytest.fixture(params=["fake", pytest.param("mosquitto", marks=pytest.mark.integration)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "fake":
        async with fake() as made:
            yield made
        return
    server = request.getfixturevalue("mosquitto")
    async with real(server.host, server.port) as made:
        yield made


async def take(intake: Intake, messages: int) -> list[Message]:
    taken: list[Message] = []
    async with asyncio.timeout(20):
        while len(taken) < messages:
            taken += await intake.take()
    return taken


def datas(messages: Sequence[Message]) -> list[bytes]:
    return [bytes(message.data) for message in messages]


async def test_messages_come_in_order_with_the_agent_of_their_topic(rig: Rig) -> None:
    await rig.intake.open()
    sent = [b"%d" % number * number for number in range(1, 200)]
    for data in sent:
        rig.publish("live", data)
    taken = await take(rig.intake, len(sent))
    assert datas(taken) == sent
    assert {(one.agent, one.channel) for one in taken} == {(AGENT, "live")}


async def test_every_channel_is_heard(rig: Rig) -> None:
    await rig.intake.open()
    channels = ["control", "events", "live", "backlog", "hello"]
    for channel in channels:
        rig.publish(channel, channel.encode())
    taken = await take(rig.intake, len(channels))
    assert {(one.channel, bytes(one.data)) for one in taken} == {
        (channel, channel.encode()) for channel in channels
    }


@pytest.mark.parametrize("size", [0, 40_000, 270_000, 2_100_000])
async def test_any_size_comes_whole(rig: Rig, size: int) -> None:
    await rig.intake.open()
    data = bytes(range(256)) * (size // 256)
    rig.publish("backlog", data)
    (taken,) = await take(rig.intake, 1)
    assert bytes(taken.data) == data


async def test_above_the_bound_nothing_more_is_taken_until_enough_is_acknowledged(rig: Rig) -> None:
    await rig.intake.open()
    for number in range(12):
        rig.publish("live", bytes([number]) * 100_000)
    taken: list[Message] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while True:
                taken += await rig.intake.take()
    # What was in the last chunk that was read below the bound may be above it.
    assert 3 <= len(taken) <= 6
    rest = list(taken)
    while len(taken) < 12:
        rig.intake.acknowledge(rest)
        async with asyncio.timeout(20):
            rest = list(await rig.intake.take())
        taken += rest
    assert [bytes(one.data[:1])[0] for one in taken] == list(range(12))


async def test_a_receipt_reaches_its_agent(rig: Rig) -> None:
    await rig.intake.open()
    rig.intake.answer(Letter(AGENT, b"first"))
    rig.intake.answer(Letter("plant1.b", b"second"))
    async with asyncio.timeout(20):
        await rig.intake.answered()
    await rig.settle(lambda: {(AGENT, b"first"), ("plant1.b", b"second")} <= set(rig.heard()))


async def test_many_receipts_are_more_than_a_broker_takes_at_once(rig: Rig) -> None:
    await rig.intake.open()
    sent = [(AGENT, b"%d" % number) for number in range(500)]
    for agent, receipt in sent:
        rig.intake.answer(Letter(agent, receipt))
    async with asyncio.timeout(20):
        await rig.intake.answered()
    await rig.settle(lambda: len(rig.heard()) >= len(sent))
    assert rig.heard() == sent


async def test_when_the_connection_ends_every_call_says_so(rig: Rig) -> None:
    await rig.intake.open()
    waiting = asyncio.gather(rig.intake.take(), return_exceptions=True)
    await asyncio.sleep(0.05)
    rig.cut()
    async with asyncio.timeout(20):
        (said,) = await waiting
    assert isinstance(said, Disconnected)
    with pytest.raises(Disconnected):
        rig.intake.answer(Letter(AGENT, b"x"))
    with pytest.raises(Disconnected):
        await rig.intake.answered()


async def test_acknowledgements_of_an_earlier_connection_are_passed_over(rig: Rig) -> None:
    await rig.intake.open()
    rig.publish("live", b"1")
    first = await take(rig.intake, 1)
    rig.cut()
    with contextlib.suppress(Disconnected):
        while True:
            await rig.intake.take()
    await rig.intake.open()
    rig.intake.acknowledge(first)
    rig.publish("live", b"2")
    assert datas(await take(rig.intake, 1)) == [b"2"]


async def test_a_connection_after_a_cut_begins_with_nothing(rig: Rig) -> None:
    """The broker promises nothing, and is not asked to remember us."""
    await rig.intake.open()
    rig.publish("live", b"1")
    await take(rig.intake, 1)
    rig.cut()
    with contextlib.suppress(Disconnected):
        while True:
            await rig.intake.take()
    await rig.intake.open()
    rig.publish("live", b"2")
    assert datas(await take(rig.intake, 1)) == [b"2"]


async def test_closed_while_another_task_takes_it_says_so(rig: Rig) -> None:
    await rig.intake.open()
    waiting = asyncio.gather(rig.intake.take(), return_exceptions=True)
    await asyncio.sleep(0.05)
    await rig.intake.close()
    async with asyncio.timeout(20):
        (said,) = await waiting
    assert isinstance(said, Disconnected)
    await rig.intake.close()
