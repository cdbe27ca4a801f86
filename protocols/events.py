"""The seven kinds of trace events and the alarms, as they travel: one JSON line each.

Rule 1: a unit is not its serial; events refer by name and time, or by holder, or by pass and place.
Rule 2: identities are computed from what happened, never drawn: a repeat is recognised by its id.
Rule 3: nothing is edited; a correction is a new event that `replaces` an old one.
"""

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeAlias

import rfc8785
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from protocols.errors import Rejected
from protocols.receipts import Hex64

NAMESPACE: Final = uuid.UUID(
    "6f2d3c1e-8a54-5b0e-9d57-3f1c9e7a4b20"
)  # of pass ids, frozen with wire 1
SEPARATOR: Final = "\x1f"
EVENT_BYTES_MAX: Final = 1024 * 1024
NAME_BYTES_MAX: Final = 2048
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_us(at: datetime) -> int:
    """µs since 1970 UTC, exact."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(time_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_us)


def rfc3339(at: datetime) -> str:
    """UTC with six decimals and Z."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from error


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds NUL, which no database text can")
    return text


Text = Annotated[str, Field(max_length=65_536), AfterValidator(_no_nul)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_BYTES_MAX), AfterValidator(_no_nul)]
Timestamp = Annotated[
    AwareDatetime, AfterValidator(_in_utc), PlainSerializer(rfc3339, return_type=str)
]
Int64 = Annotated[
    int,
    BeforeValidator(lambda value: int(value) if isinstance(value, str) else value),
    Field(ge=-(2**63), lt=2**64),
    PlainSerializer(str, return_type=str),
]
UuidText = Annotated[uuid.UUID, PlainSerializer(str, return_type=str)]


