"""Modbus application protocol: a request's bytes in, the answer's bytes and its record out.

Pure. Reads one snapshot of a unit's tables. A write is taken only where tags allow it, so an agent
cannot change what the plant makes; elsewhere the answer is exception 2, as for a missing address.
"""

import struct
from dataclasses import dataclass

from simulators.registers import RegisterImage

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS = 5, 6, 15, 16
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3

_READS = {
    READ_COILS: ("coil", 2000),
    READ_DISCRETE: ("discrete", 2000),
    READ_HOLDING: ("holding", 125),
    READ_INPUT: ("input", 125),
}
_WRITES = {
    WRITE_COIL: "coil",
    WRITE_REGISTER: "holding",
    WRITE_COILS: "coil",
    WRITE_REGISTERS: "holding",
}
_COIL_ON, _COIL_OFF = 0xFF00, 0x0000


@dataclass(frozen=True, slots=True)
class Reading:
    """A read answered: `raw` is the data as sent, bits packed."""

    pdu: bytes
    function: int
    start: int
    count: int
    raw: bytes
    exception: int = 0


@dataclass(frozen=True, slots=True)
class Writing:
    """A write taken or refused; `names` are the tags that it touches."""

    pdu: bytes
    names: tuple[str, ...]
    exception: int = 0


def answer(image: RegisterImage, pdu: bytes) -> Reading | Writing:
    """Answers one request to a unit; a write has changed the image on return."""
    function = pdu[0]
    if function in _READS and len(pdu) == 5:  # noqa: PLR2004  # function, start, count
        return _read(image, function, *struct.unpack(">HH", pdu[1:]))
    if function in _WRITES:
        return _write(image, function, pdu)
    return _refuse(function, ILLEGAL_FUNCTION)


def pack_bits(bits: bytes) -> bytes:
    """Bits one to a byte become eight to a byte, the first in the lowest place."""
    digits = bytes(ord("0") + bit for bit in reversed(bits))
    number = int(digits or b"0", 2)
    return number.to_bytes((len(bits) + 7) // 8, "little")


def unpack_bits(raw: bytes, count: int) -> bytes:
    return bytes(raw[i // 8] >> i % 8 & 1 for i in range(count))


def _read(image: RegisterImage, function: int, start: int, count: int) -> Reading:
    table, most = _READS[function]
    if not 1 <= count <= most:
        return _refused_read(function, start, count, ILLEGAL_VALUE)
    if start + count > image.size(table):
        return _refused_read(function, start, count, ILLEGAL_ADDRESS)
    memory = image.tables[table]
    if function in {READ_COILS, READ_DISCRETE}:
        raw = pack_bits(bytes(memory[start : start + count]))
    else:
        raw = bytes(memory[2 * start : 2 * (start + count)])
    return Reading(bytes([function, len(raw)]) + raw, function, start, count, raw)


def _refused_read(function: int, start: int, count: int, exception: int) -> Reading:
    return Reading(_exception(function, exception), function, start, count, b"", exception)


def _write(image: RegisterImage, function: int, pdu: bytes) -> Writing:
    table = _WRITES[function]
    try:
        start, memory = _values(function, pdu)
    except (ValueError, struct.error):
        return _refuse(function, ILLEGAL_VALUE)
    width = 1 if table == "coil" else 2
    names = tuple(image.covering(table, start, len(memory) // width))
    allowed = bool(names) and all(image.slots[name].tag.written for name in names)
    if not allowed:
        return Writing(_exception(function, ILLEGAL_ADDRESS), names, ILLEGAL_ADDRESS)
    image.tables[table][start * width : start * width + len(memory)] = memory
    return Writing(pdu[:5], names)


def _values(function: int, pdu: bytes) -> tuple[int, bytes]:
    """Returns start and the new contents as the image keeps them. ValueError: malformed."""
    start, word = struct.unpack(">HH", pdu[1:5])
    if function == WRITE_COIL:
        if len(pdu) != 5 or word not in {_COIL_ON, _COIL_OFF}:  # noqa: PLR2004  # start, value
            raise ValueError
        return start, bytes([word == _COIL_ON])
    if function == WRITE_REGISTER:
        return start, struct.pack(">H", word)
    data = pdu[6:]
    expected = (word + 7) // 8 if function == WRITE_COILS else 2 * word
    if not word or len(data) != expected or pdu[5] != expected:
        raise ValueError
    return start, unpack_bits(data, word) if function == WRITE_COILS else data


def _refuse(function: int, exception: int) -> Writing:
    return Writing(_exception(function, exception), (), exception)


def _exception(function: int, code: int) -> bytes:
    return bytes([function | 0x80, code])
