"""Registers and bits to values and back, in the four orders of bytes and words. Pure."""

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from protocols.addressing import Unfit, is_set
from protocols.drivers.modbus.address import Address
from protocols.drivers.modbus.config import Order
from protocols.image import BITS, NUMBERS, Decode, objects, text_or_bytes
from protocols.samples import Column, DataType, Scalar

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
_STRUCT: Final = {
    DataType.INT8: ">xb",
    DataType.UINT8: ">xB",
    DataType.INT16: ">h",
    DataType.UINT16: ">H",
    DataType.INT32: ">i",
    DataType.UINT32: ">I",
    DataType.INT64: ">q",
    DataType.UINT64: ">Q",
    DataType.FLOAT32: ">f",
    DataType.FLOAT64: ">d",
}
_BITS_A_BYTE: Final = 8


def places_of(address: Address, place: int) -> tuple[int, ...]:
    """Image bytes of one element at `place`, most significant (or first) byte first."""
    if address.table.is_bits:
        return (place,)
    if address.bit is not None:
        high = address.bit >= _BITS_A_BYTE
        return (place + _byte_of_register(address.order, high=high),)
    if address.type in {DataType.INT8, DataType.UINT8}:
        return (place + _byte_of_register(address.order, high=address.high),)
    if address.bytes_:
        return tuple(place + i for i in _text_bytes(address.order, address.bytes_))
    return tuple(place + i for i in _number_bytes(address.order, address.step))


def decode_of(encoding: str) -> Callable[[Address], Decode]:
    """Decoders of all types; those of text for this encoding."""
    text, raw = objects(partial(_text, encoding=encoding)), objects(bytes)

    def decode(address: Address) -> Decode:
        if address.type is DataType.BOOL:
            return BITS[(address.bit or 0) % _BITS_A_BYTE]
        if address.type is DataType.TEXT:
            return text
        return raw if address.type is DataType.BYTES else NUMBERS[_NUMPY[address.type]]

    return decode


def bits_to_bytes(packed: bytes, count: int) -> Column:
    """One byte a bit: coils of any start then lie side by side in the image."""
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count, bitorder="little")


def encode(address: Address, value: Scalar, encoding: str) -> bytes:
    """The registers of a value that fills them. Unfit: it is no value of the type."""
    if address.bytes_:
        return _encode_text(address, value, encoding)
    plain = _encode_number(address.type, value)
    return bytes(plain[i] for i in _number_bytes(address.order, address.step))


def encode_part(address: Address, value: Scalar) -> tuple[int, int]:
    """A bit or byte of a register: its mask, and the value in its place. Unfit: as above."""
    if address.bit is not None:
        mask = 1 << (address.bit ^ _BITS_A_BYTE if _swaps_bytes(address.order) else address.bit)
        return mask, mask if is_set(value) else 0
    shift = _BITS_A_BYTE * (1 - _byte_of_register(address.order, high=address.high))
    return 0xFF << shift, _encode_number(address.type, value)[-1] << shift


def _encode_number(type_: DataType, value: Scalar) -> bytes:
    if isinstance(value, str | bytes | bool):
        raise Unfit(f"{value!r} is no {type_}")
    try:
        return struct.pack(_STRUCT[type_], value)
    except (struct.error, OverflowError) as error:
        raise Unfit(f"{value!r} does not fit into {type_}") from error


def _encode_text(address: Address, value: Scalar, encoding: str) -> bytes:
    if not isinstance(value, str | bytes):
        raise Unfit(f"{value!r} is no {address.type}")
    raw = value.encode(encoding) if isinstance(value, str) else value
    if len(raw) > address.bytes_:
        raise Unfit(f"{len(raw)} bytes do not fit into {address.bytes_}")
    padded = raw.ljust(2 * address.step, b"\0")
    return bytes(padded[i] for i in _text_bytes(address.order, len(padded)))


def _text(raw: bytes, encoding: str) -> str | bytes:
    return text_or_bytes(raw.rstrip(b"\0"), encoding)


def _byte_of_register(order: Order, *, high: bool) -> int:
    return int(high == _swaps_bytes(order))


def _text_bytes(order: Order, length: int) -> list[int]:
    """Registers follow each other in every order; only the bytes in one may be swapped."""
    return [i ^ 1 if _swaps_bytes(order) else i for i in range(length)]


def _number_bytes(order: Order, registers: int) -> list[int]:
    words = range(registers)
    in_order = words if order in {"ABCD", "BADC"} else reversed(words)
    pair = (1, 0) if _swaps_bytes(order) else (0, 1)
    return [2 * word + byte for word in in_order for byte in pair]


def _swaps_bytes(order: Order) -> bool:
    return order in {"BADC", "DCBA"}
