"""A spool without its thread, as the uplink sees it: every call is done and committed at once."""

from collections.abc import Callable, Sequence
from itertools import count

from edge.cut import Cut
from edge.entries import Holding, Key, State
from edge.retention import Limits
from edge.settling import Settled
from edge.spool import Spool, Taken
from edge.window import Take
from protocols.driver import Clock
from protocols.errors import Busy
from protocols.frames import Frame, Lane
from protocols.receipts import Receipt
from tests.support.memory_store import MemoryStore


class InlineSpool:
    """`busy`: how many of the next calls answer Busy. `on_change`: something was put in."""

    def __init__(self, clock: Clock, limits: Limits | None = None, first_epoch: int = 1) -> None:
        self.store = MemoryStore()
        self.busy = 0
        self.on_change: Callable[[], None] = _nothing
        self._clock = clock
        numbers = count(first_epoch)
        self._draw = lambda: next(numbers)
        self._limits = limits or Limits()
        self.spool = Spool(self.store, "plant1.a", self._draw, self._limits)

    def restart(self) -> None:
        """Another process opens the same file: a new epoch beside the old ones."""
        self.spool = Spool(self.store, "plant1.a", self._draw, self._limits)

    def write(self, cut: Cut, lane: Lane = Lane.LIVE) -> None:
        self.spool.write(cut, lane, self._clock.now_us())
        self.spool.commit()
        self.on_change()

    def states(self) -> dict[Key, State]:
        found = {}
        for held in self.spool.holdings:
            for seq in range(held.floor, held.head + 1):
                entry = self.store.find(Key(*held.stream, seq))
                if entry is not None:
                    found[entry.key] = entry.state
        return found

    @property
    def holdings(self) -> Sequence[Holding]:
        return self.spool.holdings

    async def take(self, request: Take) -> Taken:
        self._check()
        taken = self.spool.take(
            request.stream,
            request.from_seq,
            frames_max=request.frames_max,
            bytes_max=request.bytes_max,
            skip=request.skip,
            now_us=self._clock.now_us(),
        )
        self.spool.commit()
        return taken

    async def read(self, keys: Sequence[Key]) -> Sequence[Frame]:
        self._check()
        return self.spool.read(keys, self._clock.now_us())

    async def settle(self, receipt: Receipt) -> Settled:
        self._check()
        settled = self.spool.settle(receipt, self._clock.now_us())
        self.spool.commit()
        return settled

    def _check(self) -> None:
        if self.busy:
            self.busy -= 1
            raise Busy("disk full", 1.0)


def _nothing() -> None:
    """Nobody listens."""
