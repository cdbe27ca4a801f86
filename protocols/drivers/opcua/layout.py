"""The form of a response, learnt once: after that, values are gathered from known places. Pure.

A response whose every byte outside of values and times equals the learnt one has the same form, so
the same places hold the same things. Any other is decoded one by one, and learnt when its length
comes twice in a row. What no value changes (a bad status, a mismatch) is kept as it was.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from protocols.drivers.opcua.decode import (
    ACCEPTED,
    EARLIEST_TICKS,
    LAST_TICKS,
    NO_END_TICKS,
    Given,
    fill,
    parts_of,
    source_times,
)
from protocols.drivers.opcua.planner import OpcuaPlan
from protocols.drivers.opcua.response import DTYPES, Response, Result, Spot, Type, trace_read
from protocols.drivers.opcua.wire import EPOCH_TICKS
from protocols.image import NUMBERS, Decode, Decoder, Field, objects, text_or_bytes
from protocols.reading import Sheet
from protocols.samples import NO_CODE, NO_TIME, Code, Column, DataType, Quality

_HEAD_VARIABLE: Final = slice(4, 16)  # time and handle of the response
_TICKS_AT: Final = 4
_BAD: Final = 0x80000000
_UNKNOWN_NODE: Final = int(Quality.BAD_NODE_ID_UNKNOWN)
_LEARN_MAX: Final = 8  # forms that keep changing are not worth learning …
_WORTH: Final = 100  # … but one that served so often was


@dataclass(frozen=True, slots=True)
class Read:
    """What a response said beside the values, which are in the sheet.

    `sources`: µs UTC or NO_TIME, in the order of the plan's cells. `unknown`: the server does not
    know some node.
    """

    ticks: int
    status: int
    count: int
    sources: Column
    unknown: bool


class Reader:
    """Reads the responses to one request."""

    def __init__(self, plan: OpcuaPlan, first: int) -> None:
        self._plan = plan
        self._first = first
        self._layout: _Layout | None = None
        self._length = 0
        self._learnt = 0
        self._served = 0

    def read(self, body: bytes, sheet: Sheet) -> Read:
        """Values into the sheet. ValueError: not a response."""
        if self._layout is not None:
            image = np.frombuffer(body, np.uint8)
            if self._layout.fits(image):
                self._served += 1
                return self._layout.fill(sheet, image, body)
            self._forget()
        return self._decode(body, sheet)

    def _forget(self) -> None:
        self._layout = None
        if self._served >= _WORTH:
            self._learnt = 0
        self._served = 0

    def _decode(self, body: bytes, sheet: Sheet) -> Read:
        response, spots = trace_read(body)
        results = response.results
        end = self._first + len(results)
        if response.status or end > len(self._plan.nodes):
            nothing = np.zeros(0, np.int64)
            return Read(response.ticks, response.status, len(results), nothing, unknown=False)
        parts = tuple(parts_of(self._plan, self._first, results))
        fill(sheet, parts)
        unknown = any(result.status == _UNKNOWN_NODE for result in results)
        sources = source_times(self._plan, self._first, results)
        if len(body) == self._length and self._learnt < _LEARN_MAX:
            self._learnt += 1
            self._layout = _learn(self._plan, self._first, response, spots, body)
        self._length = len(body)
        return Read(response.ticks, 0, len(results), sources, unknown)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """`mask`: 0xFF where a byte must be as learnt; `sources`: places of source times, by node."""

    body: Column
    mask: Column
    decoder: Decoder
    constant: tuple[Given, ...]
    uncertain: tuple[Column, Column]
    sources: Column
    has_source: Column
    repeats: Column
    count: int
    unknown: bool

    def fits(self, image: Column) -> bool:
        if len(image) != len(self.body):
            return False
        return not ((image ^ self.body) & self.mask).any()

    def fill(self, sheet: Sheet, image: Column, body: bytes) -> Read:
        self.decoder.fill(sheet, image)
        if self.constant:
            fill(sheet, self.constant)
        cells, statuses = self.uncertain
        sheet.quality[cells] = statuses
        (ticks,) = struct.unpack_from("<q", body, _TICKS_AT)
        return Read(ticks, 0, self.count, self._source_times(image), self.unknown)

    def _source_times(self, image: Column) -> Column:
        ticks = image[self.sources].view("<i8")[:, 0]
        known = self.has_source & (ticks > 0) & (ticks < NO_END_TICKS)
        times = np.where(known, (ticks - EPOCH_TICKS) // 10, NO_TIME)
        return np.repeat(times, self.repeats)


def _learn(
    plan: OpcuaPlan, first: int, response: Response[Result], spots: Sequence[Spot], body: bytes
) -> _Layout:
    mask = np.full(len(body), 0xFF, np.uint8)
    mask[_HEAD_VARIABLE] = 0
    fields: list[Field] = []
    constant: list[Given] = []
    uncertain: list[tuple[int, int]] = []
    for number, (result, spot) in enumerate(zip(response.results, spots, strict=True), first):
        parts = list(parts_of(plan, number, [result]))
        own = [_field(part, spot) for part in parts]
        for at in (spot.source, spot.server):
            if at is not None:
                mask[at : at + 8] = 0
        if None in own:
            constant += parts
            continue
        fields += [field for field in own if field is not None]
        uncertain += [(part.want.cell, result.status) for part in parts if result.status]
        mask[spot.value : spot.value + _bytes_of(result)] = 0
        if result.type in _TEXTS:
            mask[spot.value : spot.value + 4] = 0xFF
    wants = plan.wants[first : first + len(spots)]
    return _Layout(
        np.frombuffer(body, np.uint8),
        mask,
        Decoder(fields),
        tuple(constant),
        (
            np.array([cell for cell, _ in uncertain], np.intp),
            np.array([status for _, status in uncertain], np.uint32),
        ),
        np.array([range(s.source or 0, (s.source or 0) + 8) for s in spots], np.intp),
        np.array([s.source is not None for s in spots], np.bool_),
        np.array([len(each) for each in wants], np.intp),
        len(spots),
        any(result.status == _UNKNOWN_NODE for result in response.results),
    )


def _bytes_of(result: Result) -> int:
    """Of the value, behind the array's length; of text with its length."""
    dtype = DTYPES.get(result.type)
    if dtype is None:
        value = result.value
        return 4 + len(value.encode() if isinstance(value, str) else value)
    return dtype.itemsize * (len(result.value) if result.is_array else 1)


