"""What was in a holder when: a timeline folded from moves and from the passes that took from it.

Rule 1: contents are mentions (the `what` of a move), never items, so a holder needs no identity.
Rule 2: a fold can be taken up again after any use of the holder: the state stands beside the use.

Disciplines: `single` holds one thing, a mount replaces it. `fifo` holds a queue, and passes use it
up by quantity, oldest first.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias
from uuid import UUID

from cloud.projection.keys import amount, name_key, slot_key
from protocols.events import (
    Event,
    HolderRef,
    MakeEvent,
    MoveEvent,
    NameEvent,
    NameRef,
    PassEvent,
    PassRef,
    Ref,
    StateEvent,
    to_us,
)

GONE_MAX: Final = 4  # predecessors kept for passes that were running when the content changed
RANK_MOVE: Final = 2
RANK_PASS: Final = 3
RANK_STATE: Final = 5


class Discipline(StrEnum):
    SINGLE = "single"
    FIFO = "fifo"


class Do(StrEnum):
    PUT = "put"
    TAKE = "take"
    FEED = "feed"
    READ = "read"


class Certainty(StrEnum):
    EXACT = "exact"
    POSSIBLE = "possible"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Source:
    """The mention that says what a content is. `key`, `name`, `at_us`: what it refers to, when."""

    event: UUID
    path: str
    key: UUID
    at_us: int
    name: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One content. `put`: the move that brought it. `left` None: no quantity was said."""

    put: UUID
    source: Source
    left: Decimal | None
    since_us: int


@dataclass(frozen=True, slots=True)
class Gone:
    entry: Entry
    left_us: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a holder holds, oldest first, and what left it last, newest first."""

    held: tuple[Entry, ...] = ()
    gone: tuple[Gone, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What a use of the holder met. `source` None: nobody knows."""

    source: Source | None
    put: UUID | None
    qty: Decimal | None
    certainty: Certainty


Order: TypeAlias = tuple[int, int, UUID, int]


@dataclass(frozen=True, slots=True)
class Op:
    """One use of a holder. A PUT without `source` puts what the READ of the same event met."""

    holder: str
    at_us: int
    rank: int
    event: UUID
    ordinal: int
    do: Do
    path: str
    qty: Decimal | None = None
    window_us: int = 0
    source: Source | None = None
    key: UUID | None = None

    @property
    def order(self) -> Order:
        return (self.at_us, self.rank, self.event, self.ordinal)


@dataclass(frozen=True, slots=True)
class Step:
    """What one use did: the contents after it, what it met, which entries left."""

    contents: Contents
    taken: tuple[Taken, ...] = ()
    left: tuple[UUID, ...] = ()

    def brought(self, op: Op) -> tuple[Entry, ...]:
        """The content that this use put there, as it came."""
        return tuple(one for one in self.contents.held if one.put == op.event)


Met: TypeAlias = Callable[[UUID, str], tuple[Taken, ...]]
"""What a READ of an event met, by event and path."""


def step(before: Contents, op: Op, discipline: Discipline, met: Met) -> Step:
    """One use of a holder."""
    match op.do:
        case Do.PUT:
            return _put(before, op, discipline, met)
        case Do.TAKE:
            return _take(before, op, discipline)
        case Do.FEED:
            return _feed(before, op, discipline)
        case Do.READ:
            return Step(before, _contents(before))


def fold(
    ops: Iterable[Op], discipline_of: Callable[[str], Discipline]
) -> Iterator[tuple[Op, Step]]:
    """All uses of all holders, in order of time: what every holder held and every use met."""
    held: dict[str, Contents] = {}
    read: dict[tuple[UUID, str], tuple[Taken, ...]] = {}
    for op in sorted(ops, key=lambda one: (one.order, one.holder)):
        before = held.get(op.holder, Contents())
        after = step(before, op, discipline_of(op.holder), lambda e, p: read.get((e, p), ()))
        held[op.holder] = after.contents
        if op.do is Do.READ:
            read[op.event, op.path] = after.taken
        yield op, after


