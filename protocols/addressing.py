"""What the address grammars of all drivers share: extents of arrays, agreement of types, scaling.

Pure. Owns how one configured tag becomes entries and rows; each driver owns its own address text.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, Self, TypeAlias, TypeVar

from protocols.driver import Mode, TagSpec
from protocols.errors import ConfigError, Problem
from protocols.reading import Rows, lay_rows
from protocols.samples import DataType, Scalar, Tag, ValueClass

EXTENT: Final = r"\[(?:(?P<count>\d{1,6})|(?P<first>-?\d{1,6})\.\.(?P<last>-?\d{1,6}))\]"
NUMERIC: Final = frozenset({ValueClass.F64, ValueClass.I64, ValueClass.U64})
_TIMES: Final = {DataType.DATETIME, DataType.DATE, DataType.TIME, DataType.DURATION}

Linear: TypeAlias = tuple[float, float]  # value · first + second


class Unfit(ValueError):
    """A value to write that its address cannot hold; `str` says why."""


def is_set(value: Scalar) -> bool:
    """A bit to write. Unfit: neither true nor false."""
    if isinstance(value, str | bytes) or value not in {0, 1}:
        raise Unfit(f"{value!r} is no bool")
    return bool(value)


@dataclass(frozen=True, slots=True)
class Extent:
    """An array's elements, numbered from its declared lower bound."""

    first: int
    count: int

    def __str__(self) -> str:
        if self.first == 0:
            return f"[{self.count}]"
        return f"[{self.first}..{self.first + self.count - 1}]"


class Address(Protocol):
    """A driver's address; its `str` is the canonical text."""

    @property
    def type(self) -> DataType: ...  # of one element, as the device has it

    @property
    def is_array(self) -> bool: ...

    @property
    def extent(self) -> Extent | None: ...  # None with an array: a length that is not known

    @property
    def linear(self) -> Linear | None: ...

    def element(self, number: int) -> Self:
        """The address of one element, from 0; without scaling, which stays with the tag."""


AddressT = TypeVar("AddressT", bound=Address)


@dataclass(frozen=True, slots=True)
class Entry(Generic[AddressT]):
    """One configured tag, understood."""

    spec: TagSpec
    address: AddressT


@dataclass(frozen=True, slots=True)
class Part(Generic[AddressT]):
    """One cell to read: the address of one element, and the scaling of its tag."""

    address: AddressT
    linear: Linear | None


def problem(spec: TagSpec, why: str, remedy: str) -> Problem:
    return Problem(spec.path, spec.address, why, remedy)


def refuse(spec: TagSpec, why: str, remedy: str) -> ConfigError:
    return ConfigError([problem(spec, why, remedy)])


def extent_of(spec: TagSpec, match: re.Match[str]) -> Extent | None:
    """The extent that a pattern with EXTENT found. ConfigError: an empty one."""
    if match["count"] is None and match["first"] is None:
        return None
    first, last = int(match["first"] or 0), int(match["last"] or 0)
    extent = Extent(0, int(match["count"])) if match["count"] else Extent(first, last - first + 1)
    if extent.count < 1:
        raise refuse(spec, "the array has no elements", "Write [n] or [first..last], at least one.")
    return extent


def agreed_type(spec: TagSpec, of_address: DataType | None, extent: Extent | None) -> DataType:
    """The device's type of one element. ConfigError: none given, or two that differ."""
    declared = spec.type
    if declared is None and of_address is None:
        raise refuse(spec, "no type", "Give the tag a type, or add it to the address.")
    if declared is not None and declared.is_array and extent is None:
        raise refuse(spec, f"{declared} without a length", "Add [n] to the type in the address.")
    if of_address is None:
        return declared.element if declared else DataType.BOOL
    if declared is not None and declared.element is not of_address:
        why = f"the tag says {declared.element}, the address says {of_address}"
        raise refuse(spec, why, "Leave one of them out, or make them agree.")
    return of_address


def linear_of(spec: TagSpec, type_: DataType, scale: float, offset: float) -> Linear | None:
    """Scaling from the tag or from its address. ConfigError: both, or a type without arithmetic."""
    own, other = (spec.scale, spec.offset), (scale, offset)
    if (1.0, 0.0) not in (own, other) and own != other:
        raise refuse(spec, "scale or offset stands twice", "Keep it in the tag or in the address.")
    linear = other if own == (1.0, 0.0) else own
    if linear == (1.0, 0.0):
        return None
    if not all(map(math.isfinite, linear)) or linear[0] == 0:
        raise refuse(spec, "a scale is a number other than 0", "Correct scale and offset.")
    if type_.value_class not in NUMERIC or type_ in _TIMES:
        raise refuse(spec, f"{type_} cannot be scaled", "Leave scale and offset out.")
    return linear


