"""Report by exception: which rows of a tag are worth carrying. Columnar; never changes a row.

A tag without `report` lets everything through. For the others, compared with the last *reported*
row of the same path, in the order of arrival:

Rule 1: the first row, another quality or protocol code, another type, a value where there was none
    (or the reverse) is always reported; only `off` holds it back.
Rule 2: `change` reports a value that differs, by more than the deadband where one is given. NaN
    equals NaN and differs from every number. Text, bits and arrays have no deadband.
Rule 3: `max_time` reports a row whose own time is at least so much later than the last reported
    one's, and one whose time is earlier (the clock stepped back). It acts when a row arrives.
Rule 4: `min_time` lets a change wait for the first row that is so much later; rule 1 does not wait.
Rule 5: `period` ignores changes: one row in each `max_time`, and rule 1.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from protocols.errors import Rejected
from protocols.samples import Column, DataType, SampleBatch, Tag, ValueClass
from rules.dictionaries import PerDictionary
from rules.durations import Duration, to_us
from rules.ports import Staged

_REVISION: Final = b'{"conditioning":1}'
_PASS: Final = -1  # slot of a tag that is always let through
_OFF: Final = -2  # slot of a tag that never is
_NEVER_US: Final = np.iinfo(np.int64).max
_NUMERIC: Final = (ValueClass.F64, ValueClass.I64, ValueClass.U64)
_SCALAR: Final = (*_NUMERIC, ValueClass.BOOL)
_TYPES: Final = {code: at for at, code in enumerate(DataType)}
_U64_LIMIT: Final = 2.0**64

Flags: TypeAlias = NDArray[np.bool_]


class On(StrEnum):
    CHANGE = "change"
    PERIOD = "period"
    CHANGE_OR_PERIOD = "change_or_period"
    RECEIVED = "received"
    OFF = "off"


class Deadband(BaseModel):
    """A change no larger than this is not reported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    absolute: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Report(BaseModel):
    """When a tag's rows are carried. `change` with `max_time` is `change_or_period`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: On = On.CHANGE
    deadband: Deadband | None = None
    max_time: Duration | None = None
    min_time: Duration | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Report":
        if self.on in (On.PERIOD, On.CHANGE_OR_PERIOD) and not self.max_time:
            raise ValueError(f"on: {self.on} needs max_time, the period")
        if self.on in (On.RECEIVED, On.OFF) and (self.deadband or self.max_time or self.min_time):
            raise ValueError(f"on: {self.on} takes no deadband, max_time or min_time")
        if self.on is On.PERIOD and (self.deadband or self.min_time):
            raise ValueError("on: period takes no deadband or min_time; use change_or_period")
        if self.max_time and self.min_time and self.min_time > self.max_time:
            raise ValueError("min_time is longer than max_time")
        return self

    def of_a_counter(self) -> "Report":
        """The same, but no change is held back: a count not seen would be a cycle not counted."""
        exact = self.on not in (On.PERIOD, On.OFF)
        if exact and self.deadband is None and self.min_time is None:
            return self
        return Report(max_time=self.max_time)

    def suits(self, of: DataType) -> bool:
        """False: the deadband means nothing for this type."""
        return self.deadband is None or of.element.value_class in _NUMERIC


class Conditioner:
    """A Stage. `reports`: by path; a path `a[3]` without its own takes that of `a`."""

    def __init__(self, reports: Mapping[str, Report]) -> None:
        self._reports = dict(reports)
        self._slots: dict[str, int] = {}
        self._dictionaries = PerDictionary(self._learn)
        self._rules = _Rules(0)
        self._last = _Last(0)

    def apply(self, batch: SampleBatch) -> Staged:
        slots, types = self._placed(batch)
        keep: Flags = slots == _PASS
        rows = np.flatnonzero(slots >= 0)
        for turn in self._turns(slots[rows]):
            chosen = rows[turn]
            keep[chosen] = self._reported(batch, chosen, slots[chosen], types[chosen])
        held = len(batch) - int(np.count_nonzero(keep))
        return Staged(batch.take(keep) if held else batch, filtered=held)

    def report_all(self) -> None:
        self._last.known[:] = False

    def snapshot(self) -> bytes:
        """Only the revision: a restart is an outage, and no value is carried across one."""
        return _REVISION

    def restore(self, state: bytes) -> None:
        if state != _REVISION:
            raise Rejected("not a conditioning state of this revision")
        self.report_all()

    def _placed(self, batch: SampleBatch) -> tuple[Column, Column]:
        """Slot and type number of each row."""
        slots, types = self._dictionaries.of(batch.tags)
        return slots[batch.tag], types[batch.tag]

    def _learn(self, tags: tuple[Tag, ...]) -> tuple[Column, Column]:
        slots = np.array([self._slot(tag.path) for tag in tags], np.int64)
        return slots, np.array([_TYPES[tag.type] for tag in tags], np.uint8)

    def _slot(self, path: str) -> int:
        report = self._reports.get(path) or self._reports.get(path.partition("[")[0])
        if report is None or report.on is On.RECEIVED:
            return _PASS
        if report.on is On.OFF:
            return _OFF
        slot = self._slots.setdefault(path, len(self._slots))
        self._rules = self._rules.grown(slot)
        self._last = self._last.grown(slot)
        self._rules.put(slot, report)
        return slot

    def _turns(self, slots: Column) -> list[Column]:
        """Positions to decide together: the k-th row of every tag, for k = 1, 2, …."""
        places = np.arange(len(slots))
        self._last.place[slots] = places
        if bool((self._last.place[slots] == places).all()):
            return [places] if len(slots) else []
        order = np.argsort(slots, kind="stable")
        sorted_slots = slots[order]
        turn = places - np.searchsorted(sorted_slots, sorted_slots, side="left")
        return [np.sort(order[turn == k]) for k in range(int(turn.max()) + 1)]

    def _reported(self, batch: SampleBatch, rows: Column, slots: Column, types: Column) -> Flags:
        """Which of these rows, no tag twice, are reported; remembers them."""
        rules, last = self._rules, self._last
        time = batch.time[rows]
        elapsed = time - last.time[slots]
        back = elapsed < 0
        must = self._must(batch, rows, slots, types)
        period = (elapsed >= rules.max_us[slots]) | (back & (rules.max_us[slots] != _NEVER_US))
        ripe = rules.on_change[slots] & ((elapsed >= rules.min_us[slots]) | back)
        report: Flags = must | period | (ripe & self._moved(batch, rows, slots))
        last.put(batch, rows[report], slots[report], types[report])
        return report

    def _must(self, batch: SampleBatch, rows: Column, slots: Column, types: Column) -> Flags:
        last = self._last
        must: Flags = (
            ~last.known[slots]
            | (batch.kind[rows] != last.kind[slots])
            | (batch.quality[rows] != last.quality[slots])
            | (batch.code[rows] != last.code[slots])
            | (types != last.type[slots])
        )
        return must

    def _moved(self, batch: SampleBatch, rows: Column, slots: Column) -> Flags:
        """Which values are beyond the deadband around the last reported of the same class."""
        moved: Flags = np.zeros(len(rows), np.bool_)
        kinds = batch.kind[rows]
        for kind, column in batch.values.items():
            here = np.flatnonzero(kinds == kind)
            if len(here):
                now, at = column[rows[here]], slots[here]
                moved[here] = self._beyond(kind, now, at)
        return moved

    def _beyond(self, kind: ValueClass, now: Column, slots: Column) -> Flags:
        if kind is ValueClass.F64:
            return _floats_beyond(now, self._last.number[slots], self._rules.deadband[slots])
        if kind in _SCALAR:
            was = self._last.bits[slots]
            if kind is not ValueClass.I64:
                now, was = _bits(now), _bits(was)
            return _integers_beyond(now, was, self._rules.steps[slots])
        return _objects_differ(now, self._last.object[slots])


_Columns = TypeVar("_Columns", "_Rules", "_Last")


class _Rules:
    """Per slot: what its report says, as columns."""

    def __init__(self, size: int) -> None:
        self.on_change = np.zeros(size, np.bool_)
        self.max_us = np.full(size, _NEVER_US, np.int64)
        self.min_us = np.zeros(size, np.int64)
        self.deadband = np.zeros(size, np.float64)
        self.steps = np.zeros(size, np.uint64)  # the deadband in whole steps, for integers

    def grown(self, slot: int) -> "_Rules":
        return self if slot < len(self.on_change) else _grown(self, _Rules(2 * slot + 16))

    def put(self, slot: int, report: Report) -> None:
        deadband = report.deadband.absolute if report.deadband else 0.0
        self.on_change[slot] = report.on is not On.PERIOD
        self.max_us[slot] = to_us(report.max_time) if report.max_time else _NEVER_US
        self.min_us[slot] = to_us(report.min_time) if report.min_time else 0
        self.deadband[slot] = deadband
        self.steps[slot] = int(deadband) if deadband < _U64_LIMIT else 2**64 - 1


class _Last:
    """Per slot: the last reported row, as columns; `place` is scratch space for finding repeats."""

    def __init__(self, size: int) -> None:
        self.known = np.zeros(size, np.bool_)
        self.time = np.zeros(size, np.int64)
        self.kind = np.zeros(size, np.uint8)
        self.type = np.zeros(size, np.uint8)
        self.quality = np.zeros(size, np.uint32)
        self.code = np.zeros(size, np.int64)
        self.number = np.zeros(size, np.float64)
        self.bits = np.zeros(size, np.int64)
        self.object = np.zeros(size, object)
        self.place = np.zeros(size, np.int64)

    def grown(self, slot: int) -> "_Last":
        return self if slot < len(self.known) else _grown(self, _Last(2 * slot + 16))

    def put(self, batch: SampleBatch, rows: Column, slots: Column, types: Column) -> None:
        self.known[slots] = True
        self.time[slots] = batch.time[rows]
        self.kind[slots] = batch.kind[rows]
        self.type[slots] = types
        self.quality[slots] = batch.quality[rows]
        self.code[slots] = batch.code[rows]
        for kind, column in batch.values.items():
            here = batch.kind[rows] == kind
            self._put_values(kind, slots[here], column[rows[here]])

    def _put_values(self, kind: ValueClass, slots: Column, values: Column) -> None:
        if kind is ValueClass.F64:
            self.number[slots] = values
        elif kind in _SCALAR:
            self.bits[slots] = _bits(values).view(np.int64)
        else:
            self.object[slots] = values


def _grown(small: _Columns, large: _Columns) -> _Columns:
    for name, column in vars(small).items():
        getattr(large, name)[: len(column)] = column
    return large


def _bits(values: Column) -> Column:
    """Integers and bits as their 64-bit pattern."""
    if values.dtype == np.bool_:
        return values.astype(np.uint64)
    return values.view(np.uint64)


def _floats_beyond(now: Column, was: Column, deadband: Column) -> Flags:
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf: the same value, seen below
        beyond = np.abs(now - was) > deadband
    nan, was_nan = np.isnan(now), np.isnan(was)
    answer: Flags = (beyond & (now != was)) | (nan != was_nan)
    return answer


def _integers_beyond(now: Column, was: Column, steps: Column) -> Flags:
    """Exact over the whole range: the distance of two 64-bit integers fits an unsigned one."""
    one, other = _bits(now), _bits(was)
    beyond: Flags = np.where(now > was, one - other, other - one) > steps
    return beyond


def _objects_differ(now: Column, was: Column) -> Flags:
    """Text, bytes and lists: few and long, compared one by one."""
    return np.fromiter(
        (not _same(new, old) for new, old in zip(now, was, strict=True)), np.bool_, len(now)
    )


def _same(new: object, old: object) -> bool:
    if isinstance(new, (str, bytes)) or isinstance(old, (str, bytes)):
        return bool(new == old)
    one, other = np.asarray(new), np.asarray(old)
    floats = one.dtype.kind == "f" and other.dtype.kind == "f"
    return bool(np.array_equal(one, other, equal_nan=floats))
