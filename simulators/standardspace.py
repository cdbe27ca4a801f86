"""The standard nodes of OPC UA, built once a process and copied for each server.

asyncua needs two seconds to build them. A copy shares the immutable parts (values, descriptions)
and has its own nodes, attributes and lists of references, which are all that a server changes.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.server.internal_server import InternalServer


class StandardSpace(InternalServer):
    """asyncua's internal server with a quick start from the second one on."""

    _pattern: ClassVar[list[NodeData]] = []

    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:
        pattern = self._pattern
        if not pattern:
            with _without_collector():
                await super().load_standard_address_space(shelf_file)
            pattern += [_copied(self.aspace[key]) for key in self.aspace.keys()]  # noqa: SIM118  # no dict
            return
        for node in pattern:
            self.aspace[node.nodeid] = _copied(node)


@contextmanager
def _without_collector() -> Iterator[None]:
    """A million objects that stay: looking for garbage among them takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _copied(node: NodeData) -> NodeData:
    other = NodeData(node.nodeid)
    other.call = node.call
    other.references = list(node.references)
    for key, attribute in node.attributes.items():
        other.attributes[key] = same = AttributeValue(attribute.value)  # type: ignore[arg-type]  # None: a callback has it
        same.value_callback = attribute.value_callback
    return other
