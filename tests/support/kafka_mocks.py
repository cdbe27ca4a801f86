"""librdkafka's mock broker: speaks Kafka's protocol without Java, keeps little, forgets all.

It stands in where Kafka cannot run. It makes topics when asked about them, whatever their settings,
so nothing about settings, retention or restarts can be shown with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

ANSWER_S = 10.0


@contextmanager
def open_mock(brokers: int = 1) -> Iterator[str]:
    """Its bootstrap servers; it lives in this process, as long as the client that made it."""
    client = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": brokers})
    known = client.list_topics(timeout=ANSWER_S).brokers.values()
    yield ",".join(f"{one.host}:{one.port}" for one in known)
    client.flush(ANSWER_S)
