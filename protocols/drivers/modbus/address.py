"""Modbus addresses as text: `table:start[.part]:type[extent][?order=…&unit=…&scale=…&offset=…]`.

    holding:300:float32?order=CDAB&unit=2     two registers, from number 300 (0-based)
    holding:300.3:bool                        bit 3 of a register (0 is the least significant)
    holding:7.h:uint8                         the high byte; without `.h` the low one
    input:40:text[20]   holding:40:bytes[8]   bytes, two a register, first byte first
    coil:12:bool   discrete:0:bool[16]        holding:0:int16[1..60] elements numbered 1 to 60

Also read: `400301` (6 digits, 1-based, first digit the table), `2!400301` with the unit before it,
and `name.holding.300.FLOAT32:scale=0.1:slaveID=2`. Pure.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, get_args
from urllib.parse import parse_qsl

from protocols.addressing import EXTENT, Extent, Linear, agreed_type, extent_of, linear_of, refuse
from protocols.driver import TagSpec
from protocols.drivers.modbus.config import ModbusConnection, Order
from protocols.errors import ConfigError
from protocols.samples import DataType


class Table(StrEnum):
    COIL = "coil"
    DISCRETE = "discrete"
    INPUT = "input"
    HOLDING = "holding"

    @property
    def is_bits(self) -> bool:
        return self in {Table.COIL, Table.DISCRETE}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a value lies. `bytes_`: length of text or bytes; `bit` and `high` within a register."""

    table: Table
    start: int
    type: DataType
    unit: int
    order: Order
    bit: int | None = None
    high: bool = False
    bytes_: int = 0
    extent: Extent | None = None
    linear: Linear | None = None

    @property
    def is_array(self) -> bool:
        return self.extent is not None

    @property
    def step(self) -> int:
        """Registers (bits, in the tables of bits) from one element to the next."""
        if self.table.is_bits or self.bit is not None:
            return 1
        return (_SIZES.get(self.type, self.bytes_) + 1) // 2

    @property
    def end(self) -> int:
        """The first register or bit after the value."""
        count = self.extent.count if self.extent else 1
        if self.bit is not None:
            return self.start + (self.bit + count - 1) // 16 + 1
        return self.start + count * self.step

    def element(self, number: int) -> "Address":
        """The address of one element, scaling left to the tag."""
        if self.bit is None:
            return replace(self, start=self.start + number * self.step, extent=None, linear=None)
        registers, bit = divmod(self.bit + number, 16)
        return replace(self, start=self.start + registers, bit=bit, extent=None, linear=None)

    def __str__(self) -> str:
        part = f".{self.bit}" if self.bit is not None else ".h" if self.high else ""
        length = f"[{self.bytes_}]" if self.bytes_ else ""
        extent = str(self.extent) if self.extent else ""
        has_order = self.order != "ABCD" and not self.table.is_bits
        options = [f"order={self.order}"] if has_order else []
        options.append(f"unit={self.unit}")
        return f"{self.table}:{self.start}{part}:{self.type}{length}{extent}?{'&'.join(options)}"


