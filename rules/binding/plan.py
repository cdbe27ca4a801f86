"""What a station compiles to: every nest on its own, every tag resolved, every pattern ready.

Owns the types only. `compile` makes them; the machines that run them know no configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from protocols.driver import Mode
from protocols.errors import Problem
from protocols.events import Purpose, Verdict
from protocols.samples import DataType
from rules.binding.names import Reader


@dataclass(frozen=True, slots=True)
class TagFacts:
    """What the compiler must know of a configured tag.

    `type`: of the whole tag, an array type for arrays. `interval_us`: of cyclic and subscribed
    groups. `first`, `length`: lower bound and number of elements of an array.
    """

    type: DataType
    device: str
    group: str
    mode: Mode
    interval_us: int | None = None
    first: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: the row of `path`, or one `element` of its list.

    `read`: it comes with a read on request, not with polling. `with_end`: polled by the group that
    tells the end of the cycle. `wait_us`: how long a row of it may take to come; 0: it says nothing
    while it does not change. `silence_us`: a longer time without a row is a silence.
    """

    path: str
    type: DataType
    device: str
    element: int | None = None
    read: bool = False
    with_end: bool = False
    wait_us: int = 0
    silence_us: int = 0

    @property
    def label(self) -> str:
        return self.path if self.element is None else f"{self.path}#{self.element}"


Template: TypeAlias = tuple["str | Source", ...]


@dataclass(frozen=True, slots=True)
class KeyPlan:
    count: Source
    modulus: int
    jump_max: int


@dataclass(frozen=True, slots=True)
class EdgePlan:
    source: Source
    to: bool


@dataclass(frozen=True, slots=True)
class MailboxPlan:
    """`key_set`, `block_set`: names of read sets; a hand-over reads key, block, key."""

    ready: Source
    taken: str
    taken_type: DataType
    entries: int
    retry_us: int
    key: KeyPlan
    key_set: str
    block_set: str
    started: Source | None
    ended: Source | None


@dataclass(frozen=True, slots=True)
class EdgesPlan:
    """`read_sets`: read at the end, between two reads of `key_set` where there is one."""

    start: EdgePlan
    end: EdgePlan
    key: KeyPlan | None
    key_set: str | None
    read_sets: tuple[str, ...]
    max_us: int | None


@dataclass(frozen=True, slots=True)
class WitnessPlan:
    """Exactly one of `read` and `holder`."""

    source: str
    reader: Reader
    read: Source | None = None
    stamp: Source | None = None
    holder: Template | None = None


@dataclass(frozen=True, slots=True)
class ItemsPlan:
    """`before_us` None: reads since the last cycle's end count."""

    trust: tuple[WitnessPlan, ...]
    before_us: int | None
    after_us: int
    reuse_refused: bool
    bind_later: bool


@dataclass(frozen=True, slots=True)
class HolderFeed:
    holder: Template
    material: str | None
    quantity: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class ScanFeed:
    witness: WitnessPlan
    place: str
    material: str | None
    quantity: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class ValuePlan:
    """Exactly one of `source` and `curve`; `window` of the curve's axis."""

    name: str
    place: str
    source: Source | None
    curve: tuple[str, str] | None
    how: str
    trigger: EdgePlan | None
    window: tuple[float, float] | None
    unit: str
    low: "float | Source | None"
    high: "float | Source | None"
    critical: bool

    @property
    def label(self) -> str:
        return f"{self.name}[{self.place}]" if self.place else self.name


@dataclass(frozen=True, slots=True)
class CurvePlan:
    name: str
    place: str
    x: Source
    y: Source
    n: Source | None
    axis: str
    units: tuple[str, str]

    @property
    def label(self) -> str:
        return f"{self.name}[{self.place}]" if self.place else self.name


@dataclass(frozen=True, slots=True)
class VerdictPlan:
    source: Source
    map: Mapping[str, Verdict]
    defect: Source | None


@dataclass(frozen=True, slots=True)
class NamePlan:
    """A thing by a name that a template gives."""

    reader: Reader
    value: Template
    issuer: Template | None


RefPlan: TypeAlias = NamePlan | Template  # a thing by name, or a holder


@dataclass(frozen=True, slots=True)
class MovePlan:
    what: RefPlan
    from_: RefPlan | None
    to: RefPlan | None
    quantity: "float | Source | None"
    unit: str
    material: Template | None
    place: str
    at: Source | None
    at_unit_ns: int


@dataclass(frozen=True, slots=True)
class BirthPlan:
    """A `name` event."""

    names: tuple[NamePlan, ...]
    item: RefPlan | None
    material: Template | None
    revision: Template | None
    order: Template | None


EmitPlan: TypeAlias = MovePlan | BirthPlan


@dataclass(frozen=True, slots=True)
class ContextPlan:
    recipe: Template | None
    revision: Template | None
    seats: Mapping[str, Template]
    purposes: tuple[tuple[Purpose, Source], ...]


@dataclass(frozen=True, slots=True)
class NestPlan:
    """One nest, complete. `rev`: content hash of its station's configuration and patterns."""

    station: str
    nest: str
    operation: str
    rev: str
    cycle: MailboxPlan | EdgesPlan
    items: ItemsPlan | None
    feeds: tuple[HolderFeed, ...]
    scans: tuple[ScanFeed, ...]
    values: tuple[ValuePlan, ...]
    curves: tuple[CurvePlan, ...]
    verdict: VerdictPlan | None
    context: ContextPlan
    emits: tuple[EmitPlan, ...]
    open: bool
    devices: tuple[str, ...]
    sources: tuple[Source, ...]

    @property
    def id(self) -> str:
        return f"{self.station}/{self.nest}" if self.nest else self.station


@dataclass(frozen=True, slots=True)
class Compiled:
    """All stations of one agent, ready to run.

    Attributes:
        read_sets: name → tag paths of one device, read only on request.
        notes: what works otherwise than one may think; printed by `check`, stops nothing.
        stations: tag path → (station, nest) that uses it, for its declaration; nest empty: several.
        counters: tags that count cycles; no change of theirs may be held back by conditioning.
    """

    site: str
    nests: tuple[NestPlan, ...]
    read_sets: Mapping[str, tuple[str, ...]]
    notes: tuple[Problem, ...]
    stations: Mapping[str, tuple[str, str]]
    counters: frozenset[str]
