"""The four tables of one Modbus unit as memory, and the addresses of its tags.

Pure: typed values to registers and back in four byte orders. Owns the placing: tags of the station
from 0, analogue signals from 1000, the block of all types from 4000, in each table.
"""

from collections.abc import Iterable

from simulators.image import Slot
from simulators.scalars import (
    NUMBER_KINDS,
    bytes_to_number,
    number_size,
    number_to_bytes,
    text_to_bytes,
)
from simulators.tags import TEXT_KINDS, Kind, Scalar, Tag, Value, zero_of

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
TABLES = ("coil", "discrete", "input", "holding")
BIT_TABLES = frozenset({"coil", "discrete"})
ANALOG_START = 1000
TYPES_START = 4000


class RegisterImage:
    """One unit. Bits are kept one to a byte, registers two bytes each, big-endian."""

    def __init__(self, unit: int, order: str) -> None:
        self.unit = unit
        self.slots: dict[str, Slot] = {}
        self.tables: dict[str, bytearray] = {table: bytearray() for table in TABLES}
        self._order = order

    def place(self, tags: Iterable[Tag], start: int = 0) -> None:
        """Gives each tag the next free place at or after `start` of its table."""
        free = dict.fromkeys(TABLES, start)
        for tag in tags:
            table, order = _table_and_order(tag, self._order)
            length = tag.elements * _units_of(tag, table)
            address = self._address(tag, table, free[table], order)
            self.slots[tag.name] = Slot(tag, table, free[table], length, 0, address)
            free[table] += length
            self._grow(table, free[table])
            self.put(tag.name, zero_of(tag))

    def put(self, name: str, value: Value) -> None:
        slot = self.slots[name]
        raw = self._encode(slot, value)
        at = slot.start * _width(slot.area)
        self.tables[slot.area][at : at + len(raw)] = raw

    def get(self, name: str) -> Value:
        slot = self.slots[name]
        width = _width(slot.area)
        at = slot.start * width
        return self._decode(slot, bytes(self.tables[slot.area][at : at + slot.length * width]))

    def size(self, table: str) -> int:
        return len(self.tables[table]) // _width(table)

    def decode(self, table: str, start: int, raw: bytes) -> dict[str, Value]:
        """Returns the tags that lie wholly in `raw` (bits one to a byte), by name."""
        width = _width(table)
        end = start + len(raw) // width
        found = {}
        for name, slot in self.slots.items():
            if slot.area == table and start <= slot.start and slot.start + slot.length <= end:
                at = (slot.start - start) * width
                found[name] = self._decode(slot, raw[at : at + slot.length * width])
        return found

    def covering(self, table: str, start: int, count: int) -> list[str]:
        """Returns the names of tags that a write of these places touches."""
        return [
            name
            for name, slot in self.slots.items()
            if slot.area == table
            and slot.start < start + count
            and start < slot.start + slot.length
        ]

    def _grow(self, table: str, size: int) -> None:
        missing = size * _width(table) - len(self.tables[table])
        self.tables[table].extend(bytes(max(missing, 0)))

    def _address(self, tag: Tag, table: str, start: int, order: str) -> str:
        parameters = []
        if order in _orders_that_matter(tag):
            parameters.append(f"order={order}")
        if self.unit != 1:
            parameters.append(f"unit={self.unit}")
        query = f"?{'&'.join(parameters)}" if parameters else ""
        return f"{table}:{start}:{_type_name(tag)}{query}"

    def _encode(self, slot: Slot, value: Value) -> bytes:
        order = _table_and_order(slot.tag, self._order)[1]
        values = value if isinstance(value, list) else [value]
        return b"".join(_scalar_to_bytes(slot, item, order) for item in values)

    def _decode(self, slot: Slot, raw: bytes) -> Value:
        order = _table_and_order(slot.tag, self._order)[1]
        if not slot.tag.count:
            return _bytes_to_scalar(slot, raw, order)
        step = len(raw) // slot.tag.count
        parts = [raw[i : i + step] for i in range(0, len(raw), step)]
        return [_bytes_to_scalar(slot, part, order) for part in parts]  # type: ignore[return-value]  # one kind each


def _table_and_order(tag: Tag, order: str) -> tuple[str, str]:
    """A tag's form names a table, a byte order, or both (`input CDAB`)."""
    table = "coil" if tag.kind is Kind.BOOL else "holding"
    for word in tag.form.split():
        if word in TABLES:
            table = word
        elif word in ORDERS:
            order = word
    return table, order


def _orders_that_matter(tag: Tag) -> tuple[str, ...]:
    """Words of one register cannot be swapped, text and bits have no order."""
    if tag.kind in TEXT_KINDS | {Kind.BOOL}:
        return ()
    return ORDERS[1:] if _units_of(tag, "holding") > 1 else ORDERS[2:]


def _width(table: str) -> int:
    return 1 if table in BIT_TABLES else 2


def _units_of(tag: Tag, table: str) -> int:
    if table in BIT_TABLES:
        return 1
    if tag.kind in TEXT_KINDS:
        return (tag.size + 1) // 2
    if tag.kind is Kind.BOOL:
        return 1
    return max(number_size(_stored_kind(tag.kind)) // 2, 1)


def _stored_kind(kind: Kind) -> Kind:
    """Modbus has no dates: a time is microseconds since 1970 in 64 bit."""
    return kind if kind in NUMBER_KINDS else Kind.INT64


def _type_name(tag: Tag) -> str:
    if tag.kind is Kind.TEXT:
        return f"text[{tag.size}]"
    if tag.kind is Kind.BYTES:
        return f"bytes[{tag.size}]"
    name = tag.kind if tag.kind is Kind.BOOL else _stored_kind(tag.kind)
    return f"{name}{tag.extent}"


def _scalar_to_bytes(slot: Slot, value: Scalar, order: str) -> bytes:
    tag = slot.tag
    if tag.kind is Kind.BOOL:
        return bytes([bool(value)]) if slot.area in BIT_TABLES else bytes([0, bool(value)])
    if tag.kind in TEXT_KINDS:
        raw = text_to_bytes(value, tag.size) if isinstance(value, str) else value
        if not isinstance(raw, bytes):
            raise TypeError(f"{tag.name} takes text or bytes, not {value!r}")
        return raw[: tag.size].ljust(_units_of(tag, slot.area) * 2, b"\0")
    if tag.kind not in NUMBER_KINDS:
        return _reorder(number_to_bytes(Kind.INT64, _microseconds(value)), order)
    return _reorder(number_to_bytes(tag.kind, value).rjust(2, b"\0"), order)


def _bytes_to_scalar(slot: Slot, raw: bytes, order: str) -> Scalar:
    tag = slot.tag
    if tag.kind is Kind.BOOL:
        return any(raw)
    if tag.kind is Kind.TEXT:
        return raw[: tag.size].rstrip(b"\0").decode(errors="replace")
    if tag.kind is Kind.BYTES:
        return raw[: tag.size]
    if tag.kind not in NUMBER_KINDS:
        return int(bytes_to_number(Kind.INT64, _reorder(raw, order))) * 1000
    return bytes_to_number(tag.kind, _reorder(raw, order)[-number_size(tag.kind) :])


def _microseconds(value: Scalar) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a time is whole nanoseconds, not {value!r}")
    return value // 1000


def _reorder(raw: bytes, order: str) -> bytes:
    """Turns ABCD into the wire's order and back: every order is its own inverse."""
    words = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    if order in {"CDAB", "DCBA"}:
        words.reverse()
    if order in {"BADC", "DCBA"}:
        words = [word[::-1] for word in words]
    return b"".join(words)
