"""A spool on a store in memory, what is said to it, and what it says."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from edge.entries import Key, State, Stream
from edge.retention import Limits
from edge.settling import Settled
from edge.spool import Spool, Taken
from protocols import codec
from protocols.frames import Frame, Kind, Lane
from protocols.notices import Drop, Outage, Release, Stretch, decode_notice
from protocols.receipts import Receipt, Run, Said
from tests.support import cuts
from tests.support.memory_store import MemoryStore

N = TypeVar("N", bound=Stretch)
MIB = 1024 * 1024
NOW_US = cuts.START_US
HOUR_US = 3_600_000_000
ALL = (Lane.CONTROL, Lane.EVENTS, Lane.LIVE, Lane.BACKLOG)


def epochs(first: int = 1) -> Callable[[], int]:
    numbers = count(first)
    return lambda: next(numbers)


@dataclass
class Case:
    store: MemoryStore
    spool: Spool

    def write(self, number: int, lane: Lane = Lane.LIVE, events: int = 0, rows: int = 3) -> bool:
        cut = cuts.cut(number, cuts.rows(number, rows), events=events)
        written = self.spool.write(cut, lane, NOW_US + number)
        self.spool.commit()
        return written.let_go

    def take(self, lane: Lane, epoch: int | None = None, now_us: int = NOW_US) -> Taken:
        return self.spool.take(
            Stream(self.spool.epoch if epoch is None else epoch, lane),
            1,
            frames_max=10_000,
            bytes_max=1024 * MIB,
            skip=(),
            now_us=now_us,
        )

    def frames(self, lane: Lane, epoch: int | None = None) -> list[Frame]:
        return list(self.take(lane, epoch).frames)

    def hear(
        self,
        said: Said,
        frames: Iterable[Frame],
        *,
        store_id: str = "a",
        log_gen: int | None = None,
        reason: str | None = None,
    ) -> Settled:
        settled = self.spool.settle(receipt(said, frames, store_id, log_gen, reason), NOW_US)
        self.spool.commit()
        return settled

    def states(self, lane: Lane) -> list[State]:
        held = [one for one in self.spool.holdings if one.stream.lane is lane]
        entries = (
            self.store.find(Key(*one.stream, seq))
            for one in held
            for seq in range(one.floor, one.head + 1)
        )
        return [entry.state for entry in entries if entry is not None]


def receipt(
    said: Said,
    frames: Iterable[Frame],
    store_id: str | None = "a",
    log_gen: int | None = None,
    reason: str | None = None,
) -> Receipt:
    runs = tuple(
        Run(
            epoch=frame.header.epoch,
            lane=frame.header.lane,
            kind=said,
            first=frame.header.seq,
            digests=(frame.header.digest,),
            reason=reason,
        )
        for frame in frames
    )
    return Receipt(agent="plant1.a", store_id=store_id, log_gen=log_gen, runs=runs)


def opened(store: MemoryStore | None = None, limits: Limits | None = None, epoch: int = 1) -> Case:
    store, limits = store or MemoryStore(), limits or Limits(bytes_max=64 * MIB)
    return Case(store, Spool(store, "plant1.a", epochs(epoch), limits))


def notices(case: Case, kind: type[N]) -> list[N]:
    return [
        decode_notice(kind, line)
        for frame in case.frames(Lane.CONTROL)
        if frame.header.kind is _KINDS[kind]
        for line in codec.decode_lines(codec.payload_of(frame))
    ]


_KINDS: Final[dict[type[Stretch], Kind]] = {
    Drop: Kind.DROP,
    Release: Kind.RELEASE,
    Outage: Kind.OUTAGE,
}
