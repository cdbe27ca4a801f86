"""OPC UA Read and Write responses out of bytes (Part 6, 5.2). Pure.

Decoding any bytes gives a response or ValueError, and takes no memory that is not there.
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Generic, TypeVar

import numpy as np

_SERVICE_FAULT: Final = bytes((1, 0)) + struct.pack("<H", 397)
_READ_RESPONSE: Final = bytes((1, 0)) + struct.pack("<H", 634)
_WRITE_RESPONSE: Final = bytes((1, 0)) + struct.pack("<H", 676)
_DEPTH_MAX: Final = 8
ResultT = TypeVar("ResultT")


class Type(IntEnum):
    """Built-in types that have a meaning of their own here."""

    NULL = 0
    BOOLEAN = 1
    DOUBLE = 11
    STRING = 12
    DATETIME = 13
    GUID = 14
    BYTESTRING = 15
    XML = 16
    NODE_ID = 17
    EXPANDED_NODE_ID = 18
    STATUS_CODE = 19
    QUALIFIED_NAME = 20
    LOCALIZED_TEXT = 21
    EXTENSION_OBJECT = 22
    DATA_VALUE = 23
    VARIANT = 24
    DIAGNOSTIC_INFO = 25


@dataclass(frozen=True, slots=True)
class Result:
    """One DataValue. `value`: None where there is none; arrays as numpy columns or lists."""

    type: int
    is_array: bool
    value: Any
    status: int
    source_ticks: int  # 100 ns since 1601; 0: none


@dataclass(frozen=True, slots=True)
class Response(Generic[ResultT]):
    """`ticks`: the server's clock when it answered. A `status` other than 0: nothing was done."""

    ticks: int
    status: int
    results: list[ResultT]


