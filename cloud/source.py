"""The port of ingest: where records come from, and where receipts go.

Rule 1: a record is acknowledged only after the database has committed what became of it; a source
may give it again after that, or never, and nobody downstream minds.
Rule 2: the agent of a record is the one that the transport proved, never the header's.
Rule 3: what was taken and not yet acknowledged is bounded; at the bound the source stops reading.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One message as it came. `channel`: lane in words, or `hello`. `token`: the source's own."""

    agent: str
    channel: str
    data: bytes
    token: Hashable


@dataclass(frozen=True, slots=True)
class Appetite:
    """How much one `take` may bring; one record is always allowed."""

    records: int
    size: int  # bytes


class Source(Protocol):
    """Opened, taken from until it is Disconnected, closed; then opened again by its runner.

    A source that counts its records (a log with offsets) hands the counts over with the token and
    has them stored in the ledger's transaction; one that forgets what it was told to (a broker)
    has nothing to store.
    """

    async def open(self) -> None:
        """Connect. Disconnected: not possible now. ConfigError: never will be."""

    async def take(self, appetite: Appetite) -> Sequence[Record]:
        """At least one record, in order of arrival. Disconnected: reopen."""

    async def acknowledge(self, records: Sequence[Record]) -> None:
        """These are dealt with. Records of an earlier connection are passed over in silence."""

    async def answer(self, agent: str, receipt: bytes) -> None:
        """Send a receipt, best effort: a lost one is made again when its frame comes again."""

    async def close(self) -> None:
        """Release everything; safe to call twice."""
