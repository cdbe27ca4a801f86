"""Payloads: every value comes back as it was; any bytes are a value or Rejected."""

import struct
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import codec
from protocols.errors import Rejected
from protocols.frames import Header, Kind, Lane, seal
from protocols.samples import DataType, Sample, SampleBatch, ValueClass, concat, from_samples

TIMES = st.integers(codec.TIME_US_MIN, codec.TIME_US_MAX)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
F32 = st.floats(width=32)
ROWS = 12  # more than one byte of validity bits
BOUNDS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}


def elements(kind: DataType) -> st.SearchStrategy[Any]:
    name = kind.value
    if name == "bool":
        return st.booleans()
    if name.startswith("uint"):
        return st.integers(0, 2 ** int(name[4:]) - 1)
    if name.startswith("float"):
        return F32 if name == "float32" else st.floats()
    if name == "text":
        return TEXTS
    if name == "bytes":
        return st.binary(max_size=20)
    bits = BOUNDS.get(name, 64)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def values(kind: DataType) -> st.SearchStrategy[Any]:
    one = elements(kind.element)
    value = st.none() | (st.lists(one, max_size=4) if kind.is_array else one)
    return value | st.binary(max_size=10) if kind is DataType.TEXT else value


# Made once: Hypothesis looks through every strategy that it has not met, which is most of a draw.
KINDS = st.sampled_from(DataType)
VALUES = {kind: values(kind) for kind in DataType}
PATHS = st.sampled_from(["a.x", "a.y[0]", "ü.ß"])
CODES = st.integers(0, 2**32 - 1)
MAYBE_CODES = st.none() | CODES
MAYBE_TIMES = st.none() | TIMES


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    kind = draw(KINDS)
    time_us, agent_us = draw(TIMES), draw(MAYBE_TIMES)
    return Sample(
        draw(PATHS) + kind.value,
        kind,
        time_us,
        draw(VALUES[kind]),
        draw(CODES),
        draw(MAYBE_CODES),
        time_us if agent_us is None else agent_us,
        draw(MAYBE_TIMES),
    )


ROW = samples()


