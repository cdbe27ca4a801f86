"""Memory read in stretches (registers, data blocks): fewest blocks, and values out of bytes.

Owns packing of addresses into blocks, the learning of what a device refuses, and decoding of the
*image*, the bytes of all blocks of a plan side by side. Pure; knows no protocol.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, TypeAlias

import numpy as np

from protocols.reading import Sheet
from protocols.samples import NO_CODE, Code, Column, ValueClass

Space: TypeAlias = tuple[int, ...]  # what one block may cover: a table of a unit, a data block

# Bytes of k values (an array k by size, in the order of the field) to values,
# and a code or NO_CODE for each.
Decode: TypeAlias = Callable[[Column], tuple[Column, Column | None]]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one cell needs: `size` units from `start`, never torn while it fits into a block."""

    space: Space
    start: int
    size: int
    cell: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Units read at once; `at` is its first unit's place in the image, in bytes."""

    space: Space
    start: int
    size: int
    at: int
    stretches: tuple[Stretch, ...]
    cells: Column

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Limits:
    """`units`: longest block; `gap`: unwanted units worth a request; `width`: bytes a unit."""

    units: int
    gap: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Blocks in order of space and start; `places`: byte of each cell in the image; its size."""

    blocks: tuple[Block, ...]
    places: Column
    size: int


def pack(stretches: Iterable[Stretch], limits: Callable[[Space], Limits]) -> Packed:
    """The fewest blocks that cover all stretches, whose cells count from 0.

    A stretch longer than a block gets blocks of its own.
    """
    ordered = sorted(stretches, key=attrgetter("space", "start", "size"))
    blocks: list[Block] = []
    places = np.zeros(len(ordered), np.intp)
    at = 0
    for space, group in groupby(ordered, key=attrgetter("space")):
        limit = limits(space)
        for run in _runs(group, limit):
            blocks += _blocks_of(run, limit, at)
            for stretch in run:
                places[stretch.cell] = at + (stretch.start - run[0].start) * limit.width
            at += (_end(run) - run[0].start) * limit.width
    return Packed(tuple(blocks), places, at)


def _runs(stretches: Iterable[Stretch], limit: Limits) -> list[list[Stretch]]:
    """Stretches that one block can hold; one that no block can hold is alone with its twins."""
    runs: list[list[Stretch]] = []
    start = end = size = 0
    for stretch in stretches:
        grown = max(end, stretch.end) - start
        fits = bool(runs) and stretch.start - end <= limit.gap and grown <= limit.units
        twin = bool(runs) and (stretch.start, stretch.size) == (start, size)
        if fits or twin:
            runs[-1].append(stretch)
            end = max(end, stretch.end)
        else:
            runs.append([stretch])
            start, end, size = stretch.start, stretch.end, stretch.size
    return runs


def _blocks_of(run: list[Stretch], limit: Limits, at: int) -> Iterable[Block]:
    first, end = run[0].start, _end(run)
    for start in range(first, end, limit.units):
        size = min(limit.units, end - start)
        yield _block(run[0].space, start, size, at + (start - first) * limit.width, run)


def _block(space: Space, start: int, size: int, at: int, stretches: Sequence[Stretch]) -> Block:
    cells = np.array([stretch.cell for stretch in stretches], np.intp)
    return Block(space, start, size, at, tuple(stretches), cells)


def _end(run: Sequence[Stretch]) -> int:
    return max(stretch.end for stretch in run)


@dataclass(frozen=True, slots=True)
class Resting:
    """A block of one place that the device refuses: not asked again before `until_s`."""

    block: Block
    code: int
    until_s: float


class Route:
    """A plan's blocks as one device takes them, learnt from its refusals while connected.

    A refused block is halved until the culprit is alone; the culprit rests, its neighbours go on.
    """

    REST_S: Final = 30.0
    SPLITS_MAX: Final = 24  # a read: more culprits than that are found by the next reads

    def __init__(self, blocks: Sequence[Block], limits: Callable[[Space], Limits]) -> None:
        self.blocks = tuple(blocks)
        self.resting: tuple[Resting, ...] = ()
        self._limits = limits
        self._splits = 0

    def begin(self, now_s: float) -> None:
        """Start of a read: those who rested long enough are asked again."""
        self._splits = 0
        if any(rest.until_s <= now_s for rest in self.resting):
            woken = tuple(rest.block for rest in self.resting if rest.until_s <= now_s)
            self.resting = tuple(rest for rest in self.resting if rest.until_s > now_s)
            self.blocks += woken

    def refuse(self, block: Block, code: int, now_s: float) -> tuple[Block, ...]:
        """What to ask instead, now; nothing: these cells have failed for this read."""
        parts = halves(block, self._limits(block.space).width)
        if parts and self._splits >= self.SPLITS_MAX:
            return ()
        self.blocks = tuple(b for b in self.blocks if b is not block) + parts
        if not parts:
            self.resting += (Resting(block, code, now_s + self.REST_S),)
        self._splits += 1
        return parts

    def settle(self) -> None:
        """End of a read: neighbours that the device took apart are joined again."""
        if self._splits:
            self.blocks = rejoin(self.blocks, self._limits)


def halves(block: Block, width: int) -> tuple[Block, ...]:
    """Two blocks that read the same cells; none where all cells begin at one place."""
    starts = sorted({stretch.start for stretch in block.stretches})
    if len(starts) == 1:
        return ()
    middle = starts[len(starts) // 2]
    low = [stretch for stretch in block.stretches if stretch.start < middle]
    high = [stretch for stretch in block.stretches if stretch.start >= middle]
    return tuple(_cut(block, part, width) for part in (low, high))


def _cut(block: Block, part: Sequence[Stretch], width: int) -> Block:
    start, end = part[0].start, _end(part)
    return _block(block.space, start, end - start, block.at + (start - block.start) * width, part)


def rejoin(blocks: Iterable[Block], limits: Callable[[Space], Limits]) -> tuple[Block, ...]:
    """The same blocks, joined where nothing lies between them and the limit allows it."""
    joined: list[Block] = []
    for block in sorted(blocks, key=attrgetter("space", "start")):
        limit = limits(block.space)
        if joined and _touch(joined[-1], block, limit):
            last = joined[-1]
            both = (*last.stretches, *block.stretches)
            joined[-1] = _block(last.space, last.start, last.size + block.size, last.at, both)
        else:
            joined.append(block)
    return tuple(joined)


def _touch(last: Block, block: Block, limit: Limits) -> bool:
    return (
        last.space == block.space
        and last.end == block.start
        and last.at + last.size * limit.width == block.at
        and last.size + block.size <= limit.units
    )


@dataclass(frozen=True, slots=True)
class Field:
    """How one cell lies in the image: its bytes in the order that `decode` wants them.

    `linear`: scale and offset that make it a float64; None: as it is.
    """

    cell: int
    places: tuple[int, ...]
    kind: ValueClass
    decode: Decode
    linear: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Gather:
    """All cells of one shape and type, decoded at once."""

    cells: Column
    index: Column
    kind: ValueClass
    decode: Decode
    linear: tuple[Column, Column] | None


class Decoder:
    """Fields compiled: one gather and one conversion per type, whatever their number."""

    def __init__(self, fields: Iterable[Field]) -> None:
        groups: dict[tuple[Any, ...], list[Field]] = {}
        for field in fields:
            key = (field.kind, field.decode, len(field.places), field.linear is not None)
            groups.setdefault(key, []).append(field)
        self._gathers = tuple(_gather(group) for group in groups.values())

    def fill(self, sheet: Sheet, image: Column) -> None:
        """Every cell's value; of cells that failed, nothing that anyone reads."""
        for gather in self._gathers:
            values, codes = gather.decode(image[gather.index])
            if gather.linear is not None:
                values = values.astype(np.float64) * gather.linear[0] + gather.linear[1]
                sheet.put(ValueClass.F64, gather.cells, values, codes)
            else:
                sheet.put(gather.kind, gather.cells, values, codes)


