"""The gateway on Kafka's bad days: every trouble has a name, and all goes on by itself.

The Kafka of this module is stopped, killed and set wrong; each test leaves it well.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.topics import TOPICS
from protocols.frames import Frame
from tests.support.certificates import Authority
from tests.support.gateway_fakes import frame
from tests.support.gateway_process import GatewayProcess, has_frames, make_topics, stored, until
from tests.support.kafka_client import delete_topic
from tests.support.kafka_guarded import PASSWORD, USER, GuardedKafka
from tests.support.mqtt_agents import MqttAgents
from tests.support.services import need
from threadline.broker import BrokerSettings, Mosquitto, Tls
from threadline.children import Children
from threadline.kafka import Kafka

pytestmark = pytest.mark.integration

HELD_BYTES_MAX = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def guarded(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuardedKafka]:
    need("kafka")
    with Children(tmp_path_factory.mktemp("guarded_kafka")) as children:
        server = GuardedKafka(children, authority)
        server.start()
        yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    need("mosquitto")
    with Children(tmp_path / "broker") as children:
        made = Mosquitto(children, BrokerSettings(max_queued_messages=100_000))
        made.start()
        yield made


@pytest.fixture
def gateway(broker: Mosquitto, guarded: GuardedKafka, tmp_path: Path) -> Iterator[GatewayProcess]:
    """Not started; the topics are made."""
    with Children(tmp_path / "gateway") as children:
        made = GatewayProcess(children, broker, guarded.bootstrap)
        make_topics(made)
        yield made


@asynccontextmanager
async def agents_of(broker: Mosquitto, **login: Any) -> AsyncIterator[MqttAgents]:
    made = MqttAgents(broker.host, broker.port, **login)
    try:
        await made.subscribed()
        yield made
    finally:
        made.close()


def frames_of(agent: str, count: int, size: int = 100) -> list[Frame]:
    return [frame(seq, bytes([seq % 256]) * size, agent) for seq in range(1, count + 1)]


def publish(agents: MqttAgents, agent: str, frames: list[Frame]) -> None:
    for one in frames:
        agents.publish("live", one.sealed, agent)


async def carries(agents: MqttAgents, gateway: GatewayProcess, agent: str) -> None:
    """It runs, and what is sent now is logged."""
    await gateway.until_state("running")
    publish(agents, agent, frames_of(agent, 3))
    await agents.until(lambda: set(agents.logged(agent)) >= {1, 2, 3}, 60)


async def test_kafka_down_at_the_start_is_a_state_and_goes_on_by_itself(
    broker: Mosquitto, gateway: GatewayProcess, guarded: GuardedKafka
) -> None:
    guarded.stop()
    try:
        gateway.start()
        await gateway.until_state("kafka_down")
        done = await asyncio.to_thread(gateway.call, "check", "--output", "json")
        assert done.returncode == 1
        states = {one["part"]: one["state"] for one in json.loads(done.stdout)}
        assert states == {"broker": "fine", "kafka": "kafka_down"}
        assert gateway.health()["reason"]
    finally:
        guarded.start()
    async with agents_of(broker) as agents:
        await carries(agents, gateway, "start.a")


async def test_kafka_killed_while_frames_come_is_named_and_what_is_held_is_logged_at_last(
    broker: Mosquitto, gateway: GatewayProcess, guarded: GuardedKafka
) -> None:
    gateway.start()
    async with agents_of(broker) as agents:
        await carries(agents, gateway, "kill.a")
        guarded.kill()
        try:
            frames = frames_of("kill.b", 200)
            publish(agents, "kill.b", frames)
            await gateway.until_state("kafka_down")
            assert agents.logged("kill.b") == []
        finally:
            guarded.start()
        await agents.until(lambda: len(set(agents.logged("kill.b"))) == 200, 120)
        assert await asyncio.to_thread(has_frames, guarded, "tl.live", frames)
        await gateway.until_state("running")


async def test_a_hanging_kafka_bounds_memory_and_the_brokers_queue_and_all_goes_on(
    broker: Mosquitto, gateway: GatewayProcess, guarded: GuardedKafka
) -> None:
    gateway.start()
    async with agents_of(broker) as agents:
        await carries(agents, gateway, "hang.a")
        process = psutil.Process(gateway.running.pid)
        os.kill(guarded.child.pid, signal.SIGSTOP)
        try:
            publish(agents, "hang.b", frames_of("hang.b", 300, 200_000))
            await until(lambda: gateway.value("held_bytes") >= HELD_BYTES_MAX * 0.9)
            full = process.memory_info().rss
            await gateway.until_state("kafka_down")
            await until(lambda: subscribers(gateway, broker) == 0, 90)  # it left the broker
            assert gateway.value("held_bytes") < HELD_BYTES_MAX + 1024 * 1024
            assert process.memory_info().rss < full + 24 * 1024 * 1024
            assert agents.logged("hang.b") == []
        finally:
            os.kill(guarded.child.pid, signal.SIGCONT)
        held = set(range(1, 60))  # they came first, and were never given back
        await agents.until(lambda: held <= set(agents.logged("hang.b")), 120)
        await carries(agents, gateway, "hang.c")
        there = {int(one.headers["seq"]) for one in stored(guarded, "tl.live", "hang.b")}
        assert set(agents.logged("hang.b")) <= there


def subscribers(gateway: GatewayProcess, broker: Mosquitto) -> int:
    """Connections of the gateway to the broker."""
    ends = psutil.Process(gateway.running.pid).net_connections("tcp")
    return sum(one.raddr[1:] == (broker.port,) for one in ends)


async def test_a_missing_topic_is_a_state_whose_remedy_is_a_command(
    broker: Mosquitto, gateway: GatewayProcess, guarded: GuardedKafka
) -> None:
    for topic in ("tl.live", "tl.dead"):
        await asyncio.to_thread(delete_topic, guarded.bootstrap, topic)
    gateway.start()
    await gateway.until_state("topic_missing")
    done = await asyncio.to_thread(gateway.call, "check")
    assert done.returncode == 1
    assert "threadline gateway topics create" in done.stdout
    assert [one for one in TOPICS if f"topic_missing  {one} " in done.stdout] == [
        "tl.live", "tl.dead",
    ]  # fmt: skip
    await asyncio.to_thread(make_topics, gateway)
    async with agents_of(broker) as agents:
        await carries(agents, gateway, "missing.a")


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("message_timestamp_type", "CreateTime", "LogAppendTime"),
        ("max_message_bytes", "1000000", "3145728"),
        ("cleanup_policy", "compact", "delete"),
    ],
)
async def test_i5_wrong_topic_settings_are_refused_with_the_command_and_it_goes_on_when_right(
    name: str, wrong: str, right: str, broker: Mosquitto, gateway: GatewayProcess,
    guarded: GuardedKafka,
) -> None:  # fmt: skip
    await asyncio.to_thread(lambda: guarded.alter_topic("tl.backlog", **{name: wrong}))
    try:
        gateway.start()
        await gateway.until_state("topic_settings")
        done = await asyncio.to_thread(gateway.call, "check", "--output", "json")
        assert done.returncode == 1
        (fault,) = [one for one in json.loads(done.stdout) if one["state"] == "topic_settings"]
        dotted = name.replace("_", ".")
        assert fault["part"] == f"tl.backlog: {dotted}"
        assert f"--topic tl.backlog --add-config {dotted}={right}" in fault["remedy"]
    finally:
        await asyncio.to_thread(lambda: guarded.alter_topic("tl.backlog", **{name: right}))
    async with agents_of(broker) as agents:
        await carries(agents, gateway, f"wrong.{name.replace('_', '-')}")


async def test_i3_a_topic_made_anew_under_a_running_gateway_costs_a_new_producer_and_no_lie(
    broker: Mosquitto, gateway: GatewayProcess, guarded: GuardedKafka
) -> None:
    gateway.start()
    async with agents_of(broker) as agents:
        await carries(agents, gateway, "anew.a")
        await asyncio.to_thread(delete_topic, guarded.bootstrap, "tl.live")
        frames = frames_of("anew.b", 50)
        publish(agents, "anew.b", frames)
        await asyncio.sleep(1)
        await asyncio.to_thread(make_topics, gateway)
        logged: set[int] = set()
        for _ in range(12):  # what was logged into the old log is gone; the agent is told by ingest
            await asyncio.sleep(3)
            there = {int(one.headers["seq"]) for one in stored(guarded, "tl.live", "anew.b")}
            logged = set(agents.logged("anew.b"))
            assert logged <= there
            if logged == set(range(1, 51)):
                break
        assert logged == set(range(1, 51))
        await carries(agents, gateway, "anew.c")


async def test_a_topic_with_too_small_a_limit_under_a_running_gateway_loses_nothing(
    broker: Mosquitto, gateway: GatewayProcess, guarded: GuardedKafka
) -> None:
    """Whether it may write is found out by writing: refused is not acknowledged."""
    gateway.start()
    async with agents_of(broker) as agents:
        await carries(agents, gateway, "small.a")
        await asyncio.to_thread(lambda: guarded.alter_topic("tl.live", max_message_bytes="20000"))
        try:
            publish(agents, "small.b", frames_of("small.b", 4, 300_000))
            await gateway.until_state("topic_settings")
            await asyncio.sleep(2)
            assert agents.logged("small.b") == []
        finally:
            await asyncio.to_thread(
                lambda: guarded.alter_topic("tl.live", max_message_bytes="3145728")
            )
        await agents.until(lambda: set(agents.logged("small.b")) == {1, 2, 3, 4}, 60)


async def test_without_rights_it_is_not_authorised_and_with_them_it_goes_on(
    broker: Mosquitto, gateway: GatewayProcess, guarded: GuardedKafka
) -> None:
    gateway.bootstrap = guarded.passwords
    gateway.env = {
        "THREADLINE_GATEWAY_KAFKA_SECURITY": "sasl_plaintext",
        "THREADLINE_GATEWAY_KAFKA_MECHANISM": "PLAIN",
        "THREADLINE_GATEWAY_KAFKA_USERNAME": USER,
        "THREADLINE_GATEWAY_KAFKA_PASSWORD": PASSWORD,
    }
    gateway.start()
    await gateway.until_state("topic_missing")  # what we may not see is not there for us
    done = await asyncio.to_thread(gateway.call, "check")
    assert done.returncode == 1
    assert "we may not see it" in done.stdout
    await asyncio.to_thread(guarded.allow_a_gateway, USER)
    async with agents_of(broker) as agents:
        await carries(agents, gateway, "rights.a")
        await asyncio.to_thread(guarded.forbid_all)
        publish(agents, "rights.b", frames_of("rights.b", 3))
        await until(lambda: gateway.health()["state"] in ("not_authorised", "topic_missing"))
        assert agents.logged("rights.b") == []
        await asyncio.to_thread(guarded.allow_a_gateway, USER)
        await agents.until(lambda: set(agents.logged("rights.b")) == {1, 2, 3}, 60)
    await asyncio.to_thread(guarded.forbid_all)


async def test_a_wrong_password_is_refused_by_name_and_never_shown(
    gateway: GatewayProcess, guarded: GuardedKafka
) -> None:
    gateway.bootstrap = guarded.passwords
    gateway.env = {
        "THREADLINE_GATEWAY_KAFKA_SECURITY": "sasl_plaintext",
        "THREADLINE_GATEWAY_KAFKA_MECHANISM": "PLAIN",
        "THREADLINE_GATEWAY_KAFKA_USERNAME": USER,
        "THREADLINE_GATEWAY_KAFKA_PASSWORD": "let me in",
    }
    gateway.start()
    await gateway.until_state("kafka_refused")
    done = await asyncio.to_thread(gateway.call, "check", "--output", "json")
    assert done.returncode == 1
    (fault,) = [one for one in json.loads(done.stdout) if one["state"] == "kafka_refused"]
    assert "kafka_password" in fault["remedy"]
    assert "let me in" not in done.stdout + done.stderr + gateway.running.log.read_text()


async def test_over_tls_on_both_sides_with_certificates(
    guarded: GuardedKafka, authority: Authority, tmp_path: Path
) -> None:
    own, server = authority.issue("gateway"), authority.issue("broker")
    tls = Tls(server.certificate, server.key, authority.certificate, clients_need_certificate=True)
    with Children(tmp_path / "tls") as children:
        broker = Mosquitto(children, BrokerSettings(tls=tls))
        broker.start()
        files = {"CA": authority.certificate, "CERTIFICATE": own.certificate, "KEY": own.key}
        env = {
            f"THREADLINE_GATEWAY_{side}_{name}": str(file)
            for side in ("MQTT", "KAFKA")
            for name, file in files.items()
        }
        gateway = GatewayProcess(children, broker, guarded.bootstrap)
        make_topics(gateway)
        gateway.bootstrap = guarded.certificates
        gateway.env = env | {"THREADLINE_GATEWAY_KAFKA_SECURITY": "ssl"}
        await asyncio.to_thread(guarded.allow_a_gateway, "CN=gateway")
        gateway.start()
        certificates = {
            "ca_certs": str(authority.certificate),
            "certfile": str(own.certificate),
            "keyfile": str(own.key),
        }
        async with agents_of(broker, tls=certificates) as agents:
            await carries(agents, gateway, "tls.a")
            large = frame(9, bytes(2 * 1024 * 1024), "tls.a")
            agents.publish("live", large.sealed, "tls.a")
            publish(agents, "tls.b", frames_of("tls.b", 200, 5_000))
            await agents.until(lambda: len(set(agents.logged("tls.b"))) == 200)
            await agents.until(lambda: 9 in agents.logged("tls.a"))
        await asyncio.to_thread(guarded.forbid_all)


async def test_topics_that_make_themselves_are_refused(tmp_path: Path, broker: Mosquitto) -> None:
    need("kafka")
    with Children(tmp_path / "loose") as children:
        loose = Kafka(children, settings={"auto.create.topics.enable": "true"})
        loose.start()
        gateway = GatewayProcess(children, broker, loose.bootstrap)
        make_topics(gateway)
        done = await asyncio.to_thread(gateway.call, "check", "--output", "json")
        assert done.returncode == 1
        (fault,) = [one for one in json.loads(done.stdout) if one["state"] == "topic_settings"]
        assert fault["part"] == "auto.create.topics.enable"
        assert "auto.create.topics.enable=false" in fault["remedy"]
        gateway.start()
        await gateway.until_state("topic_settings")
