"""What may be taken at all, before the database is asked. Pure.

Rule 1: only the decoder and these checks reject; a rejected frame is never looked at again.
Rule 2: what this program does not know yet waits at the edge: `later`, never `rejected`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np

from cloud.scope import covers
from cloud.source import Record, Refusal
from protocols import codec
from protocols.codec import Curve
from protocols.errors import Rejected
from protocols.events import Alarm, Event, decode_alarm, decode_event, event_hash
from protocols.frames import Frame, Header, Kind, Lane, Newer, read_prefix, split
from protocols.notices import (
    Drop,
    Hello,
    Outage,
    Release,
    Status,
    Stretch,
    TagLine,
    decode_notice,
)
from protocols.samples import SampleBatch

AHEAD_MAX: Final = timedelta(minutes=5)  # of agent time
TIME_AHEAD_MAX: Final = timedelta(days=2)  # of a device's own time, which the edge keeps within 1
SEQ_BITS: Final = 36  # of a frame's id; at a thousand frames a second of one lane two years
DAYS_MAX: Final = 64  # of one frame: each may need a partition or a chunk of its own
WINDOW_FRAMES: Final = 100
_INT64: Final = 2**63
_DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Later(StrEnum):
    """Why a frame waits at the edge."""

    UNKNOWN_AGENT = "unknown_agent"
    SET_ASIDE = "set_aside"
    UNKNOWN_VERSION = "unknown_version"


class Reason(StrEnum):
    """Kinds of dead letters."""

    UNREADABLE = "unreadable"
    REJECTED = "rejected"
    FOREIGN_IDENTITY = "foreign_identity"
    TOO_LARGE = "too_large"
    FORKED = "forked"
    COMPACTED = "compacted"
    ID_CONFLICT = "id_conflict"


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as the cloud knows it.

    `epoch`: of its last hello, as the column holds it; `site`: its name up to the first dot.
    """

    agent_id: int
    site_id: int
    name: str
    scope: tuple[str, ...]
    epoch: int | None = None
    is_set_aside: bool = False

    @property
    def site(self) -> str:
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class SaidEvent:
    """An event with the hash that tells a repeat from a conflict."""

    event: Event
    hash: str


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a frame holds, decoded and checked; one of these is filled."""

    samples: SampleBatch | None = None
    curve: Curve | None = None
    events: tuple[SaidEvent, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    tags: tuple[TagLine, ...] = ()
    stretches: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """A frame that goes on to the ledger."""

    record: Record
    agent: Agent
    frame: Frame
    contents: Contents


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """Unsequenced: stored as the latest, never in the ledger. `agent` None: not known here."""

    record: Record
    agent: Agent | None
    said: Hello | Status


@dataclass(frozen=True, slots=True)
class Refused:
    """A dead letter. `header` None: unreadable, and there is nobody to answer.

    Newer: of the header no more can be read than its prefix.
    """

    record: Record
    reason: Reason
    detail: str
    header: Header | Newer | None = None


@dataclass(frozen=True, slots=True)
class Postponed:
    """Answered `later`; nothing is stored."""

    record: Record
    why: Later
    epoch: int
    lane: int
    seq: int
    digest: int
    detail: str = ""


Decision: TypeAlias = Accepted | Statement | Refused | Postponed


def decide(record: Record, agent: Agent | None, now: datetime) -> Decision:
    """What becomes of one record. Never raises for anything that bytes can be."""
    if record.refusal is not None:
        return _refused_before(record, record.refusal)
    try:
        found = split(record.data)
    except Rejected as error:
        return Refused(record, Reason.UNREADABLE, error.reason)
    if isinstance(found, Newer):
        return _postponed(record, found, Later.UNKNOWN_VERSION, found.why)
    try:
        return _decide_frame(record, found, agent, now)
    except Rejected as error:
        return Refused(record, Reason.REJECTED, error.reason, found.header)


class Conduct:
    """How an agent's last frames fared: over half of them rejected sets it aside."""

    def __init__(self) -> None:
        self._rejected: deque[bool] = deque(maxlen=WINDOW_FRAMES)

    def note(self, *, rejected: bool) -> None:
        self._rejected.append(rejected)

    @property
    def is_intolerable(self) -> bool:
        return sum(self._rejected) * 2 > WINDOW_FRAMES


