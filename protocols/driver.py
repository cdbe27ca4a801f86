"""The device port: what the edge asks of every protocol, and nothing of any one of them.

A driver is a folder with `config.py` (connection options, its address type), pure modules between,
and `client.py`, the only one that does I/O. The runtime at the edge owns connecting, back-off,
scheduling and shutdown; a driver owns one connection and is used by one task at a time.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from protocols.samples import DataType, SampleBatch, Scalar


class Mode(StrEnum):
    """How a group is collected."""

    CYCLIC = "cyclic"
    SUBSCRIBE = "subscribe"
    ON_DEMAND = "on_demand"
    MAILBOX = "mailbox"


class TimeSource(StrEnum):
    """Which clock gives a row's event time."""

    ARRIVAL = "arrival"
    SOURCE = "source"


class Connection(BaseModel):
    """Options that every protocol has; a driver's `config.py` adds its own and `protocol`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    max_skew_s: Annotated[float, Field(gt=0)] = 86_400.0


@dataclass(frozen=True, slots=True)
class TagSpec:
    """One configured tag, ready for a planner.

    `address` is the driver's own text in canonical or accepted form; `type` is the device's type
    (array types only where the mode allows). With `scale` or `offset` other than 1 and 0 the tag's
    values and its type become float64: value · scale + offset.
    """

    path: str
    address: str
    type: DataType | None = None  # None: as the address says
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Write:
    """One value to write, to the address of a configured tag, unscaled."""

    tag: TagSpec
    value: Scalar


@dataclass(frozen=True, slots=True)
class NodeReading:
    """What `edge test` shows of one tag's plan: which request reads it. For people."""

    path: str
    request: int
    detail: str


class Plan(Protocol):
    """The fewest reads for one group, made once from its tags; opaque to the runtime.

    `tags` in the order of rows that `read` gives: each configured tag once, arrays of cyclic groups
    expanded to element tags `path[i]`. `requests`: how many reads a cycle costs on the wire.
    """

    @property
    def tags(self) -> tuple[TagSpec, ...]: ...

    @property
    def requests(self) -> int: ...

    @property
    def readings(self) -> tuple[NodeReading, ...]: ...


class Clock(Protocol):
    """Time as an argument. Only composition roots know the system's."""

    def now_us(self) -> int:
        """UTC, µs since 1970."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps."""


class NotOffered(Exception):
    """The device or driver has no such service; `str` says what to use instead."""


class Device(Protocol):
    """One device's connection.

    Every method may raise Disconnected; then only `close` and `open` follow.
    Every wait is bounded by the connection's `timeout_s`.
    """

    async def open(self) -> None:
        """Connect and negotiate. Disconnected: not now. ConfigError: never with these options."""

    async def read(self, plan: Plan) -> SampleBatch:
        """One row per tag of the plan, timed per request when its response arrived.

        A tag that cannot be read is a BAD row with the protocol's code and no value; raising means
        that the device is gone and nothing of this cycle is known.
        """

    async def write(self, values: Sequence[Write]) -> None:
        """Write all, in order. Rejected(rows): the device refused these; the others are written."""

    def subscribe(self, plan: Plan, interval_s: float) -> AsyncIterator[SampleBatch]:
        """Batches as values change. NotOffered: poll instead."""

    async def close(self) -> None:
        """Release everything; safe twice and without `open`. Never raises Disconnected."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What was negotiated (PDU size, server limits), for `edge test` and `status`."""
