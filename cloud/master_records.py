"""Master records as people write them: one type a kind, each valid from a time on.

Rule 1: without `valid_from` a record holds from ever; a later one of the same key ends it.
"""

from datetime import UTC, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

from cloud.projection.holders import Discipline

EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
SHIFTS_MAX: Final = 24


class ItemKind(StrEnum):
    UNIT = "unit"
    LOT = "lot"
    CONTAINER = "container"


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds NUL, which no database text can")
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("is no time zone of the IANA, like Europe/Berlin") from error
    return name


def _clock(value: Any) -> Any:
    if isinstance(value, str) and len(value) == len("06:00"):
        return time.fromisoformat(value)
    return value


Word = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_no_nul)]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_no_nul)]
Zone = Annotated[str, Field(max_length=100), AfterValidator(_no_nul), AfterValidator(_zone)]
Clock = Annotated[time, BeforeValidator(_clock)]
Amount = Annotated[Decimal, Field(gt=0, lt=Decimal("1e15"), decimal_places=9)]


class Record(BaseModel):
    """`TABLE`, `KEY`: where it is kept, and what identifies it together with `valid_from`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    TABLE: ClassVar[str]
    KEY: ClassVar[tuple[str, ...]]

    valid_from: AwareDatetime = EVER
    valid_to: AwareDatetime | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to is not after valid_from")
        return self


class Material(Record):
    TABLE: ClassVar = "material"
    KEY: ClassVar[tuple[str, ...]] = ("material", "revision")
    kind: Literal["material"]
    material: Word
    revision: Text = ""
    description: Text = ""
    uom: Text = ""
    item_kind: ItemKind = ItemKind.UNIT


class Bom(Record):
    """One component of a material."""

    TABLE: ClassVar = "bom"
    KEY: ClassVar[tuple[str, ...]] = ("material", "revision", "child")
    kind: Literal["bom"]
    material: Word
    revision: Text = ""
    child: Word
    qty: Amount
    uom: Text = ""


class Route(Record):
    """One operation on a material's way; `position` gives the order."""

    TABLE: ClassVar = "route"
    KEY: ClassVar[tuple[str, ...]] = ("material", "operation")
    kind: Literal["route"]
    material: Word
    operation: Word
    position: Annotated[int, Field(ge=0, lt=2**31)]
    optional: bool = False


class Characteristic(Record):
    TABLE: ClassVar = "characteristic"
    KEY: ClassVar[tuple[str, ...]] = ("name", "operation")
    kind: Literal["characteristic"]
    name: Word
    operation: Text = ""
    aliases: tuple[Word, ...] = ()
    unit: Text = ""
    low: float | None = None
    high: float | None = None
    critical: bool = False


class StationTag(Record):
    TABLE: ClassVar = "station_tag"
    KEY: ClassVar[tuple[str, ...]] = ("site", "station", "nest", "tag")
    kind: Literal["station_tag"]
    site: Word
    station: Word
    nest: Text = ""
    tag: Word
    offset_ms: Annotated[int, Field(ge=-(2**53), le=2**53)] = 0


class Holder(Record):
    """One holder (`magazine/P20-a`), or a kind of holders (`magazine`)."""

    TABLE: ClassVar = "holder"
    KEY: ClassVar[tuple[str, ...]] = ("holder",)
    kind: Literal["holder"]
    holder: Word
    discipline: Discipline = Discipline.SINGLE
    places: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    station: Text = ""


class Shift(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Word
    start: Clock


class Calendar(Record):
    """A site's zone and when its shifts begin, in local time."""

    TABLE: ClassVar = "calendar"
    KEY: ClassVar[tuple[str, ...]] = ("site",)
    kind: Literal["calendar"]
    site: Word
    zone: Zone
    shifts: Annotated[tuple[Shift, ...], Field(min_length=1, max_length=SHIFTS_MAX)]

    @model_validator(mode="after")
    def _shifts_differ(self) -> Self:
        if len({shift.start for shift in self.shifts}) != len(self.shifts):
            raise ValueError("two shifts begin at the same time")
        if any(shift.start.tzinfo is not None for shift in self.shifts):
            raise ValueError("shifts begin at local times, without an offset")
        return self


Master: TypeAlias = Annotated[
    Material | Bom | Route | Characteristic | StationTag | Holder | Calendar,
    Field(discriminator="kind"),
]
MASTER: Final[TypeAdapter[Master]] = TypeAdapter(Master)
KINDS: Final = frozenset(
    {"material", "bom", "route", "characteristic", "station_tag", "holder", "calendar"}
)
