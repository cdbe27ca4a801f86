"""When a text was read: a serial that stands in a tag is not a serial that was read.

A read is a change of the stamp where there is one, else a change of the text. An emptied tag is no
read, but what is read next is one, be it the same text. What stood there at first sight is not.
"""

from dataclasses import dataclass, field
from typing import Final

from rules.binding.names import text_of
from rules.binding.rows import Reading
from rules.binding.stored import Stored

READS_MAX: Final = 32


@dataclass(slots=True)
class Read:
    """One read. It happened after `since_us` (None: unknown) and not after `at_us`."""

    at_us: int
    since_us: int | None
    raw: Stored


@dataclass(slots=True)
class TextState:
    """What is known of one reader: what stands there, and the reads no cycle has used yet."""

    seen: bool = False
    raw: Stored = None
    raw_at_us: int = 0
    stamp: Stored = None
    stamp_at_us: int | None = None
    awaited: Read | None = None
    reads: list[Read] = field(default_factory=list)


def take_text(state: TextState, row: Reading, *, stamped: bool) -> None:
    """A row of the text."""
    if not row.usable:
        return
    if row.time_us < state.raw_at_us:
        set_back(state)
    changed = state.seen and row.value != state.raw
    since_us = state.raw_at_us if state.seen else None
    state.seen, state.raw, state.raw_at_us = True, row.value, row.time_us
    if not stamped and changed and text_of(row.value) != "":
        _add(state, Read(row.time_us, since_us, row.value))
    if state.awaited is not None and row.time_us >= state.awaited.at_us:
        _settle(state)


def take_stamp(state: TextState, row: Reading) -> None:
    """A row of the stamp: the text read with it is the one seen at or after it."""
    if not row.usable:
        return
    known, changed = state.stamp_at_us is not None, row.value != state.stamp
    since_us = state.stamp_at_us
    state.stamp, state.stamp_at_us = row.value, row.time_us
    if known and changed:
        state.awaited = Read(row.time_us, since_us, None)
        if state.seen and state.raw_at_us >= row.time_us:
            _settle(state)


def set_back(state: TextState) -> None:
    """The clock was: when anything was read means nothing any more."""
    state.seen, state.reads, state.awaited, state.stamp_at_us = False, [], None, None


def forget_until(state: TextState, until_us: int) -> None:
    """Reads up to this time have been used, or are too old to be."""
    state.reads = [read for read in state.reads if read.at_us > until_us]


def _settle(state: TextState) -> None:
    if state.awaited is not None:
        _add(state, Read(state.awaited.at_us, state.awaited.since_us, state.raw))
    state.awaited = None


def _add(state: TextState, read: Read) -> None:
    state.reads = [*state.reads[1 - READS_MAX :], read]