_SIZES: Final = {
    DataType.BOOL: 2,
    **dict.fromkeys((DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16), 2),
    **dict.fromkeys((DataType.INT32, DataType.UINT32, DataType.FLOAT32), 4),
    **dict.fromkeys((DataType.INT64, DataType.UINT64, DataType.FLOAT64), 8),
}
_BYTES: Final = {DataType.TEXT, DataType.BYTES}
_SUPPORTED: Final = frozenset(_SIZES) | _BYTES
_NAMES: Final = {
    **{type_.value: type_ for type_ in _SUPPORTED},
    "bit": DataType.BOOL,
    "boolean": DataType.BOOL,
    "float": DataType.FLOAT32,
    "double": DataType.FLOAT64,
    "string": DataType.TEXT,
}
_DIGITS: Final = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}
_PART: Final = r"(?:\.(?P<part>\d{1,2}|[hHlL]))?"
_TYPE: Final = rf"(?::(?P<type>[A-Za-z]+\d*)(?P<bytes>\[\d{{1,4}}\])??(?:{EXTENT})?)?"
_QUERY: Final = r"(?:\?(?P<query>.*))?"
_CANONICAL: Final = re.compile(
    rf"(?P<table>coil|discrete|input|holding):(?P<start>\d{{1,6}}){_PART}{_TYPE}{_QUERY}",
    re.IGNORECASE,
)
_NUMBERED: Final = re.compile(
    rf"(?:(?P<unit>\d{{1,3}})!)?(?P<digit>[0134])(?P<place>\d{{5}}){_PART}{_TYPE}{_QUERY}"
)
_DOTTED: Final = re.compile(
    r"[^.:]+\.(?P<table>coil|discrete|input|holding)\.(?P<start>\d{1,6})\.(?P<type>\w+)"
    r"(?P<query>(?::\w+=[^:]*)*)",
    re.IGNORECASE,
)
_OPTIONS: Final = {"order", "unit", "scale", "offset"}
_DOTTED_OPTIONS: Final = {"slaveid": "unit", "scale": "scale", "offset": "offset"}


def parse(spec: TagSpec, connection: ModbusConnection) -> Address:
    """The address of a tag. ConfigError: with the way out."""
    text = spec.address.strip()
    match = _CANONICAL.fullmatch(text) or _NUMBERED.fullmatch(text)
    if match is None:
        text = _from_dotted(spec, text)
        match = _CANONICAL.fullmatch(text)
    if match is None:
        raise _unreadable(spec)
    groups = match.groupdict()
    options = _options(spec, groups["query"] or "")
    table, start = _place(spec, groups)
    if groups.get("unit"):
        options.setdefault("unit", groups["unit"])
    length, extent = _length_and_extent(spec, match)
    type_ = agreed_type(spec, _named_type(spec, groups["type"], table), extent)
    address = Address(
        table,
        start,
        type_,
        unit=_unit(spec, options.get("unit"), connection),
        order=_order(spec, options.get("order"), connection),
        bit=int(groups["part"]) if (groups["part"] or "").isdigit() else None,
        high=(groups["part"] or "").lower() == "h",
        bytes_=length,
        extent=extent,
        linear=linear_of(
            spec, type_, _number(spec, options, "scale", 1.0), _number(spec, options, "offset", 0.0)
        ),
    )
    _check(spec, address)
    return address


def _unreadable(spec: TagSpec) -> ConfigError:
    if "#" in spec.address:
        why = "an order written with # means different things in different versions"
        return refuse(spec, why, "Write the table, e.g. holding:300:float32?order=CDAB.")
    why = "not a Modbus address"
    return refuse(spec, why, "Write table:start:type, e.g. holding:300:float32 (0-based).")


def _from_dotted(spec: TagSpec, text: str) -> str:
    match = _DOTTED.fullmatch(text)
    if match is None:
        raise _unreadable(spec)
    pairs = [pair.split("=", 1) for pair in match["query"].split(":") if pair]
    query = "&".join(f"{_DOTTED_OPTIONS.get(k.lower(), k)}={v}" for k, v in pairs)
    return f"{match['table']}:{match['start']}:{match['type']}" + (f"?{query}" if query else "")


