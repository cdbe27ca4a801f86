"""From what a driver read to a SampleBatch: rows fixed once by the plan, filled once per read.

Owns rows, their cells and the columns of one read; knows no protocol and does no I/O.
A *cell* is one element that a response carries; a row is one cell, or the cells of a whole array.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols.driver import TagSpec
from protocols.errors import ConfigError, Problem
from protocols.samples import (
    DTYPE_OF,
    NO_CODE,
    NO_TIME,
    Code,
    Column,
    Quality,
    SampleBatch,
    Tag,
    ValueClass,
)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of every batch of one plan, in order.

    Attributes:
        specs: the tag of each row.
        tags: dictionary of the batches; row i is tag i.
        kinds: uint8 class of each cell when it is good.
        starts: where rows hold several cells: intp, first cell of each row, and the end; else None.
        numbers: int32 0 … n - 1, shared by all batches.
    """

    specs: tuple[TagSpec, ...]
    tags: tuple[Tag, ...]
    kinds: Column
    starts: Column | None
    numbers: Column

    @property
    def cells(self) -> int:
        return len(self.kinds)

    def row_of(self, cell: int) -> int:
        if self.starts is None:
            return cell
        return int(np.searchsorted(self.starts, cell, side="right")) - 1


def lay_rows(specs: Sequence[TagSpec], tags: Sequence[Tag], lengths: Sequence[int | None]) -> Rows:
    """Rows for these tags. `lengths`: cells of a whole array, None: one value in one cell.

    ConfigError: a path twice.
    """
    _refuse_doubles(tags)
    sizes = np.array([1 if length is None else length for length in lengths], np.intp)
    kinds = [
        tag.type.value_class if length is None else tag.type.element.value_class
        for tag, length in zip(tags, lengths, strict=True)
    ]
    whole = any(length is not None for length in lengths)
    return Rows(
        tuple(specs),
        tuple(tags),
        _frozen(np.repeat(np.array(kinds, np.uint8), sizes)),
        _frozen(np.concatenate(([0], np.cumsum(sizes))).astype(np.intp)) if whole else None,
        _frozen(np.arange(len(tags), dtype=np.int32)),
    )


class Sheet:
    """The cells of one read, filled in any order, made into a batch once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.time = np.zeros(rows.cells, np.int64)
        self.kind = rows.kinds.copy()
        self.quality = np.zeros(rows.cells, np.uint32)
        self.code = np.full(rows.cells, NO_CODE, np.int64)
        self.values: dict[ValueClass, Column] = {}
        self._device_time: Column | None = None
        self._agent_time: Column | None = None

    def column(self, kind: ValueClass) -> Column:
        """The values of a class, to be written at its cells."""
        column = self.values.get(kind)
        if column is None:
            column = self.values[kind] = np.zeros(len(self.time), DTYPE_OF[kind])
        return column

    def device_time(self) -> Column:
        """Times of the device's own clock, NO_TIME until written."""
        if self._device_time is None:
            self._device_time = np.full(len(self.time), NO_TIME, np.int64)
        return self._device_time

    def agent_time(self) -> Column:
        """Times of arrival where `time` is the device's own, NO_TIME until written."""
        if self._agent_time is None:
            self._agent_time = np.full(len(self.time), NO_TIME, np.int64)
        return self._agent_time

    def fail(self, cells: Any, quality: int, code: int) -> None:
        """These cells have no value. The time is set beside, like that of good ones."""
        self.kind[cells] = ValueClass.NONE
        self.quality[cells] = quality
        self.code[cells] = code

    def put(self, kind: ValueClass, cells: Column, values: Column, codes: Column | None) -> None:
        """Values of one class; a code other than NO_CODE says why that cell has none.

        Cells that failed already keep their own code.
        """
        self.column(kind)[cells] = values
        if kind is ValueClass.TEXT:
            self._put_bytes(cells, values)
        if codes is None:
            return
        wrong = (codes != NO_CODE) & (self.kind[cells] != ValueClass.NONE)
        out = codes[wrong] == Code.OUT_OF_RANGE
        quality = np.where(out, np.uint32(Quality.BAD_OUT_OF_RANGE), np.uint32(Quality.BAD))
        self.kind[cells[wrong]] = ValueClass.NONE
        self.quality[cells[wrong]] = quality
        self.code[cells[wrong]] = codes[wrong]

    def _put_bytes(self, cells: Column, values: Column) -> None:
        """Text that cannot travel as text travels as bytes."""
        for cell, value in zip(cells, values, strict=True):
            if isinstance(value, bytes) and self.kind[cell] != ValueClass.NONE:
                self.kind[cell] = ValueClass.BYTES
                self.column(ValueClass.BYTES)[cell] = value

    def batch(self) -> SampleBatch:
        if self._rows.starts is not None:
            return _whole(self, self._rows, self._rows.starts)
        return SampleBatch(
            self._rows.tags,
            self._rows.numbers,
            self.time,
            self.kind,
            self.values,
            self.quality,
            self.code,
            self._agent_time,
            self._device_time,
        )


def _whole(sheet: Sheet, rows: Rows, starts: Column) -> SampleBatch:
    """Each array's cells become one row: the latest time, the first failure."""
    first = starts[:-1]
    failed = np.flatnonzero(sheet.kind == ValueClass.NONE)
    at = np.searchsorted(failed, first)
    blamed = first.copy()  # the cell that speaks for its row
    has_failed = at < len(failed)
    nearest = failed[np.minimum(at, max(len(failed) - 1, 0))] if len(failed) else first
    inside = has_failed & (nearest < starts[1:])
    blamed[inside] = nearest[inside]
    kind, quality, code = (c[blamed].copy() for c in (sheet.kind, sheet.quality, sheet.code))
    values = {k: column[first].copy() for k, column in sheet.values.items()}
    for row in np.flatnonzero([tag.type.is_array for tag in rows.tags]):
        if kind[row] == ValueClass.NONE:
            continue
        array = rows.tags[row].type.value_class
        cells = slice(starts[row], starts[row + 1])
        value = _array_of(sheet, rows.tags[row].type.element.value_class, cells)
        if value is None:
            kind[row], quality[row], code[row] = ValueClass.NONE, Quality.BAD, Code.UNDECODABLE
            continue
        kind[row] = array
        values.setdefault(array, np.zeros(len(kind), object))[row] = value
    return SampleBatch(
        rows.tags,
        rows.numbers,
        np.maximum.reduceat(sheet.time, first) if len(first) else sheet.time,
        kind,
        values,
        quality,
        code,
    )


def _array_of(sheet: Sheet, element: ValueClass, cells: slice) -> Any:
    """None: an element that is not of the array's class (text that is not text)."""
    if not bool((sheet.kind[cells] == element).all()):
        return None
    column = sheet.column(element)[cells]
    return column.tolist() if column.dtype == object else column.copy()


def _refuse_doubles(tags: Sequence[Tag]) -> None:
    seen: set[str] = set()
    doubles = [tag.path for tag in tags if tag.path in seen or seen.add(tag.path)]  # type: ignore[func-returns-value]  # add() is None
    if doubles:
        raise ConfigError(
            Problem(path, "", "two tags of one group have this path", "Give each its own name.")
            for path in doubles
        )


def _frozen(column: Column) -> Column:
    column.setflags(write=False)
    return column
