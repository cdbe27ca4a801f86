"""The data blocks of one S7 device as memory, and the addresses of its tags.

Pure. Owns the placing as a PLC compiler does it without optimised access: bits packed, everything
of two bytes or more on an even byte. Station tags, analogue signals and the block of all types have
a data block each.
"""

from collections.abc import Iterable

from simulators.image import Slot
from simulators.s7times import TIME_FORMS, bytes_to_time, time_size, time_to_bytes
from simulators.scalars import (
    NUMBER_KINDS,
    bytes_to_number,
    number_size,
    number_to_bytes,
    numbers_to_bytes,
    text_to_bytes,
)
from simulators.tags import FLOAT_KINDS, Kind, Scalar, Tag, Value, zero_of

_NAMES: dict[Kind, str] = {
    Kind.BOOL: "BOOL",
    Kind.INT8: "SINT",
    Kind.UINT8: "USINT",
    Kind.INT16: "INT",
    Kind.UINT16: "UINT",
    Kind.INT32: "DINT",
    Kind.UINT32: "UDINT",
    Kind.INT64: "LINT",
    Kind.UINT64: "ULINT",
    Kind.FLOAT32: "REAL",
    Kind.FLOAT64: "LREAL",
    Kind.BYTES: "BYTE",
}
STRING_ENCODING = "latin-1"  # a STRING has one byte a character; WSTRING is for the rest
_PREFIXES = {1: "DBB", 2: "DBW", 4: "DBD"}
_BITS = 8


