"""I6 and I9: one frame by two routes, and frames of one agent in any order whatever."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random
from uuid import uuid4

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cloud.agents import add
from cloud.db import connect, connect_async
from cloud.ingest import Ingest
from cloud.metrics import Metrics
from cloud.mqtt_source import MqttSettings, MqttSource
from cloud.projection.masters import Masters
from cloud.projection.whole import project
from cloud.sessions import Sessions
from cloud.standing import Standing
from protocols.frames import Frame, Lane
from protocols.receipts import Said
from protocols.retry import Backoff
from tests.support.frames import AgentVoice
from tests.support.kafka_plant import KafkaPlant, kafka_ingest
from tests.support.many_frames import ROWS, some_frames
from tests.support.plant_store import FixedClock, channel_of
from tests.support.trace import SITE, keyed
from tests.support.trace_database import read_view, work_off_all
from tests.support.trace_worlds import world
from threadline.broker import Broker
from threadline.kafka import Kafka

pytestmark = pytest.mark.integration


@pytest.fixture
def plant(kafka: Kafka) -> KafkaPlant:
    made = KafkaPlant(kafka.bootstrap)
    made.make()
    return made


@asynccontextmanager
async def mqtt_ingest(broker: Broker, dsn: str) -> AsyncIterator[Standing]:
    """The direct route, with the real source."""
    clock, metrics = FixedClock(), Metrics()
    standing = Standing(clock, metrics.state.state)
    sessions = Sessions(dsn, clock, standing, Backoff(first_s=0.05, limit_s=0.2))
    source = MqttSource(MqttSettings(broker.host, broker.port, f"ingest-{uuid4().hex[:6]}"))
    ingest = Ingest(source, sessions, standing, metrics, clock)
    task = asyncio.get_running_loop().create_task(ingest.run())
    try:
        async with asyncio.timeout(20):
            while standing.state != "running":  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.02)
        yield standing
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def publisher(mosquitto: Broker) -> Iterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect(mosquitto.host, mosquitto.port)
    client.loop_start()
    assert connected.wait(10)
    yield client
    client.disconnect()
    client.loop_stop()


def publish(client: mqtt.Client, frame: Frame) -> None:
    client.publish(f"tl/1/{frame.header.agent}/{channel_of(frame)}", frame.sealed, qos=1)


async def test_i6_both_routes_at_once_store_each_frame_once(
    plant: KafkaPlant, mosquitto: Broker, publisher: mqtt.Client, store_dsn: str
) -> None:
    """An agent that changes its route in mid-flight sends the same frames by both."""
    voices = [AgentVoice("berlin.press1", epoch=1), AgentVoice("turin.oven", epoch=2)]
    sent = [
        frame
        for voice in voices
        for lane in (Lane.LIVE, Lane.BACKLOG)
        for frame in some_frames(voice, 60, lane)
    ]
    random = Random(6)  # noqa: S311 - an order
    async with kafka_ingest(plant, store_dsn) as bench, mqtt_ingest(mosquitto, store_dsn):
        for part in range(0, len(sent), 20):
            some = sent[part : part + 20]
            plant.send(*random.sample(some, len(some)))
            for frame in random.sample(some, len(some)):
                publish(publisher, frame)
            await asyncio.sleep(0.01)
        await bench.until_stored(sent)
        await bench.until(
            lambda: bench.one("select sum(next_offset) from kafka_position") == len(sent)
        )
        assert bench.counts() == (len(sent) * ROWS, len(sent))
        assert bench.one("select count(*) from dead_letter") == 0
        admitted = bench.metrics.frames.labels("admitted")._value.get()
        repeats = bench.metrics.frames.labels("repeat")._value.get()
        assert admitted + repeats == len(sent)
        assert repeats > 0, "both routes had work"


async def test_i6_what_overtook_another_is_no_high_water(plant: KafkaPlant, store_dsn: str) -> None:
    """Two gateways put 8 before 7; who remembers only the highest seq drops 7."""
    sent = some_frames(AgentVoice(), 40)
    order = [at ^ 1 for at in range(40)]
    async with kafka_ingest(plant, store_dsn) as bench:
        for at in order:
            plant.send(sent[at])
        await bench.until_stored(sent)
        await bench.until(lambda: bool(plant.said(sent[0])))
        assert bench.counts() == (40 * ROWS, 40)
        assert plant.said(sent[6]) == [(Said.STORED, None)]


@pytest.mark.parametrize("seed", range(4))
async def test_i9_the_view_is_the_same_whatever_overtakes_what(
    plant: KafkaPlant, store_dsn: str, seed: int
) -> None:
    """Events, live and backlog of one agent through two gateways into one partition each."""
    with connect(store_dsn, application="test") as connection:
        add(connection, f"{SITE}.line1", ["**"])
    random = Random(seed)  # noqa: S311 - an order
    voice = AgentVoice(f"{SITE}.line1", epoch=seed + 1)
    events = world(seed, most=40)
    frames = [voice.events(events[at : at + 3]) for at in range(0, len(events), 3)]
    frames += some_frames(voice, 10) + some_frames(voice, 10, Lane.BACKLOG)
    random.shuffle(frames)
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(*frames)
        plant.send(*random.sample(frames, 5))
        await bench.until_stored(frames)
        assert bench.counts() == (20 * ROWS, 20)
    view = await connect_async(store_dsn, application="test")
    try:
        await work_off_all(view)
        assert await read_view(view) == keyed(project(events, Masters()))
    finally:
        await view.close()
