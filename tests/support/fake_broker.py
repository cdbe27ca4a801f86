"""A broker without a network, for the uplink: sessions that end when told, receipts when told.

It is held to the same contract as the real door; see tests/contracts/test_link.py.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from edge.link import Link
from protocols.errors import Disconnected
from protocols.frames import Frame, split


class FakeLink:
    def __init__(self, broker: "FakeBroker") -> None:
        self._broker = broker
        self._messages: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._flow = asyncio.Event()
        self._ended: str | None = None
        self._open_bytes = 0

    def publish(self, topic: str, payload: bytes) -> None:
        self._check()
        self._open_bytes += len(payload)
        self._broker.take(topic, payload)
        if self._broker.acknowledges:
            self.acknowledge()

    @property
    def unacknowledged_bytes(self) -> int:
        return self._open_bytes

    async def flowed(self) -> None:
        self._check()
        await self._flow.wait()
        self._flow.clear()
        self._check()

    async def receive(self) -> bytes:
        while not self._messages:
            self._check()
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()

    async def close(self) -> None:
        self.end("closed")

    def acknowledge(self) -> None:
        self._open_bytes = 0
        self._flow.set()

    def deliver(self, message: bytes) -> None:
        if self._ended is None:
            self._messages.append(message)
            self._news.set()

    def end(self, reason: str) -> None:
        if self._ended is None:
            self._ended = reason
            self._news.set()
            self._flow.set()

    def _check(self) -> None:
        if self._ended is not None:
            raise Disconnected(self._ended)


class FakeBroker:
    """`refuses`: why nobody may come; `acknowledges`: at once, or never."""

    def __init__(self) -> None:
        self.refuses: str | None = None
        self.acknowledges = True
        self.identity = "unproven"
        self.opened_at: list[float] = []
        self.received: list[tuple[float, str, Frame]] = []
        self.on_frame: Callable[[Frame], None] = _nothing
        self.link: FakeLink | None = None

    async def open(self) -> Link:
        self.opened_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.001)
        if self.refuses is not None:
            raise Disconnected(self.refuses)
        self.link = FakeLink(self)
        return self.link

    def take(self, topic: str, payload: bytes) -> None:
        frame = split(payload)
        assert isinstance(frame, Frame)
        self.received.append((asyncio.get_running_loop().time(), topic, frame))
        self.on_frame(frame)

    def deliver(self, message: bytes) -> None:
        """Lost when there is no session."""
        if self.link is not None:
            self.link.deliver(message)

    def cut(self, reason: str = "connection reset") -> None:
        if self.link is not None:
            self.link.end(reason)
            self.link = None

    def frames(self) -> list[Frame]:
        """Received, in order, without those that have no number."""
        return [frame for _, _, frame in self.received if frame.header.seq]

    def times(self) -> list[float]:
        return [at_s for at_s, _, frame in self.received if frame.header.seq]


def _nothing(frame: Frame) -> None:
    """Nobody looks."""
