"""Receipts into Kafka, best effort: the gateways of every site read them there.

Rule 1: a receipt that finds no way is lost and counted: its frame comes and is answered again.
Rule 2: bounded; nobody waits for Kafka here longer than a moment.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from cloud.kafka_log import KafkaSettings, client_options, end, translated
from protocols.errors import Disconnected

WAITING_MAX: Final = 4096
CLOSE_S: Final = 15.0  # above the time a request may take
SEND_S: Final = 1.0
LINGER_MS: Final = 5
BATCH_BYTES: Final = 128 * 1024


class KafkaAnswers:
    """A producer of its own: what it waits for holds up no reading.

    `on_lost` hears of each receipt that was taken here and then not delivered.
    """

    def __init__(self, settings: KafkaSettings, topic: str, on_lost: Callable[[], object]) -> None:
        self._topic = topic
        self._on_lost = on_lost
        self._waiting = 0
        self._producer = AIOKafkaProducer(
            **client_options(settings), acks=1, linger_ms=LINGER_MS, max_batch_size=BATCH_BYTES
        )

    async def open(self) -> None:
        """SourceTrouble: not possible now."""
        with translated():
            await self._producer.start()

    async def send(self, agent: str, receipt: bytes) -> None:
        """Disconnected: lost."""
        if self._waiting >= WAITING_MAX:
            raise Disconnected(f"{self._waiting} receipts wait for Kafka")
        with translated():
            async with asyncio.timeout(SEND_S):
                sent = await self._producer.send(self._topic, receipt, key=agent.encode())
        self._waiting += 1
        sent.add_done_callback(self._sent)

    async def close(self) -> None:
        await end(self._producer.stop, CLOSE_S)

    def _sent(self, future: "asyncio.Future[Any]") -> None:
        self._waiting -= 1
        if future.cancelled() or future.exception() is not None:
            self._on_lost()
