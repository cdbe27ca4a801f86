"""Read responses of OPC UA, joined from values that are already encoded.

Pure. Knows the binary form of a ReadResponse and of an index range over one dimension; everything
else of the protocol is the library's.
"""

import struct
from dataclasses import dataclass

from simulators.nodes import (
    GOOD,
    Node,
    encode_data_value,
    encode_status,
    encode_variant,
    fragment_of,
    journal_fragment,
)
from simulators.tags import Kind, Value

BAD_INDEX_RANGE_INVALID = 0x80360000
BAD_INDEX_RANGE_NO_DATA = 0x80370000

_READ_RESPONSE = bytes([1, 0]) + (634).to_bytes(2, "little")
_HEAD = struct.Struct("<qIIBi3x")
_WANT_SOURCE = {0: 4, 1: 0, 2: 4, 3: 0}
_WANT_SERVER = {0: False, 1: True, 2: True, 3: False}


@dataclass(frozen=True, slots=True)
class Asked:
    """One node of a request; `index_range` empty for the whole value."""

    node: Node
    index_range: str

    @property
    def path(self) -> str:
        return f"{self.node.path}[{self.index_range}]" if self.index_range else self.node.path


@dataclass(frozen=True, slots=True)
class Given:
    """One node's part of a response, and how the journal writes it."""

    encoded: bytes
    fragment: str
    status: int


def give(asked: Asked, timestamps: int, now_ticks: int) -> Given:
    """Answers one node; `timestamps` is TimestampsToReturn as in the request."""
    server_time = struct.pack("<q", now_ticks) if _WANT_SERVER[timestamps] else b""
    node = asked.node
    if asked.index_range and node.has_value:
        return _give_part(asked, timestamps, server_time)
    encoded = encode_data_value(node, _WANT_SOURCE[timestamps], server_time)
    return Given(encoded, journal_fragment(node), node.status)


def read_response(request_handle: int, now_ticks: int, data_values: list[bytes]) -> bytes:
    """Returns a whole ReadResponse without diagnostics."""
    head = _HEAD.pack(now_ticks, request_handle, GOOD, 0, -1)
    count = struct.pack("<i", len(data_values))
    return b"".join((_READ_RESPONSE, head, count, *data_values, b"\xff\xff\xff\xff"))


def _give_part(asked: Asked, timestamps: int, server_time: bytes) -> Given:
    node = asked.node
    try:
        part = _part(node.value, asked.index_range)
    except ValueError:
        return Given(encode_status(BAD_INDEX_RANGE_INVALID), "null", BAD_INDEX_RANGE_INVALID)
    if part is None:
        return Given(encode_status(BAD_INDEX_RANGE_NO_DATA), "null", BAD_INDEX_RANGE_NO_DATA)
    kind: Kind = node.tag.kind
    part_node = Node(
        node.path, node.tag, part, node.status, node.source_ticks, encode_variant(kind, part)
    )
    encoded = encode_data_value(part_node, _WANT_SOURCE[timestamps], server_time)
    return Given(encoded, fragment_of(part), node.status)


def _part(value: Value, index_range: str) -> Value | None:
    """Returns the elements asked for; None when there are none. ValueError: no such range."""
    first, _, last = index_range.partition(":")
    low = int(first)
    high = int(last) if last else low
    if low < 0 or (last and high <= low):
        raise ValueError(index_range)
    if not isinstance(value, list | str | bytes):
        return None
    return value[low : high + 1] or None
