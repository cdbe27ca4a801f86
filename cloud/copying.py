"""Columns of a batch to the bytes of a binary COPY, by numpy. Pure.

Rule 1: no Python per sample; text, bytes and arrays apart, which are objects already and rare.
Rule 2: one buffer per frame and shape of row, complete before any lock is taken; the statement's
header and trailer are added when it is sent, so the rows of many frames share a statement.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.samples import NO_CODE, NO_TIME, Column, SampleBatch, Tag, ValueClass

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"
POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01, where the server's times begin


class Shape(Enum):
    """The COPY statement that a row goes with. Most rows are good and have nothing but a value."""

    F64 = "sample (time, tag, frame, f64)"
    I64 = "sample (time, tag, frame, i64)"
    FULL = (
        "sample (time, tag, frame, agent_time, device_time, quality, code, f64, i64, text, bytes)"
    )
    LIST = (
        "sample_list"
        " (time, tag, frame, agent_time, device_time, quality, code, f64s, i64s, bools, texts)"
    )

    @property
    def statement(self) -> str:
        return f"copy {self.value} from stdin (format binary)"


@dataclass(frozen=True, slots=True, eq=False)
class TagMap:
    """What a batch's dictionary is in the database: its ids, and which tags hold lists."""

    ids: NDArray[np.int32]
    lists: NDArray[np.bool_] | None  # None: none of them

    @classmethod
    def of(cls, tags: Sequence[Tag], ids: Iterable[int]) -> "TagMap":
        lists = np.array([tag.type.is_array for tag in tags], np.bool_)
        return cls(np.fromiter(ids, np.int32, len(tags)), lists if lists.any() else None)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one shape, ready for its statement."""

    shape: Shape
    count: int
    data: bytes | bytearray


def rows_of(batch: SampleBatch, tags: TagMap, frame: int) -> tuple[Rows, ...]:
    """Every row of the batch exactly once."""
    if len(batch) == 0:
        return ()
    table = _Table(batch, tags, frame)
    plain = table.plain()
    lists = np.zeros(0, np.int64)
    if tags.lists is not None:
        is_list = tags.lists[batch.tag]
        lists = np.flatnonzero(is_list)
        plain &= ~is_list
    floats = plain & (batch.kind == ValueClass.F64)
    integers = plain & table.is_integer
    rest = ~(floats | integers)
    rest[lists] = False
    found = (
        table.plain_rows(Shape.F64, _PLAIN_F64, floats),
        table.plain_rows(Shape.I64, _PLAIN_I64, integers),
        table.full(np.flatnonzero(rest)),
        table.lists(lists),
    )
    return tuple(rows for rows in found if rows.count)


_Writer = Callable[[Any], bytes]
_NULL: Final = struct.pack(">i", -1)
_INTEGERS: Final = (ValueClass.I64, ValueClass.U64, ValueClass.BOOL)


@dataclass(frozen=True, slots=True)
class _Layout:
    """A record of fixed size: `names` are its variable fields in the order of the statement."""

    names: tuple[str, ...]
    dtype: np.dtype[Any]
    template: bytes  # everything that is the same in every row but the frame


_FORMATS: Final = {
    "time": ">i8",
    "tag": ">i4",
    "frame": ">i8",
    "agent_time": ">i8",
    "device_time": ">i8",
    "quality": ">i8",
    "code": ">i8",
    "f64": ">f8",
    "i64": ">i8",
}
_TIMES: Final = ("time", "agent_time", "device_time")
_EXTRAS: Final = ("agent_time", "device_time", "quality", "code")
_FULL_COLUMNS: Final = 11


@lru_cache(maxsize=256)
def _layout(present: tuple[str, ...], columns: tuple[str, ...], fields: int) -> _Layout:
    """Of the first `columns` of a row with `fields`, those `present`; the others are null."""
    parts: list[tuple[str, str]] = [("fields", ">i2")]
    sizes: dict[str, int] = {"fields": fields}
    for name in columns:
        parts.append((f"{name}_size", ">i4"))
        sizes[f"{name}_size"] = -1
        if name in present:
            parts.append((name, _FORMATS[name]))
            sizes[f"{name}_size"] = np.dtype(_FORMATS[name]).itemsize
    dtype = np.dtype(parts)
    record = np.zeros(1, dtype)
    for part, size in sizes.items():
        record[part] = size
    return _Layout(present, dtype, record.tobytes())


_ALWAYS: Final = ("time", "tag", "frame")
_PLAIN_F64: Final = _layout((*_ALWAYS, "f64"), (*_ALWAYS, "f64"), 4)
_PLAIN_I64: Final = _layout((*_ALWAYS, "i64"), (*_ALWAYS, "i64"), 4)


class _Table:
    """The batch's columns under the names of the table's, computed when first needed."""

    def __init__(self, batch: SampleBatch, tags: TagMap, frame: int) -> None:
        self._batch = batch
        self._ids = tags.ids
        self._frame = frame
        kind = batch.kind
        self.is_integer = np.zeros(len(batch), np.bool_)
        for value_class in _INTEGERS:
            if value_class in batch.values:
                self.is_integer |= kind == value_class

    def plain(self) -> NDArray[np.bool_]:
        """Good, no code, no times of its own."""
        batch = self._batch
        plain: NDArray[np.bool_] = (batch.quality == 0) & (batch.code == NO_CODE)
        for times in (batch.agent_time, batch.device_time):
            if times is not None:
                plain &= times == NO_TIME
        return plain

    def plain_rows(self, shape: Shape, layout: _Layout, mask: NDArray[np.bool_]) -> Rows:
        count = int(np.count_nonzero(mask))
        if count == 0:
            return Rows(shape, 0, b"")
        rows = slice(None) if count == len(mask) else np.flatnonzero(mask)
        return Rows(shape, count, self._records(layout, rows, count))

    def full(self, rows: NDArray[np.int64]) -> Rows:
        parts = [self._pattern(present, rows[at]) for present, at in self._patterns(rows)]
        return Rows(Shape.FULL, len(rows), b"".join(parts))

    def lists(self, rows: NDArray[np.int64]) -> Rows:
        parts = [
            self._with_objects(present, rows[at], _array_fields)
            for present, at in self._patterns(rows)
        ]
        return Rows(Shape.LIST, len(rows), b"".join(parts))

    def _column(self, name: str, rows: Any) -> Column:
        batch = self._batch
        if name in _TIMES:
            times: Column = getattr(batch, name)[rows]
            return times - POSTGRES_EPOCH_US
        if name == "tag":
            ids: Column = self._ids[batch.tag[rows]]
            return ids
        column = self._values(name) if name in ("f64", "i64") else getattr(batch, name)
        taken: Column = column[rows]
        return taken

    def _values(self, name: str) -> Column:
        return self._batch.values[ValueClass.F64] if name == "f64" else self._integers()

    def _integers(self) -> Column:
        batch = self._batch
        present = [kind for kind in _INTEGERS if kind in batch.values]
        if present == [ValueClass.I64]:
            return batch.values[ValueClass.I64]
        column = np.zeros(len(batch), np.int64)
        for kind in present:
            values = batch.values[kind]
            wide = values.view(np.int64) if kind is ValueClass.U64 else values.astype(np.int64)
            np.copyto(column, wide, where=batch.kind == kind)
        return column

    def _records(self, layout: _Layout, rows: Any, count: int) -> bytearray:
        data = bytearray(layout.template)
        data *= count  # in place: a large buffer costs its page faults each time it is copied
        records = np.frombuffer(data, layout.dtype)
        for name in layout.names:
            records[name] = self._frame if name == "frame" else self._column(name, rows)
        return data

    def _patterns(
        self, rows: NDArray[np.int64]
    ) -> Iterable[tuple[tuple[str, ...], NDArray[np.int64]]]:
        """Rows grouped by which of the extra columns they have; positions within `rows`."""
        if len(rows) == 0:
            return
        batch = self._batch
        bits = np.zeros(len(rows), np.uint8)
        for bit, name in enumerate(("agent_time", "device_time")):
            times: Column | None = getattr(batch, name)
            if times is not None:
                bits |= (times[rows] != NO_TIME).astype(np.uint8) << bit
        bits |= (batch.quality[rows] != 0).astype(np.uint8) << 2
        bits |= (batch.code[rows] != NO_CODE).astype(np.uint8) << 3
        for pattern in np.unique(bits):
            present = tuple(name for bit, name in enumerate(_EXTRAS) if int(pattern) & (1 << bit))
            yield present, np.flatnonzero(bits == pattern)

    def _pattern(self, extras: tuple[str, ...], rows: NDArray[np.int64]) -> bytes:
        """Rows that have the same extra columns, by class of value."""
        kind = self._batch.kind[rows]
        floats = rows[kind == ValueClass.F64]
        integers = rows[self.is_integer[rows]]
        empty = rows[kind == ValueClass.NONE]
        objects = rows[(kind == ValueClass.TEXT) | (kind == ValueClass.BYTES)]
        return b"".join(
            (
                self._numbers(extras, ("f64",), floats),
                self._numbers(extras, ("i64",), integers),
                self._numbers(extras, (), empty),
                self._with_objects(extras, objects, _object_fields),
            )
        )

    def _numbers(
        self, extras: tuple[str, ...], value: tuple[str, ...], rows: NDArray[np.int64]
    ) -> bytes | bytearray:
        if len(rows) == 0:
            return b""
        columns = (*_ALWAYS, *_EXTRAS, "f64", "i64")
        layout = _layout((*_ALWAYS, *extras, *value), (*columns, "text", "bytes"), _FULL_COLUMNS)
        return self._records(layout, rows, len(rows))

    def _with_objects(
        self,
        extras: tuple[str, ...],
        rows: NDArray[np.int64],
        fields: Callable[[ValueClass, Any], bytes],
    ) -> bytes:
        """A record of the fixed columns each, then the fields of one object."""
        if len(rows) == 0:
            return b""
        layout = _layout((*_ALWAYS, *extras), (*_ALWAYS, *_EXTRAS), _FULL_COLUMNS)
        heads = memoryview(self._records(layout, rows, len(rows)))
        size = layout.dtype.itemsize
        parts: list[bytes | memoryview] = []
        for at, row in enumerate(rows.tolist()):
            kind = ValueClass(int(self._batch.kind[row]))
            value = None if kind is ValueClass.NONE else self._batch.values[kind][row]
            parts.append(heads[at * size : (at + 1) * size])
            parts.append(fields(kind, value))
        return b"".join(parts)


def _object_fields(kind: ValueClass, value: Any) -> bytes:
    """f64, i64, text, bytes: one of the last two is there."""
    raw = value.encode() if kind is ValueClass.TEXT else value
    field = struct.pack(">i", len(raw)) + raw
    order = (field, _NULL) if kind is ValueClass.TEXT else (_NULL, field)
    return _NULL + _NULL + b"".join(order)


def _array_fields(kind: ValueClass, value: Any) -> bytes:
    """f64s, i64s, bools, texts: at most one is there."""
    place = _LIST_PLACES.get(kind)
    if place is None:
        return _NULL * 4
    at, write = place
    raw = write(value)
    return _NULL * at + struct.pack(">i", len(raw)) + raw + _NULL * (3 - at)


_FLOAT8_OID: Final = 701
_INT8_OID: Final = 20
_BOOL_OID: Final = 16
_TEXT_OID: Final = 25


def _array_head(oid: int, count: int) -> bytes:
    """One dimension from 1, no nulls; an empty array has none."""
    if count == 0:
        return struct.pack(">iii", 0, 0, oid)
    return struct.pack(">iiiii", 1, 0, oid, count, 1)


def _numeric_array(oid: int, element: str, value: Any) -> bytes:
    dtype = np.dtype([("size", ">i4"), ("value", element)])
    records = np.zeros(len(value), dtype)
    records["size"] = dtype["value"].itemsize
    records["value"] = value
    return _array_head(oid, len(value)) + records.tobytes()


def _floats(value: Any) -> bytes:
    return _numeric_array(_FLOAT8_OID, ">f8", value)


def _signed(value: Any) -> bytes:
    return _numeric_array(_INT8_OID, ">i8", np.asarray(value, np.int64))


def _unsigned(value: Any) -> bytes:
    return _numeric_array(_INT8_OID, ">i8", np.asarray(value, np.uint64).view(np.int64))


def _bools(value: Any) -> bytes:
    return _numeric_array(_BOOL_OID, "u1", np.asarray(value, np.bool_))


def _texts(value: Any) -> bytes:
    raws = [text.encode() for text in value]
    fields = b"".join(struct.pack(">i", len(raw)) + raw for raw in raws)
    return _array_head(_TEXT_OID, len(raws)) + fields


_LIST_PLACES: Final[dict[ValueClass, tuple[int, _Writer]]] = {
    ValueClass.F64S: (0, _floats),
    ValueClass.I64S: (1, _signed),
    ValueClass.U64S: (1, _unsigned),
    ValueClass.BOOLS: (2, _bools),
    ValueClass.TEXTS: (3, _texts),
}
