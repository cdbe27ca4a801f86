"""S7 addresses as text: `area.place:type[extent]`.

    DB1.DBD0:REAL     DB1.DBX0.3:BOOL     DB1.DBB30:STRING[10]     DB1.DBB4:DTL
    M10.2    MW20    IW4    QB1    MD8:REAL        areas I Q M (E and A are read as I and Q)
    DB1.DBW0:INT[60]    DB1.DBW0:INT[1..60]        arrays; elements numbered from 0 or as declared
    DB1.DBB0:BYTE[8]    DB1.DBB0:CHAR[8]           bytes and text of fixed length

The letter is the size: X bit, B byte, W 2, D 4 bytes; what is of another size stands at B.
Without a type the letter gives one: BOOL BYTE WORD DWORD; a tag's own type may say it closer. Also
read: `%DB1.DBD0:REAL`, and the short forms `DB1.R0 DB1.X0.3 DB1.I2 DB1.DI4 DB1.S30.10`. Pure.
"""

import re
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from protocols.addressing import EXTENT, Extent, Linear, agreed_type, extent_of, linear_of, refuse
from protocols.driver import TagSpec
from protocols.samples import DataType


class Area(IntEnum):
    """Codes on the wire."""

    I = 0x81  # noqa: E741  # the name that everyone knows
    Q = 0x82
    M = 0x83
    DB = 0x84


@dataclass(frozen=True, slots=True)
class _Kind:
    type: DataType
    bytes_: int  # of one element; of text without its characters


