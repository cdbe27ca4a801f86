"""Members of one group: whose database is away leaves, who was overtaken joins anew."""

from collections.abc import AsyncIterator

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cloud import kafka_member
from protocols.frames import Frame
from tests.support.frames import AgentVoice
from tests.support.kafka_plant import KafkaBench, KafkaPlant, kafka_ingest
from tests.support.many_frames import ROWS, some_frames
from tests.support.relay import Relay
from threadline.kafka import Kafka

pytestmark = pytest.mark.integration
PARTITIONS = 4


@pytest.fixture
def plant(kafka: Kafka) -> KafkaPlant:
    made = KafkaPlant(kafka.bootstrap)
    made.make(PARTITIONS)
    return made


@pytest.fixture
async def wire(store_dsn: str) -> AsyncIterator[Relay]:
    """Between one of the members and the database."""
    address = conninfo_to_dict(store_dsn)
    relay = Relay(str(address["host"]), int(str(address["port"])))
    await relay.open()
    yield relay
    await relay.close()


def owners(bench: KafkaBench) -> object:
    query = "select count(distinct owner) from kafka_position where topic like '%%.live'"
    return bench.one(query)


def spread(plant: KafkaPlant, voice: AgentVoice, each: int) -> list[Frame]:
    sent: list[Frame] = []
    for partition in range(PARTITIONS):
        frames = some_frames(voice, each)
        plant.send(*frames, partition=partition)
        sent += frames
    return sent


async def test_a_member_whose_database_is_away_leaves_its_parts_to_the_others(
    plant: KafkaPlant, store_dsn: str, wire: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_member, "LEAVE_MS", 3000)
    monkeypatch.setattr(kafka_member, "QUIET_S", 1.0)
    voice = AgentVoice()
    by_wire = make_conninfo(store_dsn, port=wire.port)
    async with (
        kafka_ingest(plant, store_dsn) as good,
        kafka_ingest(plant, store_dsn, through=by_wire) as bad,
    ):
        await good.until(lambda: owners(good) == 2, 30.0)
        sent = spread(plant, voice, 10)
        await good.until_stored(sent)
        wire.hang()
        sent += spread(plant, voice, 10)
        await good.until_stored(sent)
        assert owners(good) == 1
        wire.cut()
        wire.flow()
        await bad.until(lambda: owners(good) == 2, 40.0)
        sent += spread(plant, voice, 10)
        await good.until_stored(sent)
        assert good.counts() == (len(sent) * ROWS, len(sent))
        assert good.log_gen() == 0


async def test_who_is_overtaken_stores_nothing_more_and_joins_anew(
    plant: KafkaPlant, store_dsn: str
) -> None:
    """The group believes that the parts are ours, the database knows that they are another's."""
    voice = AgentVoice()
    async with kafka_ingest(plant, store_dsn) as bench:
        sent = spread(plant, voice, 5)
        await bench.until_stored(sent)
        bench.rows(
            "update kafka_position set owner = gen_random_uuid()"
            " where topic like '%%.live' and part = 1 returning 1"
        )
        sent += spread(plant, voice, 5)
        await bench.until(lambda: bench.metrics.abandoned._value.get() > 0, 30.0)
        await bench.until_stored(sent)
        assert bench.counts() == (len(sent) * ROWS, len(sent))
        assert bench.log_gen() == 0
        assert bench.standing.state == "running"


async def test_a_commit_whose_answer_was_lost_is_no_overtaking(
    plant: KafkaPlant, store_dsn: str, wire: Relay
) -> None:
    """The wire is cut again and again while frames are stored; some commits go through unheard."""
    voice = AgentVoice()
    by_wire = make_conninfo(store_dsn, port=wire.port)
    async with kafka_ingest(plant, store_dsn, through=by_wire) as bench:
        sent: list[Frame] = []
        for _ in range(15):
            sent += spread(plant, voice, 3)
            wire.cut()
        await bench.until_stored(sent, 90.0)
        assert bench.counts() == (len(sent) * ROWS, len(sent))
