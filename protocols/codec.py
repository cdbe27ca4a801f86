"""Payloads: batches and curves as Arrow IPC, everything else as JSON lines, zstd around the whole.

Rule 1: decoding any bytes returns a value or raises Rejected, nothing else; sizes come first.
Rule 2: every payload decodes alone: paths and types are inside.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa
import zstandard
from numpy.typing import NDArray

from protocols import arrow
from protocols.errors import Rejected
from protocols.frames import RAW_BYTES_MAX, Frame
from protocols.samples import (
    DTYPE_OF,
    NO_CODE,
    NO_TIME,
    Column,
    DataType,
    SampleBatch,
    Tag,
    ValueClass,
)

ZSTD_LEVEL: Final = (
    3  # 2 to 5 times faster than Arrow's own compression, and smaller for small frames
)
PATH_BYTES_MAX: Final = 255
LINES_MAX: Final = 65_536
CURVE_COLUMNS_MAX: Final = 16
TIME_US_MIN: Final = -62_135_596_800_000_000  # year 1; a database holds it, and Python's datetime
TIME_US_MAX: Final = 253_402_300_799_999_999  # end of year 9999
_ROW_BYTES: Final = 32  # of the fixed columns, about
_WINDOW_BYTES_MAX: Final = RAW_BYTES_MAX  # a frame of one segment has the window of its length

_TIME: Final = pa.timestamp("us", tz="UTC")
_TAG: Final = pa.dictionary(pa.int32(), pa.utf8())
_ARROW_OF: Final[dict[ValueClass, pa.DataType]] = {
    ValueClass.F64: pa.float64(),
    ValueClass.I64: pa.int64(),
    ValueClass.U64: pa.uint64(),
    ValueClass.BOOL: pa.bool_(),
    ValueClass.TEXT: pa.utf8(),
    ValueClass.BYTES: pa.binary(),
    ValueClass.F64S: pa.list_(pa.float64()),
    ValueClass.I64S: pa.list_(pa.int64()),
    ValueClass.U64S: pa.list_(pa.uint64()),
    ValueClass.BOOLS: pa.list_(pa.bool_()),
    ValueClass.TEXTS: pa.list_(pa.utf8()),
}
_COLUMNS: Final[dict[str, pa.DataType]] = {
    "tag": _TAG,
    "time": _TIME,
    "agent_time": _TIME,
    "device_time": _TIME,
    "quality": pa.uint32(),
    "code": pa.uint32(),
    **{kind.name.lower(): arrow_type for kind, arrow_type in _ARROW_OF.items()},
}
_REQUIRED: Final = ("tag", "time", "quality")
_TYPES_KEY: Final = b"types"
_TYPE_OF: Final = {code.value: code for code in DataType}
_CLASS_OF: Final = {code.value: int(code.value_class) for code in DataType}
_DICTIONARIES_KEPT: Final = 128
_DICTIONARY_BYTES_KEPT_MAX: Final = 64 * 1024
_CURVE_KEY: Final = b"curve"
_FIXED_WIDTH: Final = (ValueClass.F64, ValueClass.I64, ValueClass.U64, ValueClass.BOOL)
_LISTS: Final = tuple(kind for kind in _ARROW_OF if pa.types.is_list(_ARROW_OF[kind]))
_DTYPE_OF_LIST: Final = {
    ValueClass.F64S: np.float64,
    ValueClass.I64S: np.int64,
    ValueClass.U64S: np.uint64,
    ValueClass.BOOLS: np.bool_,
    ValueClass.TEXTS: np.object_,
}


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The columns of one curve of a pass; the first is the axis. Equal lengths, float64."""

    pass_id: UUID
    name: str
    place: str
    axis: str
    columns: tuple[str, ...]
    units: tuple[str, ...]
    data: tuple[NDArray[np.float64], ...]


