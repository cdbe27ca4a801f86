"""OPC UA addresses as text: `[range=first[:last];][nsu=uri;|ns=index;]kind=identifier`.

    nsu=http://plant/line;s=Temp            preferred: the index is looked up at each connect
    ns=2;s=Temp    ns=2;i=1001    i=2258    the index as it is; it may move with the server's setup
    range=0:59;nsu=urn:plc;s=Curve          elements of an array; polled, they are Curve[0] …
    range=7;nsu=urn:plc;s=Curve             one element

Kinds: s text, i number, g GUID, b base64. Also read: `2!Temp` for `ns=2;s=Temp`. The type stands at
the tag: an address says nothing of it. Pure.
"""

import base64
import binascii
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from protocols.addressing import Extent, Linear, linear_of, refuse
from protocols.driver import TagSpec
from protocols.samples import DataType

_TEXT: Final = re.compile(
    r"(?:range=(?P<first>\d{1,9})(?P<many>:(?P<last>\d{1,9}))?;)?"
    r"(?:ns=(?P<ns>\d{1,5});|nsu=(?P<nsu>[^;]+);)?(?P<kind>[sigb])=(?P<id>.+)",
    re.DOTALL,
)
_BANG: Final = re.compile(r"(?P<ns>\d{1,5})!(?P<id>.*\D.*)", re.DOTALL)
_UNSUPPORTED: Final = {
    DataType.DATE: "datetime",
    DataType.TIME: "datetime",
}
_INDEX_MAX: Final = 0xFFFF
_NUMBER_MAX: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node id with its namespace by URI or by index."""

    namespace: str | int
    kind: str
    identifier: str

    def __str__(self) -> str:
        name = f"{self.kind}={self.identifier}"
        if isinstance(self.namespace, str):
            uri = self.namespace.replace("%", "%25").replace(";", "%3B")
            return f"nsu={uri};{name}"
        return f"ns={self.namespace};{name}" if self.namespace else name


@dataclass(frozen=True, slots=True)
class Range:
    """Elements asked for, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}:{self.last}"


@dataclass(frozen=True, slots=True)
class Address:
    """`is_array`: the value is an array; `index`: the one element of what is read that is meant."""

    node: NodeName
    type: DataType
    is_array: bool
    range: Range | None = None
    index: int | None = None
    linear: Linear | None = None

    @property
    def extent(self) -> Extent | None:
        if not self.is_array or self.range is None:
            return None
        return Extent(self.range.first, self.range.last - self.range.first + 1)

    def element(self, number: int) -> "Address":
        """Read with its whole range, meant alone."""
        return replace(self, is_array=False, index=number, linear=None)

    def __str__(self) -> str:
        if self.range is None:
            return str(self.node)
        number = None if self.index is None else self.range.first + self.index
        return f"range={self.range if number is None else number};{self.node}"


def parse(spec: TagSpec) -> Address:
    """The address of a tag. ConfigError: with the way out."""
    match = _TEXT.fullmatch(spec.address.strip())
    if match is None:
        return _parse_bang(spec)
    groups = match.groupdict()
    node = NodeName(_namespace(spec, groups), groups["kind"], _identifier(spec, groups))
    return _address(spec, node, _range(spec, groups), many=groups["many"] is not None)


def _parse_bang(spec: TagSpec) -> Address:
    match = _BANG.fullmatch(spec.address.strip())
    if match is None:
        why = "not an OPC UA address"
        raise refuse(spec, why, "Write nsu=URI;s=NAME or ns=2;s=NAME (kinds s i g b).")
    return _address(spec, NodeName(int(match["ns"]), "s", match["id"]), None, many=False)


def _address(spec: TagSpec, node: NodeName, range_: Range | None, *, many: bool) -> Address:
    if spec.type is None:
        why = "no type: an OPC UA address says nothing of it"
        raise refuse(spec, why, "Give the tag a type.")
    if spec.type in _UNSUPPORTED:
        why = f"OPC UA has no {spec.type}"
        raise refuse(spec, why, f"Its type is {_UNSUPPORTED[spec.type]}.")
    element = spec.type.element
    is_array = spec.type.is_array or many
    linear = linear_of(spec, element, 1.0, 0.0)
    index = 0 if range_ is not None and not is_array else None
    return Address(node, element, is_array, range_, index, linear)


def _namespace(spec: TagSpec, groups: dict[str, str | None]) -> str | int:
    if groups["nsu"] is not None:
        return groups["nsu"].replace("%3B", ";").replace("%25", "%")
    index = int(groups["ns"] or 0)
    if index > _INDEX_MAX:
        raise refuse(spec, f"namespace {index} of 65535", "Write nsu=URI; instead of the index.")
    return index


def _identifier(spec: TagSpec, groups: dict[str, str | None]) -> str:
    kind, text = groups["kind"] or "", groups["id"] or ""
    try:
        return _CHECKS[kind](text)
    except (ValueError, binascii.Error) as error:
        why = f"{text!r} is no identifier of kind {kind}"
        raise refuse(spec, why, "i is a number, g a GUID, b base64, s any text.") from error


def _number(text: str) -> str:
    number = int(text)
    if not 0 <= number <= _NUMBER_MAX:
        raise ValueError(text)
    return str(number)


def _base64(text: str) -> str:
    return base64.b64encode(base64.b64decode(text, validate=True)).decode()


def _guid(text: str) -> str:
    return str(uuid.UUID(text))


_CHECKS: Final[dict[str, Callable[[str], str]]] = {
    "s": str,
    "i": _number,
    "g": _guid,
    "b": _base64,
}


def _range(spec: TagSpec, groups: dict[str, str | None]) -> Range | None:
    if groups["first"] is None:
        return None
    first = int(groups["first"])
    last = int(groups["last"]) if groups["last"] else first
    if last < first:
        raise refuse(spec, "the range ends before it begins", "Write range=first:last.")
    return Range(first, last)
