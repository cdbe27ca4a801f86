"""What the agent says of its data: tags, outages, drops, releases, hello, status.

JSON payloads of the kinds of the same names; unknown keys are ignored, adding is minor.
"""

from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocols.errors import Rejected
from protocols.events import Int64, Text, Timestamp
from protocols.receipts import Hex64
from protocols.samples import DataType

NOTICE_BYTES_MAX: Final = 1024 * 1024
N = TypeVar("N", bound="Notice")


class Notice(BaseModel):
    """Base: immutable, tolerant of what a later minor version adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class TagLine(Notice):
    """One declared tag version, spooled with the first frame that uses it."""

    path: Annotated[str, Field(min_length=1, max_length=255)]
    since: Annotated[Timestamp, Field(alias="from")]
    type: DataType
    unit: Text = ""
    scale: float = 1.0
    offset: float = 0.0
    address: Text = ""
    station: Text = ""
    nest: Text = ""
    report: dict[str, Any] | None = None
    was: Text | None = None


class Stretch(Notice):
    """A stretch of one lane by time and, where known, by seq, and the rows it held."""

    lane: int = 0
    from_time: Timestamp
    to_time: Timestamp
    from_seq: Int64 | None = None
    to_seq: Int64 | None = None
    epoch: Hex64 | None = None
    reason: Text
    rows: Int64 = 0


class Outage(Stretch):
    """Nothing was read from `from_time` to `to_time`."""


class Release(Stretch):
    """Entries let go after *logged*, before *stored*."""


class Drop(Stretch):
    """Entries of the spool lost to its limit, named."""


class LaneState(Notice):
    """Of one epoch and lane: lowest and highest seq in the spool, and rows waiting."""

    epoch: Hex64
    lane: int
    floor: Int64
    head: Int64
    rows: Int64 = 0


class Hello(Notice):
    """On connect and every 60 s; unsequenced, answered by ingest with a receipt of kind `state`.

    `lanes`: of earlier epochs too, emptied ones among them; no earlier epoch: the spool is new.
    `single_copy`: frames since the epoch began whose `logged` told of a log that keeps one copy;
    None: none.
    """

    agent: str
    epoch: Hex64
    at: Timestamp
    version: Text = ""
    identity: Text = "unproven"
    lanes: tuple[LaneState, ...] = ()
    single_copy: Int64 | None = None


class GroupStatus(Notice):
    """Counters of one group since the epoch began; times in µs."""

    device: Text
    group: Text
    scheduled: Int64 = 0
    started: Int64 = 0
    finished: Int64 = 0
    overruns: Int64 = 0
    age_us: Int64 = 0
    jitter_p50_us: Int64 = 0
    jitter_p99_us: Int64 = 0


class Status(Notice):
    """Totals, every 60 s and at a clean stop; unsequenced."""

    agent: str
    epoch: Hex64
    at: Timestamp
    read: Int64 = 0
    derived: Int64 = 0
    filtered: Int64 = 0
    discarded: Int64 = 0
    stopping: bool = False
    groups: tuple[GroupStatus, ...] = ()


def encode_notice(notice: Notice) -> bytes:
    """One JSON line without its newline."""
    return notice.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_notice(kind: type[N], line: bytes) -> N:
    """Rejected: not a notice of that kind; the reason names each field."""
    if len(line) > NOTICE_BYTES_MAX:
        raise Rejected(f"{kind.__name__} of {len(line)} bytes, at most {NOTICE_BYTES_MAX}")
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, one["loc"])) for one in error.errors()[:20])
        raise Rejected(f"{kind.__name__}: {fields}") from error
