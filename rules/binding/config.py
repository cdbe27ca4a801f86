"""What a user writes of patterns and stations. Owns the shape; what it means together is `compile`.

Rule 1: unknown keys are mistakes; keys are only ever added.
Rule 2: `{x}` is filled for each nest or place; a text `device.name` is a tag; `a.*` is all below a.
"""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from protocols.events import Verdict

Path = Annotated[str, Field(min_length=1, max_length=255, description="A tag: `device.name`.")]
Template = Annotated[str, Field(min_length=1, max_length=1000)]
Short = Annotated[str, Field(max_length=200)]
Seconds = Annotated[float, Field(gt=0, le=10_000_000, allow_inf_nan=False)]
Limit: TypeAlias = Annotated[float, Field(allow_inf_nan=False)] | Path
How: TypeAlias = Literal["last", "min", "max", "mean", "at_start", "at_end", "at_trigger"]


def plain_key(value: Any) -> str:
    """A value as it is written as a key: 1, true, OK."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _plain_keys(value: Any) -> Any:
    return {plain_key(key): one for key, one in value.items()} if isinstance(value, dict) else value


class Section(BaseModel):
    """Base of every part of a station."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class EdgeConfig(Section):
    """A tag becoming `to`, not being it."""

    edge: Path
    to: bool = True


class KeyConfig(Section):
    """The PLC's own counter of cycles; after `modulus` - 1 comes 0.

    A counter that steps back is taken as wrapped if that leaves out at most `jump_max` counts, else
    as reset.
    """

    count: Path
    modulus: Annotated[int, Field(ge=2, le=2**64)]
    jump_max: Annotated[int, Field(ge=1)] = 1000


class MailboxConfig(Section):
    """Hand-shake: the PLC holds a result until it is told that it was taken."""

    ready: Path
    block: Annotated[Path, Field(description="One tag, or `a.*` for all below a.")]
    taken: Path
    entries: Annotated[int, Field(ge=1, le=10_000)] = 1
    retry_s: Seconds = 2.0


class CycleConfig(Section):
    """When a cycle is and how it is counted: a mailbox, or edges at its start and end."""

    mailbox: MailboxConfig | None = None
    start: EdgeConfig | None = None
    end: EdgeConfig | None = None
    key: KeyConfig | None = None
    started: Annotated[Path | None, Field(description="The PLC's own time, in a mailbox.")] = None
    ended: Annotated[Path | None, Field(description="The PLC's own time, in a mailbox.")] = None
    max_s: Seconds | None = None
    missed_end: Annotated[
        Literal["unknown"], Field(description="Verdict of a cycle whose end was not seen.")
    ] = "unknown"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.mailbox and (self.start or self.end or self.max_s):
            raise ValueError("a cycle has a mailbox, or start, end and max_s; not both")
        if not self.mailbox and not (self.start and self.end):
            raise ValueError("a cycle needs a mailbox, or both start and end")
        if not self.mailbox and (self.started or self.ended):
            raise ValueError("started and ended are times of a mailbox; edges have their own")
        return self


class FreshConfig(Section):
    """A read counts if made at most so long before the start and after the end."""

    before_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    after_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0


class WitnessConfig(Section):
    """One witness of identity. A text alone is `read`, or `holder` when it holds a slash.

    `stamp`: a counter or time that changes with every read, so that the same text read again is
    told from a text that stands still.
    """

    read: Path | None = None
    holder: Annotated[Template | None, Field(description="`kind/{tag}`.")] = None
    stamp: Path | None = None
    parse: str | None = None
    scheme: Short | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"holder": value} if "/" in value else {"read": value}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.read is None) == (self.holder is None):
            raise ValueError("a witness is either read from a tag or a holder")
        return self


class ItemsConfig(Section):
    """Whose part it is: witnesses in order of trust."""

    trust: Annotated[tuple[WitnessConfig, ...], Field(min_length=1, max_length=16)]
    parse: str | None = None
    scheme: Annotated[Short, Field(min_length=1)] = "serial"
    no_read: Annotated[tuple[Short, ...], Field(description="Texts that mean: not read.")] = ()
    fresh: Literal["cycle"] | FreshConfig = "cycle"
    same_again: Annotated[
        Literal["next_attempt", "reused"],
        Field(description="What a fresh read of the last cycle's name means."),
    ] = "next_attempt"
    missing: Literal["bind_later", "unnamed"] = "bind_later"


class FeedConfig(Section):
    """What a cycle takes: from a holder, or a component scanned with its own name."""

    from_: Annotated[Template | None, Field(alias="from", description="A holder.")] = None
    scan: Path | None = None
    stamp: Path | None = None
    parse: str | None = None
    scheme: Annotated[Short, Field(min_length=1)] = "serial"
    no_read: tuple[Short, ...] = ()
    material: Short | None = None
    quantity: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    unit: Short = ""
    place: Short = ""
    discipline: Literal["single", "fifo", "mix"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.from_ is None) == (self.scan is None):
            raise ValueError("a feed is either `from` a holder or a `scan`")
        if self.from_ is not None and (self.parse or self.stamp or self.no_read):
            raise ValueError("parse, stamp and no_read belong to a scan")
        return self


class CurveWindow(Section):
    """The part of a curve that counts: between two points of its axis."""

    x: tuple[float, float]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.x[0] >= self.x[1]:
            raise ValueError("the window ends before it begins")
        return self


Each: TypeAlias = Annotated[
    dict[str, str | tuple[int | str, ...]],
    Field(max_length=4, description="Variable → `1..6` or a list."),
]


