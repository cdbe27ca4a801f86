"""What every source of ingest does, the fake included: one suite for all of them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cloud.clock import Clock
from cloud.kafka_source import KafkaSource
from cloud.mqtt_source import MqttSettings, MqttSource, tls_context
from cloud.source import CHANNELS, Appetite, Record, Source
from protocols.errors import ConfigError, Disconnected
from protocols.receipts import Receipt, Run, Said, decode_receipt, encode_receipt
from protocols.topics import KAFKA_TOPICS
from tests.support.certificates import Authority
from tests.support.fake_source import FakeSource
from tests.support.kafka_plant import KafkaPlant
from tests.support.memory_keeper import MemoryKeeper
from tests.support.relay import HOST, Relay
from threadline.broker import Broker, BrokerSettings, Mosquitto, Tls
from threadline.children import Children
from threadline.ports import free_port

PATIENCE_S = 30.0
PLENTY = Appetite(records=1000, size=100_000_000)
BYTES_MAX = 200_000
URGENCY = {"control": 0, "hello": 0, "events": 1, "live": 2, "backlog": 3}
KEEPALIVE_S = 1


class Far(Protocol):
    """The other side: an agent at its broker."""

    @property
    def source(self) -> Source: ...
    async def push(self, agent: str, channel: str, data: bytes) -> None: ...
    async def arrived(self, count: int) -> None:
        """So many were pushed since `open`, none was taken: all of them can be taken now."""

    async def receipts(self, count: int) -> list[Receipt]: ...
    async def cut(self) -> None: ...


@dataclass
class FakeFar:
    source: FakeSource

    async def push(self, agent: str, channel: str, data: bytes) -> None:
        self.source.push(agent, channel, data)

    async def arrived(self, count: int) -> None:
        assert len(self.source._waiting) == count

    async def receipts(self, count: int) -> list[Receipt]:
        assert len(self.source.answers) >= count
        return self.source.answers

    async def cut(self) -> None:
        self.source.disconnect()


class MqttFar:
    """A real agent's client beside the source's, on a real broker; the source's wire can be cut."""

    def __init__(self, broker: Broker, relay: Relay) -> None:
        name = f"source-{uuid4().hex[:8]}"
        settings = MqttSettings(HOST, relay.port, name, keepalive_s=KEEPALIVE_S)
        self.source = MqttSource(settings, bytes_max=BYTES_MAX)
        self.relay = relay
        self._heard: list[mqtt.MQTTMessage] = []
        self.client = _client(f"agent-{uuid4().hex[:8]}", broker)
        self.client.on_message = lambda _c, _d, message: self._heard.append(message)
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.subscribe("tl/1/+/receipts", qos=1)
        assert subscribed.wait(PATIENCE_S)

    async def push(self, agent: str, channel: str, data: bytes) -> None:
        info = self.client.publish(f"tl/1/{agent}/{channel}", data, qos=1)
        await _until(info.is_published)

    async def arrived(self, count: int) -> None:
        connection = self.source._connection
        assert connection is not None
        await _until(lambda: connection._received == count)

    async def receipts(self, count: int) -> list[Receipt]:
        await _until(lambda: len(self._heard) >= count)
        return [decode_receipt(bytes(message.payload)) for message in self._heard]

    async def cut(self) -> None:
        self.relay.cut()


class KafkaFar:
    """Gateways beside a real Kafka: what agents send arrives in its topics."""

    def __init__(self, plant: KafkaPlant) -> None:
        self._plant = plant
        self.keeper = MemoryKeeper()
        settings = replace(plant.settings(), bytes_max=BYTES_MAX)
        self.source = KafkaSource(settings, CHANNELS, self.keeper, Clock())

    async def push(self, agent: str, channel: str, data: bytes) -> None:
        """The contract looks at nothing of a frame but its bytes: eight of them are its header."""
        headers = [("frame", data[:8]), ("lane", channel.encode())]
        topic = KAFKA_TOPICS[channel]
        await asyncio.to_thread(self._plant.send_raw, topic, agent.encode(), data[8:], headers)

    async def arrived(self, count: int) -> None:
        """Kafka has them since `push`, and nothing is read there before the first `take`."""

    async def receipts(self, count: int) -> list[Receipt]:
        await _until(lambda: len(self._plant.receipts()) >= count)
        return self._plant.receipts()

    async def cut(self) -> None:
        raise NotImplementedError("Kafka's client mends a wire that is cut by itself")


@asynccontextmanager
async def mqtt_far(broker: Broker) -> AsyncIterator[MqttFar]:
    relay = Relay(broker.host, broker.port)
    await relay.open()
    far = MqttFar(broker, relay)
    try:
        yield far
    finally:
        await far.source.close()
        far.client.disconnect()
        far.client.loop_stop()
        await relay.close()


