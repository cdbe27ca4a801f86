"""Kafka's retention goes by the time of arrival: a backlog of last week stays for its week."""

import time
from functools import partial
from pathlib import Path

import pytest

from gateway.checking import create_topics
from gateway.kafka import KafkaOutlet
from gateway.kafka_access import KafkaAccess
from gateway.kafka_topics import inspect
from gateway.ports import Message
from gateway.sorting import sort
from protocols.frames import Header, Kind, Lane, seal
from tests.support.kafka_client import begins, make_topic, read_all, write
from tests.support.services import need
from threadline.children import Children
from threadline.kafka import Kafka

pytestmark = pytest.mark.integration
DAY_MS = 86_400_000
AGENT = "plant1.press"
HASTY = {"log.retention.check.interval.ms": "300", "log.initial.task.delay.ms": "300"}
PATIENCE_S = 60.0


async def test_i5_a_backlog_of_last_week_outlives_a_retention_that_deletes_by_event_time(
    tmp_path: Path,
) -> None:
    """Beside it a topic of the default kind, by which one sees that retention has looked."""
    need("kafka")
    week_ago_ms = time.time_ns() // 1_000_000 - 8 * DAY_MS
    with Children(tmp_path) as children:
        server = Kafka(children, settings=HASTY)
        server.start()
        made = await create_topics(KafkaAccess(server.bootstrap), 1, None)
        assert not any(line.is_fault for line in made)
        await carry(server, sealed_at_us=week_ago_ms * 1000)
        make_topic(server.bootstrap, "by_event_time", retention_ms=str(7 * DAY_MS))
        write(server.bootstrap, "by_event_time", [(b"k", b"v")], time_ms=week_ago_ms)
        deadline_s = time.monotonic() + PATIENCE_S
        while begins(server.bootstrap, "by_event_time") != {0: 1}:
            assert time.monotonic() < deadline_s, "retention deletes nothing here"
        kept = read_all(server.bootstrap, "tl.backlog")
    assert len(kept) == 1, "what was acknowledged is gone"
    assert abs(kept[0].time_ms - time.time_ns() // 1_000_000) < DAY_MS


async def carry(server: Kafka, sealed_at_us: int) -> None:
    """One frame through the gateway's own door."""
    header = Header(Kind.SAMPLES, Lane.BACKLOG, AGENT, 7, 1, rows=1, sealed_at=sealed_at_us)
    record = sort(Message(AGENT, "backlog", seal(header, b"payload").sealed, None))
    assert record is not None
    access = KafkaAccess(server.bootstrap)
    outlet = KafkaOutlet(access, partial(inspect, access))
    await outlet.open()
    try:
        outlet.write([record])
        assert [one.topic for one in await outlet.confirmed()] == ["tl.backlog"]
    finally:
        await outlet.close()
