"""Where every row and frame is: the arithmetic of `verify`. Pure.

    read + derived = stored + filtered + waiting + rejected + dropped + missing

An *unseen* stretch is a run of seqs of one lane between two frames that the ledger has, or behind
the last one up to the head that the agent stated. Its seqs are rejected (a dead letter names them),
dropped or released (the agent said so), waiting (at or above the floor) or missing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from protocols.frames import Totals


class Fate(StrEnum):
    """What became of a seq that is not in the ledger."""

    REJECTED = "rejected"
    DROPPED = "dropped"
    RELEASED = "released"  # let go as logged: it comes from further down, or not at all
    WAITING = "waiting"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Unseen:
    """Seqs from `first` to `last`; `rows` None: behind the last frame known, not told by it."""

    first: int
    last: int
    rows: int | None


@dataclass(frozen=True, slots=True)
class Named:
    """Seqs that somebody spoke of. `rows`: of those that are unseen; None: not known."""

    first: int
    last: int
    rows: int | None
    fate: Fate


@dataclass(frozen=True, slots=True)
class LaneFacts:
    """One lane of one epoch in a period. `floor` None: everything was let go."""

    epoch: str
    lane: str
    has_samples: bool
    stored_frames: int
    unseen: tuple[Unseen, ...] = ()
    named: tuple[Named, ...] = ()
    floor: int | None = 1


@dataclass(frozen=True, slots=True)
class EpochFacts:
    """One epoch in a period. `totals`: from its beginning to its end; None: never stated.

    `ledger_rows`: samples of the frames in it.
    """

    epoch: str
    totals: Totals | None
    ledger_rows: int
    lanes: tuple[LaneFacts, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Unseen seqs of one fate, and the rows that they held as far as that can be told."""

    epoch: str
    lane: str
    fate: Fate
    first: int
    last: int
    rows: int | None
    has_samples: bool = True

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Account:
    """The equation of one agent and period, from the ledger. All in rows but `frames`."""

    read: int = 0
    derived: int = 0
    filtered: int = 0
    stored: int = 0
    waiting: int = 0
    rejected: int = 0
    dropped: int = 0
    missing: int = 0
    released: int = 0  # of what waits
    surplus: int = 0  # in the ledger beyond what was read: totals and frames disagree
    totals_stated: bool = True
    pieces: tuple[Piece, ...] = field(default=())

    def frames(self, fate: Fate) -> int:
        return sum(piece.frames for piece in self.pieces if piece.fate is fate)

    def plus(self, other: "Account") -> "Account":
        return Account(
            self.read + other.read,
            self.derived + other.derived,
            self.filtered + other.filtered,
            self.stored + other.stored,
            self.waiting + other.waiting,
            self.rejected + other.rejected,
            self.dropped + other.dropped,
            self.missing + other.missing,
            self.released + other.released,
            self.surplus + other.surplus,
            self.totals_stated and other.totals_stated,
            self.pieces + other.pieces,
        )


def account(epochs: Iterable[EpochFacts]) -> Account:
    """Of all epochs together."""
    total = Account()
    for facts in epochs:
        total = total.plus(_epoch(facts))
    return total


def pieces_of(lane: LaneFacts) -> tuple[Piece, ...]:
    """Every unseen seq once, with its fate; rows shared out within each stretch."""
    return tuple(piece for unseen in lane.unseen for piece in _shared(lane, unseen))


def _epoch(facts: EpochFacts) -> Account:
    pieces = [piece for lane in facts.lanes for piece in pieces_of(lane)]
    if facts.totals is None:
        pieces = [replace(one, rows=one.rows or 0) for one in pieces]
        return _sum(facts, pieces, Totals(), stated=not facts.ledger_rows and not pieces)
    totals = facts.totals
    sealed = totals.read + totals.derived - totals.filtered - totals.discarded
    unseen = sealed - facts.ledger_rows
    told = sum(one.rows or 0 for one in pieces if one.has_samples)
    pieces = list(_trimmed(pieces, told - unseen) if told > unseen >= 0 else pieces)
    rest = unseen - sum(one.rows or 0 for one in pieces if one.has_samples)
    pieces = _with_rest(facts, pieces, max(0, rest))
    return _sum(facts, pieces, totals, stated=True, surplus=max(0, -unseen))


