"""Bytes of a PLC's memory to values and back. Pure; everything is big-endian."""

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from protocols.addressing import Unfit, is_set
from protocols.drivers.s7 import dates
from protocols.drivers.s7.address import Address
from protocols.image import BITS, NUMBERS, Decode, objects, text_or_bytes
from protocols.samples import Scalar

_NUMPY: Final = {
    **dict.fromkeys(("BYTE", "USINT"), "u1"),
    "SINT": "i1",
    **dict.fromkeys(("WORD", "UINT"), "u2"),
    "INT": "i2",
    **dict.fromkeys(("DWORD", "UDINT"), "u4"),
    "DINT": "i4",
    **dict.fromkeys(("LWORD", "ULINT"), "u8"),
    "LINT": "i8",
    "REAL": "f4",
    "LREAL": "f8",
}
_STRUCT: Final = {
    "u1": ">B", "i1": ">b", "u2": ">H", "i2": ">h", "u4": ">I", "i4": ">i",
    "u8": ">Q", "i8": ">q", "f4": ">f", "f8": ">d",
}  # fmt: skip
_DATES: Final[dict[str, Decode]] = {
    "S5TIME": dates.decode_s5time,
    "TIME": dates.decode_time,
    "LTIME": dates.decode_ltime,
    "DATE": dates.decode_date,
    "TOD": dates.decode_tod,
    "LTOD": dates.decode_ltod,
    "DT": dates.decode_dt,
    "LDT": dates.decode_ldt,
    "DTL": dates.decode_dtl,
}
_STRING_HEAD: Final = 2  # longest and present length, a byte each
_WSTRING_HEAD: Final = 4  # the same, two bytes each


def decode_of(encoding: str) -> Callable[[Address], Decode]:
    """Decoders of all kinds; those of text for this encoding."""
    texts: dict[str, Decode] = {
        "BYTES": objects(bytes),
        "CHAR": objects(partial(_chars, encoding=encoding)),
        "CHARS": objects(partial(_chars, encoding=encoding)),
        "WCHAR": objects(_wide),
        "STRING": objects(partial(_string, encoding=encoding)),
        "WSTRING": objects(_wstring),
    }

    def decode(address: Address) -> Decode:
        if address.kind == "BOOL":
            return BITS[address.bit]
        number = _NUMPY.get(address.kind)
        if number is not None:
            return NUMBERS[number]
        return _DATES.get(address.kind) or texts[address.kind]

    return decode


def encode(address: Address, value: Scalar, encoding: str) -> bytes:
    """The bytes of a value; a BOOL as one byte 0 or 1. Unfit: it is no value of the type."""
    if address.kind == "BOOL":
        return bytes([is_set(value)])
    try:
        if isinstance(value, str | bytes):
            return _encode_text(address, value, encoding)
        if isinstance(value, bool):
            raise Unfit(f"{value!r} is no {address.kind}")
        return _encode_number(address, value)
    except (struct.error, OverflowError, UnicodeEncodeError, TypeError) as error:
        raise Unfit(f"{value!r} does not fit into {address.kind}") from error


def _encode_number(address: Address, value: float) -> bytes:
    number = _NUMPY.get(address.kind)
    if number is not None:
        return struct.pack(_STRUCT[number], value)
    encode_date = _ENCODE_DATES.get(address.kind)
    if encode_date is None or not isinstance(value, int):
        raise Unfit(f"{value!r} is no {address.kind}")
    return encode_date(value)


def _time_of_day(form: str, unit_ns: int, value_ns: int) -> bytes:
    if not 0 <= value_ns < dates.DAY_NS:
        raise Unfit(f"{value_ns} ns is no time of a day")
    return struct.pack(form, value_ns // unit_ns)


_MS_NS: Final = 1_000_000
_ENCODE_DATES: Final[dict[str, Callable[[int], bytes]]] = {
    "S5TIME": dates.encode_s5time,
    "TIME": lambda ns: struct.pack(">i", ns // _MS_NS),
    "LTIME": lambda ns: struct.pack(">q", ns),
    "TOD": partial(_time_of_day, ">I", _MS_NS),
    "LTOD": partial(_time_of_day, ">q", 1),
    "DATE": lambda ns: struct.pack(">H", dates.encode_date(ns)),
    "DT": dates.encode_dt,
    "LDT": lambda ns: struct.pack(">q", ns),
    "DTL": dates.encode_dtl,
}


def _encode_text(address: Address, value: str | bytes, encoding: str) -> bytes:
    wide = address.kind in {"WSTRING", "WCHAR"}
    raw = value if isinstance(value, bytes) else value.encode("utf-16-be" if wide else encoding)
    units = len(raw) // 2 if wide else len(raw)
    room = address.length or 1
    if units > room:
        raise Unfit(f"{units} characters do not fit into {room}")
    match address.kind:
        case "STRING":
            return bytes((address.length, units)) + raw
        case "WSTRING":
            return struct.pack(">HH", address.length, units) + raw
        case "BYTES" | "CHARS" | "CHAR" | "WCHAR":
            return raw.ljust(address.size, b"\0")
        case _:
            raise Unfit(f"{value!r} is no {address.kind}")


def _chars(raw: bytes, encoding: str) -> str | bytes:
    return text_or_bytes(raw.rstrip(b"\0"), encoding)


def _wide(raw: bytes) -> str | bytes:
    return _utf16(raw)


def _string(raw: bytes, encoding: str) -> str | bytes | None:
    """None: longer than it can be, so these bytes are no STRING."""
    longest, length = raw[0], raw[1]
    if length > longest or _STRING_HEAD + length > len(raw):
        return None
    return text_or_bytes(raw[_STRING_HEAD : _STRING_HEAD + length], encoding)


def _wstring(raw: bytes) -> str | bytes | None:
    longest, length = struct.unpack_from(">HH", raw)
    if length > longest or _WSTRING_HEAD + 2 * length > len(raw):
        return None
    return _utf16(raw[_WSTRING_HEAD : _WSTRING_HEAD + 2 * length])


def _utf16(raw: bytes) -> str | bytes:
    """Bytes where there is half a character, or a NUL among them."""
    try:
        text = raw.decode("utf-16-be")
    except UnicodeDecodeError:
        return raw
    return raw if "\0" in text else text
