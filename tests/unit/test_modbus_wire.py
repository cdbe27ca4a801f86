"""Modbus bytes, as literals: requests, answers, the four orders, parts of registers."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.addressing import Unfit
from protocols.driver import Mode, TagSpec
from protocols.drivers.modbus.address import parse
from protocols.drivers.modbus.config import ModbusConnection
from protocols.drivers.modbus.decode import encode, encode_part
from protocols.drivers.modbus.planner import make_plan
from protocols.drivers.modbus.wire import (
    Refusal,
    decode_read,
    decode_written,
    encode_mask_write,
    encode_read,
    encode_write_coil,
    encode_write_registers,
    explain,
)
from protocols.image import Block
from protocols.reading import Sheet
from protocols.samples import Scalar, Value

CONNECTION = ModbusConnection(host="plc")
FEW = settings(max_examples=40, deadline=None)


def block(function: int, start: int, size: int) -> Block:
    return Block((1, function), start, size, 0, (), np.zeros(0, np.intp))


def decoded(address: str, raw: bytes) -> Value:
    plan = make_plan(CONNECTION, [TagSpec("d.t", address)], Mode.ON_DEMAND)
    sheet = Sheet(plan.rows)
    plan.decoder.fill(sheet, np.frombuffer(raw, np.uint8))
    return sheet.batch().value(0)


def encoded(address: str, value: Scalar) -> bytes:
    return encode(parse(TagSpec("d.t", address), CONNECTION), value, "utf-8")


def test_requests() -> None:
    assert encode_read(block(3, 300, 2)).hex() == "03012c0002"
    assert encode_write_coil(5, on=True).hex() == "050005ff00"
    assert encode_write_coil(5, on=False).hex() == "0500050000"
    assert encode_write_registers(5, b"\x12\x34").hex() == "0600051234"
    assert encode_write_registers(5, b"\x12\x34\x56\x78").hex() == "100005000204" + "12345678"
    assert encode_mask_write(5, 0x0100, 0x0100).hex() == "160005feff0100"


def test_answers() -> None:
    found = decode_read(block(3, 0, 2), bytes.fromhex("0304aabbccdd"))
    assert isinstance(found, np.ndarray)
    assert found.tobytes().hex() == "aabbccdd"
    bits = decode_read(block(1, 0, 10), bytes.fromhex("01020503"))
    assert isinstance(bits, np.ndarray)
    assert bits.tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 1, 1]
    assert decode_read(block(4, 0, 2), bytes.fromhex("8402")) == Refusal(2)
    assert decode_written(b"\x06\x00\x05\x12\x34", b"\x06\x00\x05\x12\x34") is None
    assert decode_written(b"\x06\x00\x05\x12\x34", b"\x86\x03") == Refusal(3)


@pytest.mark.parametrize("answer", ["", "03", "0304aabb", "0302aabb", "0404aabbccdd", "83"])
def test_what_is_no_answer_is_said_to_be_none(answer: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|function"):
        decode_read(block(3, 0, 2), bytes.fromhex(answer))


@FEW
@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_value_error(answer: bytes) -> None:
    try:
        found = decode_read(block(3, 0, 20), answer)
    except ValueError:
        return
    assert isinstance(found, Refusal) or len(found) == 40


def test_codes_say_what_to_do() -> None:
    assert "0-based" in explain(2)
    assert "gateway" in explain(11)
    assert explain(99) == ""


@pytest.mark.parametrize(
    ("order", "raw32", "raw64"),
    [
        ("ABCD", "01020304", "0102030405060708"),
        ("CDAB", "03040102", "0708050603040102"),
        ("BADC", "02010403", "0201040306050807"),
        ("DCBA", "04030201", "0807060504030201"),
    ],
)
def test_the_four_orders(order: str, raw32: str, raw64: str) -> None:
    assert decoded(f"holding:0:uint32?order={order}", bytes.fromhex(raw32)) == 0x01020304
    assert decoded(f"holding:0:uint64?order={order}", bytes.fromhex(raw64)) == 0x0102030405060708
    assert encoded(f"holding:0:uint32?order={order}", 0x01020304).hex() == raw32
    assert encoded(f"holding:0:uint64?order={order}", 0x0102030405060708).hex() == raw64


def test_text_is_swapped_in_registers_only() -> None:
    assert decoded("holding:0:text[4]?order=CDAB", b"abcd") == "abcd"
    assert decoded("holding:0:text[4]?order=BADC", b"badc") == "abcd"
    assert encoded("holding:0:text[3]?order=DCBA", "abc") == b"ba\0c"


@pytest.mark.parametrize(
    ("address", "mask", "value"),
    [
        ("holding:0.3:bool", 0x0008, 0x0008),
        ("holding:0.12:bool?order=BADC", 0x0010, 0x0010),
        ("holding:0:uint8", 0x00FF, 0x0001),
        ("holding:0.h:uint8", 0xFF00, 0x0100),
        ("holding:0.h:uint8?order=BADC", 0x00FF, 0x0001),
    ],
)
def test_parts_of_registers_are_masked(address: str, mask: int, value: int) -> None:
    parsed = parse(TagSpec("d.t", address), CONNECTION)
    assert encode_part(parsed, 1) == (mask, value)
    register = struct.pack(">H", value)
    assert decoded(address, register) == 1


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("holding:0:int16", 32_768),
        ("holding:0:int16", 1.5),
        ("holding:0:int16", True),
        ("holding:0:int16", "1"),
        ("holding:0:float32", 1e300),
        ("holding:0:uint64", -1),
        ("holding:0:text[2]", "abc"),
        ("holding:0:text[2]", "€"),
        ("holding:0:bytes[2]", 5),
    ],
)
def test_what_does_not_fit_is_not_written(address: str, value: Scalar) -> None:
    with pytest.raises(Unfit):
        encoded(address, value)


def test_a_bit_is_true_or_false() -> None:
    address = parse(TagSpec("d.t", "holding:0.3:bool"), CONNECTION)
    with pytest.raises(Unfit):
        encode_part(address, 2)
    with pytest.raises(Unfit):
        encode_part(address, "true")


@FEW
@given(
    st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]),
    st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]),
    st.data(),
)
def test_integers_round_trip(type_: str, order: str, data: st.DataObject) -> None:
    bits = int(type_.strip("uint"))
    low, high = (0, 2**bits - 1) if type_[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    value = data.draw(st.integers(low, high))
    address = f"holding:0:{type_}?order={order}"
    if bits == 8:
        mask, part = encode_part(parse(TagSpec("d.t", address), CONNECTION), value)
        raw = struct.pack(">H", part & mask)
    else:
        raw = encoded(address, value)
    assert decoded(address, raw) == value


@FEW
@given(st.floats(allow_nan=False), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]))
def test_floats_round_trip(value: float, order: str) -> None:
    address = f"holding:0:float64?order={order}"
    assert decoded(address, encoded(address, value)) == value
