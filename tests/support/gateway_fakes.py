"""A broker's, Kafka's and a letterbox' side of the gateway without a network, for virtual time.

They are held to the same contracts as the real doors; see tests/contracts/test_gateway_*.py.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.clock import Clock
from gateway.ports import HELD_BYTES_MAX, Letter, Message, Record, Terms, Trouble
from protocols.errors import Busy, ConfigError, Disconnected
from protocols.frames import Frame, Header, Kind, Lane, seal

AGENT = "plant1.a"
ANSWERS_MAX = 4096
THREE_COPIES = Terms(is_single_copy=False)


def frame(seq: int, payload: bytes = b"x", agent: str = AGENT, lane: Lane = Lane.LIVE) -> Frame:
    return seal(Header(Kind.SAMPLES, lane, agent, 7, seq, rows=1), payload)


class LoopClock(Clock):
    """The virtual loop's own time."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def draw(self) -> float:
        return 0.0


class Token(NamedTuple):
    connection: int
    number: int


@dataclass
class FakeIntake:
    """`publish` is what agents do. `acknowledged`: numbers, in order; `sent`: receipts."""

    bytes_max: int = HELD_BYTES_MAX
    refuses: Disconnected | ConfigError | None = None
    keeps_answers: bool = False  # the broker takes receipts, and acknowledges none
    opened: int = 0
    is_open: bool = False
    acknowledged: list[int] = field(default_factory=list)
    sent: list[Letter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: deque[Message] = deque()  # at the broker
        self._given = 0
        self._unacknowledged = 0
        self._news = asyncio.Event()
        self._gone: Disconnected = Disconnected("not connected to the broker")
        self._numbers = 0
        self._waiting = 0
        self._heard = asyncio.Event()

    def publish(self, channel: str, data: bytes, agent: str = AGENT) -> int:
        """Its number; lost when nobody is subscribed."""
        self._numbers += 1
        if self.is_open:
            self._queue.append(Message(agent, channel, data, Token(self.opened, self._numbers)))
            self._news.set()
        return self._numbers

    @property
    def queued(self) -> int:
        """At the broker, for us."""
        return len(self._queue)

    def cut(self, reason: str = "connection lost") -> None:
        """The connection ends; with it what the broker had for us."""
        self.is_open = False
        self._gone = Disconnected(reason)
        self._queue.clear()
        self._unacknowledged = 0
        self._waiting = 0
        self._news.set()
        self._heard.set()

    def take_answers(self) -> None:
        """The broker acknowledges the receipts that it has."""
        self._waiting = 0
        self._heard.set()

    async def open(self) -> None:
        await self.close()
        await asyncio.sleep(0.001)
        if self.refuses is not None:
            raise self.refuses
        self.opened += 1
        self.is_open = True

    async def take(self) -> Sequence[Message]:
        while True:
            if not self.is_open:
                raise self._gone
            if self._queue and self._unacknowledged < self.bytes_max:
                break
            self._news.clear()
            await self._news.wait()
        taken = []
        while self._queue and self._unacknowledged < self.bytes_max:
            taken.append(self._queue.popleft())
            self._unacknowledged += len(taken[-1].data)
        return taken

    def acknowledge(self, messages: Iterable[Message]) -> None:
        for message in messages:
            token = message.token
            assert isinstance(token, Token)
            if self.is_open and token.connection == self.opened:
                self.acknowledged.append(token.number)
                self._unacknowledged -= len(message.data)
        self._news.set()

    def answer(self, letter: Letter) -> None:
        if not self.is_open:
            raise self._gone
        if self._waiting >= ANSWERS_MAX:
            raise Busy("too many receipts are on their way", 0.5)
        self.sent.append(letter)
        self._waiting += self.keeps_answers

    async def answered(self) -> None:
        while True:
            if not self.is_open:
                raise self._gone
            if not self._waiting:
                return
            self._heard.clear()
            await self._heard.wait()

    async def close(self) -> None:
        if self.is_open:
            self.cut("closed")


@dataclass
class FakeOutlet:
    """`confirms`: at once, or by `confirm`. `written`: of this session and of all before."""

    refuses: Trouble | None = None
    confirms: bool = True
    terms: Terms = THREE_COPIES
    opened: int = 0
    inspected: int = 0
    is_open: bool = False
    written: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._done: list[Record] = []
        self._news = asyncio.Event()
        self._trouble = Trouble("kafka_down", "not connected to Kafka")

    async def open(self) -> Terms:
        await asyncio.sleep(0.001)
        terms = await self.inspect()
        self.opened += 1
        self.is_open = True
        self._done = []
        return terms

    def write(self, records: Iterable[Record]) -> None:
        found = list(records)
        if self.is_open:
            self.written += found
            if self.confirms:
                self.confirm(found)

    def confirm(self, records: Iterable[Record]) -> None:
        self._done += records
        self._news.set()

    async def confirmed(self) -> Sequence[Record]:
        while not self._done:
            if not self.is_open:
                raise self._trouble
            self._news.clear()
            await self._news.wait()
        done, self._done = self._done, []
        return done

    async def inspect(self) -> Terms:
        self.inspected += 1
        if self.refuses is not None:
            raise self.refuses
        return self.terms

    def fail(self, trouble: Trouble) -> None:
        """A batch was refused: the session ends."""
        self.is_open = False
        self._trouble = trouble
        self._news.set()

    async def close(self) -> None:
        if self.is_open:
            self.fail(Trouble("kafka_down", "closed"))


@dataclass
class FakeLetterbox:
    """`post` is what ingest does. `kept`: not yet said to be sent, brought again when reopened."""

    refuses: Trouble | None = None
    opened: int = 0

    def __post_init__(self) -> None:
        self.kept: list[Letter] = []
        self._position = 0
        self._is_open = False
        self._news = asyncio.Event()

    def post(self, *letters: Letter) -> None:
        self.kept += letters
        self._news.set()

    def break_down(self) -> None:
        self._is_open = False
        self._news.set()

    async def open(self) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.opened += 1
        self._is_open = True
        self._position = 0

    async def take(self) -> Sequence[Letter]:
        while self._position >= len(self.kept):
            if not self._is_open:
                raise Trouble("kafka_down", "not connected to Kafka")
            self._news.clear()
            await self._news.wait()
        if not self._is_open:
            raise Trouble("kafka_down", "not connected to Kafka")
        taken = self.kept[self._position :]
        self._position = len(self.kept)
        return taken

    async def sent(self) -> None:
        if not self._is_open:
            raise Trouble("kafka_down", "not connected to Kafka")
        del self.kept[: self._position]
        self._position = 0

    async def close(self) -> None:
        self.break_down()
