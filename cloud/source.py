"""The port of ingest: where records come from, and where receipts go.

Rule 1: a record is acknowledged only after the database has committed what became of it; a source
may give it again after that, or never, and nobody downstream minds.
Rule 2: the agent of a record is the one that the transport proved, never the header's.
Rule 3: what was taken and not yet acknowledged is bounded; at the bound the source stops reading.
Rule 4: a log's offsets are counted in the ledger's transaction, by a compare-and-set; the log's own
memory of what was taken is never asked.
"""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

from protocols.errors import Disconnected
from protocols.topics import HELLO

DEAD: Final = "dead"  # the channel of what the gateway could not carry
BACKLOG: Final = "backlog"

# Most urgent first. What an agent says of itself comes before what it measured, what happens now
# before what happened while it was cut off.
CHANNELS: Final = ("control", HELLO, "events", "live", DEAD, BACKLOG)


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A piece of a log that is counted on its own."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in a log.

    `after`: what the database has to hold for this record to be the next; offsets may have gaps.
    `time_ms`, `head`: of the record, for its stamp.
    """

    part: Part
    offset: int
    after: int
    time_ms: int
    head: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an earlier hop found wrong with a record: a word of `cloud.admission.Reason`, or not."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Record:
    """One message as it came. `channel`: lane in words, `hello` or `dead`.

    `token`: the source's own. `place`: of a source that counts.
    """

    agent: str
    channel: str
    data: bytes
    token: Hashable
    place: Place | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A part's count from `expected` to `next_offset`; `stamp` names the record before that."""

    part: Part
    expected: int
    next_offset: int
    stamp: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a part was taken. `stamp` None: nothing yet, begin where the log begins."""

    next_offset: int = 0
    stamp: bytes | None = None


class LossKind(StrEnum):
    """How a log came to be another than the one that was read."""

    RECREATED = "recreated"  # the topic has another id
    OTHER_RECORD = "other_record"  # another record stands where the last one taken stood
    CUT = "cut"  # the log ends before it
    EXPIRED = "expired"  # its own retention took what was never read


@dataclass(frozen=True, slots=True)
class Loss:
    """Found at one part; `mark` is what the database held."""

    part: Part
    mark: Mark
    kind: LossKind
    detail: str


class SourceState(StrEnum):
    """Why nothing can be taken, as `state` and metrics show it."""

    BROKER_DOWN = "broker_down"
    KAFKA_DOWN = "kafka_down"
    KAFKA_TOPIC_MISSING = "kafka_topic_missing"
    KAFKA_REFUSED = "kafka_refused"


class SourceTrouble(Disconnected):
    """Gone for a reason that has a name."""

    def __init__(self, state: SourceState, reason: str) -> None:
        self.state = state
        super().__init__(reason)


class Overtaken(Disconnected):
    """Another reader counts parts of the log by now, or had better: nothing of this is ours."""


class Keeper(Protocol):
    """Where a source that counts has its counts kept: in the database, by ingest."""

    async def claim(
        self, parts: Iterable[Part], topics: Mapping[str, UUID | None]
    ) -> Mapping[Part, Mark]:
        """From now on only we move these; whoever did before is stopped first.

        Waits for the database. A topic whose id is not the one known begins anew. SourceTrouble:
        the ids are of before: ask again.
        """

    async def release(self, parts: Iterable[Part]) -> None:
        """Nothing of ours is under way on these. Best effort, bounded in time."""

    async def replaced(self, losses: Sequence[Loss]) -> None:
        """These begin anew; every agent is told by the next receipts."""


@dataclass(frozen=True, slots=True)
class Appetite:
    """How much one `take` may bring; one record is always allowed."""

    records: int
    size: int  # bytes


class Source(Protocol):
    """Opened, taken from until it is Disconnected, closed; then opened again by its runner."""

    async def open(self) -> None:
        """Connect. Disconnected: not possible now. ConfigError: never will be."""

    async def take(self, appetite: Appetite) -> Sequence[Record]:
        """At least one record; of several lanes the more urgent first. Disconnected: reopen."""

    def holds(self, records: Sequence[Record]) -> bool:
        """False: another may be reading these by now, so nothing is to be stored of them."""

    async def acknowledge(self, records: Sequence[Record]) -> None:
        """These are dealt with. Records of an earlier connection are passed over in silence."""

    async def abandon(self, records: Sequence[Record]) -> None:
        """Nothing was stored of these and nothing will be: whoever reads them now does it."""

    async def answer(self, agent: str, receipt: bytes) -> None:
        """Send a receipt, best effort: a lost one is made again when its frame comes again."""

    async def close(self) -> None:
        """Release everything; safe to call twice."""


def moves_of(records: Iterable[Record]) -> tuple[Move, ...]:
    """What storing all of these counts, in the order of the parts."""
    first: dict[Part, Place] = {}
    last: dict[Part, tuple[str, Place]] = {}
    for record in records:
        place = record.place
        if place is not None:
            first.setdefault(place.part, place)
            last[place.part] = record.agent, place
    return tuple(
        Move(part, first[part].after, place.offset + 1, stamp_of(agent, place))
        for part, (agent, place) in sorted(last.items())
    )


def stamp_of(agent: str, place: Place) -> bytes:
    """Tells a record from any other that may come to stand at its offset."""
    stamp = hashlib.blake2b(digest_size=16)
    stamp.update(place.time_ms.to_bytes(8, "little", signed=True))
    stamp.update(agent.encode())
    stamp.update(place.head)
    return stamp.digest()
