"""The gateway as a process between a real broker and a real Kafka: what it carries, and how."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial

import pytest

from protocols.frames import Header, Kind, Lane, seal
from protocols.receipts import Receipt, Run, Said, encode_receipt
from tests.support.gateway_fakes import frame
from tests.support.gateway_process import GatewayProcess, has_frames, make_topics, stored, until
from tests.support.kafka_client import write
from tests.support.mqtt_agents import MqttAgents
from threadline.broker import BrokerSettings, Mosquitto
from threadline.children import Children
from threadline.kafka import Kafka

pytestmark = pytest.mark.integration

HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def own_broker(mosquitto: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Of this module: whoever else subscribes would take a share."""
    assert mosquitto
    with Children(tmp_path_factory.mktemp("gateway_broker")) as children:
        broker = Mosquitto(children, BrokerSettings(max_queued_messages=100_000))
        broker.start()
        yield broker


@pytest.fixture(scope="module")
def gateways(
    own_broker: Mosquitto, kafka: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[GatewayProcess]]:
    """Two, of one group, running."""
    with Children(tmp_path_factory.mktemp("gateways")) as children:
        made = [
            GatewayProcess(children, own_broker, kafka.bootstrap, name) for name in ("one", "two")
        ]
        make_topics(made[0])
        for gateway in made:
            gateway.start()
        yield made


@pytest.fixture
async def agents(
    own_broker: Mosquitto, gateways: list[GatewayProcess]
) -> AsyncIterator[MqttAgents]:
    for gateway in gateways:
        await gateway.until_state("running")
    made = MqttAgents(own_broker.host, own_broker.port)
    await made.subscribed()
    yield made
    made.close()


async def test_frames_go_verbatim_into_the_topics_of_their_lanes(
    agents: MqttAgents, kafka: Kafka
) -> None:
    agent = "lanes.a"
    sent = {
        channel: frame(3, channel.encode() * 9, agent, lane)
        for channel, lane in (
            ("events", Lane.EVENTS),
            ("live", Lane.LIVE),
            ("backlog", Lane.BACKLOG),
            ("control", Lane.CONTROL),
        )
    }
    sent["hello"] = seal(Header(Kind.HELLO, Lane.NONE, agent, 7, 0), b"{}")
    for channel, one in sent.items():
        agents.publish(channel, one.sealed, agent)
    await agents.until(lambda: len(agents.logged(agent)) == 4)
    for channel, one in sent.items():
        topic = "tl.control" if channel == "hello" else f"tl.{channel}"
        await until(partial(has_frames, kafka, topic, [one]))
        (record,) = [
            r for r in stored(kafka, topic, agent) if r.headers["lane"] == channel.encode()
        ]
        assert record.sealed == one.sealed
        assert record.headers["kind"] == b"%d" % one.header.kind
    assert agents.logged(agent) == [3, 3, 3, 3]  # a hello has no number: ingest answers it


async def test_logged_says_single_copy_on_one_broker(agents: MqttAgents) -> None:
    agents.publish("live", frame(1, agent="copy.a").sealed, "copy.a")
    await agents.until(lambda: agents.logged("copy.a") == [1])
    (run,) = agents.receipts[-1].runs
    assert run.reason == "single copy"
    assert (agents.receipts[-1].store_id, agents.receipts[-1].log_gen) == (None, None)


async def test_several_side_by_side_share_the_frames_and_double_none(
    agents: MqttAgents, gateways: list[GatewayProcess], kafka: Kafka
) -> None:
    before = [one.value("frames_total", '{outcome="carried"}') for one in gateways]
    names = [f"share.a{number}" for number in range(4)]
    for seq in range(1, 101):
        for name in names:
            agents.publish("live", frame(seq, b"x" * seq, name).sealed, name)
    await agents.until(lambda: all(len(agents.logged(name)) == 100 for name in names))
    for name in names:
        assert sorted(agents.logged(name)) == list(range(1, 101))
        seqs = [int(one.headers["seq"]) for one in stored(kafka, "tl.live", name)]
        assert sorted(seqs) == list(range(1, 101))
    after = [one.value("frames_total", '{outcome="carried"}') for one in gateways]
    assert all(b - a > 50 for a, b in zip(before, after, strict=True)), "both had their share"


