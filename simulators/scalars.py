"""Numbers and text as big-endian bytes, the common ground of Modbus registers and S7 blocks.

Pure. A value that does not fit its type is an error of the plant's own program, never cut silently;
text alone is cut at its declared length, as a PLC does.
"""

import struct

from simulators.tags import FLOAT_KINDS, Kind, Scalar

_CODES: dict[Kind, str] = {
    Kind.INT8: "b",
    Kind.UINT8: "B",
    Kind.INT16: "h",
    Kind.UINT16: "H",
    Kind.INT32: "i",
    Kind.UINT32: "I",
    Kind.INT64: "q",
    Kind.UINT64: "Q",
    Kind.FLOAT32: "f",
    Kind.FLOAT64: "d",
}
_STRUCTS: dict[Kind, struct.Struct] = {kind: struct.Struct(f">{c}") for kind, c in _CODES.items()}

NUMBER_KINDS = frozenset(_CODES)


def number_size(kind: Kind) -> int:
    return _STRUCTS[kind].size


def number_to_bytes(kind: Kind, value: Scalar) -> bytes:
    if not isinstance(value, int | float):
        raise TypeError(f"{kind} takes a number, not {value!r}")
    return _STRUCTS[kind].pack(value)


def bytes_to_number(kind: Kind, raw: bytes) -> int | float:
    (value,) = _STRUCTS[kind].unpack(raw)
    return float(value) if kind in FLOAT_KINDS else int(value)


def numbers_to_bytes(kind: Kind, values: list[float]) -> bytes:
    """Packs a whole array at once: curves are written every cycle."""
    return struct.pack(f">{len(values)}{_CODES[kind]}", *values)


def text_to_bytes(text: str, size: int, encoding: str = "utf-8") -> bytes:
    """Returns at most `size` bytes, never half a character."""
    cut = text.encode(encoding, errors="replace")[:size]
    return cut.decode(encoding, errors="ignore").encode(encoding)
