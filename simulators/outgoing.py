"""Knows when a response has been completely sent.

Owns the definition: the transport's buffer is empty, so the operating system has every byte. What a
lost connection left in the buffer was not sent and is never recorded as sent. A peer that asks and
does not read is dropped at `MOST_UNSENT_BYTES`.
"""

import asyncio
from collections.abc import Callable

MOST_UNSENT_BYTES = 1 << 20

Sent = Callable[[], None]


class Outgoing:
    """The sending side of one connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[Sent] = []
        # Paused from the first byte left in the buffer on, the protocol is told when it drains.
        transport.set_write_buffer_limits(high=0)

    def send(self, data: bytes, sent: Sent | None = None) -> None:
        """Writes; calls `sent` now or when the buffer has drained, in the order of sending."""
        self._transport.write(data)
        if sent is not None:
            self._waiting.append(sent)
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes > MOST_UNSENT_BYTES:
            self._transport.abort()
        elif not unsent_bytes and not self._transport.is_closing():
            self.drained()

    def drained(self) -> None:
        for sent in self._waiting:
            sent()
        self._waiting.clear()

    def lost(self) -> None:
        """The connection is gone, and what waits was never sent."""
        self._waiting.clear()
