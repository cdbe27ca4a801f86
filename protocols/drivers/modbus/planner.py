"""Tags to the fewest Modbus reads, and where each value lies in what they bring. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from protocols.addressing import Part, lay_out, understand
from protocols.driver import Mode, NodeReading, TagSpec
from protocols.drivers.modbus.address import Address, Table, parse
from protocols.drivers.modbus.config import ModbusConnection
from protocols.drivers.modbus.decode import decode_of, places_of
from protocols.image import Block, Decode, Decoder, Field, Limits, Space, Stretch, pack
from protocols.reading import Rows

FUNCTIONS: Final = {Table.COIL: 1, Table.DISCRETE: 2, Table.HOLDING: 3, Table.INPUT: 4}
_TABLES: Final = {function: table for table, function in FUNCTIONS.items()}


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ModbusPlan:
    """Blocks to read (space: unit and function), and how their image becomes rows."""

    rows: Rows
    blocks: tuple[Block, ...]
    image_bytes: int
    decoder: Decoder
    limits: Callable[[Space], Limits]

    @property
    def tags(self) -> tuple[TagSpec, ...]:
        return self.rows.specs

    @property
    def requests(self) -> int:
        return len(self.blocks)

    @property
    def readings(self) -> tuple[NodeReading, ...]:
        found: dict[int, NodeReading] = {}
        for number, block in enumerate(self.blocks):
            for stretch in block.stretches:
                row = self.rows.row_of(stretch.cell)
                path = self.rows.tags[row].path
                found.setdefault(row, NodeReading(path, number, describe(block)))
        return tuple(found[row] for row in sorted(found))


def make_plan(connection: ModbusConnection, tags: Sequence[TagSpec], mode: Mode) -> ModbusPlan:
    """ConfigError: every tag that cannot be read, all at once."""
    entries = understand(tags, partial(parse, connection=connection))
    rows, parts = lay_out(entries, mode)
    limits = partial(limits_of, connection)
    packed = pack((_stretch(part.address, cell) for cell, part in enumerate(parts)), limits)
    decode = decode_of(connection.text_encoding)
    places = packed.places.tolist()
    fields = (_field(*each, decode) for each in zip(range(len(parts)), parts, places, strict=True))
    return ModbusPlan(rows, packed.blocks, packed.size, Decoder(fields), limits)


def describe(block: Block) -> str:
    unit, function = block.space
    last = block.start + block.size - 1
    return f"unit {unit} function {function} {_TABLES[function]} {block.start}..{last}"


def limits_of(connection: ModbusConnection, space: Space) -> Limits:
    if _TABLES[space[1]].is_bits:
        return Limits(connection.bits_max, connection.gap_bits, width=1)
    return Limits(connection.registers_max, connection.gap_registers, width=2)


def _stretch(address: Address, cell: int) -> Stretch:
    space = (address.unit, FUNCTIONS[address.table])
    return Stretch(space, address.start, address.step, cell)


def _field(
    cell: int, part: Part[Address], place: int, decode: Callable[[Address], Decode]
) -> Field:
    address = part.address
    places = places_of(address, place)
    return Field(cell, places, address.type.value_class, decode(address), part.linear)