def _options(spec: TagSpec, query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    wrong = [key for key, _ in pairs if key not in _OPTIONS]
    if wrong or len(dict(pairs)) != len(pairs) or (query and not pairs):
        why = f"unknown or doubled option {wrong[0] if wrong else query!r}"
        raise refuse(spec, why, "Options are order, unit, scale and offset, each once.")
    return dict(pairs)


def _place(spec: TagSpec, groups: dict[str, str | None]) -> tuple[Table, int]:
    if groups.get("digit"):
        table, start = _DIGITS[str(groups["digit"])], int(str(groups["place"])) - 1
    else:
        table, start = Table(str(groups["table"]).lower()), int(str(groups["start"]))
    if not 0 <= start <= 65_535:  # noqa: PLR2004  # 16 bit on the wire
        raise refuse(spec, "address out of range", "Tables end at 65535 (0-based).")
    return table, start


def _named_type(spec: TagSpec, name: str | None, table: Table) -> DataType | None:
    if name is None:
        return DataType.BOOL if table.is_bits else None
    found = _NAMES.get(name.lower())
    if found is None:
        known = " ".join(sorted(_SUPPORTED))
        raise refuse(spec, f"no type {name!r} in Modbus", f"Types are {known}.")
    return found


def _length_and_extent(spec: TagSpec, match: re.Match[str]) -> tuple[int, Extent | None]:
    """`text[20]` is a length, `int16[20]` an extent, `text[20][4]` both."""
    length = match["bytes"]
    extent = extent_of(spec, match)
    name = (match["type"] or "").lower()
    is_bytes = _NAMES.get(name) in _BYTES
    if length is None and is_bytes and extent is not None and match["count"]:
        return extent.count, None
    if length is not None and not is_bytes:
        raise refuse(spec, f"two lengths behind {name}", "Write type[n].")
    if is_bytes and length is None:
        raise refuse(spec, f"{name} without a length", f"Write {name}[n], n in bytes.")
    return int(length[1:-1]) if length else 0, extent


def _unit(spec: TagSpec, text: str | None, connection: ModbusConnection) -> int:
    if text is None:
        return connection.unit
    if not text.isascii() or not text.isdigit() or int(text) > 255:  # noqa: PLR2004  # one byte
        raise refuse(spec, f"unit {text!r} is no number of a unit", "Units are 0 to 255.")
    return int(text)


def _order(spec: TagSpec, text: str | None, connection: ModbusConnection) -> Order:
    if text is None:
        return connection.order
    for order in get_args(Order):
        if text.upper() == order:
            known: Order = order
            return known
    raise refuse(spec, f"no order {text!r}", "Orders are ABCD CDAB BADC DCBA.")


def _number(spec: TagSpec, options: dict[str, str], key: str, default: float) -> float:
    try:
        return float(options.get(key, default))
    except ValueError as error:
        raise refuse(spec, f"{key} is not a number", "Write it like 0.1.") from error


def _check(spec: TagSpec, address: Address) -> None:
    """What the grammar alone cannot see."""
    if address.type not in _SUPPORTED:
        why = f"Modbus has no {address.type}"
        raise refuse(spec, why, "Read the registers as a number or as bytes[n].")
    if address.table.is_bits and address.type is not DataType.BOOL:
        raise refuse(spec, f"a {address.table} holds one bit", "Its type is bool.")
    if address.type in _BYTES and address.bytes_ < 1:
        raise refuse(spec, f"{address.type} without a length", f"Write {address.type}[n].")
    _check_part(spec, address)
    if address.end > 65_536:  # noqa: PLR2004  # 16 bit on the wire
        raise refuse(spec, "the value ends behind the table", "Tables end at 65535 (0-based).")


def _check_part(spec: TagSpec, address: Address) -> None:
    is_register = not address.table.is_bits
    if is_register and address.type is DataType.BOOL and address.bit is None:
        why = "a register is no bit"
        raise refuse(spec, why, f"Name the bit: {address.table}:{address.start}.0:bool.")
    has_bit = address.bit is not None
    if has_bit and (not is_register or address.type is not DataType.BOOL):
        raise refuse(spec, "only a bool in a register has a bit", "Leave the part behind . out.")
    if has_bit and not 0 <= (address.bit or 0) <= 15:  # noqa: PLR2004  # 16 bits
        raise refuse(spec, f"bit {address.bit} of 16", "Bits are 0 to 15.")
    if address.high and address.type not in {DataType.INT8, DataType.UINT8}:
        raise refuse(spec, "only int8 and uint8 have a high byte", "Leave .h out.")
