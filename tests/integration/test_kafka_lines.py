"""A process of ingest: its two lines by both routes, its page for machines, its settings."""

import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from confluent_kafka import Consumer, TopicPartition
from paho.mqtt.enums import CallbackAPIVersion

from cloud.db import Connection, connect
from protocols.frames import Frame, Lane
from tests.support.frames import AgentVoice
from tests.support.kafka_plant import KafkaPlant
from tests.support.many_frames import large_frames, some_frames
from tests.support.services import need
from threadline.broker import BrokerSettings, Mosquitto
from threadline.children import Child, Children
from threadline.kafka import Kafka
from threadline.ports import HOST, free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PATIENCE_S = 90.0
BACKLOG = 60  # frames of 8,000 rows: seconds of work
LIVE = 5
GROUP = "lines"


@pytest.fixture
def database(store_dsn: str) -> Iterator[Connection]:
    with connect(store_dsn, application="test") as connection:
        yield connection


@pytest.fixture
def own_children(tmp_path: Path) -> Iterator[Children]:
    with Children(tmp_path) as children:
        yield children


@pytest.fixture
def plant(own_children: Children) -> KafkaPlant:
    need("kafka")
    server = Kafka(own_children)
    server.start()
    made = KafkaPlant(server.bootstrap, "")
    made.make(2)
    return made


def ingest(children: Children, dsn: str, *options: str, **env: str) -> tuple[Child, int]:
    """The process, and the port of its pages."""
    port = free_port()
    command = [sys.executable, "-m", "threadline", "cloud", "ingest", *options]
    command += ["--metrics-port", str(port)]
    told = {"THREADLINE_CLOUD_DATABASE": dsn}
    told |= {f"THREADLINE_CLOUD_{name.upper()}": value for name, value in env.items()}
    return children.start("ingest", command, env=told), port


def until(happens: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stored(database: Connection, lane: Lane) -> int:
    query = "select count(*) from ledger join lane l using (lane_id) where l.lane = %s"
    row = database.execute(query, [int(lane)]).fetchone()
    assert row is not None
    return int(row[0])


def voice() -> AgentVoice:
    return AgentVoice(now_us=time.time_ns() // 1000 - 3_600_000_000)


def page(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def assert_live_is_not_behind(
    send: Callable[[list[Frame]], None], database: Connection, speaker: AgentVoice
) -> None:
    """Seconds of backlog lie before the live frames, and are still there when these are stored."""
    send(large_frames(speaker, BACKLOG))
    until(lambda: stored(database, Lane.BACKLOG) > 0)
    send(some_frames(speaker, LIVE))
    until(lambda: stored(database, Lane.LIVE) == LIVE)
    assert stored(database, Lane.BACKLOG) < BACKLOG
    until(lambda: stored(database, Lane.BACKLOG) == BACKLOG)


def test_live_is_not_behind_backlog_from_kafka(
    own_children: Children, plant: KafkaPlant, store_dsn: str, database: Connection
) -> None:
    ingest(own_children, store_dsn, "--source", "kafka", "--kafka-bootstrap", plant.bootstrap)
    owners = "select count(distinct owner) from kafka_position"
    until(lambda: database.execute(owners).fetchone() == (2,))
    assert_live_is_not_behind(lambda frames: plant.send(*frames), database, voice())


def test_live_is_not_behind_backlog_from_the_broker(
    own_children: Children, store_dsn: str, database: Connection
) -> None:
    need("mosquitto")
    broker = Mosquitto(own_children, BrokerSettings(max_queued_messages=10_000))
    broker.start()
    _, port = ingest(own_children, store_dsn, "--mqtt-port", str(broker.port))
    until(lambda: '"healthy": true' in page(port, "/health"))
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect(broker.host, broker.port)
    client.loop_start()
    assert connected.wait(PATIENCE_S)

    def publish(frames: list[Frame]) -> None:
        for frame in frames:
            lane = frame.header.lane.name.lower()
            client.publish(f"tl/1/{frame.header.agent}/{lane}", frame.sealed, qos=1)

    try:
        assert_live_is_not_behind(publish, database, voice())
    finally:
        client.disconnect()
        client.loop_stop()


def test_machines_are_told_of_lag_and_log(
    own_children: Children, plant: KafkaPlant, store_dsn: str, database: Connection
) -> None:
    """On our own page, and in Kafka for tools that watch its groups."""
    child, port = ingest(
        own_children, store_dsn, "--source", "kafka", kafka_bootstrap=plant.bootstrap,
        kafka_group=GROUP,
    )  # fmt: skip
    speaker = voice()
    plant.send(*some_frames(speaker, 30), partition=0)
    plant.send(*some_frames(speaker, 12, Lane.BACKLOG), partition=1)
    until(lambda: stored(database, Lane.LIVE) == 30 and stored(database, Lane.BACKLOG) == 12)
    until(lambda: 'kafka_lag_records{topic="tl.live"} 0.0' in page(port, "/metrics"))
    until(lambda: 'kafka_lag_records{topic="tl.backlog"} 0.0' in page(port, "/metrics"))
    told = page(port, "/metrics")
    assert "threadline_ingest_log_gen 0.0" in told
    assert 'threadline_ingest_frames_total{outcome="admitted"} 42.0' in told
    assert 'threadline_ingest_lag_seconds{lane="backlog"}' in told
    until(lambda: committed(plant, GROUP, "tl.live", 0) == 30)
    until(lambda: committed(plant, f"{GROUP}-backlog", "tl.backlog", 1) == 12)
    own_children.stop(child)
    assert child.exit_code == 0
    assert "Traceback" not in child.log.read_text()


def committed(plant: KafkaPlant, group: str, topic: str, partition: int) -> int:
    consumer = Consumer({"bootstrap.servers": plant.bootstrap, "group.id": group})
    try:
        (found,) = consumer.committed([TopicPartition(topic, partition)], timeout=10)
        return int(found.offset)
    finally:
        consumer.close()


WRONG: Mapping[str, tuple[dict[str, str], str]] = {
    "source": ({"source": "carrier pigeon"}, "THREADLINE_CLOUD_SOURCE = 'carrier pigeon'"),
    "security": ({"kafka_security": "some"}, "THREADLINE_CLOUD_KAFKA_SECURITY = 'some'"),
    "file": ({"source": "kafka", "kafka_security": "ssl", "kafka_ca": "/none.pem"}, "/none.pem"),
    "name": ({"kafka_servers": "here"}, "THREADLINE_CLOUD_KAFKA_SERVERS: is not a setting"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_settings_are_refused_before_anything_is_opened(
    own_children: Children, case: str
) -> None:
    env, told = WRONG[case]
    child, _ = ingest(own_children, "postgresql://x@127.0.0.1:1/x", **env)
    assert child.wait(PATIENCE_S) == 2
    assert told in child.log.read_text()
