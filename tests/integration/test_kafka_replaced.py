"""I3: Kafka's log is another one than was read. Found, named, read from its beginning, told to all.

Reading at an offset that a new log also has gives no error of any kind: without the comparison
every one of these tests stores less than was sent, and says nothing.
"""

import asyncio

import pytest

from protocols.frames import Frame
from protocols.receipts import Said
from tests.support.frames import AgentVoice
from tests.support.kafka_plant import KafkaBench, KafkaPlant, kafka_ingest
from tests.support.many_frames import ROWS, some_frames
from threadline.kafka import Kafka

pytestmark = pytest.mark.integration


@pytest.fixture
def plant(kafka: Kafka) -> KafkaPlant:
    made = KafkaPlant(kafka.bootstrap)
    made.make()
    return made


async def taken(plant: KafkaPlant, dsn: str, frames: list[Frame]) -> None:
    """By an ingest that then ends."""
    async with kafka_ingest(plant, dsn) as bench:
        plant.send(*frames)
        await bench.until_stored(frames)
        await bench.until(lambda: plant.said(frames[-1]) != [])


def losses(bench: KafkaBench) -> list[tuple[object, ...]]:
    return bench.rows("select gen, why from kafka_loss order by gen")


async def test_i3_a_topic_made_anew_and_refilled_is_read_from_its_beginning(
    plant: KafkaPlant, store_dsn: str
) -> None:
    """As measured: 50 taken, the topic is made anew, 100 others come; reading on at 50 skips 50."""
    voice = AgentVoice()
    before, after = some_frames(voice, 50), some_frames(voice, 100)
    await taken(plant, store_dsn, before)
    plant.make_anew("tl.live")
    plant.send(*after)
    async with kafka_ingest(plant, store_dsn) as bench:
        await bench.until_stored(after)
        assert bench.counts() == (150 * ROWS, 150)
        assert losses(bench) == [(1, "recreated")]
        alarms = bench.rows("select key, severity from alarm")
        assert alarms == [(f"log_replaced/{plant.prefix}tl.live", "error")]
        await bench.until(lambda: plant.said(after[-1]) != [])
        said = [(one.log_gen, run.first) for one in plant.receipts() for run in one.runs]
        assert {gen for gen, _ in said} == {0, 1}, "receipts of after say so"


async def test_i3_a_topic_made_anew_under_a_running_ingest(
    plant: KafkaPlant, store_dsn: str
) -> None:
    voice = AgentVoice()
    before, after = some_frames(voice, 50), some_frames(voice, 100)
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(*before)
        await bench.until_stored(before)
        plant.make_anew("tl.live")
        plant.send(*after)
        await bench.until_stored(after)
        assert bench.counts() == (150 * ROWS, 150)
        assert losses(bench) == [(1, "recreated")]


@pytest.mark.parametrize("count", [0, 10])
async def test_i3_a_topic_made_anew_that_is_shorter(
    plant: KafkaPlant, store_dsn: str, count: int
) -> None:
    voice = AgentVoice()
    await taken(plant, store_dsn, some_frames(voice, 50))
    plant.make_anew("tl.live")
    after = some_frames(voice, count)
    plant.send(*after)
    async with kafka_ingest(plant, store_dsn) as bench:
        await bench.until(lambda: losses(bench) == [(1, "recreated")])
        last = some_frames(voice, 1)
        plant.send(*last)
        await bench.until_stored([*after, *last])
        assert bench.counts() == ((51 + count) * ROWS, 51 + count)