def bits(value: object) -> object:
    """Equal only if every bit is: NaN equals NaN, -0.0 is not 0.0."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, (list, np.ndarray)):
        return [bits(one) for one in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return (type(value).__name__, value)


def plain(batch: SampleBatch) -> list[tuple[object, ...]]:
    return [(row._replace(value=None), bits(row.value)) for row in batch.rows()]


@given(st.lists(ROW, max_size=ROWS))
def test_samples_come_back_bit_by_bit(rows: list[Sample]) -> None:
    batch = from_samples(rows)
    assert plain(codec.decode_samples(codec.encode_samples(batch))) == plain(batch)


@given(st.lists(st.lists(ROW, max_size=4), max_size=4))
def test_joined_batches_hold_all_rows_in_order(parts: list[list[Sample]]) -> None:
    joined = concat([from_samples(part) for part in parts])
    assert plain(joined) == [row for part in parts for row in plain(from_samples(part))]


@given(st.lists(ROW, min_size=1, max_size=ROWS), st.data())
def test_taken_rows_are_those_rows(rows: list[Sample], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    batch = from_samples(rows)
    taken = batch.take(np.array(index, np.int64))
    assert plain(taken) == [plain(batch)[at] for at in index]
    assert plain(codec.decode_samples(codec.encode_samples(taken))) == plain(taken)


@settings(max_examples=300)
@given(st.lists(ROW, min_size=1, max_size=3), st.data())
def test_i14_a_mutated_stream_is_a_batch_or_rejected(
    rows: list[Sample], data: st.DataObject
) -> None:
    raw = bytearray(codec.encode_samples(from_samples(rows)))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for damaged in (bytes(raw), bytes(raw[:cut])):
        try:
            codec.decode_samples(damaged).rows()
        except Rejected:
            continue


@given(st.binary(max_size=200))
def test_any_bytes_are_rejected(data: bytes) -> None:
    for decode in (codec.decode_samples, codec.decode_curve):
        with pytest.raises(Rejected):
            decode(data)


def stream(columns: dict[str, pa.Array], types: str = "float64", **options: object) -> bytes:
    schema = pa.schema([(name, one.type) for name, one in columns.items()], {"types": types})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    return bytes(sink.getvalue())


def columns(rows: int = 3) -> dict[str, pa.Array]:
    return {
        "tag": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a.x"])),
        "time": pa.array([1] * rows, pa.timestamp("us", tz="UTC")),
        "f64": pa.array([1.0] * rows),
        "quality": pa.array([0] * rows, pa.uint32()),
    }


def test_an_unknown_plain_column_of_a_later_minor_is_ignored() -> None:
    later = columns() | {"later": pa.array(["x", "y", None])}
    assert len(codec.decode_samples(stream(later))) == 3


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("int32", {"f64": pa.array([1, 2, 3], pa.int32())}),
        ("more than one value", {"i64": pa.array([1, None, None])}),
        ("missing or has gaps", {"quality": pa.array([0, None, 0], pa.uint32())}),
        ("missing or has gaps", {"time": pa.array([1, None, 1], pa.timestamp("us", tz="UTC"))}),
        ("another class", {"f64": pa.nulls(3, pa.float64()), "bool": pa.array([True] * 3)}),
        ("years 1 to 9999", {"time": pa.array([2**62] * 3, pa.timestamp("us", tz="UTC"))}),
        ("not a plain type", {"later": pa.array([[1], [2], [3]])}),
    ],
)
def test_a_stream_of_another_shape_is_rejected(why: str, change: dict[str, pa.Array]) -> None:
    with pytest.raises(Rejected, match=why):
        codec.decode_samples(stream(columns() | change))


@pytest.mark.parametrize("types", ["", "float64,float64", "float65"])
def test_types_must_match_the_dictionary(types: str) -> None:
    with pytest.raises(Rejected, match=r"types|unknown type code"):
        codec.decode_samples(stream(columns(), types))


def test_text_with_nul_is_rejected() -> None:
    held = columns() | {"f64": pa.nulls(3, pa.float64()), "text": pa.array(["a\x00", None, None])}
    with pytest.raises(Rejected, match="NUL"):
        codec.decode_samples(stream(held, "text"))


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_i14_a_batch_with_its_own_compression_is_refused_before_it_is_read(name: str) -> None:
    with pytest.raises(Rejected, match="its own compression"):
        codec.decode_samples(stream(columns(100_000), compression=name))


def test_two_batches_are_rejected() -> None:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch(columns())
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    with pytest.raises(Rejected, match="Arrow stream"):
        codec.decode_samples(bytes(sink.getvalue()))


def curve(points: list[float]) -> codec.Curve:
    way = np.arange(len(points), dtype=np.float64)
    return codec.Curve(
        UUID(int=7),
        "force_way",
        "a",
        "way",
        ("way", "force"),
        ("mm", "kN"),
        (way, np.array(points)),
    )


@given(st.lists(st.floats(), max_size=20))
def test_a_curve_comes_back(points: list[float]) -> None:
    sent = curve(points)
    found = codec.decode_curve(codec.encode_curve(sent))
    assert (found.pass_id, found.name, found.place, found.axis, found.columns, found.units) == (
        sent.pass_id, sent.name, sent.place, sent.axis, sent.columns, sent.units
    )  # fmt: skip
    assert codec.curve_sha256(found) == codec.curve_sha256(sent)
    assert bits(found.data[1]) == bits(points)


def test_a_curve_without_its_description_is_rejected() -> None:
    with pytest.raises(Rejected, match="description"):
        codec.decode_curve(stream({"way": pa.array([1.0])}))


def header(raw_len: int, *, compressed: bool) -> Header:
    return Header(
        Kind.SAMPLES, Lane.LIVE, "p.a", 1, 1, raw_len=raw_len, compressed=compressed
    )  # fmt: skip


@given(st.binary(max_size=2000))
def test_a_payload_expands_to_what_it_was(raw: bytes) -> None:
    packed = seal(header(len(raw), compressed=True), codec.compress(raw))
    assert codec.payload_of(packed) == raw
    assert codec.payload_of(seal(header(len(raw), compressed=False), raw)) == raw


@pytest.mark.parametrize("stated", [0, 999, 1001, 16 * 1024 * 1024])
def test_i14_a_payload_that_lies_about_its_length_is_rejected(stated: int) -> None:
    for packed in (True, False):
        payload = codec.compress(b"x" * 1000) if packed else b"x" * 1000
        with pytest.raises(Rejected):
            codec.payload_of(seal(header(stated, compressed=packed), payload))


def test_data_behind_the_compressed_payload_is_rejected() -> None:
    with pytest.raises(Rejected):
        codec.payload_of(seal(header(3, compressed=True), codec.compress(b"abc") + b"more"))


@given(st.lists(st.text().map(lambda text: repr(text).encode()), min_size=1, max_size=5))
def test_lines_come_back(lines: list[bytes]) -> None:
    assert list(codec.decode_lines(codec.encode_lines(lines))) == lines


def test_sizes_grow_with_what_is_carried() -> None:
    short = from_samples([Sample("a.t", DataType.TEXT, 1, "x", 0, None, 1, None)])
    long = from_samples([Sample("a.t", DataType.TEXT, 1, "x" * 1000, 0, None, 1, None)])
    assert codec.sizes([long]) - codec.sizes([short]) == 999
    assert codec.sizes([short, long]) == codec.sizes([short]) + codec.sizes([long])
    assert ValueClass.TEXT in long.values