def encode_samples(batch: SampleBatch) -> bytes:
    """One Arrow IPC stream, uncompressed; the dictionary holds only the tags that occur."""
    used, index = _used(batch)
    columns: dict[str, pa.Array] = {
        "tag": pa.DictionaryArray.from_arrays(
            pa.array(index, pa.int32()), pa.array([tag.path for tag in used], pa.utf8())
        ),
        "time": pa.array(batch.time, _TIME),
    }
    for name, times in (("agent_time", batch.agent_time), ("device_time", batch.device_time)):
        if times is not None:
            columns[name] = pa.array(times, _TIME, mask=times == NO_TIME)
    for kind in sorted(batch.values):
        missing = batch.kind != kind
        if not missing.all():
            columns[kind.name.lower()] = _to_arrow(kind, batch.values[kind], missing)
    columns["quality"] = pa.array(batch.quality, pa.uint32())
    if (batch.code != NO_CODE).any():
        columns["code"] = pa.array(batch.code, pa.uint32(), mask=batch.code == NO_CODE)
    types = ",".join([tag.type for tag in used])  # a StrEnum is its text, at a tenth of the cost
    schema = pa.schema(
        [(name, column.type) for name, column in columns.items()], {_TYPES_KEY: types}
    )
    return arrow.write(pa.record_batch(list(columns.values()), schema=schema))


def decode_samples(raw: bytes) -> SampleBatch:
    """Rejected: not what `encode_samples` of any minor version writes."""
    batch = arrow.read(raw, _COLUMNS)
    for name in _REQUIRED:
        if name not in batch.schema.names or batch.column(name).null_count:
            raise Rejected(f"column {name} is missing or has gaps")
    dictionary = _dictionary(batch)
    kind, values = _kinds(batch)
    decoded = SampleBatch(
        dictionary.tags,
        batch.column("tag").indices.to_numpy(zero_copy_only=False),
        _int64(batch.column("time"), NO_TIME),
        kind,
        values,
        batch.column("quality").to_numpy(zero_copy_only=False),
        _codes(batch),
        _optional_times(batch, "agent_time"),
        _optional_times(batch, "device_time"),
    )
    _check_times(decoded)
    _check_classes(decoded, dictionary.classes)
    return decoded


def encode_curve(curve: Curve) -> bytes:
    about = {
        "pass": str(curve.pass_id),
        "name": curve.name,
        "place": curve.place,
        "axis": curve.axis,
        "units": list(curve.units),
    }
    schema = pa.schema(
        [(name, pa.float64()) for name in curve.columns], {_CURVE_KEY: json.dumps(about)}
    )
    return arrow.write(pa.record_batch([pa.array(one) for one in curve.data], schema=schema))


def decode_curve(raw: bytes) -> Curve:
    """Rejected: not a curve."""
    batch = arrow.read(raw, None)
    if not 1 <= batch.num_columns <= CURVE_COLUMNS_MAX:
        raise Rejected(f"curve of {batch.num_columns} columns, 1 to {CURVE_COLUMNS_MAX}")
    if any(column.null_count for column in batch.columns):
        raise Rejected("curve with gaps; a point without a value is NaN")
    about = _about(batch.schema.metadata or {})
    data = tuple(column.to_numpy(zero_copy_only=False) for column in batch.columns)
    if len(about.units) != len(data):
        raise Rejected(f"curve of {len(data)} columns with {len(about.units)} units")
    return Curve(
        about.pass_id,
        about.name,
        about.place,
        about.axis,
        tuple(batch.schema.names),
        about.units,
        data,
    )


def curve_sha256(curve: Curve) -> str:
    """SHA-256 (hex) of column names and data, not of an encoding: the curve's name."""
    hashed = hashlib.sha256()
    for name, column in zip(curve.columns, curve.data, strict=True):
        hashed.update(name.encode() + b"\x1f" + len(column).to_bytes(8, "little"))
        hashed.update(np.ascontiguousarray(column, "<f8").tobytes())
    return hashed.hexdigest()


def encode_lines(lines: Sequence[bytes]) -> bytes:
    """JSON texts, one a line; none may hold a line feed (JSON writers escape it)."""
    return b"\n".join(lines)


def decode_lines(raw: bytes) -> tuple[bytes, ...]:
    """Rejected: more lines than a frame may hold."""
    if raw.count(b"\n") >= LINES_MAX:
        raise Rejected(f"more than {LINES_MAX} lines")
    return tuple(raw.split(b"\n")) if raw else ()


def compress(raw: bytes) -> bytes:
    """Zstandard level 3. The caller states `raw_len` and the flag in the header."""
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(raw)


def payload_of(frame: Frame) -> bytes:
    """The frame's payload, expanded and of the length that the header states. Rejected: it lies."""
    header = frame.header
    raw = _expand(frame.payload, header.raw_len) if header.compressed else frame.payload
    if len(raw) != header.raw_len:
        raise Rejected(f"payload of {len(raw)} bytes, header says raw_len {header.raw_len}")
    return raw


