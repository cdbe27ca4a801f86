"""A layout learnt from responses reads whatever follows exactly as decoding one by one does."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.driver import Mode, TagSpec
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.drivers.opcua.decode import fill, parts_of, source_times
from protocols.drivers.opcua.layout import Reader
from protocols.drivers.opcua.planner import OpcuaPlan, make_plan
from protocols.drivers.opcua.response import decode_read
from protocols.reading import Sheet
from protocols.samples import DataType

CONNECTION = OpcuaConnection(url="opc.tcp://plc:4840")
KINDS = ua.VariantType
YEARS = (1601, 1990, 2026, 2099, 2500, 9999)
TIMES: Any = st.sampled_from([datetime(year, 12, 31, 1, 2, 3, 4, UTC) for year in YEARS])

scalars = {
    DataType.BOOL: (KINDS.Boolean, st.booleans()),
    DataType.INT8: (KINDS.SByte, st.integers(-128, 127)),
    DataType.UINT16: (KINDS.UInt16, st.integers(0, 65_535)),
    DataType.INT64: (KINDS.Int64, st.integers(-(2**63), 2**63 - 1)),
    DataType.UINT64: (KINDS.UInt64, st.integers(0, 2**64 - 1)),
    DataType.FLOAT32: (KINDS.Float, st.floats(width=32)),
    DataType.FLOAT64: (KINDS.Double, st.floats()),
    DataType.DURATION: (KINDS.Double, st.floats()),
    DataType.TEXT: (KINDS.String, st.sampled_from(["", "ab", "cd", "ü", "a\0", "longer"])),
    DataType.BYTES: (KINDS.ByteString, st.sampled_from([b"", b"ab", b"\0\xff"])),
}
STATUSES = st.sampled_from([0] * 6 + [0x40930000, 0x808C0000, 0x80340000])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[TagSpec], list[bytes]]:
    """Tags, and the bodies of a row of responses whose forms mostly stay the same."""
    types = draw(st.lists(st.sampled_from(list(scalars)), min_size=1, max_size=4))
    tags = [TagSpec(f"d.t{i}", f"ns=2;i={i + 1}", type_) for i, type_ in enumerate(types)]
    tags.append(TagSpec("d.twin", "ns=2;i=1", types[0]))
    tags.append(TagSpec("d.a", "range=1:3;ns=2;s=a", DataType.INT16))
    tags.append(TagSpec("d.scaled", "ns=2;s=s", DataType.INT32, scale=0.5, offset=1))
    odd = draw(st.sampled_from([None, None, None, 2, 3]))
    bodies = [body(draw, types, odd=draw(st.booleans()) and i == odd) for i in range(5)]
    return tags, bodies


def body(draw: st.DrawFn, types: list[DataType], *, odd: bool) -> bytes:
    values = [ua.DataValue(ua.Variant(draw(scalars[t][1]), scalars[t][0])) for t in types]
    count = draw(st.sampled_from([3, 3, 3, 2, 5])) if odd else 3
    items = draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count))
    values.append(ua.DataValue(ua.Variant(items, KINDS.Int16, is_array=True)))
    values.append(ua.DataValue(ua.Variant(draw(st.integers(-9, 9)), KINDS.Int32)))
    if odd:
        at = draw(st.integers(0, len(values) - 1))
        values[at] = ua.DataValue(ua.Variant(draw(st.integers(0, 9)), KINDS.Byte))
    response = ua.ReadResponse()
    response.ResponseHeader.RequestHandle = draw(st.integers(0, 9))
    response.Results = [dressed(draw, value, odd=odd) for value in values]
    return struct_to_binary(response)


def dressed(draw: st.DrawFn, value: ua.DataValue, *, odd: bool) -> ua.DataValue:
    status: Any = draw(STATUSES) if odd else 0
    none = odd and draw(st.booleans())
    return ua.DataValue(
        value.Value,
        ua.StatusCode(status),
        SourceTimestamp=None if none else draw(TIMES),
        ServerTimestamp=None if none else draw(TIMES),
    )


def slowly(plan: OpcuaPlan, answer: bytes) -> tuple[str, list[int]]:
    sheet = Sheet(plan.rows)
    results = decode_read(answer).results
    fill(sheet, parts_of(plan, 0, results))
    return shown(sheet), source_times(plan, 0, results).tolist()


def shown(sheet: Sheet) -> str:
    return "\n".join(
        repr((row.path, row.value, row.quality, row.code)) for row in sheet.batch().rows()
    )


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_it_reads_what_decoding_reads(world: tuple[list[TagSpec], list[bytes]]) -> None:
    tags, bodies = world
    plan = make_plan(CONNECTION, tags, Mode.CYCLIC)
    reader = Reader(plan, 0)
    for answer in bodies:
        sheet = Sheet(plan.rows)
        read = reader.read(answer, sheet)
        assert (shown(sheet), read.sources.tolist()) == slowly(plan, answer)
        assert read.count == len(plan.nodes)


def numbers(*values: float) -> bytes:
    response = ua.ReadResponse()
    response.Results = [ua.DataValue(ua.Variant(value, KINDS.Double)) for value in values]
    return struct_to_binary(response)


@pytest.fixture
def plan() -> OpcuaPlan:
    tags = [TagSpec(f"d.t{i}", f"ns=2;i={i}", DataType.FLOAT64) for i in range(3)]
    return make_plan(CONNECTION, tags, Mode.CYCLIC)


def test_a_form_that_comes_twice_is_learnt(plan: OpcuaPlan) -> None:
    reader = Reader(plan, 0)
    for number in range(4):
        sheet = Sheet(plan.rows)
        reader.read(numbers(number, 1.5, -2.0), sheet)
        assert sheet.batch().value(0) == number
        assert (reader._layout is not None) == (number >= 1)


def test_a_changed_type_or_status_is_noticed(plan: OpcuaPlan) -> None:
    reader = Reader(plan, 0)
    for _ in range(3):
        reader.read(numbers(1, 2, 3), Sheet(plan.rows))
    response = ua.ReadResponse()
    response.Results = [
        ua.DataValue(ua.Variant(1.0, KINDS.Double)),
        ua.DataValue(ua.Variant(2**53, KINDS.Int64)),  # as long as a Double
        ua.DataValue(ua.Variant(3.0, KINDS.Double)),
    ]
    changed = struct_to_binary(response)
    assert len(changed) == len(numbers(1, 2, 3))
    sheet = Sheet(plan.rows)
    reader.read(changed, sheet)
    assert [row.value for row in sheet.batch().rows()] == [1.0, None, 3.0]


def test_forms_that_keep_changing_are_not_learnt_for_ever() -> None:
    tags = [TagSpec("d.a", "ns=2;s=a", DataType.FLOAT64S)]
    plan = make_plan(CONNECTION, tags, Mode.ON_DEMAND)
    reader = Reader(plan, 0)
    for number in range(40):
        response = ua.ReadResponse()
        values = [float(number)] * 5
        response.Results = [ua.DataValue(ua.Variant(values, KINDS.Double, is_array=True))]
        sheet = Sheet(plan.rows)
        reader.read(struct_to_binary(response), sheet)
        found = sheet.batch().value(0)
        assert isinstance(found, np.ndarray)
        assert found.tolist() == values
    assert reader._layout is None