class ValueConfig(Section):
    """One value of the record, from a tag or from a curve of the same pass."""

    name: Annotated[Short, Field(min_length=1)]
    each: Each = Field(default_factory=dict)
    tag: Path | None = None
    from_: Annotated[str | None, Field(alias="from", description="A curve.")] = None
    how: How = "last"
    trigger: EdgeConfig | None = None
    window: CurveWindow | None = None
    effect_s: Annotated[Seconds | None, Field(description="How long the effect lasts.")] = None
    unit: Short = ""
    low: Limit | None = None
    high: Limit | None = None
    critical: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tag is None) == (self.from_ is None):
            raise ValueError("a value is either of a `tag` or `from` a curve")
        if (self.how == "at_trigger") != (self.trigger is not None):
            raise ValueError("how: at_trigger and `trigger` belong together")
        if self.from_ and self.how not in ("last", "min", "max", "mean"):
            raise ValueError("of a curve there is last, min, max and mean")
        if self.window and not self.from_:
            raise ValueError("a window is of a curve")
        return self


class CurveConfig(Section):
    """One curve: arrays of axis and value, and how many of their points are valid."""

    name: Annotated[Short, Field(min_length=1)]
    each: Each = Field(default_factory=dict)
    x: Path
    y: Path
    n: Path | None = None
    axis: Short = ""
    x_unit: Short = ""
    y_unit: Short = ""
    envelope: Literal["recipe"] | None = None


class VerdictConfig(Section):
    """The machine's judgement: value of a tag → verdict. A value that is not listed: unknown."""

    tag: Path
    map: Annotated[dict[str, Verdict], BeforeValidator(_plain_keys), Field(min_length=1)]
    defect: Path | None = None


class ContextConfig(Section):
    """What the pass was done with: a tag, or a seat of which the cloud knows who sat in it."""

    recipe: Template | None = None
    revision: Template | None = None
    tool: Template | None = None
    operator: Template | None = None


class PurposeConfig(Section):
    """Tags that say that this is no production; the first that is true counts."""

    master: Path | None = None
    setup: Path | None = None
    trial: Path | None = None
    dry: Path | None = None


class GateConfig(Section):
    """May this part be worked? Read and checked; not yet asked by this release."""

    ask: Path
    answer: Path
    rules: tuple[Literal["route", "blocked", "recipe", "done", "lot_expired", "calibration"], ...]
    unknown: Literal["stop", "go"] = "stop"


class RefConfig(Section):
    """A thing by name (`value` is a tag or `{tag}`), or what is in a holder.

    A text alone: `scheme/{tag}` where a thing is meant, `kind/path` where a holder is.
    """

    scheme: Annotated[Short, Field(min_length=1)] | None = None
    value: Template | None = None
    parse: str | None = None
    issuer: Template | None = None
    holder: Template | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.value is None) == (self.holder is None):
            raise ValueError("give either scheme and value, or holder")
        if (self.scheme is None) != (self.value is None):
            raise ValueError("scheme and value belong together")
        return self


class NamedConfig(Section):
    """A name that a thing gets."""

    scheme: Annotated[Short, Field(min_length=1)]
    value: Template
    parse: str | None = None
    issuer: Template | None = None


class MoveEmit(Section):
    """A thing or quantity goes from holder to holder, or into an item.

    `at`: PLC's own time of it (a time, or a count of `at_unit` since 1970 UTC).
    """

    what: Template | RefConfig
    parse: str | None = None
    from_: Annotated[Template | RefConfig | None, Field(alias="from")] = None
    to: Template | RefConfig | None = None
    quantity: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Path | None = None
    unit: Short = ""
    material: Template | None = None
    place: Short = ""
    at: Path | None = None
    at_unit: Literal["s", "ms", "us", "ns"] = "us"


class NameEmit(Section):
    """A thing is born and named, or named anew."""

    names: Annotated[tuple[NamedConfig, ...], Field(min_length=1, max_length=16)]
    item: Template | RefConfig | None = None
    material: Template | None = None
    revision: Template | None = None
    order: Template | None = None


class EmitConfig(Section):
    """One event that every cycle of this station causes."""

    move: MoveEmit | None = None
    name: NameEmit | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.move is None) == (self.name is None):
            raise ValueError("an emit is either a move or a name")
        return self


class StationConfig(Section):
    """One station: how its cycles are seen and what of them is recorded."""

    station: Annotated[Short, Field(min_length=1, description="`line/station`.")]
    operation: Short = ""
    nests: Annotated[tuple[Annotated[Short, Field(min_length=1)], ...], Field(max_length=256)] = ()
    cycle: CycleConfig
    items: ItemsConfig | None = None
    feeds: Annotated[tuple[FeedConfig, ...], Field(max_length=256)] = ()
    read_at_end: Annotated[tuple[Path, ...], Field(max_length=64)] = ()
    values: Annotated[tuple[ValueConfig, ...], Field(max_length=1000)] = ()
    curves: Annotated[tuple[CurveConfig, ...], Field(max_length=256)] = ()
    verdict: VerdictConfig | None = None
    context: ContextConfig = ContextConfig()
    purpose: PurposeConfig = PurposeConfig()
    gate: GateConfig | None = None
    emit: Annotated[tuple[EmitConfig, ...], Field(max_length=64)] = ()
    open: Annotated[bool, Field(description="Tell of a running cycle too.")] = False


class BindingConfig(Section):
    """Patterns by name (raw text → name) and stations."""

    patterns: dict[str, Annotated[str, Field(min_length=1, max_length=2000)]] = Field(
        default_factory=dict
    )
    stations: tuple[StationConfig, ...] = ()