def _refused_before(record: Record, refusal: Refusal) -> Refused:
    """By the gateway. Answered where the prefix can be read and was not what it refused."""
    reason = _REFUSALS.get(refusal.reason, Reason.UNREADABLE)
    header = None if reason is Reason.UNREADABLE or not record.agent else read_prefix(record.data)
    return Refused(record, reason, refusal.detail or refusal.reason, header)


_REFUSALS: Final = {
    reason.value: reason
    for reason in (Reason.UNREADABLE, Reason.REJECTED, Reason.FOREIGN_IDENTITY, Reason.TOO_LARGE)
}


def _decide_frame(record: Record, frame: Frame, agent: Agent | None, now: datetime) -> Decision:
    header = frame.header
    if header.kind in (Kind.HELLO, Kind.STATUS):
        return _notice(record, frame, agent)
    if agent is None:
        return _postponed(record, header, Later.UNKNOWN_AGENT)
    if agent.is_set_aside:
        return _postponed(record, header, Later.SET_ASIDE)
    if header.kind is Kind.RECEIPT:
        raise Rejected("a receipt is not for ingest")
    _check_header(record, header, now)
    return Accepted(record, agent, frame, _contents(frame, agent, now))


def _postponed(record: Record, frame: Header | Newer, why: Later, detail: str = "") -> Postponed:
    return Postponed(record, why, frame.epoch, int(frame.lane), frame.seq, frame.digest, detail)


def _notice(record: Record, frame: Frame, agent: Agent | None) -> Statement:
    raw = codec.payload_of(frame)
    said = decode_notice(Hello, raw) if _is_hello(frame) else decode_notice(Status, raw)
    if frame.header.agent != record.agent or said.agent != record.agent:
        raise Rejected(f"{said.agent!r} speaks on the topic of {record.agent!r}")
    if not all(0 <= number < _INT64 for number in _numbers(said)):
        raise Rejected("a number below 0 or above 2^63")
    return Statement(record, agent, said)


def _numbers(said: Hello | Status) -> Iterator[int]:
    if isinstance(said, Status):
        yield from (said.read, said.derived, said.filtered, said.discarded)
        return
    yield said.single_copy or 0
    for lane in said.lanes:
        yield from (lane.floor, lane.head, lane.rows)


def _is_hello(frame: Frame) -> bool:
    return frame.header.kind is Kind.HELLO


def _check_header(record: Record, header: Header, now: datetime) -> None:
    if header.agent != record.agent:
        raise Rejected(f"frame of {header.agent!r} on the topic of {record.agent!r}")
    if header.lane is not _LANES.get(record.channel):
        raise Rejected(f"lane {header.lane.name} on the topic {record.channel!r}")
    if header.lane not in _LANES_OF[header.kind]:
        raise Rejected(f"{header.kind.name} in lane {header.lane.name}")
    if not 0 < header.seq < 2**SEQ_BITS or header.floor >= _INT64 or header.rows_before >= _INT64:
        raise Rejected(f"seq {header.seq}, floor {header.floor}, rows_before {header.rows_before}")
    totals = header.totals
    if (
        totals is not None
        and max(totals.read, totals.derived, totals.filtered, totals.discarded) >= _INT64
    ):
        raise Rejected("totals above 2^63")
    latest = _us(now + AHEAD_MAX)
    for name in ("sealed_at", "t_min", "t_max"):
        _check_agent_time(name, getattr(header, name), latest)


def _check_agent_time(name: str, time_us: int, latest_us: int) -> None:
    if time_us < codec.TIME_US_MIN:
        raise Rejected(f"{name} is before the year 1")
    if time_us > latest_us:
        raise Rejected(f"{name} is {(time_us - latest_us) / 1e6 + 300:.0f} s ahead of now")


