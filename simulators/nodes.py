"""The nodes of one OPC UA device as memory, encoded for the wire.

Pure. A node keeps its value ready encoded, so a read of a thousand nodes joins bytes; source times
are set when a value is set. Node ids are strings, equal to the path of the tag.
"""

import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from simulators.image import Slot
from simulators.tags import Kind, Scalar, Tag, Value, path_of, zero_of

GOOD = 0
_BAD = 0x80000000
_HAS_VALUE, _HAS_STATUS, _HAS_SOURCE_TIME, _HAS_SERVER_TIME = 1, 2, 4, 8
_ARRAY = 0x80
_TICKS_1601_TO_1970 = 116_444_736_000_000_000

VARIANT_TYPES: dict[Kind, int] = {
    Kind.BOOL: 1,
    Kind.INT8: 2,
    Kind.UINT8: 3,
    Kind.INT16: 4,
    Kind.UINT16: 5,
    Kind.INT32: 6,
    Kind.UINT32: 7,
    Kind.INT64: 8,
    Kind.UINT64: 9,
    Kind.FLOAT32: 10,
    Kind.FLOAT64: 11,
    Kind.TEXT: 12,
    Kind.DATETIME: 13,
    Kind.BYTES: 15,
}
_CODES: dict[Kind, str] = {
    Kind.BOOL: "?",
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
    Kind.DATETIME: "q",
}
_SCALAR_STRUCTS = {kind: struct.Struct(f"<B{code}") for kind, code in _CODES.items()}


@dataclass(slots=True)
class Node:
    """One node's present: value, status, source time in 100 ns since 1601, and its encoding."""

    path: str
    tag: Tag
    value: Value
    status: int
    source_ticks: int
    variant: bytes

    @property
    def has_value(self) -> bool:
        return self.status & _BAD == 0


class NodeImage:
    """All nodes of one device; `utc_us` stamps each change."""

    def __init__(self, device: str, namespace_uri: str, utc_us: Callable[[], int]) -> None:
        self.slots: dict[str, Slot] = {}
        self.nodes: dict[str, Node] = {}
        self._device = device
        self._uri = namespace_uri
        self._utc_us = utc_us

    def place(self, tags: Iterable[Tag]) -> None:
        for tag in tags:
            path = path_of(self._device, tag.name)
            self.slots[tag.name] = Slot(tag, path, 0, 1, 0, f"nsu={self._uri};s={path}")
            zero = zero_of(tag)
            self.nodes[tag.name] = Node(path, tag, zero, GOOD, 0, encode_variant(tag.kind, zero))
            self.put(tag.name, zero)

    def put(self, name: str, value: Value) -> None:
        node = self.nodes[name]
        node.variant = encode_variant(node.tag.kind, value)
        node.value = _as_sent(node, value)
        node.source_ticks = ticks_of(self._utc_us())

    def get(self, name: str) -> Value:
        return self.nodes[name].value

    def put_status(self, name: str, status: int) -> None:
        """From now on the node answers with this status code; a bad one carries no value."""
        self.nodes[name].status = status


def ticks_of(time_us: int) -> int:
    return time_us * 10 + _TICKS_1601_TO_1970


def encode_data_value(node: Node, want_source: int, server_time: bytes) -> bytes:
    """Returns the DataValue; `want_source` is 4 or 0, `server_time` eight bytes or none."""
    mask = want_source | (_HAS_SERVER_TIME if server_time else 0)
    if node.status == GOOD:
        head, status = bytes([mask | _HAS_VALUE]) + node.variant, b""
    else:
        status = struct.pack("<I", node.status)
        value_mask = _HAS_VALUE if node.has_value else 0
        head = bytes([mask | _HAS_STATUS | value_mask])
        head += node.variant if node.has_value else b""
    source = struct.pack("<q", node.source_ticks) if want_source else b""
    return head + status + source + server_time


def encode_status(status: int) -> bytes:
    """Returns a DataValue that is a status code alone."""
    return struct.pack("<BI", _HAS_STATUS, status)


def encode_variant(kind: Kind, value: Value) -> bytes:
    type_id = VARIANT_TYPES[kind]
    if isinstance(value, list):
        return struct.pack("<Bi", type_id | _ARRAY, len(value)) + _encode_list(kind, value)
    if kind in _SCALAR_STRUCTS:
        return _SCALAR_STRUCTS[kind].pack(type_id, _plain(kind, value))
    return bytes([type_id]) + _encode_text(value)


def journal_fragment(node: Node) -> str:
    """Returns the value as JSON: bytes as hex, and NaN or infinity as text."""
    return fragment_of(node.value) if node.has_value else "null"


def fragment_of(value: Value) -> str:
    if isinstance(value, bytes):
        return f'"{value.hex()}"'
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps([str(v) for v in value] if isinstance(value, list) else str(value))


def _as_sent(node: Node, value: Value) -> Value:
    """A float32 keeps what the wire carries of it: journal and line see what a client sees."""
    if node.tag.kind is not Kind.FLOAT32:
        return value
    if isinstance(value, list):
        return list(struct.unpack(f"<{len(value)}f", node.variant[5:]))
    return float(struct.unpack("<f", node.variant[1:])[0])


def _plain(kind: Kind, value: Scalar) -> Scalar:
    """A DateTime counts 100 ns since 1601; zero stays the null time."""
    if kind is Kind.DATETIME and isinstance(value, int):
        return value // 100 + _TICKS_1601_TO_1970 if value else 0
    return value


def _encode_list(kind: Kind, values: list[bool] | list[int] | list[float] | list[str]) -> bytes:
    if kind in _CODES:
        return struct.pack(f"<{len(values)}{_CODES[kind]}", *(_plain(kind, v) for v in values))
    return b"".join(_encode_text(item) for item in values)


def _encode_text(value: Scalar) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    if not isinstance(raw, bytes):
        raise TypeError(f"text or bytes wanted, not {value!r}")
    return struct.pack("<i", len(raw)) + raw
