"""Columns to binary COPY, read back by a parser that knows nothing of numpy."""

import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.copying import POSTGRES_EPOCH_US, Rows, Shape, TagMap, rows_of
from protocols.samples import DataType, Sample, SampleBatch, from_samples

FRAME = 2**40 + 7
TIMES = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
CODES = st.none() | st.integers(0, 2**32 - 1)
ELEMENTS: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.BOOL: st.booleans(),
    DataType.INT16: st.integers(-(2**15), 2**15 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.UINT64: st.integers(0, 2**64 - 1),
    DataType.FLOAT64: st.floats(),
    DataType.TEXT: st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
}
SCALARS = {**ELEMENTS, DataType.BYTES: st.binary(), DataType.DATETIME: ELEMENTS[DataType.INT64]}


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    kind = draw(st.sampled_from([*SCALARS, *(one.array for one in ELEMENTS)]))
    value = st.lists(ELEMENTS[kind.element], max_size=3) if kind.is_array else SCALARS[kind]
    if kind is DataType.TEXT:
        value |= st.binary()
    time_us = draw(TIMES)
    return Sample(
        f"d.{kind}",
        kind,
        time_us,
        draw(st.none() | value),
        draw(st.sampled_from([0, 0, 0x40000000, 0x80000000, 2**32 - 1])),
        draw(CODES),
        draw(st.just(time_us) | TIMES),
        draw(st.none() | TIMES),
    )


def ids(batch: SampleBatch) -> TagMap:
    return TagMap.of(batch.tags, range(1000, 1000 + len(batch.tags)))


def read_rows(rows: Rows) -> list[dict[str, bytes | None]]:
    """The format as PostgreSQL documents it: i16 fields, then i32 length (-1: null) and bytes."""
    names = rows.shape.value.partition(" (")[2].rstrip(")").split(", ")
    found = []
    at = 0
    while at < len(rows.data):
        (fields,) = struct.unpack_from(">h", rows.data, at)
        assert fields == len(names)
        at += 2
        row: dict[str, bytes | None] = {}
        for name in names:
            (size,) = struct.unpack_from(">i", rows.data, at)
            at += 4
            row[name] = None if size < 0 else bytes(rows.data[at : at + size])
            at += max(size, 0)
        found.append(row)
    assert at == len(rows.data)
    assert len(found) == rows.count
    return found


def array(raw: bytes) -> tuple[int, tuple[bytes, ...]]:
    dimensions, nulls, oid = struct.unpack_from(">iii", raw)
    assert nulls == 0
    if dimensions == 0:
        assert len(raw) == 12
        return oid, ()
    count, first = struct.unpack_from(">ii", raw, 12)
    assert (dimensions, first) == (1, 1)
    at, found = 20, []
    for _ in range(count):
        (size,) = struct.unpack_from(">i", raw, at)
        found.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    assert at == len(raw)
    return oid, tuple(found)


def wanted(sample: Sample, tag_id: int) -> dict[str, Any]:
    """The row of the table, by the sample alone."""
    row: dict[str, Any] = {
        "time": _time(sample.time_us),
        "tag": struct.pack(">i", tag_id),
        "frame": struct.pack(">q", FRAME),
    }
    if sample.agent_time_us != sample.time_us:
        row["agent_time"] = _time(sample.agent_time_us)
    if sample.device_time_us is not None:
        row["device_time"] = _time(sample.device_time_us)
    if sample.quality:
        row["quality"] = struct.pack(">q", sample.quality)
    if sample.code is not None:
        row["code"] = struct.pack(">q", sample.code)
    if sample.value is not None:
        name, value = _value(sample.type, sample.value)
        row[name] = value
    return row


def _time(time_us: int) -> bytes:
    return struct.pack(">q", time_us - POSTGRES_EPOCH_US)


def _value(kind: DataType, value: Any) -> tuple[str, Any]:
    if kind.is_array:
        column, oid = {
            DataType.BOOL: ("bools", 16),
            DataType.FLOAT64: ("f64s", 701),
            DataType.TEXT: ("texts", 25),
        }.get(kind.element, ("i64s", 20))
        return column, (oid, tuple(_element(kind.element, one) for one in value))
    if isinstance(value, bytes):
        return "bytes", value
    if kind is DataType.BOOL:
        return "i64", struct.pack(">q", value)
    name = {DataType.FLOAT64: "f64", DataType.TEXT: "text"}.get(kind, "i64")
    return name, _element(kind, value)


def _element(kind: DataType, value: Any) -> bytes:
    match kind:
        case DataType.BOOL:
            return bytes([value])
        case DataType.FLOAT64:
            return struct.pack(">d", value)
        case DataType.TEXT:
            return str(value).encode()
        case DataType.UINT64:
            return struct.pack(">Q", value)
        case _:
            return struct.pack(">q", value)


def seen(rows: Rows) -> list[dict[str, Any]]:
    lists = ("f64s", "i64s", "bools", "texts")
    return [
        {
            name: array(value) if name in lists else value
            for name, value in row.items()
            if value is not None
        }
        for row in read_rows(rows)
    ]


def counted(rows: list[dict[str, Any]]) -> Counter[Any]:
    return Counter(tuple(sorted(row.items())) for row in rows)


@settings(max_examples=40)
@given(st.lists(samples(), max_size=12))
def test_every_row_is_written_once_and_exactly(given_rows: list[Sample]) -> None:
    batch = from_samples(given_rows)
    places = {tag: number for number, tag in enumerate(batch.tags, 1000)}
    expected = [
        wanted(row, next(n for tag, n in places.items() if tag.type is row.type))
        for row in given_rows
    ]
    written = [row for rows in rows_of(batch, ids(batch), FRAME) for row in seen(rows)]
    assert counted(written) == counted(expected)


@settings(max_examples=10)
@given(st.lists(samples(), max_size=12))
def test_rows_of_lists_go_to_their_own_table_also_when_they_have_no_value(
    given_rows: list[Sample],
) -> None:
    batch = from_samples(given_rows)
    found = {rows.shape: rows.count for rows in rows_of(batch, ids(batch), FRAME)}
    assert found.get(Shape.LIST, 0) == sum(row.type.is_array for row in given_rows)


def test_good_numbers_take_the_short_statement() -> None:
    rows = [Sample("d.a", DataType.FLOAT32, n, float(n), 0, None, n, None) for n in range(5)]
    rows += [Sample("d.b", DataType.BOOL, n, bool(n), 0, None, n, None) for n in range(3)]
    batch = from_samples(rows)
    found = {one.shape: one.count for one in rows_of(batch, ids(batch), 1)}
    assert found == {Shape.F64: 5, Shape.I64: 3}


def test_an_empty_batch_writes_nothing() -> None:
    batch = from_samples([])
    assert rows_of(batch, TagMap(np.zeros(0, np.int32), None), 1) == ()


@pytest.mark.parametrize("shape", list(Shape))
def test_a_statement_names_its_table_and_columns(shape: Shape) -> None:
    table = "sample_list" if shape is Shape.LIST else "sample"
    assert shape.statement.startswith(f"copy {table} (time, tag, frame, ")
    assert shape.statement.endswith(") from stdin (format binary)")
