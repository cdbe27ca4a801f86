"""The columnar batch: what a read cycle produces and everything downstream carries.

Rule 1: a batch is never changed after it is made; its columns are read-only.
Rule 2: no object per sample on the hot path; rows become Python values only for people and tests.
Rule 3: a value keeps its type; a row holds at most one value, in the column of its class.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

NO_TIME: Final = -(2**63)  # "equal to the row's time" or "not there", as the column says
NO_CODE: Final = -1
DICTIONARIES_MAX: Final = 256  # whose places are remembered: a group has one, others come and go

Column: TypeAlias = NDArray[Any]
Scalar: TypeAlias = float | int | bool | str | bytes
Value: TypeAlias = Scalar | Sequence[Scalar] | NDArray[Any] | None


class ValueClass(IntEnum):
    """The column that holds a row's value; NONE: the device gave no value."""

    NONE = 0
    F64 = 1
    I64 = 2
    U64 = 3
    BOOL = 4
    TEXT = 5
    BYTES = 6
    F64S = 7
    I64S = 8
    U64S = 9
    BOOLS = 10
    TEXTS = 11


class DataType(StrEnum):
    """Type code of a tag: what the device declares. Times are i64 ns (UTC or since midnight)."""

    BOOL = "bool"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    TEXT = "text"
    BYTES = "bytes"
    DATETIME = "datetime"
    DATE = "date"
    TIME = "time"
    DURATION = "duration"
    BOOLS = "bool[]"
    INT8S = "int8[]"
    INT16S = "int16[]"
    INT32S = "int32[]"
    INT64S = "int64[]"
    UINT8S = "uint8[]"
    UINT16S = "uint16[]"
    UINT32S = "uint32[]"
    UINT64S = "uint64[]"
    FLOAT32S = "float32[]"
    FLOAT64S = "float64[]"
    TEXTS = "text[]"

    @property
    def is_array(self) -> bool:
        return self.value.endswith("[]")

    @property
    def element(self) -> "DataType":
        """The type of one element; a scalar type is its own element."""
        return DataType(self.value.removesuffix("[]"))

    @property
    def array(self) -> "DataType":
        """The array type with elements of this type. ValueError: none exists (bytes, times)."""
        return self if self.is_array else DataType(f"{self.value}[]")

    @property
    def value_class(self) -> ValueClass:
        return _CLASS_OF_ARRAY[self.element] if self.is_array else _CLASS_OF[self]


_CLASS_OF: Final[dict[DataType, ValueClass]] = {
    DataType.BOOL: ValueClass.BOOL,
    DataType.UINT64: ValueClass.U64,
    DataType.FLOAT32: ValueClass.F64,
    DataType.FLOAT64: ValueClass.F64,
    DataType.TEXT: ValueClass.TEXT,
    DataType.BYTES: ValueClass.BYTES,
    **dict.fromkeys(
        (
            DataType.INT8,
            DataType.INT16,
            DataType.INT32,
            DataType.INT64,
            DataType.UINT8,
            DataType.UINT16,
            DataType.UINT32,
            DataType.DATETIME,
            DataType.DATE,
            DataType.TIME,
            DataType.DURATION,
        ),
        ValueClass.I64,
    ),
}
_LIST_OF: Final = {
    ValueClass.F64: ValueClass.F64S,
    ValueClass.I64: ValueClass.I64S,
    ValueClass.U64: ValueClass.U64S,
    ValueClass.BOOL: ValueClass.BOOLS,
    ValueClass.TEXT: ValueClass.TEXTS,
}
_CLASS_OF_ARRAY: Final = {
    element: _LIST_OF[_CLASS_OF[element]]
    for element in (DataType(code.value.removesuffix("[]")) for code in DataType if code.is_array)
}

# Storage of each class in memory. Lists, text and bytes are Python objects: they are rare and long.
DTYPE_OF: Final[dict[ValueClass, np.dtype[Any]]] = {
    ValueClass.F64: np.dtype(np.float64),
    ValueClass.I64: np.dtype(np.int64),
    ValueClass.U64: np.dtype(np.uint64),
    ValueClass.BOOL: np.dtype(np.bool_),
    **dict.fromkeys(
        (
            ValueClass.TEXT,
            ValueClass.BYTES,
            ValueClass.F64S,
            ValueClass.I64S,
            ValueClass.U64S,
            ValueClass.BOOLS,
            ValueClass.TEXTS,
        ),
        np.dtype(object),
    ),
}


