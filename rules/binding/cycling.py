"""What a nest without a hand-shake remembers: levels, its cycle, and those that just ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from protocols.events import EndedBy
from rules.binding.aggregates import AGGREGATED, Aggregate, begin, extend
from rules.binding.counting import Count
from rules.binding.plan import EdgePlan, NestPlan, Source, ValuePlan
from rules.binding.readers import NameKey
from rules.binding.rows import Past, Reading
from rules.binding.texts import TextState, forget_until, set_back

CHANGES_MAX: Final = 64
_BEHIND_US: Final = 10_000_000  # no row comes later than so long after its time


@dataclass(slots=True)
class Change:
    """A tag changed after `since_us` and not after `at_us`.

    `across_silence`: so long after that what lies between is not surely of one cycle.
    """

    at_us: int
    since_us: int
    value: int = 0
    across_silence: bool = False


@dataclass(slots=True)
class Level:
    """The newest row of a tag, and its newest usable value.

    `heard_us`: since then usable rows have come without a silence. `changed_us`: when it changed.
    """

    at_us: int | None = None
    good_us: int | None = None
    heard_us: int | None = None
    changed_us: int | None = None
    value: int | None = None


@dataclass(slots=True)
class Open:
    """A running cycle. `started_us` None: its start was not seen.

    `before_raw`, `raw`: the counter just before the start that was seen, and since.
    `number`: the cycle's own, where something else than these two tells it. `heard_us`: since then
    nothing was overlooked before it began. None: nobody knows.
    """

    begun_us: int
    started_us: int | None
    error_us: int = 0
    before_raw: int | None = None
    raw: int | None = None
    raw_at_us: int = 0
    heard_us: int | None = None
    number: int | None = None
    count: Count | None = None
    restarted: bool = False
    opened: bool = False
    aggregates: dict[str, Aggregate] = field(default_factory=dict)
    awaited: dict[str, int] = field(default_factory=dict)
    triggered: dict[str, Reading] = field(default_factory=dict)


@dataclass(slots=True)
class Closing:
    """A cycle that ended, until everything that belongs to it has come.

    `sure_us`: until then it certainly ran; what was read later may be the next cycle's.
    """

    cycle: Open
    ended_us: int
    ended_by: EndedBy
    error_us: int = 0
    across_silence: bool = False
    sure_us: int = 0


@dataclass(slots=True)
class Unnamed:
    """The last pass had no good name; a read up to `until_us` may still give it one.

    `after_us`: of what was read earlier, some may have been for cycles before.
    """

    pass_id: UUID
    ended_us: int
    until_us: int
    after_us: int | None = None


@dataclass(slots=True)
class EdgesState:
    """`overlooked_to`: counts after `last` and up to it were told as a gap already.

    `counted_us`: when the counter was last seen to change, of the changes that were decided.
    `reads_to_us`: reads up to it are used up.
    """

    last: Count | None = None
    overlooked_to: int | None = None
    counted_us: int | None = None
    reads_to_us: int | None = None
    forked: bool = False
    counts_at_start: bool | None = None
    last_end_us: int | None = None
    swallow_end: bool = False
    levels: dict[str, Level] = field(default_factory=dict)
    starts: list[Change] = field(default_factory=list)
    ends: list[Change] = field(default_factory=list)
    counts: list[Change] = field(default_factory=list)
    triggers: dict[str, list[Change]] = field(default_factory=dict)
    open: Open | None = None
    closings: list[Closing] = field(default_factory=list)
    texts: dict[str, TextState] = field(default_factory=dict)
    name: NameKey | None = None
    unnamed: Unnamed | None = None
    raised: list[str] = field(default_factory=list)


def take_level(state: EdgesState, source: Source, row: Reading) -> Change | None:
    """A row of a watched tag; the change that it shows."""
    path, silence_us = source.path, source.silence_us
    level = state.levels.setdefault(path, Level())
    level.at_us = row.time_us
    if not row.usable:
        return None
    value = int(row.value)
    change = None
    since_us = row.time_us - (level.good_us or 0)
    silent = bool(silence_us) and not 0 <= since_us <= silence_us
    level.heard_us = row.time_us if silent or level.heard_us is None else level.heard_us
    if level.good_us is not None and value != level.value:
        change = Change(row.time_us, level.good_us, value, silent)
        level.changed_us = row.time_us
    level.value, level.good_us = value, row.time_us
    return change


def set_clock_back(state: EdgesState, sources: Iterable[Source], now_us: int) -> None:
    """How long nothing was read cannot be told: as after a silence."""
    before_us = now_us - _BEHIND_US
    for source in sources:
        level = state.levels.get(source.path)
        if level is not None and level.good_us is not None:
            level.at_us = min(level.at_us or before_us, before_us)
            level.good_us = min(level.good_us, before_us) - source.silence_us - 1
    if state.open is not None:
        _set_open_back(state.open, before_us)
    state.unnamed, state.triggers = None, {}
    for text in state.texts.values():
        set_back(text)


def _set_open_back(open_: Open, before_us: int) -> None:
    """When it started, by this clock, is not known."""
    open_.begun_us, open_.started_us = min(open_.begun_us, before_us), None
    open_.raw_at_us = min(open_.raw_at_us, open_.begun_us)
    open_.heard_us, open_.awaited = None, {}
    for aggregate in open_.aggregates.values():
        aggregate.broken = True


def queue(changes: list[Change], change: Change) -> None:
    """Bounded: nobody decides anything from the 65th change that still waits."""
    changes.append(change)
    del changes[:-CHANGES_MAX]


def use_reads(state: EdgesState, until_us: int) -> None:
    state.reads_to_us = until_us
    for text in state.texts.values():
        forget_until(text, until_us)


def becomes(edge: EdgePlan, path: str, change: Change) -> bool:
    return edge.source.path == path and bool(change.value) == edge.to


def begin_values(open_: Open, plan: NestPlan, pasts: dict[str, Past]) -> None:
    for value in plan.values:
        if value.source is None or value.source.read:
            continue
        if value.how in AGGREGATED:
            past = pasts.setdefault(value.source.path, Past())
            open_.aggregates[value.label] = begin(open_.begun_us, past, value.source.silence_us)
        if value.how == "at_start" and open_.started_us is not None:
            open_.awaited[value.label] = open_.begun_us


def extend_values(open_: Open, plan: NestPlan, pasts: dict[str, Past], until_us: int) -> None:
    """Take the rows up to a time into the cycle's values."""
    for value in plan.values:
        if value.source is None or value.source.read:
            continue
        past = pasts.get(value.source.path, Past())
        if value.label in open_.aggregates:
            extend(open_.aggregates[value.label], past, until_us, value.source.silence_us)
        awaited_us = open_.awaited.get(value.label)
        row = None if awaited_us is None else past.after(awaited_us)
        if row is not None:
            open_.triggered[value.label] = row
            del open_.awaited[value.label]


def triggered_values(plan: NestPlan) -> list[ValuePlan]:
    return [value for value in plan.values if value.trigger is not None]


def break_values(open_: Open) -> None:
    """Rows of the cycle were not read: what was taken over time is incomplete."""
    open_.restarted = True
    for aggregate in open_.aggregates.values():
        aggregate.broken = True
