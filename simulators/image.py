"""The memory of one device: typed values in, bytes of the protocol out.

Owns the rule that line and servers meet only here. An image is plain memory without I/O; it is
changed and read on one thread, so whatever a server copies from it at once is one snapshot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from simulators.tags import Tag, Value


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tag lies: `start` and `length` in the units of the area (bits, registers, bytes)."""

    tag: Tag
    area: str
    start: int
    length: int
    bit: int
    address: str


class Image(Protocol):
    """What every protocol's memory offers to the line and to the journal's reader."""

    @property
    def slots(self) -> dict[str, Slot]: ...

    def put(self, name: str, value: Value) -> None: ...

    def get(self, name: str) -> Value: ...


Refresh = Callable[[str], None]
"""Brings a device's signals up to the present; a server calls it before it takes a snapshot."""

OnWrite = Callable[[str, str, Value], None]
"""Tells the line that an agent has written a tag: device, name, value."""