class Quality(IntEnum):
    """OPC UA status codes that we write ourselves (Part 4, 7.39); others travel unchanged."""

    GOOD = 0x00000000
    UNCERTAIN = 0x40000000
    BAD = 0x80000000
    BAD_COMMUNICATION_ERROR = 0x80050000
    BAD_TIMEOUT = 0x800A0000
    BAD_NO_COMMUNICATION = 0x80310000
    BAD_NODE_ID_UNKNOWN = 0x80340000
    BAD_OUT_OF_RANGE = 0x803C0000
    BAD_TYPE_MISMATCH = 0x80740000
    BAD_DEVICE_FAILURE = 0x808B0000


class Code(IntEnum):
    """Our own codes in the column `code`; below 0xFFFF0000 the protocol's own stand."""

    TIMEOUT = 0xFFFF0001  # the device did not answer in time
    DISCONNECTED = 0xFFFF0002  # there is no connection to the device
    TYPE_MISMATCH = 0xFFFF0003  # the device's type is not the declared one
    OUT_OF_RANGE = 0xFFFF0004  # a date or number that its type cannot hold
    UNDECODABLE = 0xFFFF0005  # bytes that are not a value of the declared type
    TOO_LARGE = 0xFFFF0006  # a single value above the frame's limit
    CLOCK_UNSET = 0xFFFF0007  # the agent has no valid clock yet
    CLOCK_SKEW = 0xFFFF0008  # device time replaced by agent time


SEVERITY_MASK: Final = 0xC0000000


def is_good(quality: Column) -> NDArray[np.bool_]:
    """True where the severity bits say good."""
    good: NDArray[np.bool_] = (quality & np.uint32(SEVERITY_MASK)) == 0
    return good


class Tag(NamedTuple):
    """A tag version: path (`device.name` or `device.name[i]`, ≤ 255 bytes UTF-8) and type code."""

    path: str
    type: DataType


class Sample(NamedTuple):
    """One row as a person reads it. `time_us` UTC; `code` None: none."""

    path: str
    type: DataType
    time_us: int
    value: Value
    quality: int
    code: int | None
    agent_time_us: int
    device_time_us: int | None


@dataclass(frozen=True, slots=True, eq=False)
class SampleBatch:
    """Rows in long form; all columns have length n.

    Attributes:
        tags: dictionary of tag versions; no entry twice.
        tag: int32, index into `tags`.
        time: int64 µs UTC, the row's event time.
        kind: uint8 ValueClass of the row's value, NONE where there is none.
        values: per class in use a column of length n; only rows of that kind are meaningful.
        quality: uint32 OPC UA status code.
        code: int64 protocol's own code (u32) or NO_CODE.
        agent_time: int64 µs, NO_TIME where equal to `time`; None: equal everywhere.
        device_time: int64 µs, NO_TIME where absent; None: absent everywhere.
    """

    tags: tuple[Tag, ...]
    tag: Column
    time: Column
    kind: Column
    values: Mapping[ValueClass, Column]
    quality: Column
    code: Column
    agent_time: Column | None = None
    device_time: Column | None = None

    def __post_init__(self) -> None:
        for column in self._columns():
            column.setflags(write=False)

    def __len__(self) -> int:
        return len(self.tag)

    def _columns(self) -> Iterable[Column]:
        yield from (self.tag, self.time, self.kind, self.quality, self.code)
        yield from self.values.values()
        if self.agent_time is not None:
            yield self.agent_time
        if self.device_time is not None:
            yield self.device_time

    @property
    def agent_times(self) -> Column:
        """int64 µs: when the agent took each row."""
        if self.agent_time is None:
            return self.time
        return np.where(self.agent_time == NO_TIME, self.time, self.agent_time)

    def take(self, rows: Column) -> "SampleBatch":
        """The rows at these indices (or where a mask is true), same dictionary."""
        return SampleBatch(
            self.tags,
            self.tag[rows],
            self.time[rows],
            self.kind[rows],
            {kind: column[rows] for kind, column in self.values.items()},
            self.quality[rows],
            self.code[rows],
            None if self.agent_time is None else self.agent_time[rows],
            None if self.device_time is None else self.device_time[rows],
        )

    def value(self, row: int) -> Value:
        """The row's value as a Python object; None where there is none."""
        kind = ValueClass(int(self.kind[row]))
        if kind is ValueClass.NONE:
            return None
        value: Any = self.values[kind][row]
        plain: Value = value.item() if isinstance(value, np.generic) else value
        return plain

    def row(self, row: int) -> Sample:
        tag = self.tags[int(self.tag[row])]
        code = int(self.code[row])
        time_us = int(self.time[row])
        agent = NO_TIME if self.agent_time is None else int(self.agent_time[row])
        device = NO_TIME if self.device_time is None else int(self.device_time[row])
        return Sample(
            tag.path,
            tag.type,
            time_us,
            self.value(row),
            int(self.quality[row]),
            None if code == NO_CODE else code,
            time_us if agent == NO_TIME else agent,
            None if device == NO_TIME else device,
        )

    def rows(self) -> list[Sample]:
        """Every row as a person reads it. For tables and tests, never on the hot path."""
        return [self.row(row) for row in range(len(self))]