def _sum(
    facts: EpochFacts,
    pieces: Sequence[Piece],
    totals: Totals,
    *,
    stated: bool,
    surplus: int = 0,
) -> Account:
    rows = dict.fromkeys(Fate, 0)
    for piece in pieces:
        rows[piece.fate] += (piece.rows or 0) if piece.has_samples else 0
    read = totals.read
    if not stated:
        read = facts.ledger_rows + sum(rows.values())
    return Account(
        read,
        totals.derived,
        totals.filtered,
        facts.ledger_rows,
        rows[Fate.WAITING] + rows[Fate.RELEASED],
        rows[Fate.REJECTED],
        rows[Fate.DROPPED] + totals.discarded,
        rows[Fate.MISSING],
        rows[Fate.RELEASED],
        surplus,
        stated,
        tuple(one for one in pieces if one.last >= one.first),
    )


def _trimmed(pieces: Sequence[Piece], too_many: int) -> Iterator[Piece]:
    """A stretch before the period's first frame is partly of the period before: its rows too."""
    for piece in pieces:
        cut = min(too_many, piece.rows or 0) if piece.has_samples else 0
        too_many -= cut
        yield replace(piece, rows=(piece.rows or 0) - cut) if cut else piece


def _with_rest(facts: EpochFacts, pieces: Sequence[Piece], rest: int) -> list[Piece]:
    """Rows that were read and sealed, and that no frame between two others can hold.

    They are behind the last frames known. Missing before waiting: nothing is excused by a guess.
    """
    open_ones = [at for at, one in enumerate(pieces) if one.rows is None and one.has_samples]
    found = [replace(one, rows=one.rows or 0) for one in pieces]
    if not rest:
        return found
    for fate in (Fate.MISSING, Fate.WAITING, Fate.RELEASED, Fate.DROPPED, Fate.REJECTED):
        for at in open_ones:
            if found[at].fate is fate:
                found[at] = replace(found[at], rows=rest)
                return found
    # Sealed, and in no lane that anybody has told of yet: nobody has said that it was let go.
    return [*found, Piece(facts.epoch, "live or backlog", Fate.WAITING, 1, 0, rest)]


def _shared(lane: LaneFacts, unseen: Unseen) -> Iterator[Piece]:
    spans = list(_spans(lane, unseen))
    known = sum(rows for *_, rows in spans if rows is not None)
    vague = [at for at, (*_, rows) in enumerate(spans) if rows is None]
    rest = None if unseen.rows is None else max(0, unseen.rows - known)
    heir = min(vague, key=lambda at: _BLAME[spans[at][0]], default=None)
    for at, (fate, first, last, rows) in enumerate(spans):
        share = rest if at == heir else (0 if rest is not None else None)
        mine = share if rows is None else rows
        yield Piece(lane.epoch, lane.lane, fate, first, last, mine, lane.has_samples)


_BLAME = {
    Fate.MISSING: 0,
    Fate.WAITING: 1,
    Fate.RELEASED: 2,
    Fate.DROPPED: 3,
    Fate.REJECTED: 4,
}


def _spans(lane: LaneFacts, unseen: Unseen) -> Iterator[tuple[Fate, int, int, int | None]]:
    """The stretch cut where somebody spoke of it, and at the floor."""
    at = unseen.first
    for named in sorted(lane.named, key=lambda one: (one.first, one.last)):
        first, last = max(named.first, at), min(named.last, unseen.last)
        if first > last:
            continue
        yield from _unnamed(lane, at, first - 1)
        whole = first == named.first and last == named.last
        yield named.fate, first, last, named.rows if whole else None
        at = last + 1
    yield from _unnamed(lane, at, unseen.last)


def _unnamed(lane: LaneFacts, first: int, last: int) -> Iterator[tuple[Fate, int, int, int | None]]:
    if first > last:
        return
    floor = last + 1 if lane.floor is None else lane.floor
    if first < floor:
        yield Fate.MISSING, first, min(last, floor - 1), None
    if last >= floor:
        yield Fate.WAITING, max(first, floor), last, None