def decode_read(body: bytes) -> Response[Result]:
    """A ReadResponse, or the fault in its place. ValueError: neither."""
    return _decode(body, _READ_RESPONSE, _Cursor.data_value)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one DataValue lies in a body. `value`: its first byte behind type and array length."""

    start: int
    value: int
    source: int | None  # of the source time
    server: int | None  # of the server time


def trace_read(body: bytes) -> tuple[Response[Result], list[Spot]]:
    """As `decode_read`, and where each result lies."""
    spots: list[Spot] = []

    def each(cursor: _Cursor) -> Result:
        start, mask = cursor.at, cursor.body[cursor.at]
        result = cursor.data_value()
        server = cursor.at - 8 - (2 if mask & 0x20 else 0) if mask & 8 else None
        behind = (8 if mask & 8 else 0) + (2 if mask & 0x20 else 0) + (2 if mask & 0x10 else 0)
        source = cursor.at - behind - 8 if mask & 4 else None
        spots.append(Spot(start, start + (6 if result.is_array else 2), source, server))
        return result

    return _decode(body, _READ_RESPONSE, each), spots


def decode_write(body: bytes) -> Response[int]:
    """A WriteResponse, or the fault in its place: status codes. ValueError: neither."""
    return _decode(body, _WRITE_RESPONSE, _Cursor.uint32)


def _decode(body: bytes, kind: bytes, each: Callable[["_Cursor"], ResultT]) -> Response[ResultT]:
    cursor = _Cursor(body)
    try:
        head = cursor.take(len(kind))
        if head not in {kind, _SERVICE_FAULT}:
            raise ValueError("not the response that was asked for")
        ticks, status = cursor.response_header()
        count = cursor.count(1) if head == kind else 0
        return Response(ticks, status, [each(cursor) for _ in range(count)])
    except (struct.error, IndexError) as error:
        raise ValueError(f"not a response: {error}") from error


FORMS: Final = {
    Type.BOOLEAN: "?",
    2: "b",
    3: "B",
    4: "h",
    5: "H",
    6: "i",
    7: "I",
    8: "q",
    9: "Q",
    10: "f",
    Type.DOUBLE: "d",
    Type.DATETIME: "q",
    Type.STATUS_CODE: "I",
}
_STRUCTS: Final = {number: struct.Struct(f"<{form}") for number, form in FORMS.items()}
DTYPES: Final = {
    number: np.dtype(np.bool_ if form == "?" else f"<{form}") for number, form in FORMS.items()
}
_UINT32: Final = struct.Struct("<I")
_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")


class _Cursor:
    """Reads one body from front to back. struct.error or ValueError: there is not enough."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0
        self._depth = 0

    def response_header(self) -> tuple[int, int]:
        """Timestamp and status."""
        ticks, _, status = struct.unpack_from("<qII", self.body, self.at)
        self.at += 16
        self.diagnostic_info()
        for _ in range(self.count(4)):
            self.bytes_or_none()
        self.extension_object()
        return ticks, status

    def data_value(self) -> Result:
        mask = self.byte()
        type_, is_array, value = self.variant() if mask & 1 else (Type.NULL, False, None)
        status = self.uint32() if mask & 2 else 0
        source = self._int64() if mask & 4 else 0
        self.take((2 if mask & 0x10 else 0) + (8 if mask & 8 else 0) + (2 if mask & 0x20 else 0))
        return Result(type_, is_array, value, status, source)

    def variant(self) -> tuple[int, bool, Any]:
        head = self.byte()
        type_ = head & 0x3F
        known = _STRUCTS.get(type_)
        if not head & 0x80:
            if known is None:
                return type_, False, self._other(type_)
            (value,) = known.unpack_from(self.body, self.at)
            self.at += known.size
            return type_, False, value
        values = self._array(type_)
        if head & 0x40:
            self.take(4 * self.count(4))
        return type_, True, values

    def _array(self, type_: int) -> Any:
        length = _INT32.unpack_from(self.body, self.at)[0]
        if length < 0:
            self.at += 4
            return None
        dtype = DTYPES.get(type_)
        if dtype is None:
            return [self._other(type_) for _ in range(self.count(1))]
        length = self.count(dtype.itemsize)
        return np.frombuffer(self.take(length * dtype.itemsize), dtype)

    def _other(self, type_: int) -> Any:
        read = _OTHERS.get(type_)
        if read is None:
            raise ValueError(f"no built-in type {type_}")
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise ValueError("nested too deep")
        value = read(self)
        self._depth -= 1
        return value

    def byte(self) -> int:
        value = self.body[self.at]
        self.at += 1
        return value

    def uint32(self) -> int:
        value: int = _UINT32.unpack_from(self.body, self.at)[0]
        self.at += 4
        return value

    def _int64(self) -> int:
        value: int = _INT64.unpack_from(self.body, self.at)[0]
        self.at += 8
        return value

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.body):
            raise ValueError("it ends too early")
        raw = self.body[self.at : end]
        self.at = end
        return raw

    def count(self, size: int) -> int:
        """How many follow, each of at least `size` bytes."""
        value: int = _INT32.unpack_from(self.body, self.at)[0]
        self.at += 4
        if max(value, 0) * size > len(self.body) - self.at:
            raise ValueError("it promises more than it has")
        return max(value, 0)

    def bytes_or_none(self) -> bytes | None:
        length: int = _INT32.unpack_from(self.body, self.at)[0]
        self.at += 4
        return None if length < 0 else self.take(length)

    def text(self) -> str | bytes | None:
        """Bytes: what is not UTF-8, or holds a NUL."""
        raw = self.bytes_or_none()
        if raw is None or b"\0" in raw:
            return raw
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    def plain_text(self) -> str:
        return (self.bytes_or_none() or b"").decode(errors="replace")

    def node_id(self) -> str:
        head = self.byte()
        text = self._node_id(head & 0x3F)
        uri = self.plain_text() if head & 0x80 else ""
        if head & 0x40:
            self.uint32()
        return f"nsu={uri};{text}" if uri else text

    def _node_id(self, kind: int) -> str:
        if kind == 0:
            return f"i={self.byte()}"
        if kind == 1:
            index, number = struct.unpack("<BH", self.take(3))
            return f"ns={index};i={number}"
        (index,) = struct.unpack("<H", self.take(2))
        match kind:
            case 2:
                return f"ns={index};i={self.uint32()}"
            case 3:
                return f"ns={index};s={self.plain_text()}"
            case 4:
                return f"ns={index};g={self.guid()}"
            case 5:
                return f"ns={index};b={(self.bytes_or_none() or b'').hex()}"
            case _:
                raise ValueError(f"no node id of kind {kind}")

    def guid(self) -> str:
        return str(uuid.UUID(bytes_le=self.take(16)))

    def qualified_name(self) -> str:
        (index,) = struct.unpack("<H", self.take(2))
        return f"{index}:{self.plain_text()}"

    def localized_text(self) -> str | bytes | None:
        mask = self.byte()
        if mask & 1:
            self.bytes_or_none()
        return self.text() if mask & 2 else None

    def extension_object(self) -> bytes | None:
        self.node_id()
        return self.bytes_or_none() if self.byte() else None

    def diagnostic_info(self) -> None:
        mask = self.byte()
        self.take(4 * (mask & 0x0F).bit_count())
        if mask & 0x10:
            self.bytes_or_none()
        if mask & 0x20:
            self.uint32()
        if mask & 0x40:
            self._other(Type.DIAGNOSTIC_INFO)


_OTHERS: Final[dict[int, Callable[[_Cursor], Any]]] = {
    Type.NULL: lambda _: None,
    Type.STRING: _Cursor.text,
    Type.GUID: _Cursor.guid,
    Type.BYTESTRING: _Cursor.bytes_or_none,
    Type.XML: _Cursor.text,
    Type.NODE_ID: _Cursor.node_id,
    Type.EXPANDED_NODE_ID: _Cursor.node_id,
    Type.QUALIFIED_NAME: _Cursor.qualified_name,
    Type.LOCALIZED_TEXT: _Cursor.localized_text,
    Type.EXTENSION_OBJECT: _Cursor.extension_object,
    Type.DATA_VALUE: _Cursor.data_value,
    Type.VARIANT: lambda cursor: cursor.variant()[2],
    Type.DIAGNOSTIC_INFO: _Cursor.diagnostic_info,
}
