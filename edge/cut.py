"""What the pipeline hands to the outbox, and what the agent may ask of it.

Rule 1: one cut = one transaction = what a crash keeps or loses whole.
Rule 2: a cut is complete in itself: its rows, what followed from them, and the state after them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protocols.codec import Curve
from protocols.events import Alarm, Event
from protocols.frames import Lane, Totals
from protocols.notices import Outage, Status, TagLine
from protocols.samples import SampleBatch


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """All that happened since the last cut.

    Attributes:
        samples: rows that the stage let through or derived.
        events: in order, before the alarms that follow from them.
        alarms: in order.
        curves: of the passes in `events` or earlier ones.
        tags: tag versions used here for the first time in this epoch.
        outages: stretches in which nothing was read, or what was read was lost before the spool.
        state: name → bytes of stage and binder that follow from exactly these rows.
        watermark_us: no later cut has a row with an earlier agent time.
        totals: rows *of this cut alone*: read + derived = len(samples) + filtered + discarded.
            The outbox sums them per epoch for the header, so a fork needs no agreement.
    """

    samples: SampleBatch
    events: tuple[Event, ...]
    alarms: tuple[Alarm, ...]
    curves: tuple[Curve, ...]
    tags: tuple[TagLine, ...]
    outages: tuple[Outage, ...]
    state: Mapping[str, bytes]
    watermark_us: int
    totals: Totals


class Full(Exception):
    """The hand-over holds 2 s of cuts: keep this one and offer it again after `room`."""


class NotKept(Exception):
    """The cut's events could not be kept (`str` says why): what waits for it must not go out."""


class Handover(Protocol):
    """One cut on its way into the spool."""

    async def wait_synced(self) -> None:
        """Return once the cut is synced; many may wait. NotKept: its events never will be."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the spool knew at opening.

    Attributes:
        watermark_us: of the last committed cut; None: there never was one.
        state: of the last committed cut; empty: none.
        had_spool: a spool file was there before, whatever could be read of it.
    """

    watermark_us: int | None = None
    state: Mapping[str, bytes] = field(default_factory=dict)
    had_spool: bool = False


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """The outbox as `edge status` and the metrics show it.

    Attributes:
        spool_bytes: what the spool holds on disk, its log included.
        waiting_rows: per lane, not yet known as stored.
        spool: named state (`ok`, `disk full`, `full of events`, `broken`).
        written_tb_a_year: bytes that the spool writes, at its pace since the start.
        oldest_age_s: age of the oldest frame not yet known as stored; 0: none.
        connected: the uplink has a session with the broker.
        uplink: named state (`connected`, `connecting`, `refused: <reason>`, `off` …).
        identity: `proven` with a client certificate, else `unproven`.
        counters: monotone counters by metric name, without the prefix and `_total`.
    """

    spool_bytes: int = 0
    waiting_rows: Mapping[Lane, int] = field(default_factory=dict)
    oldest_age_s: float = 0.0
    connected: bool = False
    uplink: str = "off"
    identity: str = "unproven"
    counters: Mapping[str, int] = field(default_factory=dict)
    spool: str = "ok"
    written_tb_a_year: float = 0.0


class Outbox(Protocol):
    """Cuts to sealed frames to the spool to the uplink. One loop calls it.

    `on_report_all` and `on_forked` are set by the agent before `run` and called on its loop:
    the first after a drop or release, the second after the outbox has opened a new epoch.
    `hello` is the outbox's own: only it knows floors and heads.
    """

    on_report_all: Callable[[], None]
    on_forked: Callable[[], None]

    @property
    def recovered(self) -> Recovered: ...

    @property
    def epoch(self) -> int:
        """The epoch that is being sealed now."""

    def put(self, cut: Cut) -> Handover:
        """Take one cut, in order; never waits. Full: not taken."""

    async def room(self) -> None:
        """Return once `put` would take a cut."""

    def send_notice(self, notice: Status) -> None:
        """Publish unsequenced if connected, else let it go: the next one says more."""

    async def run(self) -> None:
        """Commit, send and free until `drain_and_stop` or cancellation."""

    async def drain_and_stop(self) -> None:
        """Sync every cut put so far, close the session and the spool; `run` returns. Bounded."""

    def status(self) -> OutboxStatus: ...
