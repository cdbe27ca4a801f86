"""Rows of the projection, one class a table: what they hold and by which columns they are found.

Rule 1: a row is a value; two rows with the same key and other content are two versions.
Rule 2: knowledge time (`known_from`, `known_to`) is no part of a row; who writes rows keeps it.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, TypeAlias
from uuid import UUID

Json: TypeAlias = Any  # what json.loads gives


@dataclass(frozen=True, slots=True)
class Table:
    """`key`: identifies a row. `found_by`: columns it is looked up by. `known`: keeps versions."""

    name: str
    key: tuple[str, ...]
    found_by: tuple[str, ...]
    known: bool = False


class Row:
    """Base of every row class; `TABLE` says where it lives."""

    __slots__ = ()
    TABLE: ClassVar[Table]


# ---- the view


@dataclass(frozen=True, slots=True)
class ItemRow(Row):
    """A thing. `stub`: no event ever said that it was made or labelled, it was only met."""

    TABLE: ClassVar = Table("item", ("item",), ("item",))
    item: UUID
    kind: str
    material: str | None
    revision: str | None
    order_no: str | None
    qty: Decimal | None
    uom: str | None
    purpose: str
    expiry: datetime | None
    born_at: datetime | None
    ended_at: datetime | None
    met_at: datetime
    stub: bool


@dataclass(frozen=True, slots=True)
class ItemNameRow(Row):
    TABLE: ClassVar = Table(
        "item_name", ("item", "name_key", "valid_from"), ("item", "name_key"), known=True
    )
    item: UUID
    name_key: UUID
    scheme: str
    issuer: str
    value: str
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class MentionRow(Row):
    """What a reference in an event means. `member`: the id this mention gives its item."""

    TABLE: ClassVar = Table("mention", ("event", "path", "item"), ("event", "item"))
    event: UUID
    path: str
    ordinal: int
    item: UUID
    member: UUID
    certainty: str


@dataclass(frozen=True, slots=True)
class PassRow(Row):
    TABLE: ClassVar = Table("pass", ("pass_id",), ("pass_id", "event", "bucket"))
    pass_id: UUID
    event: UUID
    site: str
    station: str
    nest: str
    operation: str
    series: str
    count: Decimal
    counted: bool
    at: datetime
    started: datetime | None
    ended: datetime | None
    ended_by: str | None
    windows: Json
    recipe: str | None
    recipe_revision: str | None
    purpose: str
    binding_rev: str
    about_at: datetime | None
    missing: Json
    line: UUID
    bucket: UUID


@dataclass(frozen=True, slots=True)
class PassItemRow(Row):
    """`slot`: the reference in the pass (`items.0`, `seats.tool`, `about`)."""

    TABLE: ClassVar = Table(
        "pass_item", ("pass_id", "slot", "item"), ("pass_id", "item"), known=True
    )
    pass_id: UUID
    slot: str
    item: UUID
    role: str
    place: str
    verdict: str
    how: str
    certainty: str
    defects: Json


@dataclass(frozen=True, slots=True)
class ValueRow(Row):
    TABLE: ClassVar = Table("value", ("pass_id", "ordinal"), ("pass_id",))
    pass_id: UUID
    ordinal: int
    name: str
    place: str
    num: float | None
    int_num: Decimal | None
    text: str | None
    flag: bool | None
    unit: str
    low: float | None
    high: float | None
    ok: bool | None
    critical: bool
    quality: int
    method: str


@dataclass(frozen=True, slots=True)
class PassCurveRow(Row):
    """A curve as announced; its points arrive in table `curve`, under the same sha256."""

    TABLE: ClassVar = Table("pass_curve", ("pass_id", "ordinal"), ("pass_id",))
    pass_id: UUID
    ordinal: int
    name: str
    place: str
    axis: str
    units: Json
    n: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LinkRow(Row):
    """Child is in, or went into, parent. `owner`: the pass or event whose claims it follows from.

    `child` None: nobody knows what the holder held. `parent` None: the holder itself.
    """

    TABLE: ClassVar = Table("link", ("link",), ("owner", "event", "child", "parent"), known=True)
    link: UUID
    owner: UUID
    relation: str
    child: UUID | None
    parent: UUID | None
    from_at: datetime
    certainty: str
    event: UUID | None
    to_at: datetime | None = None
    holder: str | None = None
    place: str = ""
    qty: Decimal | None = None
    uom: str | None = None
    child_segment: Json = None
    parent_segment: Json = None
    pass_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class StateRow(Row):
    """Exactly one of `item` and `pass_id` is set."""

    TABLE: ClassVar = Table("state", ("subject", "state", "event"), ("subject",), known=True)
    subject: UUID
    item: UUID | None
    pass_id: UUID | None
    state: str
    from_at: datetime
    to_at: datetime | None
    case_no: str | None
    reason: str | None
    defect: Json
    by: str
    certainty: str
    event: UUID


@dataclass(frozen=True, slots=True)
class GapRow(Row):
    """`uncovered`: counts of the gap that no pass and no earlier gap has."""

    TABLE: ClassVar = Table("gap", ("event",), ("event", "line", "bucket"))
    event: UUID
    site: str
    station: str
    nest: str
    series: str
    from_count: Decimal
    to_count: Decimal
    uncovered: Decimal
    at: datetime
    from_at: datetime | None
    to_at: datetime | None
    reason: str | None
    line: UUID
    bucket: UUID


@dataclass(frozen=True, slots=True)
class TallyRow(Row):
    """Passes and gaps of one counter in one shift, and the counts at both ends."""

    TABLE: ClassVar = Table("tally", ("bucket",), ("bucket",))
    bucket: UUID
    site: str
    station: str
    nest: str
    series: str
    shift: str
    shift_from: datetime
    shift_to: datetime
    passes: int
    gaps: Decimal
    first_count: Decimal
    last_count: Decimal
    counted: bool


@dataclass(frozen=True, slots=True)
class TraceAlarmRow(Row):
    """Something in the claims that a person should look at. Gone when its cause is gone."""

    TABLE: ClassVar = Table("trace_alarm", ("alarm",), ("alarm", "owner"))
    alarm: UUID
    owner: UUID
    name: str
    at: datetime
    text: str
    events: Json


# ---- what the incremental projection remembers beside the view


@dataclass(frozen=True, slots=True)
class HeadRow(Row):
    """An event's place among corrections."""

    TABLE: ClassVar = Table("projected", ("event",), ("event", "pass_id"))
    event: UUID
    recorded_seq: int
    kind: str
    pass_id: UUID | None
    closed: bool
    said_us: int
    replaces: Json
    in_force: bool


