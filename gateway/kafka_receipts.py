"""Receipts of ingest out of Kafka, for the agents of this broker. A door to aiokafka.

Rule 1: an offset is committed only after the broker took what was read: a gateway that dies leaves
the rest to the next. All gateways of one broker are one group; each broker has its own.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, errors

from gateway.kafka_access import START_S, KafkaAccess, client_options, translated
from gateway.ports import Letter, Trouble
from protocols.frames import AGENT_PATTERN
from protocols.receipts import RECEIPT_BYTES_MAX
from protocols.tasks import end
from protocols.topics import RECEIPTS_TOPIC

TAKE_MAX: Final = 512
POLL_MS: Final = 1000
COMMIT_S: Final = 1.0
CLOSE_S: Final = 3.0
FETCH_BYTES_MAX: Final = 4 * 1024 * 1024


class KafkaLetterbox:
    """A `Letterbox`. A new group begins with what comes from now on."""

    def __init__(self, access: KafkaAccess, group: str) -> None:
        self._access = access
        self._group = group
        self._consumer: Any = None
        self._committed_s = 0.0
        self._has_news = False

    async def open(self) -> None:
        await self.close()
        consumer = AIOKafkaConsumer(
            RECEIPTS_TOPIC,
            **client_options(self._access),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        try:
            with translated():
                async with asyncio.timeout(START_S):
                    await consumer.start()
        except BaseException:
            await _give_up(consumer)
            raise
        self._consumer = consumer

    async def take(self) -> Sequence[Letter]:
        while True:
            with translated():
                found = await self._there().getmany(timeout_ms=POLL_MS, max_records=TAKE_MAX)
            self._has_news = self._has_news or bool(found)
            letters = [
                letter
                for records in found.values()
                for record in records
                if (letter := _letter(record.key, record.value)) is not None
            ]
            if letters:
                return letters
            await self.sent()

    async def sent(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._has_news and now_s - self._committed_s > COMMIT_S:
            with translated(), suppress(errors.CommitFailedError, errors.RebalanceInProgressError):
                await self._there().commit()  # moved to another member: it brings them again
            self._has_news = False
            self._committed_s = now_s

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _give_up(consumer)

    def _there(self) -> Any:
        if self._consumer is None:
            raise Trouble("kafka_down", "not connected to Kafka")
        return self._consumer


def _letter(key: bytes | None, value: bytes | None) -> Letter | None:
    """None: nothing that could be sent to an agent."""
    if key is None or value is None or len(value) > RECEIPT_BYTES_MAX:
        return None
    agent = key.decode("ascii", "replace")
    return Letter(agent, value) if AGENT_PATTERN.fullmatch(agent) else None


async def _give_up(consumer: Any) -> None:
    """Leave the group if Kafka is there to hear it."""
    with suppress(Trouble), translated():
        await end(consumer.stop, CLOSE_S)
