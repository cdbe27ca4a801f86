"""Tags to the fewest S7 reads, and where each value lies in what they bring. Pure.

How long a block may be is known once the PLC has granted a PDU: a plan is cut for it then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from protocols.addressing import Part, lay_out, understand
from protocols.driver import Mode, NodeReading, TagSpec
from protocols.drivers.s7.address import Address, Area, parse
from protocols.drivers.s7.config import S7Connection
from protocols.drivers.s7.decode import decode_of
from protocols.drivers.s7.wire import block_bytes_max, group
from protocols.image import Block, Decode, Decoder, Field, Limits, Space, Stretch, pack
from protocols.reading import Rows

_USUAL_PDU_BYTES: Final = 480  # of an S7-1500 and 400; 240 of an S7-1200 and 300


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A plan for one length of PDU: blocks (space: area and block), and their image's meaning."""

    blocks: tuple[Block, ...]
    image_bytes: int
    decoder: Decoder
    limits: Callable[[Space], Limits]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class S7Plan:
    """Requests and readings are stated for a PDU of 480 bytes, or less if the user says so."""

    rows: Rows
    parts: tuple[Part[Address], ...]
    connection: S7Connection
    usual: tuple[tuple[Block, ...], ...]

    @property
    def tags(self) -> tuple[TagSpec, ...]:
        return self.rows.specs

    @property
    def requests(self) -> int:
        return len(self.usual)

    @property
    def readings(self) -> tuple[NodeReading, ...]:
        found: dict[int, NodeReading] = {}
        for number, blocks in enumerate(self.usual):
            for block in blocks:
                for stretch in block.stretches:
                    row = self.rows.row_of(stretch.cell)
                    path = self.rows.tags[row].path
                    found.setdefault(row, NodeReading(path, number, describe(block)))
        return tuple(found[row] for row in sorted(found))

    def cut(self, pdu_bytes: int) -> Cut:
        """Blocks that this PDU can carry."""
        limit = Limits(block_bytes_max(pdu_bytes), self.connection.gap_bytes, width=1)
        packed = pack(
            (_stretch(part.address, cell) for cell, part in enumerate(self.parts)), lambda _: limit
        )
        decode = decode_of(self.connection.text_encoding)
        places = packed.places.tolist()
        each = zip(range(len(self.parts)), self.parts, places, strict=True)
        decoder = Decoder(_field(*one, decode) for one in each)
        return Cut(packed.blocks, packed.size, decoder, lambda _: limit)


def make_plan(connection: S7Connection, tags: Sequence[TagSpec], mode: Mode) -> S7Plan:
    """ConfigError: every tag that cannot be read, all at once."""
    rows, parts = lay_out(understand(tags, parse), mode)
    pdu_bytes = min(connection.pdu_bytes_max, _USUAL_PDU_BYTES)
    blocks = S7Plan(rows, parts, connection, ()).cut(pdu_bytes).blocks
    return S7Plan(rows, parts, connection, group(blocks, pdu_bytes, connection.items_max))


def describe(block: Block) -> str:
    area, number = block.space
    name = f"DB{number}" if area == Area.DB else Area(area).name
    return f"{name} bytes {block.start}..{block.end - 1}"


def _stretch(address: Address, cell: int) -> Stretch:
    return Stretch((int(address.area), address.block), address.start, address.size, cell)


def _field(
    cell: int, part: Part[Address], place: int, decode: Callable[[Address], Decode]
) -> Field:
    address = part.address
    places = tuple(range(place, place + address.size))
    return Field(cell, places, address.type.value_class, decode(address), part.linear)