def empty() -> SampleBatch:
    return from_samples([])


def from_samples(samples: Iterable[Sample]) -> SampleBatch:
    """A batch of the given rows. For tests, tools and the rare row made by hand."""
    rows = list(samples)
    tags: dict[Tag, int] = {}
    index = [tags.setdefault(Tag(row.path, row.type), len(tags)) for row in rows]
    kinds = [ValueClass.NONE if row.value is None else _class_of(row) for row in rows]
    return SampleBatch(
        tuple(tags),
        np.array(index, np.int32),
        np.array([row.time_us for row in rows], np.int64),
        np.array(kinds, np.uint8),
        {kind: _column(kind, kinds, rows) for kind in set(kinds) - {ValueClass.NONE}},
        np.array([row.quality for row in rows], np.uint32),
        np.array([NO_CODE if row.code is None else row.code for row in rows], np.int64),
        _times(NO_TIME if row.agent_time_us == row.time_us else row.agent_time_us for row in rows),
        _times(NO_TIME if row.device_time_us is None else row.device_time_us for row in rows),
    )


def concat(batches: Sequence[SampleBatch]) -> SampleBatch:
    """All rows in order, over one merged dictionary."""
    if len(batches) == 1:
        return batches[0]
    return Dictionary().concat(batches)


class Dictionary:
    """A dictionary that only grows: what is learnt of its tags stays learnt, batch after batch."""

    def __init__(self) -> None:
        self._places: dict[Tag, int] = {}
        self._tags: tuple[Tag, ...] = ()
        self._maps: dict[int, tuple[tuple[Tag, ...], Column]] = {}

    def concat(self, batches: Sequence[SampleBatch]) -> SampleBatch:
        """All rows in order; until a new tag comes, always over the same object."""
        if not batches:
            return empty()
        maps = [self._map(batch.tags) for batch in batches]
        if len(self._tags) != len(self._places):
            self._tags = tuple(self._places)
        kinds = {kind for batch in batches for kind in batch.values}
        indexes = [m[b.tag] if len(b) else b.tag[:0] for m, b in zip(maps, batches, strict=True)]
        return SampleBatch(
            self._tags,
            np.concatenate(indexes),
            np.concatenate([batch.time for batch in batches]),
            np.concatenate([batch.kind for batch in batches]),
            {kind: np.concatenate([_values(batch, kind) for batch in batches]) for kind in kinds},
            np.concatenate([batch.quality for batch in batches]),
            np.concatenate([batch.code for batch in batches]),
            _joined([batch.agent_time for batch in batches], batches),
            _joined([batch.device_time for batch in batches], batches),
        )

    def _map(self, tags: tuple[Tag, ...]) -> Column:
        """Places of another dictionary's tags in this one, remembered by its identity."""
        known = self._maps.get(id(tags))
        if known is None or known[0] is not tags:
            if len(self._maps) >= DICTIONARIES_MAX:
                self._maps.clear()
            places = [self._places.setdefault(tag, len(self._places)) for tag in tags]
            known = self._maps[id(tags)] = (tags, np.array(places, np.int32))
        return known[1]


def _class_of(row: Sample) -> ValueClass:
    if isinstance(row.value, bytes):  # text that cannot travel as text travels as bytes
        return ValueClass.BYTES
    return row.type.value_class


def _column(kind: ValueClass, kinds: Sequence[ValueClass], rows: Sequence[Sample]) -> Column:
    column = np.zeros(len(rows), DTYPE_OF[kind])
    for at, (row_kind, row) in enumerate(zip(kinds, rows, strict=True)):
        if row_kind is kind:
            column[at] = row.value
    return column


def _times(times: Iterable[int]) -> Column | None:
    column = np.fromiter(times, np.int64)
    return None if bool((column == NO_TIME).all()) else column


def _values(batch: SampleBatch, kind: ValueClass) -> Column:
    found = batch.values.get(kind)
    return np.zeros(len(batch), DTYPE_OF[kind]) if found is None else found


def _joined(columns: Sequence[Column | None], batches: Sequence[SampleBatch]) -> Column | None:
    if all(column is None for column in columns):
        return None
    return np.concatenate(
        [
            np.full(len(batch), NO_TIME, np.int64) if column is None else column
            for column, batch in zip(columns, batches, strict=True)
        ]
    )