def ops_of(event: Event) -> tuple[Op, ...]:
    """How an event uses holders."""
    match event:
        case PassEvent():
            return tuple(_ops_of_pass(event))
        case MoveEvent():
            return tuple(_ops_of_move(event))
        case MakeEvent():
            portions = [(f"inputs.{i}", one.ref) for i, one in enumerate(event.inputs)]
            portions += [(f"outputs.{i}", one.ref) for i, one in enumerate(event.outputs)]
            return tuple(_reads(event.id, to_us(event.at), RANK_MOVE, portions))
        case StateEvent():
            items = [(f"items.{i}", ref) for i, ref in enumerate(event.items)]
            return tuple(_reads(event.id, to_us(event.at), RANK_STATE, items))
        case NameEvent():
            terms = [("item", event.item), ("same_as", event.same_as)]
            return tuple(_reads(event.id, to_us(event.at), RANK_PASS, terms))
        case _:
            return ()


def pass_time_us(event: PassEvent) -> int:
    """When the item of a pass was there: at its start."""
    return to_us(event.started or event.at)


def key_of_ref(ref: NameRef | PassRef) -> UUID:
    return name_key(ref) if isinstance(ref, NameRef) else slot_key(ref.pass_id, ref.place)


def _put(before: Contents, op: Op, discipline: Discipline, met: Met) -> Step:
    entries = tuple(_entries_put(op, met))
    if not entries:  # nobody knows what was put: what was there is not what a later pass meets
        return _emptied(before, op) if discipline is Discipline.SINGLE else Step(before)
    if discipline is Discipline.FIFO:
        return Step(replace(before, held=before.held + entries))
    emptied = _emptied(before, op)
    return replace(emptied, contents=replace(emptied.contents, held=entries[-1:]))


def _entries_put(op: Op, met: Met) -> Iterator[Entry]:
    if op.source is not None:
        yield Entry(op.event, op.source, op.qty, op.at_us)
        return
    found = [one for one in met(op.event, "what") if one.source is not None]
    if len(found) == 1 and found[0].source is not None:  # of several, none is meant
        yield Entry(op.event, found[0].source, op.qty or found[0].qty, op.at_us)


def _take(before: Contents, op: Op, discipline: Discipline) -> Step:
    if discipline is Discipline.SINGLE:
        return _emptied(before, op)
    chosen = _chosen(before.held, op)
    if chosen is None:
        return _emptied(before, op) if op.key is None and op.qty is None else Step(before)
    entry = before.held[chosen]
    rest = None if entry.left is None or op.qty is None else entry.left - op.qty
    if rest is not None and rest > 0:
        kept = replace(entry, left=rest)
        return Step(replace(before, held=_swapped(before.held, chosen, (kept,))))
    held = _swapped(before.held, chosen, ())
    return Step(replace(before, held=held), left=(entry.put,))


def _chosen(held: Sequence[Entry], op: Op) -> int | None:
    """Which content is taken: the named one; the oldest if only a quantity is said."""
    if op.key is not None:
        return next((i for i, one in enumerate(held) if one.source.key == op.key), None)
    return 0 if held and op.qty is not None else None


