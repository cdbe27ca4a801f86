"""The process `threadline cloud ingest` with a real broker and database: killed, ended, watched."""

import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cloud.db import connect
from cloud.verify.delivery import verify_agent
from protocols.frames import Frame
from protocols.receipts import Said, decode_receipt
from protocols.samples import DataType
from tests.support.frames import AgentVoice, sample
from threadline.broker import Broker, BrokerSettings, Mosquitto
from threadline.children import Child, Children
from threadline.ports import HOST, free_port

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0


class Sender:
    """An agent reduced to its promise: it sends a frame again until its receipt says stored."""

    def __init__(self, broker: Broker, voice: AgentVoice) -> None:
        self._topic = f"tl/1/{voice.agent}/live"
        self._waiting: dict[tuple[int, int], Frame] = {}
        self._lock = threading.Lock()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self._client.on_connect = lambda client, *_: client.subscribe(
            f"tl/1/{voice.agent}/receipts", qos=1
        )
        self._client.on_message = self._heard
        self._client.reconnect_delay_set(1, 1)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def send(self, frame: Frame) -> None:
        with self._lock:
            self._waiting[frame.header.seq, frame.header.digest] = frame
        self._client.publish(self._topic, frame.sealed, qos=1)

    def send_until_stored(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with self._lock:
                waiting = list(self._waiting.values())
            if not waiting:
                return
            assert time.monotonic() < deadline, f"{len(waiting)} frames were never stored"
            for frame in waiting:
                self._client.publish(self._topic, frame.sealed, qos=1)
            time.sleep(1.0)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        for run in decode_receipt(bytes(message.payload)).runs:
            if run.kind is Said.STORED:
                with self._lock:
                    for at, digest in enumerate(run.digests):
                        self._waiting.pop((run.first + at, digest), None)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    if Mosquitto.program() is None:
        pytest.skip("mosquitto is not installed")
    with Children(tmp_path) as children:
        broker = Mosquitto(children, BrokerSettings(max_queued_messages=10_000))
        broker.start()
        yield broker


def start_ingest(children: Children, name: str, dsn: str, broker: Broker, port: int) -> Child:
    command = [sys.executable, "-m", "threadline", "cloud", "ingest"]
    command += ["--mqtt-host", broker.host, "--mqtt-port", str(broker.port)]
    command += ["--metrics-port", str(port)]
    return children.start(name, command, env={"THREADLINE_CLOUD_DATABASE": dsn})


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until_healthy(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while page(port, "/health")[0] != 200:
        assert time.monotonic() < deadline, page(port, "/health")
        time.sleep(0.05)


def voice_now() -> AgentVoice:
    return AgentVoice(epoch=random.getrandbits(64), now_us=time.time_ns() // 1000)


def seal(voice: AgentVoice, number: int) -> Frame:
    voice.now_us += 1000
    rows = [sample(f"d.x{n}", DataType.INT32, voice.now_us + n, number) for n in range(50)]
    return voice.samples(rows)


def test_ingest_and_broker_killed_again_and_again_store_every_row_once(
    children: Children, own_broker: Mosquitto, store_dsn: str
) -> None:
    rng = random.Random(3)  # noqa: S311 - seeded moments
    port = free_port()
    voice = voice_now()
    ingest = start_ingest(children, "ingest", store_dsn, own_broker, port)
    until_healthy(port)
    sender = Sender(own_broker, voice)
    sent = 0
    for turn in range(4):
        for _ in range(40):
            sender.send(seal(voice, sent))
            sent += 1
            time.sleep(rng.random() * 0.005)
        children.kill(ingest)
        if turn == 2:
            own_broker.kill()
            own_broker.start()
        ingest = start_ingest(children, "ingest", store_dsn, own_broker, port)
    sender.send_until_stored()
    sender.close()
    children.stop(ingest)
    with connect(store_dsn, application="test") as connection:
        found = verify_agent(connection, voice.agent)
    assert found.holds
    assert (found.read, found.stored, found.duplicates) == (sent * 50, sent * 50, 0)


def test_a_process_that_is_told_to_stop_stops_and_says_how_it_stood(
    children: Children, own_broker: Mosquitto, store_dsn: str
) -> None:
    port = free_port()
    ingest = start_ingest(children, "ingest_stop", store_dsn, own_broker, port)
    until_healthy(port)
    voice = voice_now()
    sender = Sender(own_broker, voice)
    sender.send(seal(voice, 1))
    sender.send_until_stored()
    code, text = page(port, "/metrics")
    assert code == 200
    assert "threadline_ingest_samples_total 50.0" in text
    assert 'threadline_ingest_state{threadline_ingest_state="running"} 1.0' in text
    code, text = page(port, "/health")
    health = json.loads(text)
    assert (code, health["healthy"], health["state"]) == (200, True, "running")
    assert health["last_write_at"] is not None
    assert page(port, "/nothing")[0] == 404
    own_broker.stop()
    deadline = time.monotonic() + PATIENCE_S
    while json.loads(page(port, "/health")[1])["state"] != "broker_down":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert page(port, "/health")[0] == 503
    own_broker.start()
    until_healthy(port)
    sender.close()
    children.stop(ingest)
    assert ingest.exit_code == 0
    assert "Traceback" not in ingest.log.read_text()


def test_a_taken_port_is_named_and_hinders_nothing(
    children: Children, own_broker: Mosquitto, store_dsn: str
) -> None:
    port = free_port()
    first = start_ingest(children, "ingest_first", store_dsn, own_broker, port)
    until_healthy(port)
    second = start_ingest(children, "ingest_second", store_dsn, own_broker, port)
    deadline = time.monotonic() + PATIENCE_S
    while "port_taken" not in second.log.read_text():
        assert time.monotonic() < deadline, second.last_lines()
        time.sleep(0.05)
    assert second.exit_code is None
    children.stop(second)
    children.stop(first)


def test_wrong_settings_are_refused_before_anything_is_opened(
    children: Children, own_broker: Mosquitto
) -> None:
    command = [sys.executable, "-m", "threadline", "cloud", "ingest", "--mqtt-port", "99999"]
    child = children.start("ingest_wrong", command, env={"THREADLINE_CLOUD_MQTT_CA": "/none.pem"})
    assert child.wait(PATIENCE_S) == 2
    assert "--mqtt-port = 99999" in child.log.read_text()
    command = [*command[:-1], str(own_broker.port), "--database", "postgresql://x@127.0.0.1:1/x"]
    child = children.start("ingest_ca", command, env={"THREADLINE_CLOUD_MQTT_CA": "/none.pem"})
    assert child.wait(PATIENCE_S) == 2
    assert "/none.pem" in child.log.read_text()
