"""Knows when a response has been completely sent.

Owns the definition: the transport's buffer is empty, so the operating system has every byte. What a
lost connection left in the buffer was not sent and is never recorded as sent.
"""

import asyncio
from collections.abc import Callable

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
        if not self._transport.get_write_buffer_size() and not self._transport.is_closing():
            self.drained()

    def drained(self) -> None:
        for sent in self._waiting:
            sent()
        self._waiting.clear()

    def lost(self) -> int:
        """Returns how many responses were cut off by the end of the connection."""
        unsent = len(self._waiting)
        self._waiting.clear()
        return unsent