def _swapped(held: tuple[Entry, ...], at: int, by: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return held[:at] + by + held[at + 1 :]


def _emptied(before: Contents, op: Op) -> Step:
    gone = tuple(Gone(entry, op.at_us) for entry in reversed(before.held)) + before.gone
    return Step(Contents((), gone[:GONE_MAX]), left=tuple(one.put for one in before.held))


def _feed(before: Contents, op: Op, discipline: Discipline) -> Step:
    if discipline is Discipline.FIFO:
        return _used_up(before, op)
    met = list(before.held) + [one.entry for one in before.gone if one.left_us > op.window_us]
    exact = len(met) == 1 and met[0].since_us <= op.window_us
    certainty = Certainty.EXACT if exact else Certainty.POSSIBLE
    taken = tuple(Taken(one.source, one.put, op.qty, certainty) for one in met)
    return Step(before, taken or (Taken(None, None, op.qty, Certainty.UNKNOWN),))


def _used_up(before: Contents, op: Op) -> Step:
    """A queue gives its oldest first. Where a quantity is not known, any of them is possible."""
    if op.qty is None or any(one.left is None for one in before.held):
        return Step(before, _any_of(before, op))
    wanted, taken, left, held = op.qty, list[Taken](), list[UUID](), list(before.held)
    while wanted > 0 and held:
        oldest = held[0]
        assert oldest.left is not None  # noqa: S101 - checked above for every entry
        part = min(wanted, oldest.left)
        wanted -= part
        if part > 0:
            taken.append(Taken(oldest.source, oldest.put, part, Certainty.EXACT))
        held[0] = replace(oldest, left=oldest.left - part)
        if part <= 0 or part == oldest.left:
            left.append(held.pop(0).put)
    if wanted > 0:
        taken.append(Taken(None, None, wanted, Certainty.UNKNOWN))
    return Step(replace(before, held=tuple(held)), tuple(taken), tuple(left))


def _any_of(before: Contents, op: Op) -> tuple[Taken, ...]:
    if not before.held:
        return (Taken(None, None, op.qty, Certainty.UNKNOWN),)
    certainty = Certainty.EXACT if len(before.held) == 1 else Certainty.POSSIBLE
    return tuple(Taken(one.source, one.put, op.qty, certainty) for one in before.held)


def _contents(before: Contents) -> tuple[Taken, ...]:
    certainty = Certainty.EXACT if len(before.held) == 1 else Certainty.POSSIBLE
    return tuple(Taken(one.source, one.put, one.left, certainty) for one in before.held)


def _ops_of_pass(event: PassEvent) -> Iterator[Op]:
    start_us = pass_time_us(event)
    end_us = to_us(event.ended) if event.ended is not None else start_us
    for i, feed in enumerate(event.feeds):
        yield Op(
            feed.holder,
            max(start_us, end_us),
            RANK_PASS,
            event.id,
            i,
            Do.FEED,
            f"feeds.{i}",
            qty=amount(feed.qty),
            window_us=start_us,
        )
    refs: list[tuple[str, Ref | None]] = [
        (f"items.{i}", item.ref) for i, item in enumerate(event.items)
    ]
    refs.append(("about", event.about))
    refs += [(f"seats.{role}", HolderRef(holder=path)) for role, path in _seats(event)]
    yield from _reads(event.id, start_us, RANK_PASS, refs, ordinal=len(event.feeds))


def _seats(event: PassEvent) -> list[tuple[str, str]]:
    return sorted((role, path) for role, path in event.seats.items() if path)


def _reads(
    event: UUID,
    at_us: int,
    rank: int,
    refs: Iterable[tuple[str, Ref | None]],
    ordinal: int = 0,
) -> Iterator[Op]:
    """The holders that are looked into, each with its own time if it states one."""
    for i, (path, ref) in enumerate(refs):
        if isinstance(ref, HolderRef):
            when_us = at_us if ref.at is None else to_us(ref.at)
            yield Op(ref.holder, when_us, rank, event, ordinal + i, Do.READ, path)


def _ops_of_move(event: MoveEvent) -> Iterator[Op]:
    what = event.what
    qty = amount(event.qty)
    if isinstance(what, HolderRef):  # looked into at the latest when it arrives
        at_us = min(to_us(ref.at or event.at) for ref in (what, event.to or what))
        yield Op(what.holder, at_us, RANK_MOVE, event.id, 0, Do.READ, "what")
        yield Op(what.holder, at_us, RANK_MOVE, event.id, 1, Do.TAKE, "what", qty=qty)
        source = key = None
    else:
        key = key_of_ref(what)
        source = Source(event.id, "what", key, to_us(what.at or event.at), _name_of(what))
    if isinstance(event.from_, HolderRef):
        when_us = to_us(event.from_.at or event.at)
        yield Op(
            event.from_.holder, when_us, RANK_MOVE, event.id, 2, Do.TAKE, "from", qty=qty, key=key
        )
    if isinstance(event.to, HolderRef):
        when_us = to_us(event.to.at or event.at)
        yield Op(
            event.to.holder,
            when_us,
            RANK_MOVE,
            event.id,
            3,
            Do.PUT,
            "to",
            qty=qty,
            source=source,
        )


def _name_of(ref: NameRef | PassRef) -> tuple[str, str, str] | None:
    return (ref.scheme, ref.issuer, ref.value) if isinstance(ref, NameRef) else None


def taken_by_path(
    steps: Iterable[tuple[Op, Step]],
) -> Mapping[UUID, Mapping[str, tuple[Taken, ...]]]:
    """What each event met in holders, by event and path."""
    found: dict[UUID, dict[str, tuple[Taken, ...]]] = {}
    for op, after in steps:
        if op.do in (Do.READ, Do.FEED):
            found.setdefault(op.event, {})[op.path] = after.taken
    return found