async def test_i3_another_record_in_the_last_ones_place_though_the_topic_is_the_same(
    plant: KafkaPlant, store_dsn: str
) -> None:
    """After an unclean election of a leader the log may go on differently at any offset."""
    voice = AgentVoice()
    before, after = some_frames(voice, 20), some_frames(voice, 5)
    await taken(plant, store_dsn, before)
    plant.send(*after)
    async with kafka_ingest(plant, store_dsn, group="other", channels=("control",)) as bench:
        bench.rows(
            "update kafka_position set stamp = decode('00', 'hex') where stamp is not null"
            " returning 1"
        )
    async with kafka_ingest(plant, store_dsn) as bench:
        await bench.until_stored(after)
        assert losses(bench) == [(1, "other_record")]
        await bench.until(lambda: bench.one("select max(next_offset) from kafka_position") == 25)
        assert bench.counts() == (25 * ROWS, 25), "what was read again is not stored again"


async def test_i3_a_log_that_ends_before_what_was_taken(plant: KafkaPlant, store_dsn: str) -> None:
    voice = AgentVoice()
    before, after = some_frames(voice, 20), some_frames(voice, 5)
    await taken(plant, store_dsn, before)
    async with kafka_ingest(plant, store_dsn, group="other", channels=("control",)) as bench:
        bench.rows(
            "update kafka_position set next_offset = 1000 where stamp is not null returning 1"
        )
    async with kafka_ingest(plant, store_dsn) as bench:
        plant.send(*after)
        await bench.until_stored(after)
        assert losses(bench) == [(1, "cut")]
        assert bench.counts() == (25 * ROWS, 25)


async def test_i3_retention_that_took_what_was_taken_is_no_replacement(
    plant: KafkaPlant, store_dsn: str
) -> None:
    """The last record taken is gone; the log begins exactly after it."""
    voice = AgentVoice()
    await taken(plant, store_dsn, some_frames(voice, 20))
    plant.forget_before("tl.live", 0, 20)
    async with kafka_ingest(plant, store_dsn) as bench:
        after = some_frames(voice, 5)
        plant.send(*after)
        await bench.until_stored(after)
        assert losses(bench) == []
        assert bench.log_gen() == 0
        assert bench.counts() == (25 * ROWS, 25)


async def test_i3_retention_that_took_what_was_never_read_is_told_to_all(
    plant: KafkaPlant, store_dsn: str
) -> None:
    """Agents may have let go what was logged: they send again what is not stored."""
    voice = AgentVoice()
    await taken(plant, store_dsn, some_frames(voice, 20))
    unread = some_frames(voice, 10)
    plant.send(*unread)
    plant.forget_before("tl.live", 0, 25)
    async with kafka_ingest(plant, store_dsn) as bench:
        await bench.until_stored(unread[5:])
        assert losses(bench) == [(1, "expired")]
        plant.send(*unread)
        await bench.until_stored(unread)
        assert bench.counts() == (30 * ROWS, 30)
        await bench.until(lambda: (Said.STORED, None) in plant.said(unread[0]))


async def test_i3_log_gen_is_raised_once_for_all_readers_and_parts(
    kafka: Kafka, store_dsn: str
) -> None:
    plant = KafkaPlant(kafka.bootstrap)
    plant.make(partitions=6)
    voices = [AgentVoice("berlin.press1", epoch=at) for at in range(1, 7)]
    before = [some_frames(voice, 10) for voice in voices]
    async with kafka_ingest(plant, store_dsn) as bench:
        for partition, frames in enumerate(before):
            plant.send(*frames, partition=partition)
        await bench.until_stored([frame for frames in before for frame in frames])
    plant.make_anew("tl.live", 6)
    after = [some_frames(voice, 20) for voice in voices]
    for partition, frames in enumerate(after):
        plant.send(*frames, partition=partition)
    everything = [frame for frames in after for frame in frames]
    async with (
        kafka_ingest(plant, store_dsn) as one,
        kafka_ingest(plant, store_dsn),
        kafka_ingest(plant, store_dsn),
    ):
        await one.until_stored(everything)
        await asyncio.sleep(3.0)  # whoever would raise it again had looked by now
        assert losses(one) == [(1, "recreated")]
        assert one.counts() == (180 * ROWS, 180)