def _field(part: Given, spot: Spot) -> Field | None:
    """How to gather the part; None: it is not gathered."""
    result, want = part.result, part.want
    if result.status & _BAD or part.value is None or want.is_array:
        return None
    if result.type not in ACCEPTED.get(want.type, ()):
        return None
    if result.type in _TEXTS and not result.is_array:
        length = _bytes_of(result)
        places = tuple(range(spot.value + 4, spot.value + length))
        return Field(want.cell, places, want.type.value_class, _TEXTS[result.type])
    dtype = DTYPES.get(result.type)
    at = _element_at(part)
    if dtype is None or at is None:
        return None
    start = spot.value + at * dtype.itemsize
    places = tuple(reversed(range(start, start + dtype.itemsize)))
    return Field(want.cell, places, want.type.value_class, _decode_of(want.type), want.linear)


def _element_at(part: Given) -> int | None:
    """Number of the wanted element in what the server sent; 0 of a scalar; None: not there."""
    if not part.result.is_array:
        return 0
    index = part.want.index
    if index is None or index >= len(part.value):
        return None
    return index + part.skipped


_NUMPY: Final = {
    DataType.INT8: "i1",
    DataType.UINT8: "u1",
    DataType.INT16: "i2",
    DataType.UINT16: "u2",
    DataType.INT32: "i4",
    DataType.UINT32: "u4",
    DataType.INT64: "i8",
    DataType.UINT64: "u8",
    DataType.FLOAT32: "f4",
    DataType.FLOAT64: "f8",
}
_TEXTS: Final[dict[int, Decode]] = {
    Type.STRING: objects(partial(text_or_bytes, encoding="utf-8")),
    Type.BYTESTRING: objects(bytes),
}


def _decode_of(type_: DataType) -> Decode:
    match type_:
        case DataType.BOOL:
            return _booleans
        case DataType.DATETIME:
            return _datetimes
        case DataType.DURATION:
            return _durations
        case _:
            return NUMBERS[_NUMPY[type_]]


def _booleans(raw: Column) -> tuple[Column, Column | None]:
    return raw[:, 0] != 0, None


def _datetimes(raw: Column) -> tuple[Column, Column | None]:
    ticks = raw.view(">i8")[:, 0].astype(np.int64)
    good = (ticks >= EARLIEST_TICKS) & (ticks <= LAST_TICKS)
    ns = (np.where(good, ticks, EPOCH_TICKS) - EPOCH_TICKS) * 100
    return ns, _out_of_range(good)


def _durations(raw: Column) -> tuple[Column, Column | None]:
    """Milliseconds as float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        ns = np.rint(raw.view(">f8")[:, 0] * 1e6)
        good = np.abs(ns) < 2.0**63
    return np.where(good, ns, 0.0).astype(np.int64), _out_of_range(good)


def _out_of_range(good: Column) -> Column:
    return np.where(good, np.int64(NO_CODE), np.int64(Code.OUT_OF_RANGE))