class BlockImage:
    """All data blocks of one device, by number."""

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}
        self.blocks: dict[int, bytearray] = {}

    def place(self, tags: Iterable[Tag], block: int) -> None:
        """Lays the tags into a new data block, in their order."""
        free_bits = 0
        self.blocks[block] = bytearray()
        for tag in tags:
            start_bits = _align(free_bits, tag)
            free_bits = start_bits + _bits_of(tag)
            byte, bit = divmod(start_bits, _BITS)
            length = (free_bits + _BITS - 1) // _BITS - byte
            address = _address(block, byte, bit, tag)
            self.slots[tag.name] = Slot(tag, f"DB{block}", byte, length, bit, address)
        self.blocks[block].extend(bytes((free_bits + 15) // 16 * 2))
        for tag in tags:
            self.put(tag.name, zero_of(tag))

    def put(self, name: str, value: Value) -> None:
        slot = self.slots[name]
        memory = self.blocks[int(slot.area[2:])]
        if slot.tag.kind is Kind.BOOL:
            _put_bits(memory, slot, value if isinstance(value, list) else [value])
        else:
            raw = _encode(slot.tag, value)
            memory[slot.start : slot.start + len(raw)] = raw

    def get(self, name: str) -> Value:
        slot = self.slots[name]
        memory = self.blocks[int(slot.area[2:])]
        return _decode(slot, bytes(memory[slot.start : slot.start + slot.length]))

    def decode(self, block: int, start: int, raw: bytes) -> dict[str, Value]:
        """Returns the tags that lie wholly in `raw`, by name."""
        end = start + len(raw)
        return {
            name: _decode(slot, raw[slot.start - start : slot.start - start + slot.length])
            for name, slot in self.slots.items()
            if slot.area == f"DB{block}" and start <= slot.start and slot.start + slot.length <= end
        }

    def covering(self, block: int, first_bit: int, bits: int) -> list[str]:
        """Returns the names of tags that a write of these bits touches."""
        return [
            name
            for name, slot in self.slots.items()
            if slot.area == f"DB{block}" and _overlaps(slot, first_bit, bits)
        ]


def _overlaps(slot: Slot, first_bit: int, bits: int) -> bool:
    start = slot.start * _BITS + slot.bit
    own = slot.tag.elements if slot.tag.kind is Kind.BOOL else slot.length * _BITS
    return start < first_bit + bits and first_bit < start + own


def _form(tag: Tag) -> str:
    if tag.kind in TIME_FORMS:
        return tag.form if tag.form in TIME_FORMS[tag.kind] else TIME_FORMS[tag.kind][0]
    return tag.form if tag.form == "WSTRING" else "STRING"


def _element_size(tag: Tag) -> int:
    if tag.kind in NUMBER_KINDS:
        return number_size(tag.kind)
    if tag.kind is Kind.TEXT:
        return 4 + 2 * tag.size if _form(tag) == "WSTRING" else 2 + tag.size
    if tag.kind is Kind.BYTES:
        return tag.size
    return time_size(_form(tag))


def _bits_of(tag: Tag) -> int:
    if tag.kind is Kind.BOOL:
        return tag.elements
    size = _element_size(tag)
    step = size + size % 2 if size > 1 and tag.count else size
    return step * tag.elements * _BITS


def _align(free_bits: int, tag: Tag) -> int:
    if tag.kind is Kind.BOOL and not tag.count:
        return free_bits
    unit = _BITS if not tag.count and tag.kind in {Kind.INT8, Kind.UINT8} else 2 * _BITS
    return (free_bits + unit - 1) // unit * unit


def _address(block: int, byte: int, bit: int, tag: Tag) -> str:
    if tag.kind is Kind.BOOL:
        return f"DB{block}.DBX{byte}.{bit}:BOOL{tag.extent}"
    if tag.kind is Kind.TEXT:
        return f"DB{block}.DBB{byte}:{_form(tag)}[{tag.size}]"
    if tag.kind is Kind.BYTES:
        return f"DB{block}.DBB{byte}:BYTE[{tag.size}]"
    name = _NAMES.get(tag.kind) or _form(tag)
    return f"DB{block}.{_PREFIXES.get(_element_size(tag), 'DBB')}{byte}:{name}{tag.extent}"


def _put_bits(memory: bytearray, slot: Slot, values: list[bool] | list[Scalar] | Value) -> None:
    if not isinstance(values, list):
        raise TypeError(f"{slot.tag.name} takes bits, not {values!r}")
    for number, value in enumerate(values):
        byte, bit = divmod(slot.bit + number, _BITS)
        mask = 1 << bit
        at = slot.start + byte
        memory[at] = memory[at] | mask if value else memory[at] & ~mask


def _encode(tag: Tag, value: Value) -> bytes:
    if not isinstance(value, list):
        return _scalar_to_bytes(tag, value)
    if tag.kind in FLOAT_KINDS:
        return numbers_to_bytes(tag.kind, [float(item) for item in value])
    return b"".join(_scalar_to_bytes(tag, item) for item in value)


def _scalar_to_bytes(tag: Tag, value: Scalar) -> bytes:
    if tag.kind in NUMBER_KINDS:
        return number_to_bytes(tag.kind, value)
    if tag.kind is Kind.TEXT and isinstance(value, str):
        return _string_to_bytes(tag, value)
    if tag.kind is Kind.BYTES and isinstance(value, bytes):
        return value[: tag.size].ljust(tag.size, b"\0")
    if tag.kind in TIME_FORMS and isinstance(value, int):
        return time_to_bytes(_form(tag), value)
    raise TypeError(f"{tag.name} ({tag.kind}) cannot hold {value!r}")


def _string_to_bytes(tag: Tag, text: str) -> bytes:
    if _form(tag) == "WSTRING":
        wide = text.encode("utf-16-be")[: 2 * tag.size]
        head = tag.size.to_bytes(2, "big") + (len(wide) // 2).to_bytes(2, "big")
        return (head + wide).ljust(4 + 2 * tag.size, b"\0")
    raw = text_to_bytes(text, tag.size, STRING_ENCODING)
    return bytes([tag.size, len(raw)]) + raw.ljust(tag.size, b"\0")


def _decode(slot: Slot, raw: bytes) -> Value:
    tag = slot.tag
    if tag.kind is Kind.BOOL:
        bits = [
            bool(raw[(slot.bit + i) // _BITS] >> (slot.bit + i) % _BITS & 1)
            for i in range(tag.elements)
        ]
        return bits if tag.count else bits[0]
    if not tag.count:
        return _bytes_to_scalar(tag, raw)
    step = len(raw) // tag.count
    parts = [raw[i : i + step] for i in range(0, step * tag.count, step)]
    return [_bytes_to_scalar(tag, part) for part in parts]  # type: ignore[return-value]  # one kind each


def _bytes_to_scalar(tag: Tag, raw: bytes) -> Scalar:
    if tag.kind in NUMBER_KINDS:
        return bytes_to_number(tag.kind, raw)
    if tag.kind is Kind.BYTES:
        return raw
    if tag.kind is not Kind.TEXT:
        return bytes_to_time(_form(tag), raw)
    if _form(tag) == "WSTRING":
        length = int.from_bytes(raw[2:4], "big")
        return raw[4 : 4 + 2 * length].decode("utf-16-be")
    return raw[2 : 2 + raw[1]].decode(STRING_ENCODING)
