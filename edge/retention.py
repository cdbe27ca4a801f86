"""What may be let go when there is no room or no time left, and what is said of it. Pure.

Kept stored first, silently: it is safe elsewhere. Then logged, by a `release`. Then new samples,
by a `drop`, backlog before live. Events and notices are never dropped. While the cloud does not
take this agent, what is logged is no safer than what is new: it will be asked for again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from edge.entries import Entry, State
from protocols.events import from_us
from protocols.frames import Kind, Lane
from protocols.notices import Drop, Release, Stretch

S = TypeVar("S", bound=Stretch)

SAMPLE_LANES: Final = frozenset({Lane.LIVE, Lane.BACKLOG})
_LANES: Final = frozenset(Lane) - {Lane.NONE}


@dataclass(frozen=True, slots=True)
class Limits:
    """`logged_expires_us`: half of what the log behind the gateway keeps."""

    bytes_max: int = 1024 * 1024 * 1024
    age_max_us: int = 30 * 86_400_000_000
    keep_stored_us: int = 86_400_000_000
    logged_expires_us: int = 84 * 3_600_000_000

    @property
    def bytes_reserved(self) -> int:
        """For notices alone: what is let go must always be said."""
        return self.bytes_max // 16

    @property
    def bytes_usable(self) -> int:
        return self.bytes_max - self.bytes_reserved

    @property
    def bytes_bite(self) -> int:
        """Let go at once, so that notices stay few."""
        return self.bytes_max // 32

    @property
    def bytes_headroom(self) -> int:
        """Kept free for the next cut."""
        return min(2 * 1024 * 1024, self.bytes_max // 8)

    @property
    def aside_bytes_max(self) -> int:
        return self.bytes_max // 16


class Step(NamedTuple):
    """One kind of entries that may go, and how it is said (None: it need not be)."""

    states: tuple[State, ...]
    lanes: frozenset[Lane]
    said: Kind | None


_KEPT: Final = Step((State.STORED,), _LANES, None)
TRUSTING: Final = (
    _KEPT,
    Step((State.LOGGED,), _LANES, Kind.RELEASE),
    Step((State.NEW,), frozenset({Lane.BACKLOG}), Kind.DROP),
    Step((State.NEW,), frozenset({Lane.LIVE}), Kind.DROP),
)
DOUBTING: Final = (
    _KEPT,
    Step((State.NEW, State.LOGGED), frozenset({Lane.BACKLOG}), Kind.DROP),
    Step((State.NEW, State.LOGGED), frozenset({Lane.LIVE}), Kind.DROP),
)


def enough(entries: Sequence[Entry], size: int) -> Sequence[Entry]:
    """The first entries that together have this size; all, if they have less."""
    total = 0
    for count, entry in enumerate(entries, 1):
        total += entry.size
        if total >= size:
            return entries[:count]
    return entries


def drops(entries: Iterable[Entry], reason: str) -> list[Drop]:
    return [_stretch(Drop, run, reason) for run in _runs(entries)]


def releases(entries: Iterable[Entry], reason: str) -> list[Release]:
    return [_stretch(Release, run, reason) for run in _runs(entries)]


def _stretch(kind: type[S], run: Sequence[Entry], reason: str) -> S:
    first, last = run[0].key, run[-1].key
    return kind(
        lane=first.lane,
        from_time=from_us(min(entry.t_min_us for entry in run)),
        to_time=from_us(max(entry.t_max_us for entry in run)),
        from_seq=first.seq,
        to_seq=last.seq,
        epoch=first.epoch,
        reason=reason,
        rows=sum(entry.rows for entry in run),
    )


def _runs(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Successive seqs of one stream together."""
    run: list[Entry] = []
    for entry in sorted(entries, key=lambda one: one.key):
        if run and entry.key != run[-1].key._replace(seq=run[-1].key.seq + 1):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run
