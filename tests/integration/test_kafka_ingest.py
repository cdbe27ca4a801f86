"""Ingest from a real Kafka into a real PostgreSQL: what is stored, counted, answered, refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocols.notices import Hello, LaneState
from protocols.receipts import Said
from protocols.samples import DataType
from tests.support.frames import AgentVoice, changed, sample
from tests.support.kafka_plant import Access, KafkaBench, KafkaPlant, kafka_ingest
from tests.support.many_frames import ROWS, some_frames
from tests.support.services import need
from threadline.children import Children
from threadline.kafka import Kafka

pytestmark = pytest.mark.integration


@pytest.fixture
def plant(kafka: Kafka) -> KafkaPlant:
    made = KafkaPlant(kafka.bootstrap)
    made.make(partitions=2)
    return made


def outcomes(bench: KafkaBench) -> dict[str, float]:
    return {
        outcome: bench.metrics.frames.labels(outcome)._value.get()
        for outcome in ("admitted", "repeat", "forked", "rejected")
    }


async def test_frames_are_stored_counted_and_answered(plant: KafkaPlant, store_dsn: str) -> None:
    voices = [AgentVoice("berlin.press1"), AgentVoice("turin.oven", epoch=9)]
    sent = [frame for voice in voices for frame in some_frames(voice, 50)]
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(*sent)
        await bench.until_stored(sent)
        assert bench.counts() == (100 * ROWS, 100)
        taken = "select sum(next_offset) from kafka_position where topic like '%%.live'"
        assert bench.one(taken) == 100
        await bench.until(lambda: all(plant.said(frame) for frame in (sent[0], sent[-1])))
        assert plant.said(sent[0]) == [(Said.STORED, None)]
        assert {receipt.log_gen for receipt in plant.receipts()} == {0}


async def test_the_next_reader_goes_on_where_the_last_one_stored(
    plant: KafkaPlant, store_dsn: str
) -> None:
    voice = AgentVoice()
    first, second = some_frames(voice, 30), some_frames(voice, 30)
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(*first)
        await bench.until_stored(first)
    plant.send(*second)
    async with kafka_ingest(plant, store_dsn) as bench:
        await bench.until_stored(second)
        assert bench.counts() == (60 * ROWS, 60)
        await bench.until(lambda: sum(outcomes(bench).values()) >= 30)
        assert outcomes(bench) == {"admitted": 30, "repeat": 0, "forked": 0, "rejected": 0}
        assert bench.log_gen() == 0


async def test_what_was_read_and_not_stored_is_read_again(
    plant: KafkaPlant, store_dsn: str
) -> None:
    """Nobody commits to Kafka what the database does not have."""
    sent = some_frames(AgentVoice(), 20)
    async with kafka_ingest(plant, store_dsn) as bench:
        bench.connection.execute("alter table sample rename column i64 to was_i64")
        plant.send(*sent)
        await bench.until(lambda: bench.standing.state == "migration_missing")
        assert bench.one("select sum(next_offset) from kafka_position") == 0
        bench.connection.execute("alter table sample rename column was_i64 to i64")
        await bench.until_stored(sent)
        assert bench.counts() == (20 * ROWS, 20)


async def test_hello_is_answered_beside_the_control_lane(plant: KafkaPlant, store_dsn: str) -> None:
    voice = AgentVoice()
    at = datetime(2026, 9, 21, 12, 0, tzinfo=UTC)
    lane = LaneState(epoch=voice.epoch, lane=2, floor=1, head=5, rows=3)
    hello = voice.hello(Hello(agent=voice.agent, epoch=voice.epoch, at=at, lanes=(lane,)))
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(hello)
        await bench.until(lambda: plant.receipts() != [])
        (receipt,) = plant.receipts()
        assert {run.kind for run in receipt.runs} == {Said.STATE}
        assert (receipt.agent, receipt.log_gen) == (voice.agent, 0)
        assert bench.one("select head from hello") == 5


async def test_the_key_is_the_agent_whatever_the_header_says(
    plant: KafkaPlant, store_dsn: str
) -> None:
    forged = some_frames(AgentVoice("berlin.press2"), 1)[0]
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(forged, agent="berlin.press1")
        await bench.until(lambda: plant.receipts() != [])
        (receipt,) = plant.receipts()
        assert (receipt.agent, receipt.runs[0].kind) == ("berlin.press1", Said.REJECTED)
        assert bench.counts() == (0, 0)
        assert bench.rows("select agent, reason, data from dead_letter") == [
            ("berlin.press1", "rejected", forged.sealed)
        ]


async def test_what_the_gateway_refused_is_kept_with_its_reason_and_answered(
    plant: KafkaPlant, store_dsn: str
) -> None:
    voice = AgentVoice()
    foreign, torn, whole, last = some_frames(voice, 4)
    refusals = [
        ("foreign_identity", foreign.sealed),
        ("too_large", torn.sealed[:100]),
        ("rejected", whole.sealed),
        ("unreadable", b"\x00" * 100),
        ("of a later gateway", b"TLF" + b"\x00" * 10),
    ]
    async with kafka_ingest(plant, store_dsn) as bench:
        for reason, value in refusals:
            headers = [("reason", reason.encode()), ("detail", b"why"), ("lane", b"live")]
            plant.send_raw("tl.dead", b"berlin.press1", value, headers)
        plant.send(last)
        await bench.until_stored([last])
        await bench.until(lambda: bench.one("select count(*) from dead_letter") == 5)
        found = bench.rows("select reason, detail, data from dead_letter order by dead_letter_id")
        wanted = [(r if "later" not in r else "unreadable", "why", v) for r, v in refusals]
        assert sorted(found) == sorted(wanted)
        await bench.until(lambda: all(map(plant.said, (foreign, torn, whole))))
        for frame in (foreign, torn, whole):
            assert plant.said(frame) == [(Said.REJECTED, "why")]
        agents = {receipt.agent for receipt in plant.receipts()}
        assert agents == {"berlin.press1"}


async def test_junk_in_a_topic_is_kept_and_passed(plant: KafkaPlant, store_dsn: str) -> None:
    good = some_frames(AgentVoice(), 1)[0]
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send_raw("tl.live", b"berlin.press1", b"no frame at all")
        plant.send_raw("tl.live", b"\xff\xfe", b"no agent either")
        plant.send_raw("tl.live", None, b"", [("frame", b"x" * 5000)])
        plant.send_raw("tl.live", b"berlin.press1", b"", [("frame", b"a"), ("frame", b"b")])
        plant.send(good)
        await bench.until_stored([good])
        await bench.until(lambda: bench.one("select count(*) from dead_letter") == 4)
        assert {row[0] for row in bench.rows("select reason from dead_letter")} == {"unreadable"}


async def test_a_value_that_the_database_cannot_hold_is_rejected_alone_and_counted(
    plant: KafkaPlant, store_dsn: str
) -> None:
    voice = AgentVoice()
    sent = some_frames(voice, 10)
    bad = changed(sent[4], t_min=-(2**62))
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(*sent[:4], bad, *sent[5:])
        others = [*sent[:4], *sent[5:]]
        await bench.until_stored(others)
        await bench.until(lambda: plant.said(bad) != [])
        assert plant.said(bad)[0][0] is Said.REJECTED
        assert bench.one("select sum(next_offset) from kafka_position") == 10
        assert bench.counts() == (9 * ROWS, 9)


async def test_a_frame_as_large_as_they_come(plant: KafkaPlant, store_dsn: str) -> None:
    voice = AgentVoice()
    text = "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(30_000))
    rows = [sample(f"d.t{n}", DataType.TEXT, voice.now_us, text[n:] + text[:n]) for n in range(9)]
    large = voice.samples(rows)
    small = some_frames(voice, 3)
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(large, *small)
        await bench.until_stored([large, *small])
        assert bench.one("select count(*) from sample where text is not null") == 9


async def test_a_topic_that_is_missing_is_named_and_waited_for(
    kafka: Kafka, store_dsn: str
) -> None:
    plant = KafkaPlant(kafka.bootstrap)
    async with kafka_ingest(plant, store_dsn) as bench:
        await bench.until(lambda: bench.standing.state == "kafka_topic_missing")
        assert "threadline gateway topics create" in bench.standing.health().reason
        plant.make()
        sent = some_frames(AgentVoice(), 3)
        plant.send(*sent)
        await bench.until_stored(sent)
        assert bench.standing.state == "running"
        plant.delete_topic("tl.events")
        await bench.until(lambda: bench.standing.state == "kafka_topic_missing")
        plant.make_topic("tl.events")
        await bench.until(lambda: bench.standing.state == "running")


async def test_kafka_that_is_killed_is_named_and_comes_back_by_itself(
    tmp_path: Path, store_dsn: str
) -> None:
    need("kafka")
    with Children(tmp_path) as children:
        server = Kafka(children)
        server.start()
        plant = KafkaPlant(server.bootstrap)
        plant.make(partitions=2)
        voice = AgentVoice()
        first, second = some_frames(voice, 20), some_frames(voice, 20)
        async with kafka_ingest(plant, store_dsn) as bench:
            plant.send(*first)
            await bench.until_stored(first)
            server.kill()
            await bench.until(lambda: bench.standing.state == "kafka_down", 40.0)
            assert not bench.standing.health().healthy
            server.start()
            plant.send(*second)
            await bench.until_stored(second)
            assert bench.counts() == (40 * ROWS, 40)
            assert bench.log_gen() == 0
            assert bench.standing.state == "running"


async def test_a_topic_that_we_may_not_read_is_named_and_goes_on_when_we_may(
    tmp_path: Path, store_dsn: str
) -> None:
    need("kafka")
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with Children(tmp_path) as children:
        server = Kafka(children, settings=settings)
        server.start()
        plant = KafkaPlant(server.bootstrap)
        plant.make()
        sent = some_frames(AgentVoice(), 3)
        async with kafka_ingest(plant, store_dsn) as bench:
            plant.send(*sent)
            await bench.until_stored(sent)
            access = Access(plant, "tl.live")
            access.only_for_somebody_else()
            await bench.until(lambda: bench.standing.state == "kafka_refused", 30.0)
            assert f"{plant.prefix}tl.live" in bench.standing.health().reason
            access.for_all()
            await bench.until(lambda: bench.standing.state == "running", 30.0)
            more = some_frames(AgentVoice(epoch=2), 3)
            plant.send(*more)
            await bench.until_stored(more)
            assert bench.counts() == (6 * ROWS, 6)


async def test_parts_that_a_topic_is_given_more_are_read_soon(
    plant: KafkaPlant, store_dsn: str
) -> None:
    voice = AgentVoice()
    async with kafka_ingest(plant, store_dsn) as bench:
        first = some_frames(voice, 3)
        plant.send(*first, partition=1)
        await bench.until_stored(first)
        plant.add_parts("tl.live", 4)
        more = some_frames(voice, 3)
        plant.send(*more, partition=3)
        await bench.until_stored(more, 40.0)
        assert bench.counts() == (6 * ROWS, 6)
        assert bench.log_gen() == 0
