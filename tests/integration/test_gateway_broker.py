"""The gateway and brokers that are no good for it, refuse it, or go away."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gateway_fakes import frame
from tests.support.gateway_process import GatewayProcess, make_topics
from tests.support.mqtt_agents import MqttAgents
from threadline.broker import Broker, BrokerSettings, Mosquitto
from threadline.children import Children
from threadline.kafka import Kafka
from threadline.ports import HOST

pytestmark = pytest.mark.integration

REFUSED = 2


class GuardedMosquitto(Mosquitto):
    """One with access rules, one line each; whoever comes has the name `gateway`."""

    rules: tuple[str, ...] = ()

    def _lines(self) -> list[str]:
        file = self._home / "rules"
        file.write_text("\n".join(self.rules) + "\n")
        return [*super()._lines(), f"acl_file {file}"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Children]:
    """Children of one test."""
    with Children(tmp_path / "children") as made:
        yield made


@pytest.fixture
def broker(mosquitto: Broker, own: Children) -> Mosquitto:
    """Of this test alone."""
    assert mosquitto.port
    made = Mosquitto(own, BrokerSettings(max_queued_messages=100_000))
    made.start()
    return made


@pytest.fixture
def gateway(broker: Mosquitto, kafka: Kafka, own: Children) -> GatewayProcess:
    made = GatewayProcess(own, broker, kafka.bootstrap)
    make_topics(made)
    return made


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """The port of a broker that says these things, one after each thing that it hears."""
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(30)

        def serve() -> None:
            while True:
                try:
                    wire, _ = server.accept()
                except OSError:
                    return
                with wire:
                    for answer in answers:
                        wire.recv(4096)
                        wire.sendall(answer)
                    wire.recv(4096)

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])


CONNACK = b"\x20\x03\x00\x00\x00"
UNFIT = {
    "no shared subscriptions": (b"\x20\x05\x00\x00\x02\x2a\x00", "has no shared subscriptions"),
    "only QoS 0": (b"\x20\x05\x00\x00\x02\x24\x00", "has no QoS 1"),
    "an old version's refusal": (b"\x20\x02\x00\x01", "speaks no MQTT 5"),
    "a new version's refusal": (b"\x20\x03\x00\x84\x00", "speaks no MQTT 5"),
}


@pytest.mark.parametrize("name", list(UNFIT))
async def test_a_broker_that_can_never_serve_a_gateway_is_refused_at_the_start(
    name: str, gateway: GatewayProcess
) -> None:
    answer, why = UNFIT[name]
    with answering(answer) as port:
        gateway.env = {"THREADLINE_GATEWAY_MQTT_PORT": str(port)}
        done = await asyncio.to_thread(gateway.call, "run")
        assert done.returncode == REFUSED
        assert f"mqtt_host = 127.0.0.1:{port}: the broker {why}. Use a broker with" in done.stderr
        done = await asyncio.to_thread(gateway.call, "check", "--output", "json")
        assert done.returncode == 1
        assert json.loads(done.stdout)[0]["state"] == "broker_unfit"


async def test_a_subscription_that_cannot_be_shared_is_refused_at_the_start(
    gateway: GatewayProcess,
) -> None:
    with answering(CONNACK, SUBACK + b"\x9e" * 5) as port:
        gateway.env = {"THREADLINE_GATEWAY_MQTT_PORT": str(port)}
        done = await asyncio.to_thread(gateway.call, "run")
        assert done.returncode == REFUSED
        assert "has no shared subscriptions" in done.stderr


async def test_a_broker_of_mqtt_3_is_refused_at_the_start(
    amqtt: Broker, gateway: GatewayProcess
) -> None:
    """It may hang up without a word; another version of the protocol tells."""
    gateway.env = {"THREADLINE_GATEWAY_MQTT_PORT": str(amqtt.port)}
    done = await asyncio.to_thread(gateway.call, "run")
    assert done.returncode == REFUSED
    assert "the broker speaks no MQTT 5" in done.stderr
    assert "threadline cloud ingest" in done.stderr


async def test_a_broker_that_is_away_at_the_start_may_yet_come(
    broker: Mosquitto, gateway: GatewayProcess
) -> None:
    broker.stop()
    gateway.start()
    await gateway.until_state("broker_down")
    broker.start()
    await gateway.until_state("running")


async def test_a_broker_that_is_killed_is_named_and_all_goes_on(
    broker: Mosquitto, gateway: GatewayProcess
) -> None:
    gateway.start()
    await gateway.until_state("running")
    broker.kill()
    await gateway.until_state("broker_down")
    broker.start()
    await gateway.until_state("running")
    agents = MqttAgents(broker.host, broker.port)
    try:
        await agents.subscribed()
        agents.publish("live", frame(1, agent="back.a").sealed, "back.a")
        await agents.until(lambda: agents.logged("back.a") == [1])
    finally:
        agents.close()


async def test_a_broker_that_refuses_our_receipts_is_named_with_what_is_missing(
    kafka: Kafka, own: Children, mosquitto: Broker
) -> None:
    assert mosquitto.port
    passwords = {"gateway": "one", "agents": "two"}
    broker = GuardedMosquitto(own, BrokerSettings(passwords=passwords))
    broker.rules = ("user gateway", "topic read tl/1/#", "user agents", "topic readwrite #")
    broker.start()
    login = {
        "THREADLINE_GATEWAY_MQTT_USERNAME": "gateway",
        "THREADLINE_GATEWAY_MQTT_PASSWORD": "one",
    }
    gateway = GatewayProcess(own, broker, kafka.bootstrap, env=login)
    make_topics(gateway)
    gateway.start()
    agents = MqttAgents(broker.host, broker.port, username="agents", password="two")  # noqa: S106 - a test's
    try:
        await agents.subscribed()
        for seq in range(1, 400):
            agents.publish("live", frame(seq, agent="rules.a").sealed, "rules.a")
            if gateway.health()["state"] == "broker_refused":
                break
            await asyncio.sleep(0.1)
        told = gateway.health()
        assert told["state"] == "broker_refused"
        assert "refuses a receipt (not authorized): check its access rules" in told["reason"]
    finally:
        agents.close()


SUBACK = b"\x90\x08\x00\x01\x00"
TAKEN = SUBACK + b"\x01" * 5
GOODBYES = {
    "rights": (SUBACK + b"\x01\x01\x87\x01\x01", "broker_refused", "refuses the subscription"),
    "taken over": (TAKEN + b"\xe0\x02\x8e\x00", "broker_down", "session taken over"),
    "shut down": (TAKEN + b"\xe0\x02\x8b\x00", "broker_down", "server shutting down"),
    "no mqtt": (TAKEN + b"\x32\xff\xff\xff\xff\xff", "broker_down", "sends no MQTT"),
}


@pytest.mark.parametrize("name", list(GOODBYES))
async def test_what_the_broker_says_of_an_end_is_the_reason(
    name: str, gateway: GatewayProcess
) -> None:
    said, state, why = GOODBYES[name]
    with answering(CONNACK, said) as port:
        gateway.env = {"THREADLINE_GATEWAY_MQTT_PORT": str(port)}
        gateway.start()
        await gateway.until_state(state)
        assert why in gateway.health()["reason"]


async def test_a_wrong_password_is_named(kafka: Kafka, own: Children, mosquitto: Broker) -> None:
    assert mosquitto.port
    broker = Mosquitto(own, BrokerSettings(passwords={"gateway": "right"}))
    broker.start()
    login = {
        "THREADLINE_GATEWAY_MQTT_USERNAME": "gateway",
        "THREADLINE_GATEWAY_MQTT_PASSWORD": "wrong",
    }
    gateway = GatewayProcess(own, broker, kafka.bootstrap, env=login)
    make_topics(gateway)
    gateway.start()
    await gateway.until_state("broker_refused")
    assert "not authorized" in gateway.health()["reason"]


async def test_a_port_that_is_taken_is_a_state_and_frames_go_on(
    gateway: GatewayProcess, broker: Mosquitto
) -> None:
    with socket.create_server((HOST, 0)) as taken:
        gateway.probes = int(taken.getsockname()[1])
        gateway.start()
        agents = MqttAgents(broker.host, broker.port)
        try:
            await agents.subscribed()
            for seq in range(1, 200):
                agents.publish("live", frame(seq, agent="port.a").sealed, "port.a")
                await asyncio.sleep(0.1)
                if agents.logged("port.a"):
                    break
            assert agents.logged("port.a")
        finally:
            agents.close()
        assert "port_taken" in gateway.running.log.read_text()


def test_every_mistake_in_the_settings_is_said_at_once_with_its_place(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("mqtt_prot: 1883\nmqtt_port: many\nkafka_certificate: a.pem\n")
    gateway.env = {
        "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP": "kafka",
        "THREADLINE_GATEWAY_KAFKA_SECURITY": "sasl_ssl",
        "THREADLINE_GATEWAY_KAFKA_GRUOP": "x",
        "THREADLINE_GATEWAY_MQTT_PORT": "1883",
    }
    done = gateway.call("run", "--config", str(file))
    assert done.returncode == REFUSED
    for said in (
        f"{file}: mqtt_prot: is not a setting",
        "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP = kafka: is no host:port",
        "THREADLINE_GATEWAY_KAFKA_GRUOP: is not a setting",
        "setting kafka_username: is needed with sasl_ssl",
        f"{file}: kafka_certificate: needs kafka_key",
    ):
        assert said in done.stderr, done.stderr


def test_certificates_that_are_none_are_refused_at_the_start(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    gateway.env = {"THREADLINE_GATEWAY_MQTT_CA": str(tmp_path / "nothing.pem")}
    done = gateway.call("run")
    assert done.returncode == REFUSED
    assert "nothing.pem" in done.stderr
