"""Receipts that Kafka does not take after all: nobody waits for them, and each is counted."""

import pytest

from cloud.clock import Clock
from cloud.kafka_source import KafkaSource
from cloud.source import CHANNELS
from protocols.receipts import Receipt, encode_receipt
from protocols.topics import RECEIPTS_TOPIC
from tests.support.kafka_client import make_topic
from tests.support.kafka_plant import TOPICS, KafkaPlant
from tests.support.memory_keeper import MemoryKeeper
from threadline.kafka import Kafka

pytestmark = pytest.mark.integration
BYTES_MAX = 400


@pytest.fixture
def plant(kafka: Kafka) -> KafkaPlant:
    """Its topic of receipts takes none that is larger."""
    made = KafkaPlant(kafka.bootstrap)
    for topic in TOPICS:
        if topic != RECEIPTS_TOPIC:
            made.make_topic(topic)
    name = made.prefix + RECEIPTS_TOPIC
    make_topic(kafka.bootstrap, name, max_message_bytes=str(BYTES_MAX))
    return made


@pytest.mark.parametrize(("size", "lost"), [(1, 0), (2 * BYTES_MAX, 1)])
async def test_a_receipt_that_is_taken_and_not_delivered_is_counted(
    plant: KafkaPlant, size: int, lost: int
) -> None:
    heard: list[None] = []
    source = KafkaSource(
        plant.settings(), CHANNELS, MemoryKeeper(), Clock(), on_lost=lambda: heard.append(None)
    )
    await source.open()
    sent = Receipt(agent="berlin.press1", store_id="s" * size, runs=())
    await source.answer(sent.agent, encode_receipt(sent))
    await source.close()  # which waits until each is delivered or refused
    assert len(heard) == lost
    assert len(plant.receipts()) == 1 - lost