def _contents(frame: Frame, agent: Agent, now: datetime) -> Contents:
    raw = codec.payload_of(frame)
    match frame.header.kind:
        case Kind.SAMPLES:
            return Contents(samples=_samples(raw, frame.header, now))
        case Kind.CURVE:
            return Contents(curve=codec.decode_curve(raw))
        case Kind.EVENTS:
            return Contents(events=_events(_lines(raw, frame.header), agent))
        case Kind.ALARMS:
            lines = _lines(raw, frame.header)
            return Contents(alarms=tuple(decode_alarm(line) for line in lines))
        case Kind.TAGS:
            return Contents(tags=_tags(_lines(raw, frame.header), agent))
        case _:
            kind = _STRETCHES[frame.header.kind]
            lines = _lines(raw, frame.header)
            return Contents(stretches=tuple(_stretch(kind, line) for line in lines))


def _samples(raw: bytes, header: Header, now: datetime) -> SampleBatch:
    batch = codec.decode_samples(raw)
    if len(batch) != header.rows:
        raise Rejected(f"{len(batch)} samples, header says {header.rows}")
    if len(batch) == 0:
        return batch
    _check_agent_time("agent time", int(batch.agent_times.max()), _us(now + AHEAD_MAX))
    if int(batch.time.max()) > _us(now + TIME_AHEAD_MAX):
        raise Rejected(f"a time more than {TIME_AHEAD_MAX.days} days ahead of now")
    if len(days_of(batch)) > DAYS_MAX:
        raise Rejected(f"samples of more than {DAYS_MAX} days in one frame")
    return batch


def days_of(batch: SampleBatch) -> Sequence[int]:
    """Days since 1970 that the batch has rows in."""
    first, last = int(batch.time.min()) // _DAY_US, int(batch.time.max()) // _DAY_US
    if first == last:
        return (first,)
    return [int(day) for day in np.unique(batch.time // _DAY_US)]


def _lines(raw: bytes, header: Header) -> tuple[bytes, ...]:
    lines = codec.decode_lines(raw)
    if len(lines) != header.rows:
        raise Rejected(f"{len(lines)} lines, header says {header.rows}")
    return lines


def _events(lines: Sequence[bytes], agent: Agent) -> tuple[SaidEvent, ...]:
    return tuple(_event(line, agent) for line in lines)


def _event(line: bytes, agent: Agent) -> SaidEvent:
    event = decode_event(line)
    if event.site != agent.site:
        raise Rejected(f"event of site {event.site[:80]!r} by an agent of {agent.site!r}")
    _check_scope(getattr(event, "station", None), agent)
    return SaidEvent(event, event_hash(event))


def _tags(lines: Sequence[bytes], agent: Agent) -> tuple[TagLine, ...]:
    found = tuple(decode_notice(TagLine, line) for line in lines)
    for tag in found:
        _check_scope(tag.station or None, agent)
        if len(tag.path.encode()) > codec.PATH_BYTES_MAX or "\x00" in tag.path:
            raise Rejected(f"tag path {tag.path[:80]!r} is too long or holds NUL")
    return found


def _stretch(kind: type[Stretch], line: bytes) -> Stretch:
    stretch = decode_notice(kind, line)
    numbers = (stretch.from_seq or 0, stretch.to_seq or 0, stretch.rows)
    if min(numbers) < 0 or max(numbers) >= _INT64:
        raise Rejected(f"a stretch of seqs and rows {numbers}")
    return stretch


def _check_scope(station: str | None, agent: Agent) -> None:
    if station is not None and not covers(agent.scope, station):
        raise Rejected(f"station {station[:80]!r} is outside the agent's scope")


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


_LANES: Final = {lane.name.lower(): lane for lane in Lane if lane is not Lane.NONE}
_SAMPLE_LANES: Final = frozenset({Lane.LIVE, Lane.BACKLOG})
_LANES_OF: Final = {
    Kind.SAMPLES: _SAMPLE_LANES,
    Kind.CURVE: _SAMPLE_LANES,
    Kind.EVENTS: frozenset({Lane.EVENTS}),
    Kind.ALARMS: frozenset({Lane.EVENTS}),
    **dict.fromkeys((Kind.TAGS, Kind.OUTAGE, Kind.RELEASE, Kind.DROP), frozenset({Lane.CONTROL})),
}
_STRETCHES: Final[dict[Kind, type[Stretch]]] = {
    Kind.OUTAGE: Outage,
    Kind.RELEASE: Release,
    Kind.DROP: Drop,
}