async def test_i9_lanes_travel_apart_and_two_gateways_lose_none_of_an_agents_frames(
    agents: MqttAgents, kafka: Kafka
) -> None:
    """Events, live and backlog never wait for each other in a partition; order is no promise."""
    agent = "apart.a"
    lanes = {"events": Lane.EVENTS, "live": Lane.LIVE, "backlog": Lane.BACKLOG}
    for seq in range(1, 61):
        for channel, lane in lanes.items():
            agents.publish(channel, frame(seq, b"y" * seq, agent, lane).sealed, agent)
    await agents.until(lambda: len(agents.logged(agent)) == 180)
    for channel in lanes:
        found = stored(kafka, f"tl.{channel}", agent)
        assert {one.headers["lane"] for one in found} == {channel.encode()}
        assert sorted(int(one.headers["seq"]) for one in found) == list(range(1, 61))


async def test_i5_the_time_of_a_record_is_kafkas_whatever_the_agents_clock_says(
    agents: MqttAgents, kafka: Kafka
) -> None:
    """Eight days old or two hours ahead: it is taken, and retention goes by arrival."""
    agent, now_us = "clock.a", time.time_ns() // 1000
    for seq, sealed_us in enumerate((now_us - 8 * 24 * HOUR_US, now_us + 2 * HOUR_US), 1):
        header = Header(
            Kind.SAMPLES, Lane.BACKLOG, agent, 7, seq, rows=1,
            sealed_at=sealed_us, t_min=sealed_us, t_max=sealed_us,
        )  # fmt: skip
        agents.publish("backlog", seal(header, b"x").sealed, agent)
    await agents.until(lambda: sorted(agents.logged(agent)) == [1, 2])
    for one in stored(kafka, "tl.backlog", agent):
        assert abs(one.time_ms - now_us // 1000) < 60_000


async def test_ingests_receipts_are_carried_to_their_agents_once(
    agents: MqttAgents, kafka: Kafka
) -> None:
    run = Run(epoch=7, lane=2, kind=Said.STORED, first=1, digests=(5,))
    await listens(agents, kafka)
    sent = []
    for number in range(50):
        agent = f"mail.a{number % 5}"
        receipt = Receipt(agent=agent, store_id=f"s{number}", log_gen=3, runs=(run,))
        sent.append((agent, encode_receipt(receipt)))
    await asyncio.to_thread(
        write, kafka.bootstrap, "tl.receipts", [(a.encode(), data) for a, data in sent]
    )
    await agents.until(lambda: set(sent) <= set(agents.heard))
    mine = [one for one in agents.heard if one[0].startswith("mail.")]
    assert sorted(mine) == sorted(sent)


def has_heard(agents: MqttAgents, wanted: set[tuple[str, bytes]]) -> bool:
    return wanted <= set(agents.heard)


async def listens(agents: MqttAgents, kafka: Kafka) -> None:
    """A group that never read begins with what comes from now on, part by part."""
    for turn in range(30):
        round_ = {(f"prime.a{number}", b"%d" % turn) for number in range(40)}
        records = [(agent.encode(), data) for agent, data in round_]
        await asyncio.to_thread(write, kafka.bootstrap, "tl.receipts", records)
        with suppress(TimeoutError):
            await agents.until(partial(has_heard, agents, round_), 2.0)
            return
    raise AssertionError("nobody listens")


BAD = {
    "garbage": (b"garbage", "unreadable"),
    "forged header": (b"TLF\x01" + bytes(60), "unreadable"),
    "a crc that lies": (bytes([*frame(1).sealed[:50], 255, *frame(1).sealed[51:]]), "unreadable"),
    "another agent's identity": (frame(1, agent="other.b").sealed, "foreign_identity"),
    "a payload that lies about its size": (frame(1, agent="bad.a").sealed + b"!", "rejected"),
    "a payload of other bytes": (frame(1, b"abc", "bad.a").sealed[:-1] + b"?", "rejected"),
    "another lane": (frame(1, agent="bad.a", lane=Lane.EVENTS).sealed, "rejected"),
    "too large": (frame(1, agent="bad.a").head + bytes(2_200_000), "too_large"),
}


@pytest.mark.parametrize("name", list(BAD))
async def test_a_bad_message_is_a_dead_letter_with_its_reason_and_the_next_goes_on(
    name: str, agents: MqttAgents, kafka: Kafka
) -> None:
    data, reason = BAD[name]
    before = len(stored(kafka, "tl.dead", "bad.a"))
    good = frame(abs(hash(name)) % 10_000 + 10, agent="bad.a")
    agents.publish("live", data, "bad.a")
    agents.publish("live", good.sealed, "bad.a")
    await agents.until(lambda: good.header.seq in agents.logged("bad.a"))
    await until(lambda: len(stored(kafka, "tl.dead", "bad.a")) > before)
    letter = stored(kafka, "tl.dead", "bad.a")[-1]
    assert letter.headers["reason"] == reason.encode()
    assert letter.headers["lane"] == b"live"
    assert letter.headers["detail"]
    assert letter.value == data[: len(letter.value)]
    assert len(letter.value) == min(len(data), 2 * 1024 * 1024 + 4096)
    assert 1 not in agents.logged("bad.a"), "what is dead is not logged"


async def test_a_message_above_four_mebibytes_never_reaches_us_and_the_next_goes_on(
    agents: MqttAgents, gateways: list[GatewayProcess]
) -> None:
    agents.publish("live", bytes(5 * 1024 * 1024), "huge.a")
    agents.publish("live", frame(1, agent="huge.a").sealed, "huge.a")
    await agents.until(lambda: agents.logged("huge.a") == [1])
    assert {one.health()["state"] for one in gateways} == {"running"}


async def test_a_newer_major_is_carried_and_logged(agents: MqttAgents, kafka: Kafka) -> None:
    data = bytearray(frame(4, agent="newer.a").sealed)
    data[3] = 2
    agents.publish("live", bytes(data), "newer.a")
    await agents.until(lambda: agents.logged("newer.a") == [4])
    (record,) = stored(kafka, "tl.live", "newer.a")
    assert record.sealed == data


async def test_an_agent_whose_name_is_none_is_acknowledged_and_counted(
    agents: MqttAgents, gateways: list[GatewayProcess]
) -> None:
    before = sum(one.value("ignored_total") for one in gateways)
    agents.publish("live", frame(1).sealed, "UPPER_CASE")
    await until(lambda: sum(one.value("ignored_total") for one in gateways) == before + 1)


async def test_frames_of_qos_0_are_carried_too(agents: MqttAgents) -> None:
    agents.publish("live", frame(1, agent="qos.a").sealed, "qos.a", qos=0)
    await agents.until(lambda: agents.logged("qos.a") == [1])


async def test_health_metrics_and_status_tell_the_last_confirmed_write(
    agents: MqttAgents, gateways: list[GatewayProcess]
) -> None:
    began = time.time_ns() / 1e9
    for seq in range(1, 9):
        agents.publish("live", frame(seq, agent="health.a").sealed, "health.a")
    await agents.until(lambda: len(agents.logged("health.a")) == 8)
    told = max((one.health() for one in gateways), key=lambda told: told["last_write_at"])
    assert told["healthy"]
    assert told["last_write_age_s"] < 30
    assert max(one.value("last_write_timestamp_seconds") for one in gateways) >= began - 1
    done = gateways[0].call("status", "--metrics-port", str(gateways[0].probes), "--output", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["state"] == "running"


async def test_check_says_what_is_fine_and_what_is_a_warning(
    gateways: list[GatewayProcess],
) -> None:
    done = await asyncio.to_thread(gateways[0].call, "check", "--output", "json")
    assert done.returncode == 0, done.stdout
    lines = json.loads(done.stdout)
    assert [one["part"] for one in lines if one["state"] == "fine"] == ["broker", "kafka"]
    assert "single copy" in done.stdout
    assert {one["state"] for one in lines} == {"fine", "warning"}


async def test_i2_the_first_of_two_dies_holding_frames_and_what_was_not_logged_comes_again(
    agents: MqttAgents, gateways: list[GatewayProcess], kafka: Kafka
) -> None:
    """The broker acknowledged them all. What the dead one held is known to its agent alone."""
    agent = "dies.a"
    frames = {seq: frame(seq, b"z" * 2000, agent) for seq in range(1, 61)}
    os.kill(kafka.child.pid, signal.SIGSTOP)
    try:
        for one in frames.values():
            agents.publish("live", one.sealed, agent)
        await until(lambda: sum(one.value("held_messages") for one in gateways) >= 60)
        assert all(one.value("held_messages") >= 20 for one in gateways)
        gateways[0].kill()
    finally:
        os.kill(kafka.child.pid, signal.SIGCONT)
    await until(lambda: gateways[1].value("held_messages") == 0)
    await asyncio.sleep(1)
    logged = set(agents.logged(agent))
    there = {int(one.headers["seq"]) for one in stored(kafka, "tl.live", agent)}
    assert logged <= there, "logged is never said of what Kafka has not"
    assert len(logged) < 60, "some were held by the dead one"
    for seq in sorted(set(frames) - logged):  # as the agent does, when no receipt comes
        agents.publish("live", frames[seq].sealed, agent)
    await agents.until(lambda: set(agents.logged(agent)) == set(frames))
    assert await asyncio.to_thread(has_frames, kafka, "tl.live", list(frames.values()))
    gateways[0].start()
    await gateways[0].until_state("running")


async def test_i2_a_stalled_gateway_keeps_what_it_was_given_and_the_other_carries_it_at_last(
    agents: MqttAgents, gateways: list[GatewayProcess], kafka: Kafka
) -> None:
    agent = "stalls.a"
    frames = {seq: frame(seq, b"w" * 2000, agent) for seq in range(1, 61)}
    pid = gateways[0].running.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        rounds = 0
        while set(agents.logged(agent)) != set(frames):
            rounds += 1
            assert rounds < 12, f"{len(set(agents.logged(agent)))} of 60 after {rounds} rounds"
            for seq in sorted(set(frames) - set(agents.logged(agent))):
                agents.publish("live", frames[seq].sealed, agent)
            heard = len(agents.logged(agent))
            await agents.until(partial(hears_more_than, agents, agent, heard))
            await asyncio.sleep(0.5)
        assert await asyncio.to_thread(has_frames, kafka, "tl.live", list(frames.values()))
    finally:
        os.kill(pid, signal.SIGCONT)
    await gateways[0].until_state("running")
    await asyncio.sleep(1)
    assert set(agents.logged(agent)) == set(frames)


def hears_more_than(agents: MqttAgents, agent: str, heard: int) -> bool:
    return len(agents.logged(agent)) > heard


async def test_told_to_end_it_ends_and_another_goes_on(
    agents: MqttAgents, gateways: list[GatewayProcess]
) -> None:
    assert gateways[0].stop() == 0
    for seq in range(1, 21):
        agents.publish("live", frame(seq, agent="ends.a").sealed, "ends.a")
    await agents.until(lambda: len(agents.logged("ends.a")) == 20)
    gateways[0].start()
    await gateways[0].until_state("running")