class Part(BaseModel):
    """Base of everything inside an event: immutable, unknown keys are ignored (adding is minor)."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class NameRef(Part):
    """A thing by one of its names, valid at `at` (default: the event's)."""

    scheme: Name
    issuer: Text = ""
    value: Name
    at: Timestamp | None = None


class HolderRef(Part):
    """What is in a holder (`kind/path`) at `at`."""

    holder: Name
    at: Timestamp | None = None


class PassRef(Part):
    """The item worked at a place of a pass, so that an unnamed one can be named later."""

    pass_id: Annotated[UuidText, Field(alias="pass")]
    place: Text = ""
    at: Timestamp | None = None


Ref: TypeAlias = NameRef | HolderRef | PassRef


class ClockKind(StrEnum):
    PLC = "plc"
    SCANNER = "scanner"
    AGENT = "agent"
    PERSON = "person"
    PARTNER = "partner"


class ClockInfo(Part):
    """Whose clock `at` is from, its measured offset and error in µs."""

    source: ClockKind = ClockKind.AGENT
    offset_us: int = 0
    error_us: int = 0


class Quantity(Part):
    """Decimal text keeps what was said: 0.1 stays 0.1."""

    value: Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$", max_length=64)]
    uom: Text = ""


class Segment(Part):
    """A stretch of a continuous thing, in its own unit."""

    start: Annotated[float, Field(alias="from")]
    end: Annotated[float, Field(alias="to")]
    reversed: bool = False


class Purpose(StrEnum):
    PRODUCTION = "production"
    MASTER = "master"
    SETUP = "setup"
    TRIAL = "trial"
    DRY = "dry"


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    ABORTED = "aborted"
    NOT_JUDGED = "not_judged"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What became of a witness of identity."""

    BOUND = "bound"
    UNNAMED = "unnamed"
    STALE = "stale"
    NO_READ = "no_read"
    BAD_FORMAT = "bad_format"
    CONFLICT = "conflict"
    REUSED = "reused"


class Method(StrEnum):
    MEASURED = "measured"
    SAMPLED = "sampled"
    PREDICTED = "predicted"


class EndedBy(StrEnum):
    END = "end"
    NEXT_START = "next_start"
    TIMEOUT = "timeout"
    RESTART = "restart"


class Defect(Part):
    code: Text
    place: Text = ""


class Witness(Part):
    """One claim of identity as it was read; in `raw`, NUL and undecodable bytes are escaped."""

    source: Text
    raw: Text
    at: Timestamp
    outcome: Outcome
    ref: Ref | None = None


class PassItem(Part):
    """Whose part it was, as claimed: `ref` None is an item without a good name."""

    ref: Ref | None = None
    how: Outcome
    place: Text = ""
    verdict: Verdict = Verdict.UNKNOWN
    defects: tuple[Defect, ...] = ()
    witnesses: tuple[Witness, ...] = ()


class Feed(Part):
    """What a pass took from a holder; lots are resolved where the holder's moves are known."""

    holder: Name
    qty: Quantity | None = None
    material: Text | None = None


class PassValue(Part):
    """A value of the record; exactly one of num, int, text, bool, or none with bad quality."""

    name: Name
    place: Text = ""
    num: float | None = None
    int_: Annotated[Int64 | None, Field(alias="int")] = None
    text: Text | None = None
    bool_: Annotated[bool | None, Field(alias="bool")] = None
    unit: Text = ""
    low: float | None = None
    high: float | None = None
    ok: bool | None = None
    critical: bool = False
    quality: Annotated[int, Field(ge=0, lt=2**32)] = 0
    method: Method = Method.MEASURED


class CurveRef(Part):
    """A curve that travels in a frame of its own, named by the SHA-256 of its payload columns."""

    name: Name
    place: Text = ""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    n: Annotated[int, Field(ge=0)]
    axis: Text = ""
    units: tuple[Text, ...] = ()


class PassKey(Part):
    """`count`: unwrapped counter; `raw`: as read; `modulus` None: no PLC counter."""

    series: Hex64
    count: Int64
    raw: Int64 | None = None
    modulus: Int64 | None = None


class Window(Part):
    """The pass in the time base of one device's samples."""

    device: Name
    start: Annotated[Timestamp, Field(alias="from")]
    end: Annotated[Timestamp | None, Field(alias="to")] = None


class Recipe(Part):
    name: Text
    revision: Text = ""


class Envelope(Part):
    """What every event carries."""

    id: UuidText
    v: Literal[1] = 1
    site: Name
    at: Timestamp
    zone_offset: Annotated[str, Field(pattern=r"^[+-][0-9]{2}:[0-9]{2}$")] = "+00:00"
    clock: ClockInfo = ClockInfo()
    seen: Timestamp | None = None
    said_at: Timestamp | None = None
    by: Text = ""
    replaces: tuple[UuidText, ...] = ()
    reason: Text | None = None


class NameEvent(Envelope):
    """Item born, labelled, re-labelled, or two found to be one."""

    kind: Literal["name"] = "name"
    item: Ref | None = None
    names: tuple[NameRef, ...] = ()
    ends: tuple[NameRef, ...] = ()
    same_as: Ref | None = None
    material: Text | None = None
    revision: Text | None = None
    qty: Quantity | None = None
    order: Text | None = None
    purpose: Purpose = Purpose.PRODUCTION
    expiry: Timestamp | None = None


class PassEvent(Envelope):
    """A nest worked once. Open (`ended` None) and closed are two events; the closed replaces."""

    kind: Literal["pass"] = "pass"
    pass_id: UuidText
    station: Name
    nest: Text = ""
    operation: Text = ""
    key: PassKey
    started: Timestamp | None = None
    ended: Timestamp | None = None
    ended_by: EndedBy | None = None
    windows: tuple[Window, ...] = ()
    items: tuple[PassItem, ...] = ()
    feeds: tuple[Feed, ...] = ()
    values: tuple[PassValue, ...] = ()
    curves: tuple[CurveRef, ...] = ()
    recipe: Recipe | None = None
    seats: dict[str, Text] = Field(default_factory=dict)
    purpose: Purpose = Purpose.PRODUCTION
    binding_rev: Text = ""
    about: Ref | None = None
    missing: tuple[Text, ...] = ()


class MoveEvent(Envelope):
    """Thing or quantity goes from holder to holder; `to` an item reference assembles into it."""

    kind: Literal["move"] = "move"
    what: Ref
    qty: Quantity | None = None
    material: Text | None = None
    from_: Annotated[Ref | None, Field(alias="from")] = None
    to: Ref | None = None
    place: Text = ""
    segment: Segment | None = None
    pass_: Annotated[UuidText | None, Field(alias="pass")] = None


class Portion(Part):
    ref: Ref
    qty: Quantity | None = None
    segment: Segment | None = None


class MakeEvent(Envelope):
    """Inputs become outputs: split, merge, mix, slit, depanel, spin."""

    kind: Literal["make"] = "make"
    run: Name
    inputs: tuple[Portion, ...]
    outputs: tuple[Portion, ...]


class StateEvent(Envelope):
    """Set or unset: blocked, released, judged, graded, scrapped, dismantled, lost, returned."""

    kind: Literal["state"] = "state"
    items: tuple[Ref, ...] = ()
    pass_: Annotated[UuidText | None, Field(alias="pass")] = None
    set_: Annotated[tuple[Name, ...], Field(alias="set")] = ()
    unset: tuple[Name, ...] = ()
    case: Text | None = None
    defect: Defect | None = None


class GapEvent(Envelope):
    """A known unknown: counts without a pass."""

    kind: Literal["gap"] = "gap"
    station: Name
    nest: Text = ""
    series: Hex64
    from_count: Int64
    to_count: Int64
    from_at: Timestamp | None = None
    to_at: Timestamp | None = None


class VoidEvent(Envelope):
    """Did not happen. Cannot itself be voided."""

    kind: Literal["void"] = "void"

    @model_validator(mode="after")
    def _names_something(self) -> "VoidEvent":
        if not self.replaces:
            raise ValueError("a void names the events that it takes back in `replaces`")
        return self


Event: TypeAlias = Annotated[
    NameEvent | PassEvent | MoveEvent | MakeEvent | StateEvent | GapEvent | VoidEvent,
    Field(discriminator="kind"),
]
EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Event)