def sizes(batches: Iterable[SampleBatch]) -> int:
    """Estimated bytes of the batches' payload before compression, for sealing in time."""
    return sum(_size(batch) for batch in batches)


def _used(batch: SampleBatch) -> tuple[Sequence[Tag], Column]:
    present = np.zeros(len(batch.tags), np.bool_)
    present[batch.tag] = True
    if present.all():
        return batch.tags, batch.tag
    places = np.flatnonzero(present)
    index = np.cumsum(present, dtype=np.int32) - np.int32(1)
    return [batch.tags[place] for place in places], index[batch.tag]


def _to_arrow(kind: ValueClass, column: Column, missing: Column) -> pa.Array:
    if kind in _LISTS:
        lists = [None if gap else list(value) for gap, value in zip(missing, column, strict=True)]
        return pa.array(lists, _ARROW_OF[kind])
    return pa.array(column, _ARROW_OF[kind], mask=missing)


@dataclass(frozen=True, slots=True, eq=False)
class _Dictionary:
    """Tags of one frame and the value class that each of them has."""

    tags: tuple[Tag, ...]
    classes: Column


def _dictionary(batch: pa.RecordBatch) -> _Dictionary:
    paths = batch.column("tag").dictionary
    types = (batch.schema.metadata or {}).get(_TYPES_KEY, b"")
    if paths.null_count:
        raise Rejected("a tag without a path")
    _, offsets, text = paths.buffers()
    packed = (_bytes_of(offsets), _bytes_of(text), paths.offset, len(paths))
    if len(packed[1]) > _DICTIONARY_BYTES_KEPT_MAX:
        return _read_dictionary.__wrapped__(types, *packed)
    return _read_dictionary(types, *packed)


def _bytes_of(buffer: pa.Buffer | None) -> bytes:
    return b"" if buffer is None else bytes(buffer.to_pybytes())


@lru_cache(maxsize=_DICTIONARIES_KEPT)
def _read_dictionary(
    types: bytes, offsets: bytes, text: bytes, first: int, count: int
) -> _Dictionary:
    """Remembered: an agent repeats its dictionaries, and a tag costs more than its samples."""
    stated = types.decode("ascii", "replace").split(",")
    if count == 0 and stated == [""]:
        return _Dictionary((), np.zeros(0, np.uint8))
    if len(stated) != count:
        raise Rejected(f"{count} tags with {len(stated)} types")
    ends = np.frombuffer(offsets, np.int32, first + count + 1)[first:]
    lengths = np.diff(ends)
    if lengths.min() < 1 or lengths.max() > PATH_BYTES_MAX or 0 in text[ends[0] : ends[-1]]:
        raise Rejected(f"a tag path is empty, holds NUL or is above {PATH_BYTES_MAX} bytes")
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    paths = pa.Array.from_buffers(pa.utf8(), count, buffers, 0, first).to_pylist()
    try:
        tags = tuple(map(Tag, paths, map(_TYPE_OF.__getitem__, stated)))
    except KeyError as error:
        raise Rejected(f"unknown type code: {error}") from error
    if len(set(tags)) != count:
        raise Rejected("a tag stands twice in the dictionary")
    return _Dictionary(tags, np.array([_CLASS_OF[code] for code in stated], np.uint8))


def _kinds(batch: pa.RecordBatch) -> tuple[Column, dict[ValueClass, Column]]:
    kind = np.zeros(batch.num_rows, np.uint8)
    values: dict[ValueClass, Column] = {}
    for value_class in _ARROW_OF:
        name = value_class.name.lower()
        if name not in batch.schema.names:
            continue
        column = batch.column(name)
        if kind.any() and _overlaps(kind, column):
            raise Rejected("a row holds more than one value")
        if column.null_count == 0:
            kind[:] = value_class
        else:
            kind[column.is_valid().to_numpy(zero_copy_only=False)] = value_class
        values[value_class] = _from_arrow(value_class, column)
    return kind, values


def _overlaps(kind: Column, column: pa.Array) -> bool:
    return bool(kind[column.is_valid().to_numpy(zero_copy_only=False)].any())