@dataclass(frozen=True, slots=True)
class ReplacedRow(Row):
    TABLE: ClassVar = Table("replaced", ("replaced", "event"), ("replaced",))
    replaced: UUID
    event: UUID


@dataclass(frozen=True, slots=True)
class StatementRow(Row):
    """A statement of identity under each key that it speaks of, and the times it may matter at."""

    TABLE: ClassVar = Table("statement", ("key", "event", "ordinal"), ("key", "event"))
    key: UUID
    event: UUID
    ordinal: int
    from_us: int
    to_us: int
    body: Json


@dataclass(frozen=True, slots=True)
class HolderOpRow(Row):
    """One use of a holder, what it met, and what the holder held afterwards.

    `state` None: as before. `left_us`: when the content that a mount brought left again.
    """

    TABLE: ClassVar = Table("holder_op", ("holder", "event", "ordinal"), ("event",))
    holder: str
    at_us: int
    rank: int
    event: UUID
    ordinal: int
    do: str
    path: str
    body: Json
    taken: Json
    state: Json
    left_us: int | None

    @property
    def order(self) -> tuple[int, int, UUID, int]:
        return (self.at_us, self.rank, self.event, self.ordinal)


@dataclass(frozen=True, slots=True)
class JointRow(Row):
    """A move between two items, under the pair that it ties (`to`) or unties (`from`)."""

    TABLE: ClassVar = Table("joint", ("pair", "event", "path"), ("pair", "event"))
    pair: UUID
    event: UUID
    path: str
    child: UUID
    parent: UUID
    certainty: str


@dataclass(frozen=True, slots=True)
class SaidRow(Row):
    """A state event, under each item or pass that it speaks of."""

    TABLE: ClassVar = Table("said", ("subject", "event"), ("subject", "event"))
    subject: UUID
    event: UUID
    certainty: str
    is_pass: bool


VIEW: Final[tuple[type[Row], ...]] = (
    ItemRow,
    ItemNameRow,
    MentionRow,
    PassRow,
    PassItemRow,
    ValueRow,
    PassCurveRow,
    LinkRow,
    StateRow,
    GapRow,
    TallyRow,
    TraceAlarmRow,
)
MEMORY: Final[tuple[type[Row], ...]] = (
    HeadRow,
    ReplacedRow,
    StatementRow,
    HolderOpRow,
    JointRow,
    SaidRow,
)
