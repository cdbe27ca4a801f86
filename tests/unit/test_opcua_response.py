"""OPC UA bytes: requests as literals, responses of every built-in type, broken ones refused."""

import struct
import uuid
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.addressing import Unfit
from protocols.driver import Mode, TagSpec
from protocols.drivers.opcua.address import NodeName, Range
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.drivers.opcua.decode import fill, parts_of
from protocols.drivers.opcua.planner import make_plan
from protocols.drivers.opcua.response import Response, Result, decode_read, decode_write
from protocols.drivers.opcua.wire import (
    EPOCH_TICKS,
    READ_REQUEST,
    WRITE_REQUEST,
    Timestamps,
    encode_header,
    encode_node_id,
    encode_read,
    encode_variant,
    encode_write,
)
from protocols.reading import Sheet
from protocols.samples import Code, DataType, Quality, Sample, Scalar

CONNECTION = OpcuaConnection(url="opc.tcp://plc:4840")
FEW = settings(max_examples=60, deadline=None)
KINDS = ua.VariantType


def response(*values: ua.DataValue) -> bytes:
    """What asyncua's server would send."""
    made = ua.ReadResponse()
    made.Results = list(values)
    made.ResponseHeader.RequestHandle = 7
    return struct_to_binary(made)


def status(code: int) -> ua.StatusCode:
    return ua.StatusCode(code)  # type: ignore[arg-type]  # the library takes plain numbers


def row_of(type_: DataType, value: ua.DataValue, address: str = "ns=2;s=a") -> Sample:
    mode = Mode.ON_DEMAND if type_.is_array else Mode.CYCLIC
    plan = make_plan(CONNECTION, [TagSpec("d.t", address, type_)], mode)
    sheet = Sheet(plan.rows)
    fill(sheet, parts_of(plan, 0, decode_read(response(value)).results))
    return sheet.batch().row(0)


def ticks(value: int) -> bytes:
    """A ReadResponse with one DateTime of these raw ticks, which asyncua cannot write exactly."""
    mark = 0x1122334455667788
    whole = response(ua.DataValue(ua.Variant(mark, KINDS.Int64)))
    return whole.replace(b"\x08" + struct.pack("<q", mark), b"\x0d" + struct.pack("<q", value))


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (NodeName(0, "i", "84"), 0),
        (NodeName(0, "i", "2258"), 0),
        (NodeName("urn:a", "i", "70000"), 3),
        (NodeName("urn:a", "i", "5"), 300),
        (NodeName("urn:a", "s", "Grüße"), 2),
        (NodeName("urn:a", "g", "09087e75-8e5e-499b-954f-f2a9603db28a"), 2),
        (NodeName("urn:a", "b", "M/RbKBsRVkePCePcx24oRA=="), 2),
    ],
)
def test_asyncua_reads_our_requests(name: NodeName, index: int) -> None:
    head = encode_header(b"\x00\x07", EPOCH_TICKS, 9, 1.5)
    nodes = [(encode_node_id(name, index), None), (encode_node_id(name, index), Range(2, 5))]
    body = READ_REQUEST + head + encode_read(nodes, Timestamps.SOURCE)
    found = struct_from_binary(ua.ReadRequest, Buffer(body))
    assert found.RequestHeader.RequestHandle == 9
    assert found.RequestHeader.TimeoutHint == 1500
    first, second = found.Parameters.NodesToRead
    assert first.NodeId.NamespaceIndex == index
    assert first.AttributeId == ua.AttributeIds.Value
    assert (first.IndexRange, second.IndexRange) == (None, "2:5")
    if name.kind == "s":
        assert first.NodeId.Identifier == "Grüße"
    if name.kind == "g":
        assert first.NodeId.Identifier == uuid.UUID(name.identifier)


