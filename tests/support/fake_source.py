"""A source in memory: what a broker does to ingest, at the test's command. Passes the contract."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from cloud.source import CHANNELS, Appetite, Record
from protocols.errors import Disconnected
from protocols.receipts import Receipt, decode_receipt


@dataclass(frozen=True, slots=True)
class _Token:
    connection: int
    number: int


class FakeSource:
    """`push` is the agent's side; `answers`, `acknowledged` are what it and the broker saw."""

    def __init__(self, *, bytes_max: int = 16 * 1024 * 1024) -> None:
        self.acknowledged: list[Record] = []
        self.answers: list[Receipt] = []
        self.refuse: str | None = None
        self._bytes_max = bytes_max
        self._waiting: deque[tuple[str, str, bytes]] = deque()
        self._unacknowledged: dict[_Token, int] = {}
        self._connection = 0
        self._numbers = 0
        self._open = False
        self._changed = asyncio.Event()

    def push(self, agent: str, channel: str, data: bytes) -> None:
        """What is pushed while nobody is connected is lost, as on a clean session."""
        if self._open:
            self._waiting.append((agent, channel, data))
            self._waiting = deque(sorted(self._waiting, key=lambda one: CHANNELS.index(one[1])))
            self._changed.set()

    def disconnect(self) -> None:
        self._open = False
        self._waiting.clear()
        self._changed.set()

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def unacknowledged_bytes(self) -> int:
        return sum(self._unacknowledged.values())

    async def open(self) -> None:
        if self.refuse is not None:
            raise Disconnected(self.refuse)
        self._connection += 1
        self._unacknowledged.clear()
        self._waiting.clear()
        self._open = True

    async def take(self, appetite: Appetite) -> Sequence[Record]:
        while not self._waiting or self.unacknowledged_bytes >= self._bytes_max:
            if not self._open:
                raise Disconnected("gone")
            self._changed.clear()
            await self._changed.wait()
        taken: list[Record] = []
        size = 0
        while self._waiting and len(taken) < appetite.records:
            agent, channel, data = self._waiting[0]
            size += len(data)
            full = self.unacknowledged_bytes >= self._bytes_max
            if taken and (full or size > appetite.size):
                break
            self._waiting.popleft()
            taken.append(self._record(agent, channel, data))
        return taken

    def holds(self, records: Sequence[Record]) -> bool:  # noqa: ARG002 - nobody else counts them
        return True

    async def abandon(self, records: Sequence[Record]) -> None:
        """Never: nobody else counts them."""

    async def acknowledge(self, records: Sequence[Record]) -> None:
        for record in records:
            if isinstance(record.token, _Token) and record.token in self._unacknowledged:
                del self._unacknowledged[record.token]
                self.acknowledged.append(record)
        self._changed.set()

    async def answer(self, agent: str, receipt: bytes) -> None:
        if not self._open:
            raise Disconnected("gone")
        decoded = decode_receipt(receipt)
        if decoded.agent != agent:
            raise ValueError(f"a receipt of {decoded.agent} goes to {agent}")
        self.answers.append(decoded)

    async def close(self) -> None:
        self.disconnect()

    def _record(self, agent: str, channel: str, data: bytes) -> Record:
        self._numbers += 1
        token = _Token(self._connection, self._numbers)
        self._unacknowledged[token] = len(data)
        return Record(agent, channel, data, token)
