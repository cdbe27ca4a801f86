"""SQLite's write-ahead log as bytes: where it is damaged, and how it reads on behind the damage.

SQLite itself stops at the first frame whose checksum is wrong: right after a crash, where that is
the torn end; wrong after a flipped bit, where every later commit would be gone without a word.
The format is published and will not change: https://www.sqlite.org/fileformat2.html#walformat
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_SUM: Final = struct.Struct(">2I")
_MAGIC: Final = 0x377F0682  # with the last bit set, sums are over big-endian words
_PAGE_MIN: Final = 512
_PAGE_MAX: Final = 65_536
_MASK: Final = 0xFFFFFFFF
_MISSES_MAX: Final = 64  # in a row: from there on the log holds what an earlier round left

Sum = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Header:
    page: int
    salts: Sum
    sums: Sum
    words: str


@dataclass(frozen=True, slots=True)
class _Frame:
    """`good`: it is what was written, whatever stands before it."""

    number: int
    start: int
    good: bool
    commits: bool


def frames_of_this_round(log: bytes) -> int:
    """How many frames carry the log's own salts, whole or not: quick, without any sum."""
    header = _header(log)
    if header is None:
        return 0
    size = _FRAME.size + header.page
    starts = range(_HEADER.size, len(log) - size + 1, size)
    return sum(_FRAME.unpack_from(log, start)[2:4] == header.salts for start in starts)


def mended(log: bytes) -> bytes | None:
    """The log with sums that SQLite accepts again; None: nothing is damaged but a torn end.

    A transaction begins only after the one before was synced, so damage before the last commit
    but one is no torn end. In the last transaction nobody can tell: it is left to SQLite.
    """
    header = _header(log)
    if header is None:
        return None
    frames = list(_frames(log))
    commits = [frame.number for frame in frames if frame.good and frame.commits]
    bad = [frame.number for frame in frames if not frame.good]
    if not commits[1:] or not bad or bad[0] >= commits[-2]:
        return None
    torn = any(commits[-2] < number <= commits[-1] for number in bad)
    return _resummed(log, header, frames[: commits[-2 if torn else -1] + 1])


def _header(log: bytes) -> _Header | None:
    if len(log) < _HEADER.size:
        return None
    magic, _, page, _, salt_1, salt_2, sum_1, sum_2 = _HEADER.unpack_from(log)
    if magic & ~1 != _MAGIC or not _PAGE_MIN <= page <= _PAGE_MAX:
        return None
    return _Header(page, (salt_1, salt_2), (sum_1, sum_2), ">" if magic & 1 else "<")


def _frames(log: bytes) -> Iterator[_Frame]:
    header = _header(log)
    if header is None:
        return
    computed = stated = header.sums
    misses = 0
    size = _FRAME.size + header.page
    for number, start in enumerate(range(_HEADER.size, len(log) - size + 1, size)):
        _, commit, salt_1, salt_2, sum_1, sum_2 = _FRAME.unpack_from(log, start)
        found: Sum = (sum_1, sum_2)
        after = _sum_of(log, start, header, stated)
        # The sum before may be what was flipped: then ours of the same frame is the right one.
        right = after == found or (
            computed != stated and _sum_of(log, start, header, computed) == found
        )
        good = right and (salt_1, salt_2) == header.salts
        misses = 0 if good else misses + 1
        if misses > _MISSES_MAX:
            return
        computed, stated = after, found
        yield _Frame(number, start, good, commit != 0)


def _resummed(log: bytes, header: _Header, frames: Sequence[_Frame]) -> bytes:
    done = bytearray(log[: frames[-1].start + _FRAME.size + header.page])
    before = header.sums
    for frame in frames:
        _SUM.pack_into(done, frame.start + 8, *header.salts)
        before = _sum_of(done, frame.start, header, before)
        _SUM.pack_into(done, frame.start + 16, *before)
    return bytes(done)


def _sum_of(log: bytes | bytearray, start: int, header: _Header, before: Sum) -> Sum:
    """The frame's sum: its first eight bytes and its page, on top of the frame before."""
    body = start + _FRAME.size
    data = bytes(log[start : start + 8]) + bytes(log[body : body + header.page])
    first, second = before
    numbers = struct.unpack(f"{header.words}{len(data) // 4}I", data)
    for one, other in zip(numbers[::2], numbers[1::2], strict=True):
        first = (first + one + second) & _MASK
        second = (second + other + first) & _MASK
    return first, second
