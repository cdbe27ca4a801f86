"""Tags to the fewest OPC UA reads: each node once, split by how many a server takes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from protocols.addressing import Entry, Linear, Part, is_whole, lay_out, lay_whole, understand
from protocols.driver import Mode, NodeReading, TagSpec
from protocols.drivers.opcua.address import Address, NodeName, Range, parse
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.reading import Rows
from protocols.samples import Column, DataType


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of a read request."""

    name: NodeName
    range: Range | None


@dataclass(frozen=True, slots=True)
class Want:
    """What one cell takes of a node's value: all of it, or the element `index`."""

    cell: int
    type: DataType
    is_array: bool
    index: int | None
    linear: Linear | None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class OpcuaPlan:
    """Nodes in the order they are read; `wants` of each; `cells` by node, from `firsts`."""

    rows: Rows
    nodes: tuple[Node, ...]
    wants: tuple[tuple[Want, ...], ...]
    cells: Column
    firsts: tuple[int, ...]
    nodes_max: int

    @property
    def tags(self) -> tuple[TagSpec, ...]:
        return self.rows.specs

    @property
    def requests(self) -> int:
        return -(-len(self.nodes) // self.nodes_max)

    @property
    def readings(self) -> tuple[NodeReading, ...]:
        found = {
            want.cell: NodeReading(
                self.rows.tags[want.cell].path, number // self.nodes_max, _describe(node)
            )
            for number, (node, wants) in enumerate(zip(self.nodes, self.wants, strict=True))
            for want in wants
        }
        return tuple(found[cell] for cell in sorted(found))

    def cells_of(self, first: int, end: int) -> Column:
        """Cells of these nodes."""
        cells: Column = self.cells[self.firsts[first] : self.firsts[end]]
        return cells


def make_plan(connection: OpcuaConnection, tags: Sequence[TagSpec], mode: Mode) -> OpcuaPlan:
    """ConfigError: every tag that cannot be read, all at once."""
    entries = understand(tags, parse)
    rows, parts = _lay(entries, mode)
    wanted: dict[Node, list[Want]] = {}
    for cell, part in enumerate(parts):
        address = part.address
        want = Want(cell, address.type, address.is_array, address.index, part.linear)
        wanted.setdefault(Node(address.node, address.range), []).append(want)
    wants = tuple(tuple(each) for each in wanted.values())
    firsts = tuple(accumulate((len(each) for each in wants), initial=0))
    cells = np.array([want.cell for each in wants for want in each], np.intp)
    return OpcuaPlan(rows, tuple(wanted), wants, cells, firsts, connection.nodes_per_read_max)


def _lay(entries: Sequence[Entry[Address]], mode: Mode) -> tuple[Rows, tuple[Part[Address], ...]]:
    """Polled: a cell for each element. On demand: a whole array is one value of one node."""
    if not is_whole(mode):
        return lay_out(entries, mode)
    parts = (Part(entry.address, entry.address.linear) for entry in entries)
    return lay_whole(entries), tuple(parts)


def _describe(node: Node) -> str:
    return f"range={node.range};{node.name}" if node.range else str(node.name)