def _gather(fields: Sequence[Field]) -> _Gather:
    linear = [field.linear for field in fields if field.linear is not None]
    return _Gather(
        np.array([field.cell for field in fields], np.intp),
        np.array([field.places for field in fields], np.intp),
        fields[0].kind,
        fields[0].decode,
        (np.array([s for s, _ in linear]), np.array([o for _, o in linear])) if linear else None,
    )


def _number(code: str) -> Decode:
    dtype = np.dtype(f">{code}")

    def decode(raw: Column) -> tuple[Column, Column | None]:
        return raw.view(dtype)[:, 0], None

    return decode


# One decoder per type: the compiler groups by identity. Most significant byte first.
NUMBERS: Final[dict[str, Decode]] = {
    code: _number(code) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
}


def _bit(number: int) -> Decode:
    mask = np.uint8(1 << number)

    def decode(raw: Column) -> tuple[Column, Column | None]:
        return (raw[:, 0] & mask) != 0, None

    return decode


BITS: Final[tuple[Decode, ...]] = tuple(_bit(number) for number in range(8))


def objects(decode: Callable[[bytes], str | bytes | None]) -> Decode:
    """Text and bytes, one by one. None: these bytes are no value of the type."""

    def decode_all(raw: Column) -> tuple[Column, Column | None]:
        values = np.empty(len(raw), object)
        codes = np.full(len(raw), NO_CODE, np.int64)
        for at, row in enumerate(raw):
            values[at] = decode(row.tobytes())
            if values[at] is None:
                codes[at] = Code.UNDECODABLE
        return values, codes

    return decode_all


def text_or_bytes(raw: bytes, encoding: str) -> str | bytes:
    """Text; bytes as they are where they hold a NUL or are not of this encoding."""
    if b"\0" in raw:
        return raw
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return raw
