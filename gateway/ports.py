"""The ports of the bridge: where frames come from, where they go, where receipts come from.

Rule 1: a message is acknowledged to the intake in order of receipt, and only when the outlet
confirmed its record.
Rule 2: the agent of a message is what the broker proved by its topic, never the header's.
Rule 3: nothing here is unbounded: an intake stops reading at its bound, an outlet is written to
only what was taken, a letterbox waits until what it brought was sent on.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from protocols.errors import Disconnected
from protocols.frames import Label

HELD_BYTES_MAX: Final = 16 * 1024 * 1024  # taken and not acknowledged, above it nothing is read


@dataclass(slots=True, eq=False)
class Message:
    """One message of the broker as it came. `channel`: of protocols.topics.

    `agent` empty: of a topic that is no agent's. `is_done`: its record is confirmed; it waits for
    its turn to be acknowledged.
    """

    agent: str
    channel: str
    data: bytes | memoryview
    token: Hashable
    is_done: bool = False


@dataclass(slots=True, eq=False)
class Record:
    """What becomes of a message in Kafka. `label` None: a dead letter."""

    topic: str
    key: bytes
    value: bytes | memoryview
    headers: list[tuple[str, bytes]]
    message: Message
    label: Label | None
    taken_s: float = 0.0  # by the clock of the bridge


@dataclass(frozen=True, slots=True)
class Letter:
    """A receipt on its way to an agent."""

    agent: str
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Terms:
    """What Kafka's settings promise. `is_single_copy`: losing one disk may lose a record."""

    is_single_copy: bool


class Trouble(Disconnected):
    """A side cannot be used now; it is tried again. `state`: the name of that, see metrics."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class Intake(Protocol):
    """The broker's side. Opened, taken from until Disconnected, closed; then opened again."""

    async def open(self) -> None:
        """Subscribe. Disconnected: not now. ConfigError: not with this broker."""

    async def take(self) -> Sequence[Message]:
        """At least one message, in order of receipt. Disconnected: reopen."""

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """In this order. Those of an earlier connection are passed over in silence."""

    def answer(self, letter: Letter) -> None:
        """Send a receipt. Disconnected: nobody there. Busy: too many are on their way."""

    async def answered(self) -> None:
        """Wait until the broker took every receipt. Disconnected: some it did not."""

    async def close(self) -> None:
        """Release everything; safe to call twice, and while another task takes."""


class Outlet(Protocol):
    """Kafka's side. Opened, written to until Trouble, closed; then opened again."""

    async def open(self) -> Terms:
        """Trouble: not possible now. ConfigError: never will be."""

    def write(self, records: Iterable[Record]) -> None:
        """Hand over, without waiting; records of one key keep their order."""

    async def confirmed(self) -> Sequence[Record]:
        """Wait for records that every replica in sync has; any order. Trouble: open again.

        What was written and not confirmed then must be written again.
        """

    async def inspect(self) -> Terms:
        """Ask Kafka anew, beside whatever is being written. Trouble: what is wrong there."""

    async def close(self) -> None:
        """Give up what was not confirmed; safe to call twice, and while another task waits."""


class Letterbox(Protocol):
    """The receipts that ingest has written for the agents of this broker."""

    async def open(self) -> None:
        """Trouble: not possible now."""

    async def take(self) -> Sequence[Letter]:
        """At least one. Trouble: reopen."""

    async def sent(self) -> None:
        """All that was taken is sent on: never bring it again. Trouble: reopen."""

    async def close(self) -> None:
        """Release everything; safe to call twice."""