class AlarmState(StrEnum):
    RAISED = "raised"
    CLEARED = "cleared"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Alarm(Part):
    """Something a person should look at. `key` names the condition; raised once, cleared once."""

    id: UuidText
    key: Name
    state: AlarmState
    severity: Severity
    at: Timestamp
    text: Text
    source: Text


def pass_id(site: str, station: str, nest: str, series: int, count: int) -> uuid.UUID:
    """UUIDv5 of site, station, nest, series (16 hex) and count (decimal), joined by 0x1F."""
    name = SEPARATOR.join((site, station, nest, f"{series:016x}", str(count)))
    return uuid.uuid5(NAMESPACE, name)


def event_id(of: uuid.UUID, what: str, ordinal: int) -> uuid.UUID:
    """UUIDv5 in the pass's namespace of what and ordinal: the same fact has the same id."""
    return uuid.uuid5(of, f"{what}{SEPARATOR}{ordinal}")


def body(event: BaseModel) -> dict[str, Any]:
    """The event as JSON values, absent fields left out."""
    return event.model_dump(mode="json", by_alias=True, exclude_none=True)


def event_hash(event: BaseModel) -> str:
    """SHA-256 (hex) of the RFC 8785 form without `seen` and `said_at`: a repeat says the same.

    Rejected: the event has a number that JSON cannot hold (NaN, infinity, a whole one above 2^53).
    """
    said = {key: value for key, value in body(event).items() if key not in ("seen", "said_at")}
    try:
        return hashlib.sha256(rfc8785.dumps(said)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        raise Rejected(f"no JSON number: {error}") from error


def encode_line(event: BaseModel) -> bytes:
    """One JSON line without its newline."""
    return event.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_event(line: bytes | str) -> Event:
    """Rejected: not an event; the reason names each field."""
    if len(line) > EVENT_BYTES_MAX:
        raise Rejected(f"event of {len(line)} bytes, at most {EVENT_BYTES_MAX}")
    try:
        return EVENT.validate_json(line)
    except ValidationError as error:
        raise Rejected(_problems(error)) from error


def decode_alarm(line: bytes | str) -> Alarm:
    """Rejected: not an alarm; the reason names each field."""
    if len(line) > EVENT_BYTES_MAX:
        raise Rejected(f"alarm of {len(line)} bytes, at most {EVENT_BYTES_MAX}")
    try:
        return Alarm.model_validate_json(line)
    except ValidationError as error:
        raise Rejected(_problems(error)) from error


def json_schema() -> dict[str, Any]:
    """JSON Schema of one event line or one alarm line, as it is published."""
    return TypeAdapter[Any](Event | Alarm).json_schema(by_alias=True, mode="validation")


def _problems(error: ValidationError) -> str:
    shown = [
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
        for one in error.errors(include_url=False, include_input=False)[:20]
    ]
    return "; ".join(shown)
