"""Room in the spool: what goes when it is at its limit or something is too old, each time by name.

The order of what may go is in `retention`; this carries it out.
"""

from collections.abc import Sequence
from typing import Final

from edge.book import PAGE, Book
from edge.entries import Entry
from edge.retention import DOUBTING, SAMPLE_LANES, TRUSTING, Step, drops, enough, releases
from protocols.frames import Kind
from protocols.notices import Stretch

_FULL: Final = "spool full"
_OLD: Final = "older than max_age"


def make_room(book: Book, now_us: int) -> bool:
    """Free what the next cut needs, if the spool is at its limit. True: something was named."""
    limits = book.limits
    short = book.used_bytes + limits.bytes_headroom - limits.bytes_usable
    return short > 0 and bool(let_go(book, short + limits.bytes_bite, now_us))


def let_go(book: Book, size: int, now_us: int) -> int | None:
    """Entries worth this many bytes, in order; notices written. None: nothing may go."""
    notices: int | None = None
    for step in _steps(book):
        while size > 0:
            found = book.store.oldest(step.states, step.lanes, PAGE)
            if not found:
                break
            entries = enough(found, size)
            notices = (notices or 0) + _let_go(book, step, entries, _FULL, now_us)
            size -= sum(entry.size for entry in entries)
    return notices


def age_out(book: Book, now_us: int) -> bool:
    """Samples older than the limit, whatever the room. True: there were some."""
    before_us = now_us - book.limits.age_max_us
    gone = False
    for step in (one for one in _steps(book) if one.said is not None):
        aging = step._replace(lanes=step.lanes & SAMPLE_LANES)
        while old := _sealed_before(book, aging, before_us):
            _let_go(book, aging, old, _OLD, now_us)
            gone = True
    return gone


def _steps(book: Book) -> tuple[Step, ...]:
    return DOUBTING if book.is_doubted else TRUSTING


def _sealed_before(book: Book, step: Step, before_us: int) -> list[Entry]:
    found = book.store.oldest(step.states, step.lanes, PAGE)
    return [entry for entry in found if entry.sealed_at_us < before_us]


def _let_go(book: Book, step: Step, entries: Sequence[Entry], reason: str, now_us: int) -> int:
    book.store.remove(entries)
    if step.said is Kind.RELEASE:
        book.count_gone("released", entries)
        said: Sequence[Stretch] = releases(entries, reason)
    elif step.said is Kind.DROP:
        book.count_gone("dropped", entries)
        said = drops(entries, reason)
    else:
        book.counts["frames_freed"] += len(entries)
        return 0
    book.say(step.said, said, now_us)
    return len(said)