_KINDS: Final = {
    "BOOL": _Kind(DataType.BOOL, 1),
    "BYTE": _Kind(DataType.UINT8, 1),
    "USINT": _Kind(DataType.UINT8, 1),
    "SINT": _Kind(DataType.INT8, 1),
    "CHAR": _Kind(DataType.TEXT, 1),
    "WCHAR": _Kind(DataType.TEXT, 2),
    "WORD": _Kind(DataType.UINT16, 2),
    "UINT": _Kind(DataType.UINT16, 2),
    "INT": _Kind(DataType.INT16, 2),
    "DWORD": _Kind(DataType.UINT32, 4),
    "UDINT": _Kind(DataType.UINT32, 4),
    "DINT": _Kind(DataType.INT32, 4),
    "REAL": _Kind(DataType.FLOAT32, 4),
    "LWORD": _Kind(DataType.UINT64, 8),
    "ULINT": _Kind(DataType.UINT64, 8),
    "LINT": _Kind(DataType.INT64, 8),
    "LREAL": _Kind(DataType.FLOAT64, 8),
    "S5TIME": _Kind(DataType.DURATION, 2),
    "TIME": _Kind(DataType.DURATION, 4),
    "LTIME": _Kind(DataType.DURATION, 8),
    "DATE": _Kind(DataType.DATE, 2),
    "TOD": _Kind(DataType.TIME, 4),
    "LTOD": _Kind(DataType.TIME, 8),
    "DT": _Kind(DataType.DATETIME, 8),
    "LDT": _Kind(DataType.DATETIME, 8),
    "DTL": _Kind(DataType.DATETIME, 12),
    "STRING": _Kind(DataType.TEXT, 2),
    "WSTRING": _Kind(DataType.TEXT, 4),
    "BYTES": _Kind(DataType.BYTES, 0),  # written BYTE[n]
    "CHARS": _Kind(DataType.TEXT, 0),  # written CHAR[n]
}
_ALIASES: Final = {"TIME_OF_DAY": "TOD", "DATE_AND_TIME": "DT", "LTIME_OF_DAY": "LTOD"}
_WRITTEN: Final = {"BYTES": "BYTE", "CHARS": "CHAR"}
_LENGTHS_MAX: Final = {"STRING": 254, "WSTRING": 16_382, "BYTES": 65_535, "CHARS": 65_535}
_BY_LETTER: Final = {"X": "BOOL", "B": "BYTE", "W": "WORD", "D": "DWORD"}
_BY_TYPE: Final = {
    ("B", DataType.INT8): "SINT",
    ("B", DataType.UINT8): "BYTE",
    ("W", DataType.INT16): "INT",
    ("W", DataType.UINT16): "WORD",
    ("D", DataType.INT32): "DINT",
    ("D", DataType.UINT32): "DWORD",
    ("D", DataType.FLOAT32): "REAL",
}
_LETTERS: Final = {1: "B", 2: "W", 4: "D"}
_SHORT: Final = {
    "X": "BOOL",
    "B": "BYTE",
    "C": "CHAR",
    "W": "WORD",
    "DW": "DWORD",
    "I": "INT",
    "DI": "DINT",
    "R": "REAL",
    "DT": "DT",
    "S": "STRING",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a value lies. `length`: characters or bytes of text and bytes; `bit` of a BOOL."""

    area: Area
    block: int
    start: int
    kind: str
    type: DataType
    bit: int = 0
    length: int = 0
    extent: Extent | None = None
    linear: Linear | None = None

    @property
    def is_array(self) -> bool:
        return self.extent is not None

    @property
    def size(self) -> int:
        """Bytes of one element."""
        width = 2 if self.kind == "WSTRING" else 1
        return _KINDS[self.kind].bytes_ + width * self.length

    @property
    def step(self) -> int:
        """Bytes from one element to the next; a PLC lays what is longer than one on even ones."""
        return self.size + self.size % 2 if self.size > 1 else 1

    @property
    def end(self) -> int:
        count = self.extent.count if self.extent else 1
        if self.kind == "BOOL":
            return self.start + (self.bit + count - 1) // 8 + 1
        return self.start + (count - 1) * self.step + self.size

    def element(self, number: int) -> "Address":
        """The address of one element, scaling left to the tag."""
        if self.kind == "BOOL":
            places, bit = divmod(self.bit + number, 8)
            return replace(self, start=self.start + places, bit=bit, extent=None, linear=None)
        return replace(self, start=self.start + number * self.step, extent=None, linear=None)

    def __str__(self) -> str:
        letter = "X" if self.kind == "BOOL" else _LETTERS.get(self.size, "B")
        letter = "B" if self.length else letter
        bit = f".{self.bit}" if self.kind == "BOOL" else ""
        length = f"[{self.length}]" if self.length else ""
        written = f"{_WRITTEN.get(self.kind, self.kind)}{length}{self.extent or ''}"
        if self.area is Area.DB:
            return f"DB{self.block}.DB{letter}{self.start}{bit}:{written}"
        return f"{self.area.name}{letter.replace('X', '')}{self.start}{bit}:{written}"


_TYPE: Final = rf"(?::(?P<type>[A-Za-z_]\w*)(?P<length>\[\d{{1,5}}\])??(?:{EXTENT})?)?"
_BLOCK: Final = re.compile(
    rf"%?DB(?P<block>\d{{1,5}})\.DB(?P<letter>[XBWD])(?P<start>\d{{1,7}})(?:\.(?P<bit>\d))?{_TYPE}",
    re.IGNORECASE,
)
_FLAT: Final = re.compile(
    rf"%?(?P<area>[IQMEA])(?P<letter>[XBWD]?)(?P<start>\d{{1,7}})(?:\.(?P<bit>\d))?{_TYPE}",
    re.IGNORECASE,
)
_SHORT_FORM: Final = re.compile(
    r"%?DB(?P<block>\d{1,5})\.(?P<short>X|B|C|W|DW|I|DI|R|DT|S)(?P<start>\d{1,7})"
    r"(?:\.(?P<extra>\d{1,3}))?",
    re.IGNORECASE,
)
_AREAS: Final = {"I": Area.I, "E": Area.I, "Q": Area.Q, "A": Area.Q, "M": Area.M}
_NUMBER_MAX: Final = 65_535
_BIT_MAX: Final = 7


def parse(spec: TagSpec) -> Address:
    """The address of a tag. ConfigError: with the way out."""
    text = _from_short(spec, spec.address.strip())
    match = _BLOCK.fullmatch(text) or _FLAT.fullmatch(text)
    if match is None:
        why = "not an S7 address"
        raise refuse(spec, why, "Write DB1.DBD0:REAL, DB1.DBX0.3:BOOL, M10.2, IW4 or the like.")
    groups = match.groupdict()
    letter = _letter(spec, groups)
    extent = extent_of(spec, match)
    kind, length, extent = _kind(spec, groups, letter, extent)
    type_ = agreed_type(spec, _KINDS[kind].type, extent)
    address = Address(
        _AREAS[groups["area"].upper()] if groups.get("area") else Area.DB,
        int(groups.get("block") or 0),
        int(groups["start"] or 0),
        kind,
        type_,
        int(groups["bit"] or 0),
        length,
        extent,
        linear_of(spec, type_, 1.0, 0.0),
    )
    _check(spec, address, letter, has_bit=groups["bit"] is not None)
    return address


def _from_short(spec: TagSpec, text: str) -> str:
    """`DB1.R0` as `DB1.DBD0:REAL`; other text as it is."""
    found = _SHORT_FORM.fullmatch(text)
    if found is None:
        return text
    kind, extra = _SHORT[found["short"].upper()], found["extra"]
    head, start = f"DB{found['block']}.DB", found["start"]
    match kind, extra:
        case "BOOL", str(bit):
            return f"{head}X{start}.{bit}:BOOL"
        case "STRING", str(length):
            return f"{head}B{start}:STRING[{length}]"
        case ("BOOL", None) | (_, str()):
            why = "X and S take a second number, nothing else does"
            raise refuse(spec, why, "Write DB1.X0.3 for a bit, DB1.S30.10 for a STRING[10].")
        case _:
            return f"{head}{_LETTERS.get(_KINDS[kind].bytes_, 'B')}{start}:{kind}"


def _letter(spec: TagSpec, groups: dict[str, str | None]) -> str:
    letter = (groups["letter"] or "").upper()
    if not letter:
        if groups["bit"] is None:
            why = "neither a bit nor a size"
            raise refuse(spec, why, "Write M10.2 for a bit, MB10 MW10 MD10 for 1, 2, 4 bytes.")
        return "X"
    return letter


def _kind(
    spec: TagSpec, groups: dict[str, str | None], letter: str, extent: Extent | None
) -> tuple[str, int, Extent | None]:
    """Kind, length of text or bytes, and what remains as the extent of an array."""
    name = (groups["type"] or "").upper()
    length = int((groups["length"] or "[0]")[1:-1])
    if not name:
        element = spec.type.element if spec.type else None
        kind = _BY_LETTER[letter] if element is None else _BY_TYPE.get((letter, element))
        return kind or _BY_LETTER[letter], 0, None
    kind = _ALIASES.get(name, name)
    if kind not in _KINDS or kind in _WRITTEN:
        known = " ".join(sorted(set(_KINDS) - set(_WRITTEN)))
        raise refuse(spec, f"no type {name!r} in S7", f"Types are {known}.")
    kind = _fixed_kind(spec, kind, has_number=groups["count"] is not None)
    if kind not in _LENGTHS_MAX:
        if length:
            raise refuse(spec, f"two lengths behind {name}", "Write TYPE[n].")
        return kind, 0, extent
    if not length and groups["count"] is not None and extent is not None:
        length, extent = extent.count, None
    if not length and kind == "STRING":
        length = 254
    if not 1 <= length <= _LENGTHS_MAX[kind]:
        why = f"{name} of {length}"
        raise refuse(spec, why, f"Write {name}[n], n from 1 to {_LENGTHS_MAX[kind]}.")
    return kind, length, extent


def _fixed_kind(spec: TagSpec, kind: str, *, has_number: bool) -> str:
    """`BYTE[8]` is bytes and `CHAR[8]` text, unless the tag says that BYTE[8] are numbers."""
    if not has_number or kind not in {"BYTE", "CHAR"}:
        return kind
    if kind == "CHAR":
        return "CHARS"
    return "BYTE" if spec.type in {DataType.UINT8, DataType.UINT8S} else "BYTES"


def _check(spec: TagSpec, address: Address, letter: str, *, has_bit: bool) -> None:
    """What the grammar alone cannot see."""
    if (address.kind == "BOOL") != (letter == "X"):
        why = f"{address.kind} at a place of size {letter}"
        raise refuse(spec, why, "X is for BOOL, B W D for 1, 2, 4 bytes.")
    if has_bit != (letter == "X"):
        raise refuse(spec, "a bit belongs to X", "Write DB1.DBX0.3:BOOL, DB1.DBB0 without a bit.")
    wanted = _LETTERS.get(address.size)
    if letter != "X" and not address.length and wanted is not None and letter != wanted:
        why = f"{address.kind} has {address.size} bytes, {letter} says otherwise"
        raise refuse(spec, why, f"Write DB{wanted} in place of DB{letter}.")
    if address.bit > _BIT_MAX:
        raise refuse(spec, f"bit {address.bit} of 8", "Bits are 0 to 7.")
    if address.block > _NUMBER_MAX or (address.area is Area.DB and address.block < 1):
        raise refuse(spec, f"no block DB{address.block}", "Blocks are DB1 to DB65535.")
    if address.end > _NUMBER_MAX + 1:
        raise refuse(spec, "address out of range", "Bytes are 0 to 65535.")
