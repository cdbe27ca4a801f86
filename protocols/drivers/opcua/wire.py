"""OPC UA Read and Write requests as bytes (Part 6, 5.2): encoded once, sent with a new header.

Pure. Responses: `response.py`; the channel and the session are the library's.
"""

import struct
import uuid
from base64 import b64decode
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from protocols.addressing import Unfit, is_set
from protocols.drivers.opcua.address import NodeName, Range
from protocols.drivers.opcua.response import FORMS
from protocols.samples import DataType, Scalar

READ_REQUEST: Final = bytes((1, 0)) + struct.pack("<H", 631)
WRITE_REQUEST: Final = bytes((1, 0)) + struct.pack("<H", 673)
EPOCH_TICKS: Final = 116_444_736_000_000_000  # 1601 to 1970 in 100 ns
_VALUE_ATTRIBUTE: Final = 13
_NULL_STRING: Final = struct.pack("<i", -1)


class Timestamps(IntEnum):
    """TimestampsToReturn (Part 4, 7.40)."""

    SOURCE = 0
    NEITHER = 3


def encode_node_id(name: NodeName, index: int) -> bytes:
    match name.kind:
        case "i":
            return _encode_number_id(int(name.identifier), index)
        case "s":
            return struct.pack("<BH", 3, index) + _encode_bytes(name.identifier.encode())
        case "g":
            return struct.pack("<BH", 4, index) + uuid.UUID(name.identifier).bytes_le
        case _:
            raw = _encode_bytes(b64decode(name.identifier))
            return struct.pack("<BH", 5, index) + raw


def _encode_number_id(number: int, index: int) -> bytes:
    if index == 0 and number <= 0xFF:  # noqa: PLR2004  # one byte
        return struct.pack("<BB", 0, number)
    if index <= 0xFF and number <= 0xFFFF:  # noqa: PLR2004  # one and two bytes
        return struct.pack("<BBH", 1, index, number)
    return struct.pack("<BHI", 2, index, number)


def encode_read(nodes: Sequence[tuple[bytes, Range | None]], timestamps: Timestamps) -> bytes:
    """The body of a ReadRequest behind its header: encoded once, sent every cycle."""
    head = struct.pack("<dIi", 0.0, timestamps, len(nodes))
    return head + b"".join(_encode_attribute(*node) + b"\0\0" + _NULL_STRING for node in nodes)


def encode_write(node_id: bytes, range_: Range | None, variant: bytes) -> bytes:
    """The body of a WriteRequest for one value, behind its header."""
    return struct.pack("<i", 1) + _encode_attribute(node_id, range_) + b"\x01" + variant


def encode_header(token: bytes, ticks: int, handle: int, timeout_s: float) -> bytes:
    """A RequestHeader; `token` is the session's authentication token as an encoded node id."""
    rest = struct.pack("<qIIiI", ticks, handle, 0, -1, int(timeout_s * 1000))
    return token + rest + b"\0\0\0"


def _encode_attribute(node_id: bytes, range_: Range | None) -> bytes:
    text = _NULL_STRING if range_ is None else _encode_bytes(str(range_).encode())
    return node_id + struct.pack("<I", _VALUE_ATTRIBUTE) + text


def _encode_bytes(raw: bytes) -> bytes:
    return struct.pack("<i", len(raw)) + raw


_TYPES: Final = {
    DataType.BOOL: 1,
    DataType.INT8: 2,
    DataType.UINT8: 3,
    DataType.INT16: 4,
    DataType.UINT16: 5,
    DataType.INT32: 6,
    DataType.UINT32: 7,
    DataType.INT64: 8,
    DataType.UINT64: 9,
    DataType.FLOAT32: 10,
    DataType.FLOAT64: 11,
    DataType.DURATION: 11,
    DataType.TEXT: 12,
    DataType.DATETIME: 13,
    DataType.BYTES: 15,
}


def encode_variant(type_: DataType, value: Scalar, *, as_array: bool) -> bytes:
    """A value to write; `as_array`: as the one element that a range names. Unfit: no such value."""
    number = _TYPES[type_]
    head = struct.pack("<Bi", number | 0x80, 1) if as_array else bytes([number])
    return head + _encode_value(type_, value)


def _encode_value(type_: DataType, value: Scalar) -> bytes:
    if type_ is DataType.BOOL:
        return struct.pack("<?", is_set(value))
    if type_ is DataType.TEXT and isinstance(value, str):
        return _encode_bytes(value.encode())
    if type_ is DataType.BYTES and isinstance(value, bytes):
        return _encode_bytes(value)
    if isinstance(value, str | bytes | bool) or type_ in {DataType.TEXT, DataType.BYTES}:
        raise Unfit(f"{value!r} is no {type_}")
    try:
        return _encode_number(type_, value)
    except (struct.error, OverflowError, ValueError) as error:
        raise Unfit(f"{value!r} does not fit into {type_}") from error


def _encode_number(type_: DataType, value: float) -> bytes:
    match type_:
        case DataType.DATETIME:
            return struct.pack("<q", int(value) // 100 + EPOCH_TICKS)
        case DataType.DURATION:
            return struct.pack("<d", value / 1e6)
        case _:
            return struct.pack(f"<{FORMS[_TYPES[type_]]}", value)