def test_asyncua_reads_our_writes() -> None:
    body = encode_write(b"\x00\x55", Range(3, 3), encode_variant(DataType.INT16, 5, as_array=True))
    message = WRITE_REQUEST + encode_header(b"\0\0", 0, 1, 1) + body
    (one,) = struct_from_binary(ua.WriteRequest, Buffer(message)).Parameters.NodesToWrite
    assert (one.IndexRange, one.Value.Value.Value) == ("3", [5])
    assert one.Value.Value.VariantType is KINDS.Int16


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (DataType.INT16, 32_768),
        (DataType.INT16, 1.5),
        (DataType.INT16, True),
        (DataType.BOOL, 2),
        (DataType.TEXT, 5),
        (DataType.FLOAT32, "1"),
        (DataType.DATETIME, 2**70),
    ],
)
def test_what_does_not_fit_is_not_written(type_: DataType, value: Scalar) -> None:
    with pytest.raises(Unfit):
        encode_variant(type_, value, as_array=False)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (ua.Variant(uuid.UUID(int=5), KINDS.Guid), str(uuid.UUID(int=5))),
        (ua.Variant(ua.NodeId("a", 3), KINDS.NodeId), "ns=3;s=a"),  # type: ignore[arg-type]  # plain text
        (ua.Variant(ua.QualifiedName("q", 2), KINDS.QualifiedName), "2:q"),
        (ua.Variant(ua.LocalizedText("x", "en"), KINDS.LocalizedText), "x"),
        (ua.Variant("", KINDS.String), ""),
    ],
)
def test_what_reads_as_text(variant: ua.Variant, expected: str) -> None:
    assert row_of(DataType.TEXT, ua.DataValue(variant)).value == expected


def test_a_null_text_is_no_value_and_stays_good() -> None:
    row = row_of(DataType.TEXT, ua.DataValue(ua.Variant(None, KINDS.String)))
    assert (row.value, row.quality) == (None, Quality.GOOD)


@pytest.mark.parametrize(
    ("raw", "expected_ns"),
    [
        (EPOCH_TICKS, 0),
        (EPOCH_TICKS + 1, 100),
        (EPOCH_TICKS - 1, -100),
        (EPOCH_TICKS + (2**63 - 1) // 100, (2**63 - 1) // 100 * 100),
    ],
)
def test_times_are_exact(raw: int, expected_ns: int) -> None:
    plan = make_plan(CONNECTION, [TagSpec("d.t", "ns=2;s=a", DataType.DATETIME)], Mode.CYCLIC)
    sheet = Sheet(plan.rows)
    fill(sheet, parts_of(plan, 0, decode_read(ticks(raw)).results))
    assert sheet.batch().row(0).value == expected_ns


@pytest.mark.parametrize(
    "raw", [0, -1, 2_650_467_743_990_000_000, 2**63 - 1, EPOCH_TICKS + 2**63 // 100 + 1]
)
def test_1601_9999_and_what_does_not_fit_are_no_times(raw: int) -> None:
    plan = make_plan(CONNECTION, [TagSpec("d.t", "ns=2;s=a", DataType.DATETIME)], Mode.CYCLIC)
    sheet = Sheet(plan.rows)
    fill(sheet, parts_of(plan, 0, decode_read(ticks(raw)).results))
    row = sheet.batch().row(0)
    assert (row.value, row.quality, row.code) == (
        None,
        Quality.BAD_OUT_OF_RANGE,
        Code.OUT_OF_RANGE,
    )


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), 1e300])
def test_a_duration_that_is_none_is_out_of_range(duration: float) -> None:
    row = row_of(DataType.DURATION, ua.DataValue(ua.Variant(duration, KINDS.Double)))
    assert (row.value, row.code) == (None, Code.OUT_OF_RANGE)


@pytest.mark.parametrize(
    ("type_", "variant"),
    [
        (DataType.INT16, ua.Variant(1, KINDS.Int32)),
        (DataType.FLOAT64, ua.Variant(1.0, KINDS.Float)),
        (DataType.BOOL, ua.Variant(1, KINDS.Byte)),
        (DataType.INT16, ua.Variant([1], KINDS.Int16, is_array=True)),
        (DataType.INT16S, ua.Variant(1, KINDS.Int16)),
        (DataType.TEXT, ua.Variant(b"a", KINDS.ByteString)),
    ],
)
def test_another_type_is_a_mismatch(type_: DataType, variant: ua.Variant) -> None:
    row = row_of(type_, ua.DataValue(variant))
    assert (row.value, row.quality, row.code) == (
        None,
        Quality.BAD_TYPE_MISMATCH,
        Code.TYPE_MISMATCH,
    )


