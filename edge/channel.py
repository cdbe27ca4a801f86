"""What pollers say to the pipeline: one bounded channel, and the watermark over all that is open.

Rule 1: saying something never waits. When the pipeline is 2 s behind, polled batches are let go,
counted, and named as a stretch that was lost.
Rule 2: answers to requests always pass: they are as few as the requests, which are bounded.
Rule 3: whatever is said closes its ticket when it has been processed or let go, never before.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from protocols.driver import Clock
from protocols.samples import SampleBatch

BEHIND_MAX_S: Final = 2.0
ROWS_MAX: Final = 1_000_000  # bounds memory where batches are huge: about 60 MB of numbers
_TAKE_MAX: Final = 64  # batches processed before other tasks of the loop get their turn


class Ticket(NamedTuple):
    """One read that was begun: nothing of it is older than `opened_us`."""

    number: int
    opened_us: int


class Openings:
    """The reads that were begun and are not processed yet. Bounded by groups and the channel."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}
        self._number = 0

    def open(self, now_us: int) -> Ticket:
        self._number += 1
        self._open[self._number] = now_us
        return Ticket(self._number, now_us)

    def close(self, ticket: Ticket) -> None:
        self._open.pop(ticket.number, None)

    def watermark_us(self, now_us: int) -> int:
        """Nothing older will come."""
        return min(now_us, min(self._open.values(), default=now_us))


@dataclass(frozen=True, slots=True, eq=False)
class Polled:
    """A cyclic batch, or the BAD rows that stand for it. `to_us`: when it was complete."""

    batch: SampleBatch
    ticket: Ticket
    to_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Sets read on request, one batch each, in order."""

    token: int
    batches: tuple[SampleBatch, ...]
    ticket: Ticket


@dataclass(frozen=True, slots=True, eq=False)
class Unanswered:
    """A read on request that failed; `batches` are the rows read before and BAD rows after."""

    token: int
    reason: str
    batches: tuple[SampleBatch, ...]
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Written:
    token: int


@dataclass(frozen=True, slots=True)
class Unwritten:
    token: int
    reason: str


Answer = Answered | Unanswered | Written | Unwritten
Item = Polled | Answer


@dataclass(frozen=True, slots=True)
class Lost:
    """What the channel had to let go since it was last asked."""

    rows: int
    batches: int
    from_us: int
    to_us: int


class Channel:
    """Many pollers, one pipeline, one loop."""

    def __init__(self, clock: Clock, openings: Openings) -> None:
        self._clock = clock
        self._openings = openings
        self._items: deque[tuple[float, Item]] = deque()
        self._rows = 0
        self._filled = asyncio.Event()
        self._lost: Lost | None = None
        self.overrun_batches = 0
        self.overrun_rows = 0

    def say(self, item: Item) -> None:
        if isinstance(item, Polled) and self._is_behind():
            self._let_go(item)
            return
        self._items.append((self._clock.monotonic_s(), item))
        self._rows += _rows(item)
        self._filled.set()

    async def take(self, within_s: float) -> list[Item]:
        """What was said, oldest first, at most 64 items; empty when nothing came in that time."""
        if not self._items:
            await self._wait(within_s)
        taken = [self._items.popleft()[1] for _ in range(min(_TAKE_MAX, len(self._items)))]
        self._rows -= sum(map(_rows, taken))
        if not self._items:
            self._filled.clear()
        return taken

    def take_lost(self) -> Lost | None:
        """What was let go since the last call, once its stretch has ended."""
        lost, self._lost = self._lost, None
        return lost

    @property
    def is_empty(self) -> bool:
        return not self._items

    @property
    def behind_s(self) -> float:
        """For how long the oldest item has waited."""
        return self._clock.monotonic_s() - self._items[0][0] if self._items else 0.0

    def _is_behind(self) -> bool:
        return self.behind_s > BEHIND_MAX_S or self._rows > ROWS_MAX

    def _let_go(self, item: Polled) -> None:
        rows = len(item.batch)
        self.overrun_batches += 1
        self.overrun_rows += rows
        before = self._lost or Lost(0, 0, item.ticket.opened_us, item.to_us)
        self._lost = Lost(
            before.rows + rows,
            before.batches + 1,
            min(before.from_us, item.ticket.opened_us),
            max(before.to_us, item.to_us),
        )
        self._openings.close(item.ticket)

    async def _wait(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._filled.wait()
        except TimeoutError:
            return


def _rows(item: Item) -> int:
    match item:
        case Polled():
            return len(item.batch)
        case Answered() | Unanswered():
            return sum(map(len, item.batches))
        case Written() | Unwritten():
            return 0
