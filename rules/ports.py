"""What the edge and the pure core say to each other. The edge does I/O, the core decides.

A `Stage` turns batches into batches (conditioning today, SQL rules later). A `Binder` turns batches
into events, curves and alarms, and asks for reads and writes that the edge carries out. Both hold
their state in memory and give it as bytes: it is committed with the frames that follow from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from protocols.codec import Curve
from protocols.events import Alarm, Event
from protocols.samples import SampleBatch, Scalar


@dataclass(frozen=True, slots=True)
class Staged:
    """What a stage lets through. `filtered`: rows it held back; `derived`: rows it added."""

    batch: SampleBatch
    filtered: int = 0
    derived: int = 0


class Stage(Protocol):
    """Pure and columnar: `apply` of a split batch equals `apply` of the whole."""

    def apply(self, batch: SampleBatch) -> Staged: ...

    def report_all(self) -> None:
        """Let every tag through once more: what was said before may have been lost."""

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None:
        """Rejected: not a state of this revision; the caller starts afresh and says so."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read these sets of tags (declared by the binder) in this order, each as one read.

    Answered once, by `on_read` or `on_read_failed`, with the same token.
    """

    token: int
    sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Write one value. `after_commit`: only once everything before it is synced in the spool.

    Answered once, by `on_written` or `on_write_failed`, with the same token.
    """

    token: int
    path: str
    value: Scalar
    after_commit: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What followed from one input, in order."""

    events: tuple[Event, ...] = ()
    curves: tuple[Curve, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    reads: tuple[ReadRequest, ...] = ()
    writes: tuple[WriteRequest, ...] = ()


class Binder(Protocol):
    """All stations of one agent. Times int64 µs, agent's clock. One task calls it, in order.

    `read_sets`: name → tag paths of one device, planned once by the edge; read only on request.
    Numbers of series are random 64 bit, drawn by the caller and passed in.
    """

    @property
    def read_sets(self) -> Mapping[str, tuple[str, ...]]: ...

    def on_batch(self, batch: SampleBatch, now_us: int) -> Outcome:
        """A cyclic or subscribed batch before conditioning."""

    def on_read(self, token: int, batches: tuple[SampleBatch, ...], now_us: int) -> Outcome: ...

    def on_read_failed(self, token: int, reason: str, now_us: int) -> Outcome: ...

    def on_written(self, token: int, now_us: int) -> Outcome: ...

    def on_write_failed(self, token: int, reason: str, now_us: int) -> Outcome: ...

    def on_tick(self, now_us: int) -> Outcome:
        """Time passed: called at least every 100 ms. Ends overdue cycles, retries hand-shakes."""

    def on_restart(self, from_us: int, to_us: int) -> Outcome:
        """After `restore`: nothing was read from `from_us` to `to_us`. Requests are forgotten."""

    def on_fork(self) -> None:
        """The agent's identity was cloned or set back: new series from the next pass on."""

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None:
        """Rejected: not a state that this revision can go on from."""