def _from_arrow(kind: ValueClass, column: pa.Array) -> Column:
    if kind in _FIXED_WIDTH:
        missing = False if kind is ValueClass.BOOL else 0
        filled = column.fill_null(missing) if column.null_count else column
        return np.asarray(filled.to_numpy(zero_copy_only=False), DTYPE_OF[kind])
    if kind is ValueClass.TEXT and _holds_nul(column):
        raise Rejected("text with NUL; it travels as bytes")
    found = np.zeros(len(column), object)
    if kind in _LISTS:
        for row, one in enumerate(column):
            if one.is_valid:
                found[row] = _list(kind, one.values)
        return found
    found[:] = column.to_pylist()
    return found


def _list(kind: ValueClass, elements: pa.Array) -> Column:
    if elements.null_count:
        raise Rejected("an array with gaps")
    if kind is ValueClass.TEXTS and _holds_nul(elements):
        raise Rejected("text with NUL; it travels as bytes")
    return np.asarray(elements.to_numpy(zero_copy_only=False), _DTYPE_OF_LIST[kind])


def _holds_nul(column: pa.Array) -> bool:
    return any("\x00" in text for text in column.to_pylist() if text is not None)


def _int64(column: pa.Array, missing: int) -> Column:
    plain = column.view(pa.int64()) if pa.types.is_timestamp(column.type) else column
    plain = plain.cast(pa.int64())
    plain = plain.fill_null(missing) if plain.null_count else plain
    return np.asarray(plain.to_numpy(zero_copy_only=False), np.int64)


def _codes(batch: pa.RecordBatch) -> Column:
    if "code" not in batch.schema.names:
        return np.full(batch.num_rows, NO_CODE, np.int64)
    return _int64(batch.column("code"), NO_CODE)


def _optional_times(batch: pa.RecordBatch, name: str) -> Column | None:
    if name not in batch.schema.names:
        return None
    return _int64(batch.column(name), NO_TIME)


def _check_times(batch: SampleBatch) -> None:
    if len(batch) == 0:
        return
    if int(batch.time.min()) == NO_TIME:
        raise Rejected("a row without time")
    for times in (batch.time, batch.agent_time, batch.device_time):
        if times is None:
            continue
        least = times.min() if times is batch.time else times[times != NO_TIME].min(initial=0)
        if int(least) < TIME_US_MIN or int(times.max()) > TIME_US_MAX:
            raise Rejected("a time outside the years 1 to 9999")


def _check_classes(batch: SampleBatch, classes: Column) -> None:
    if len(batch) == 0:
        return
    wanted = classes[batch.tag]
    other = batch.kind != wanted
    if not other.any():
        return
    kind, wanted = batch.kind[other], wanted[other]
    as_bytes = (kind == ValueClass.BYTES) & (wanted == ValueClass.TEXT)
    if not (as_bytes | (kind == ValueClass.NONE)).all():
        raise Rejected("a value of another class than its tag's type")


@dataclass(frozen=True, slots=True)
class _About:
    pass_id: UUID
    name: str
    place: str
    axis: str
    units: tuple[str, ...]


def _about(metadata: dict[bytes, bytes]) -> _About:
    try:
        stated: dict[str, Any] = json.loads(metadata.get(_CURVE_KEY, b""))
        about = _About(
            UUID(stated["pass"]),
            _text(stated["name"]),
            _text(stated["place"]),
            _text(stated["axis"]),
            tuple(_text(unit) for unit in stated["units"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Rejected(f"curve without a readable description: {error!r}") from error
    return about


def _text(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError(f"{value!r} is not text")
    return value


def _expand(payload: bytes, raw_len: int) -> bytes:
    if raw_len > RAW_BYTES_MAX:
        raise Rejected(f"raw_len {raw_len}, at most {RAW_BYTES_MAX}")
    try:
        stated = zstandard.get_frame_parameters(payload)
        if stated.content_size != raw_len or stated.window_size > _WINDOW_BYTES_MAX:
            raise Rejected(f"zstd says {stated.content_size} bytes, header {raw_len}")
        expander = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
        return expander.decompress(payload, max_output_size=raw_len, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Rejected(f"not zstd: {error}") from error


def _size(batch: SampleBatch) -> int:
    long = sum(
        _long(value)
        for kind, column in batch.values.items()
        if kind not in _FIXED_WIDTH
        for value in column[batch.kind == kind]
    )
    return len(batch) * _ROW_BYTES + sum(len(tag.path) for tag in batch.tags) + long


def _long(value: str | bytes | Sequence[object]) -> int:
    return len(value) if isinstance(value, (str, bytes)) else 8 * len(value)
