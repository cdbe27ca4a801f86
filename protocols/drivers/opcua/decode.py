"""Results of OPC UA reads into the cells that want them. Pure."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from protocols.drivers.opcua.planner import Node, OpcuaPlan, Want
from protocols.drivers.opcua.response import Result, Type
from protocols.drivers.opcua.wire import EPOCH_TICKS
from protocols.reading import Sheet
from protocols.samples import (
    DTYPE_OF,
    NO_CODE,
    NO_TIME,
    Code,
    Column,
    DataType,
    Quality,
    ValueClass,
)

BAD_INDEX_RANGE_NO_DATA: Final = 0x80370000
_BAD: Final = 0x80000000
NO_END_TICKS: Final = 2_650_467_743_990_000_000  # the end of 9999, to the second: "no end"
_NS_MAX: Final = 2**63 - 1
EARLIEST_TICKS: Final = EPOCH_TICKS - _NS_MAX // 100  # what i64 ns can hold: from 1677 to 2262
LAST_TICKS: Final = EPOCH_TICKS + _NS_MAX // 100
ACCEPTED: Final[dict[DataType, frozenset[int]]] = {
    DataType.BOOL: frozenset({1}),
    DataType.INT8: frozenset({2}),
    DataType.UINT8: frozenset({3}),
    DataType.INT16: frozenset({4}),
    DataType.UINT16: frozenset({5}),
    DataType.INT32: frozenset({6}),
    DataType.UINT32: frozenset({7, Type.STATUS_CODE}),
    DataType.INT64: frozenset({8}),
    DataType.UINT64: frozenset({9}),
    DataType.FLOAT32: frozenset({10}),
    DataType.FLOAT64: frozenset({11}),
    DataType.DURATION: frozenset({11}),
    DataType.DATETIME: frozenset({13}),
    DataType.BYTES: frozenset({15}),
    DataType.TEXT: frozenset(
        {
            Type.STRING,
            Type.GUID,
            Type.XML,
            Type.NODE_ID,
            Type.EXPANDED_NODE_ID,
            Type.QUALIFIED_NAME,
            Type.LOCALIZED_TEXT,
        }
    ),
}


class Failed(Exception):
    """One cell has no value. Ends in this module."""

    def __init__(self, quality: int, code: int = NO_CODE) -> None:
        self.quality = quality
        self.code = code
        super().__init__(quality, code)


@dataclass(slots=True)
class _Values:
    """Cells and values of one class, collected."""

    cells: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Given:
    """What a response has for one want. `value`: of the part that was asked for.

    `skipped`: elements before that part, from a server that knows no ranges and gave all.
    """

    result: Result
    value: Any
    skipped: int
    want: Want


def parts_of(plan: OpcuaPlan, first: int, results: list[Result]) -> Iterator[Given]:
    """Results of the nodes from number `first` on, for each that wants them."""
    for number, result in enumerate(results, first):
        value, skipped = _asked_part(result, plan.nodes[number])
        for want in plan.wants[number]:
            yield Given(result, value, skipped, want)


def fill(sheet: Sheet, parts: Iterable[Given]) -> None:
    """Values and statuses, one by one."""
    found: dict[ValueClass, _Values] = {kind: _Values() for kind in ValueClass}
    for part in parts:
        cell, result = part.want.cell, part.result
        if result.status:
            sheet.quality[cell] = result.status
        try:
            kind, wanted = _value_of(result, part.value, part.want)
        except Failed as failed:
            sheet.fail(cell, failed.quality, failed.code)
            continue
        found[kind].cells.append(cell)
        found[kind].values.append(wanted)
    for kind, each in found.items():
        _put(sheet, kind, each)


def source_times(plan: OpcuaPlan, first: int, results: list[Result]) -> Column:
    """µs UTC, or NO_TIME, of each cell in the order of `plan.cells_of`."""
    times = [micros_of(result.source_ticks) for result in results]
    counts = [len(wants) for wants in plan.wants[first : first + len(results)]]
    return np.repeat(np.array(times, np.int64), counts)


def micros_of(ticks: int) -> int:
    """Times that a type cannot hold, and 1601, which says "none", are none."""
    return (ticks - EPOCH_TICKS) // 10 if 0 < ticks < NO_END_TICKS else NO_TIME


def _put(sheet: Sheet, kind: ValueClass, found: _Values) -> None:
    if not found.cells or kind is ValueClass.NONE:
        sheet.kind[found.cells] = ValueClass.NONE
        return
    values = np.empty(len(found.values), DTYPE_OF[kind])
    if values.dtype == object:
        for at, value in enumerate(found.values):
            values[at] = value
    else:
        values[:] = found.values
    cells = np.array(found.cells, np.intp)
    sheet.put(kind, cells, values, None)


def _asked_part(result: Result, node: Node) -> tuple[Any, int]:
    """A server that knows no ranges gives the whole array: more than was asked for."""
    if node.range is None or not result.is_array or result.value is None:
        return result.value, 0
    first, last = node.range.first, node.range.last
    if len(result.value) <= last - first + 1:
        return result.value, 0
    return result.value[first : last + 1], first


def _value_of(result: Result, value: Any, want: Want) -> tuple[ValueClass, Any]:
    if result.status & _BAD:
        raise Failed(result.status)
    is_array = result.is_array
    if want.index is not None and is_array and value is not None:
        if want.index >= len(value):
            raise Failed(BAD_INDEX_RANGE_NO_DATA)
        value, is_array = value[want.index], False
    if value is None:
        return ValueClass.NONE, None
    if is_array != want.is_array or result.type not in ACCEPTED.get(want.type, ()):
        raise Failed(Quality.BAD_TYPE_MISMATCH, Code.TYPE_MISMATCH)
    if is_array:
        return _array_of(value, want)
    return _scalar_of(value, want)


def _scalar_of(value: Any, want: Want) -> tuple[ValueClass, Any]:
    if want.type is DataType.DATETIME:
        value = _nanoseconds(int(value))
    elif want.type is DataType.DURATION:
        value = _duration(float(value))
    if want.linear is not None:
        return ValueClass.F64, float(value) * want.linear[0] + want.linear[1]
    return want.type.value_class, value


def _array_of(value: Any, want: Want) -> tuple[ValueClass, Any]:
    kind = want.type.array.value_class
    if want.linear is not None:
        scaled = np.asarray(value).astype(np.float64) * want.linear[0] + want.linear[1]
        return ValueClass.F64S, scaled
    if kind is ValueClass.TEXTS:
        if not all(isinstance(each, str) for each in value):
            raise Failed(Quality.BAD, Code.UNDECODABLE)
        return kind, value
    return kind, np.asarray(value).astype(DTYPE_OF[want.type.value_class])


def _nanoseconds(ticks: int) -> int:
    """1601 and 9999 mean no time; what i64 ns cannot hold is out of range as well."""
    if not EARLIEST_TICKS <= ticks <= LAST_TICKS:
        raise Failed(Quality.BAD_OUT_OF_RANGE, Code.OUT_OF_RANGE)
    return (ticks - EPOCH_TICKS) * 100


def _duration(milliseconds: float) -> int:
    ns = milliseconds * 1e6
    if not math.isfinite(ns) or abs(ns) >= _NS_MAX:
        raise Failed(Quality.BAD_OUT_OF_RANGE, Code.OUT_OF_RANGE)
    return round(ns)