def _client(client_id: str, broker: Broker) -> mqtt.Client:
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv311, reconnect_on_failure=False
    )
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect(broker.host, broker.port)
    client.loop_start()
    assert connected.wait(PATIENCE_S)
    return client


async def _until(happens: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not happens():  # noqa: ASYNC110 - paho's thread knows no asyncio.Event
            await asyncio.sleep(0.01)


OVER_ONE_WIRE = [
    "fake",
    pytest.param("mosquitto", marks=pytest.mark.integration),
    pytest.param("amqtt", marks=pytest.mark.integration),
]


@pytest.fixture(params=[*OVER_ONE_WIRE, pytest.param("kafka", marks=pytest.mark.integration)])
async def far(request: pytest.FixtureRequest) -> AsyncIterator[Far]:
    if request.param == "fake":
        fake = FakeFar(FakeSource(bytes_max=BYTES_MAX))
        yield fake
        await fake.source.close()
        return
    if request.param == "kafka":
        plant = KafkaPlant(request.getfixturevalue("kafka").bootstrap)
        plant.make()
        gateway = KafkaFar(plant)
        yield gateway
        await gateway.source.close()
        return
    async with mqtt_far(request.getfixturevalue(request.param)) as other:
        yield other


async def take(far: Far, count: int) -> list[Record]:
    taken: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < count:
            taken += await far.source.take(PLENTY)
    return taken


async def take_for(far: Far, duration_s: float) -> list[Record]:
    """Whatever comes in that time."""
    taken: list[Record] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(duration_s):
            while True:
                taken += await far.source.take(PLENTY)
    return taken


async def test_records_come_whole_with_their_agent_and_channel(far: Far) -> None:
    await far.source.open()
    data = bytes(range(256)) * 100
    for channel in ("events", "live", "backlog", "control", "hello"):
        await far.push("berlin.press1", channel, data + channel.encode())
    records = await take(far, 5)
    assert {(one.agent, one.channel, one.data) for one in records} == {
        ("berlin.press1", channel, data + channel.encode())
        for channel in ("events", "live", "backlog", "control", "hello")
    }


async def test_of_what_has_arrived_the_more_urgent_is_taken_first(far: Far) -> None:
    await far.source.open()
    for channel in ("backlog", "live", "events", "hello", "control"):
        for number in range(3):
            await far.push("berlin.press1", channel, b"%d of %s" % (number, channel.encode()))
    await far.arrived(15)
    records: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(records) < 15:
            taken = await far.source.take(Appetite(records=4, size=10_000))
            await far.source.acknowledge(taken)
            records += taken
    found = [one.channel for one in records]
    assert found == sorted(found, key=lambda one: URGENCY[one])


async def test_records_of_a_channel_keep_their_order(far: Far) -> None:
    await far.source.open()
    for number in range(50):
        await far.push("berlin.press1", "live", b"%d" % number)
    records: list[Record] = []
    while len(records) < 50:
        taken = await far.source.take(Appetite(records=7, size=10_000))
        assert len(taken) <= 7
        await far.source.acknowledge(taken)
        records += taken
    assert [one.data for one in records] == [b"%d" % number for number in range(50)]


async def test_one_record_is_always_taken_however_small_the_appetite(far: Far) -> None:
    await far.source.open()
    await far.push("berlin.press1", "live", b"x" * 1000)
    await far.push("berlin.press1", "live", b"y" * 1000)
    first = await far.source.take(Appetite(records=10, size=10))
    assert [one.data[:1] for one in first] == [b"x"]
    await far.source.acknowledge(first)
    assert [one.data[:1] for one in await take(far, 1)] == [b"y"]


async def test_above_the_bound_nothing_more_is_taken_until_something_is_acknowledged(
    far: Far,
) -> None:
    await far.source.open()
    for number in range(12):
        await far.push("berlin.press1", "live", bytes([number]) * 50_000)
    held = await take_for(far, 1.0)
    assert BYTES_MAX <= sum(len(one.data) for one in held) < BYTES_MAX + 2 * 50_000
    everything = list(held)
    while len(everything) < 12:
        await far.source.acknowledge(held)
        held = await take(far, 1)
        everything += held
    assert [one.data[0] for one in everything] == list(range(12))


async def test_receipts_go_to_the_agent_named(far: Far) -> None:
    await far.source.open()
    run = Run(epoch=7, lane=2, kind=Said.STORED, first=1, digests=(1, 2))
    sent = Receipt(agent="berlin.press1", store_id="1-1-1-0", runs=(run,))
    await far.source.answer("berlin.press1", encode_receipt(sent))
    assert await far.receipts(1) == [sent]


@pytest.mark.parametrize("far", OVER_ONE_WIRE, indirect=True)
async def test_a_connection_that_ends_is_disconnected_and_can_be_opened_again(far: Far) -> None:
    await far.source.open()
    await far.push("berlin.press1", "live", b"before")
    old = await take(far, 1)
    await far.cut()
    with pytest.raises(Disconnected):
        await take(far, 1)
    await far.source.close()
    await far.source.open()
    await far.source.acknowledge(old)  # of the connection before: passed over
    await far.push("berlin.press1", "live", b"after")
    assert (await take(far, 1))[-1].data == b"after"


async def test_a_closed_source_says_so(far: Far) -> None:
    await far.source.open()
    await far.source.close()
    await far.source.close()
    with pytest.raises(Disconnected):
        await far.source.take(PLENTY)
    with pytest.raises(Disconnected):
        await far.source.answer("berlin.press1", b"{}")


async def test_nobody_there_is_disconnected() -> None:
    source = MqttSource(MqttSettings("127.0.0.1", free_port()))
    with pytest.raises(Disconnected, match=r"127\.0\.0\.1:"):
        await source.open()
    await source.close()


@pytest.mark.integration
async def test_i2_unacknowledged_frames_are_not_acknowledged_to_the_broker(
    mosquitto: Broker,
) -> None:
    """With manual acknowledgement the broker keeps its in-flight window full and sends no more."""
    async with mqtt_far(mosquitto) as far:
        await far.source.open()
        for number in range(60):
            await far.push("berlin.press1", "live", b"%d" % number)
        first = await take_for(far, 1.0)
        assert 0 < len(first) < 60
        while len(first) < 60:
            await far.source.acknowledge(first[-20:])
            first += await take(far, 1)
        assert [one.data for one in first] == [b"%d" % number for number in range(60)]


@pytest.mark.integration
async def test_foreign_topics_and_retained_messages_are_no_records(mosquitto: Broker) -> None:
    async with mqtt_far(mosquitto) as far:
        topic = "tl/1/berlin.press1/live"
        kept = far.client.publish(topic, b"retained", qos=1, retain=True)
        await _until(kept.is_published)
        await far.source.open()
        await far.push("BERLIN", "live", b"no agent's name")
        await far.push("berlin.press1", "live", b"good")
        assert [one.data for one in await take(far, 1)] == [b"good"]
        await _until(far.client.publish(topic, b"", qos=1, retain=True).is_published)


@pytest.mark.integration
async def test_a_broker_that_hangs_is_disconnected(mosquitto: Broker) -> None:
    async with mqtt_far(mosquitto) as far:
        await far.source.open()
        far.relay.hang()
        with pytest.raises(Disconnected):
            await take(far, 1)


@pytest.mark.integration
async def test_a_pause_longer_than_the_keep_alive_keeps_the_connection(mosquitto: Broker) -> None:
    """The database may be away for hours; the broker must not lose us for that."""
    async with mqtt_far(mosquitto) as far:
        await far.source.open()
        for number in range(8):
            await far.push("berlin.press1", "live", bytes([number]) * 50_000)
        held = await take_for(far, 4.0 * KEEPALIVE_S)
        assert len(held) < 8, "it paused"
        while len(held) < 8:
            await far.source.acknowledge(held)
            held += await take(far, 1)
        assert [one.data[0] for one in held] == list(range(8))


@pytest.mark.integration
async def test_tls_with_certificates_and_a_password(tmp_path: Path) -> None:
    if Mosquitto.program() is None:
        pytest.skip("mosquitto is not installed")
    authority = Authority(tmp_path)
    theirs, ours = authority.issue("broker"), authority.issue("threadline-ingest")
    tls = Tls(theirs.certificate, theirs.key, authority.certificate, clients_need_certificate=True)
    with Children(tmp_path / "services") as children:
        broker = Mosquitto(children, BrokerSettings(passwords={"cloud": "right"}, tls=tls))
        broker.start()
        good = MqttSettings(
            broker.host, broker.port, "threadline-ingest", "cloud", "right",
            authority.certificate, ours.certificate, ours.key,
        )  # fmt: skip
        source = MqttSource(good)
        await source.open()
        large = Receipt(agent="berlin.press1", store_id="s" * 50_000, runs=())
        await source.answer("berlin.press1", encode_receipt(large))
        await source.close()
        foreign = Authority(tmp_path, "other").issue("threadline-ingest")
        for bad in (
            replace(good, password="wrong"),  # noqa: S106 - of the test's own broker
            replace(good, certificate=None, key=None),
            replace(good, certificate=foreign.certificate, key=foreign.key),
            replace(good, ca=None),
        ):
            refused = MqttSource(bad)
            with pytest.raises(Disconnected):
                await refused.open()
            await refused.close()


def test_missing_certificates_are_a_mistake(tmp_path: Path) -> None:
    settings = MqttSettings("h", ca=tmp_path / "none.crt")
    with pytest.raises(ConfigError, match=r"none\.crt"):
        tls_context(settings)