def test_status_travels_as_it_is() -> None:
    bad = ua.DataValue(ua.Variant(1.0, KINDS.Double), status(0x808C0000))
    row = row_of(DataType.FLOAT64, bad)
    assert (row.value, row.quality, row.code) == (None, 0x808C0000, None)
    uncertain = ua.DataValue(ua.Variant(1.0, KINDS.Double), status(0x40930000))
    row = row_of(DataType.FLOAT64, uncertain)
    assert (row.value, row.quality, row.code) == (1.0, 0x40930000, None)


def test_an_element_that_is_not_there_is_bad() -> None:
    value = ua.DataValue(ua.Variant([1], KINDS.Int16, is_array=True))
    plan = make_plan(
        CONNECTION, [TagSpec("d.a", "range=0:1;ns=2;s=a", DataType.INT16)], Mode.CYCLIC
    )
    sheet = Sheet(plan.rows)
    fill(sheet, parts_of(plan, 0, decode_read(response(value)).results))
    assert [(row.value, row.quality) for row in sheet.batch().rows()] == [
        (1, 0),
        (None, 0x80370000),
    ]


def test_scaled_arrays() -> None:
    plan = make_plan(
        CONNECTION, [TagSpec("d.a", "ns=2;s=a", DataType.INT16S, scale=0.5)], Mode.ON_DEMAND
    )
    sheet = Sheet(plan.rows)
    value = ua.DataValue(ua.Variant([1, 2], KINDS.Int16, is_array=True))
    fill(sheet, parts_of(plan, 0, decode_read(response(value)).results))
    batch = sheet.batch()
    assert batch.tags[0].type is DataType.FLOAT64S
    assert isinstance(batch.value(0), np.ndarray)
    assert list(batch.value(0)) == [0.5, 1.0]  # type: ignore[arg-type]  # an array


def test_a_service_fault_is_a_status() -> None:
    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = status(0x80100000)
    assert decode_read(struct_to_binary(fault)) == Response(
        decode_read(struct_to_binary(fault)).ticks, 0x80100000, []
    )
    assert decode_write(struct_to_binary(fault)).status == 0x80100000


def test_every_built_in_type_is_passed_over() -> None:
    """What nobody asked for does not disturb its neighbours."""
    odd: list[Any] = [
        ua.Variant(ua.ExpandedNodeId("a", 3), KINDS.ExpandedNodeId),  # type: ignore[arg-type]  # plain text
        ua.Variant(status(5), KINDS.StatusCode),
        ua.Variant(ua.Argument(), KINDS.ExtensionObject),
        ua.Variant([ua.Variant(1, KINDS.Int16)], KINDS.Variant, is_array=True),
        ua.Variant([[1, 2], [3, 4]], KINDS.Int16, is_array=True),
        ua.Variant(ua.DataValue(ua.Variant(1, KINDS.Int16)), KINDS.DataValue),
        ua.Variant(ua.DiagnosticInfo(), KINDS.DiagnosticInfo),
    ]
    values = [ua.DataValue(variant) for variant in odd]
    last = ua.DataValue(ua.Variant(42, KINDS.Int16))
    results = decode_read(response(*values, last)).results
    assert len(results) == len(odd) + 1
    assert results[-1] == Result(4, False, 42, 0, 0)  # noqa: FBT003  # a literal of the type


@FEW
@given(st.binary(max_size=200))
def test_any_bytes_are_a_response_or_a_value_error(noise: bytes) -> None:
    head = struct_to_binary(ua.ReadResponse())[:4]
    for body in (noise, head + noise, head + bytes(24) + noise):
        try:
            decode_read(body)
        except ValueError:
            continue


@FEW
@given(st.data())
def test_a_damaged_response_is_a_response_or_a_value_error(data: st.DataObject) -> None:
    values = [
        ua.DataValue(ua.Variant(1.5, KINDS.Double)),
        ua.DataValue(ua.Variant("text", KINDS.String)),
        ua.DataValue(ua.Variant([1, 2, 3], KINDS.Int16, is_array=True)),
        ua.DataValue(ua.Variant(ua.LocalizedText("x", "en"), KINDS.LocalizedText)),
    ]
    body = bytearray(response(*values))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:end])):
        try:
            decode_read(damaged)
        except ValueError:
            continue