def understand(
    specs: Iterable[TagSpec], parse: Callable[[TagSpec], AddressT]
) -> tuple[Entry[AddressT], ...]:
    """Every tag as an entry. ConfigError: all mistakes at once."""
    entries: list[Entry[AddressT]] = []
    problems: list[Problem] = []
    for spec in specs:
        try:
            entries.append(Entry(spec, parse(spec)))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return tuple(entries)


def is_whole(mode: Mode) -> bool:
    """Whether an array is one value: read on demand, never polled."""
    return mode in {Mode.ON_DEMAND, Mode.MAILBOX}


def array_problems(entry: Entry[AddressT], mode: Mode) -> tuple[Problem, ...]:
    if not entry.address.is_array:
        return ()
    if not is_whole(mode):
        return () if entry.address.extent else (_no_length(entry),)
    if _has_array(entry.address.type):
        return ()
    why = f"an array of {entry.address.type} cannot be one value"
    return (problem(entry.spec, why, "Poll its elements, or name single ones."),)


def _no_length(entry: Entry[AddressT]) -> Problem:
    why = "an array is polled by its elements, and their number is not known"
    return problem(entry.spec, why, "Say which elements in the address, or read it on demand.")


def lay_out(
    entries: Sequence[Entry[AddressT]], mode: Mode
) -> tuple[Rows, tuple[Part[AddressT], ...]]:
    """Rows, and the part of each cell: whole arrays on demand, elements `path[i]` when polled.

    ConfigError: a path twice, an array that cannot be one value.
    """
    _refuse_arrays(entries, mode)
    parts = tuple(part for entry in entries for part in _parts(entry))
    if is_whole(mode):
        specs = [_spec(entry) for entry in entries]
        extents = [entry.address.extent for entry in entries]
        lengths = [extent.count if extent else None for extent in extents]
        return lay_rows(specs, [_tag(spec) for spec in specs], lengths), parts
    specs = [spec for entry in entries for spec in _element_specs(entry)]
    return lay_rows(specs, [_tag(spec) for spec in specs], [None] * len(specs)), parts


def lay_whole(entries: Sequence[Entry[AddressT]]) -> Rows:
    """Rows of one cell each, for devices that give an array as one value. ConfigError: as above."""
    _refuse_arrays(entries, Mode.ON_DEMAND)
    specs = [_spec(entry) for entry in entries]
    return lay_rows(specs, [_tag(spec) for spec in specs], [None] * len(specs))


def _refuse_arrays(entries: Sequence[Entry[AddressT]], mode: Mode) -> None:
    problems = [found for entry in entries for found in array_problems(entry, mode)]
    if problems:
        raise ConfigError(problems)


def _parts(entry: Entry[AddressT]) -> list[Part[AddressT]]:
    address = entry.address
    if address.extent is None:
        return [Part(address, address.linear)]
    return [Part(address.element(i), address.linear) for i in range(address.extent.count)]


def _spec(entry: Entry[AddressT]) -> TagSpec:
    address = entry.address
    type_ = address.type.array if address.is_array else address.type
    return _with_linear(replace(entry.spec, address=str(address), type=type_), address.linear)


def _element_specs(entry: Entry[AddressT]) -> list[TagSpec]:
    address, spec = entry.address, entry.spec
    if address.extent is None:
        return [_spec(entry)]
    parts = enumerate(_parts(entry), address.extent.first)
    elements = (
        replace(spec, path=f"{spec.path}[{i}]", address=str(part.address), type=address.type)
        for i, part in parts
    )
    return [_with_linear(element, address.linear) for element in elements]


def _with_linear(spec: TagSpec, linear: Linear | None) -> TagSpec:
    scale, offset = linear or (1.0, 0.0)
    return replace(spec, scale=scale, offset=offset)


def _tag(spec: TagSpec) -> Tag:
    """The tag as its rows have it: scaled values are float64."""
    type_ = spec.type or DataType.BOOL
    if (spec.scale, spec.offset) == (1.0, 0.0):
        return Tag(spec.path, type_)
    return Tag(spec.path, DataType.FLOAT64S if type_.is_array else DataType.FLOAT64)


def _has_array(type_: DataType) -> bool:
    return f"{type_}[]" in set(DataType)
