"""What events say about identity: each statement names things by keys and at times.

Rule 1: a statement is all that `identity` reads; keys tie statements that must be read together.
Rule 2: a thing said to be in a holder is the thing whose mention `holders` found there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias
from uuid import UUID

from pydantic import TypeAdapter

from cloud.projection.holders import (
    RANK_MOVE,
    RANK_PASS,
    RANK_STATE,
    Taken,
    key_of_ref,
    pass_time_us,
)
from cloud.projection.keys import amount, member_id, name_key, slot_key
from protocols.events import (
    Event,
    HolderRef,
    MakeEvent,
    MoveEvent,
    NameEvent,
    NameRef,
    PassEvent,
    PassRef,
    Purpose,
    Ref,
    StateEvent,
    to_us,
)

EARLIEST_US: Final = -(2**62)
LATEST_US: Final = 2**62
RANK_NAME: Final = 0
RANK_MAKE: Final = 1
RANK_NAME_OF_PASS: Final = 4  # after the pass whose item it names, before what ends an item
ENDING: Final = frozenset({"scrapped", "dismantled", "destroyed"})


class Says(StrEnum):
    """USE may open a new life of a name, ABOUT never does, SLOT and NAME bind."""

    USE = "use"
    ABOUT = "about"
    SLOT = "slot"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Term:
    """A reference. `name`: scheme, issuer, value; None: the key is a slot's."""

    path: str
    key: UUID
    at_us: int
    name: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a statement says of its thing beside identity. `weak`: only if nobody says better."""

    material: str | None = None
    revision: str | None = None
    qty: Decimal | None = None
    uom: str | None = None
    order_no: str | None = None
    purpose: str | None = None
    expiry_us: int | None = None
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """`path`: of the thing itself. `ending`: +1 the thing ends, -1 it does after all not."""

    event: UUID
    ordinal: int
    says: Says
    at_us: int
    rank: int
    anchor: UUID
    path: str
    subject: Term | None = None
    slot: UUID | None = None
    names: tuple[Term, ...] = ()
    ends: tuple[Term, ...] = ()
    same_as: Term | None = None
    facts: Facts | None = None
    ending: int = 0
    births: bool = False
    timed: bool = True

    @property
    def keys(self) -> frozenset[UUID]:
        terms = [self.subject, self.same_as, *self.names, *self.ends]
        keys = {term.key for term in terms if term is not None}
        return frozenset(keys if self.slot is None else keys | {self.slot})

    @property
    def is_floating(self) -> bool:
        """It stands at the time of a pass, which only that pass knows."""
        of_slot = self.subject is not None and self.subject.name is None
        return self.says is Says.NAME and of_slot and not self.timed

    @property
    def look_ups(self) -> tuple[int, ...]:
        """The times that its place in the walk and its look-ups are at, if it does not float."""
        terms = [self.subject, self.same_as, *self.ends]
        return (self.at_us, *(term.at_us for term in terms if term is not None))

    @property
    def span(self) -> tuple[int, int]:
        """The times that its place in the walk and its look-ups may be at."""
        if self.is_floating:
            return EARLIEST_US, LATEST_US
        return min(self.look_ups), max(self.look_ups)

    def member_of(self, term: Term) -> UUID:
        return term.key if term.name is None else member_id(self.event, term.path)

    @property
    def member(self) -> UUID:
        return self.slot or member_id(self.event, self.path)


STATEMENT: Final[TypeAdapter[Statement]] = TypeAdapter(Statement)
Met: TypeAlias = Mapping[str, tuple[Taken, ...]]
"""What an event met in holders, by path."""


def statements_of(event: Event, met: Met) -> tuple[Statement, ...]:
    """All that an event says about identity, given what it met in holders."""
    match event:
        case NameEvent():
            return tuple(_of_name(event, met))
        case PassEvent():
            return tuple(_of_pass(event, met))
        case MoveEvent():
            return tuple(_of_move(event, met))
        case MakeEvent():
            return tuple(_of_make(event, met))
        case StateEvent():
            return tuple(_of_state(event, met))
        case _:
            return ()


def slot_places(event: PassEvent) -> tuple[str, ...]:
    """The place of each item of a pass, made unique: a second item of a place gets its position."""
    places: list[str] = []
    for i, item in enumerate(event.items):
        places.append(item.place if item.place not in places else f"{item.place}#{i}")
    return tuple(places)


def _of_name(event: NameEvent, met: Met) -> Iterator[Statement]:
    at_us = to_us(event.at)
    stated = [to_us(one.at) for one in event.names + event.ends if one.at is not None]
    names = tuple(_named(f"names.{i}", ref, at_us) for i, ref in enumerate(event.names))
    ends = tuple(_named(f"ends.{i}", ref, at_us) for i, ref in enumerate(event.ends))
    subject = _term("item", event.item, at_us, met)
    if subject is None and not names and not ends:
        return
    of_slot = subject is not None and subject.name is None
    yield Statement(
        event.id,
        0,
        Says.NAME,
        min([at_us, *stated]),
        RANK_NAME_OF_PASS if of_slot else RANK_NAME,
        event.id,
        "item" if subject is not None else (*names, *ends)[0].path,
        subject=subject,
        names=names,
        ends=ends,
        same_as=_term("same_as", event.same_as, at_us, met),
        facts=_facts_of(event),
        births=event.item is None and not ends,
        timed=bool(stated),
    )


def _facts_of(event: NameEvent) -> Facts:
    return Facts(
        event.material,
        event.revision,
        amount(event.qty),
        event.qty.uom if event.qty is not None else None,
        event.order,
        event.purpose.value if event.purpose is not Purpose.PRODUCTION else None,
        to_us(event.expiry) if event.expiry is not None else None,
    )


def _of_pass(event: PassEvent, met: Met) -> Iterator[Statement]:
    at_us = pass_time_us(event)
    for i, (item, place) in enumerate(zip(event.items, slot_places(event), strict=True)):
        path = f"items.{i}"
        yield Statement(
            event.id,
            i,
            Says.SLOT,
            at_us,
            RANK_PASS,
            event.pass_id,
            path,
            subject=_term(path, item.ref, at_us, met),
            slot=slot_key(event.pass_id, place),
        )
    about = _term("about", event.about, at_us, met)
    if about is not None:
        yield Statement(
            event.id,
            len(event.items),
            Says.ABOUT,
            at_us,
            RANK_PASS,
            event.pass_id,
            "about",
            subject=about,
        )


def _of_move(event: MoveEvent, met: Met) -> Iterator[Statement]:
    at_us = to_us(event.at)
    facts = Facts(material=event.material, weak=True) if event.material else None
    refs: list[tuple[str, Ref | None, Says, Facts | None]] = [
        ("what", event.what, Says.USE, facts),
        ("to", event.to, Says.USE, None),
        ("from", event.from_, Says.ABOUT, None),
    ]
    for i, (path, ref, says, fact) in enumerate(refs):
        if path != "what" and isinstance(ref, HolderRef):
            continue  # there the holder is meant, not what is in it
        term = _term(path, ref, at_us, met)
        if term is not None:
            when_us = term.at_us if says is Says.USE else at_us
            yield Statement(
                event.id, i, says, when_us, RANK_MOVE, event.id, path, subject=term, facts=fact
            )


def _of_make(event: MakeEvent, met: Met) -> Iterator[Statement]:
    at_us = to_us(event.at)
    portions = [(f"inputs.{i}", one, False) for i, one in enumerate(event.inputs)]
    portions += [(f"outputs.{i}", one, True) for i, one in enumerate(event.outputs)]
    for i, (path, portion, births) in enumerate(portions):
        term = _term(path, portion.ref, at_us, met)
        if term is None:
            continue
        qty = amount(portion.qty) if births else None
        uom = portion.qty.uom if births and portion.qty is not None else None
        yield Statement(
            event.id,
            i,
            Says.USE,
            term.at_us,
            RANK_MAKE,
            event.id,
            path,
            subject=term,
            facts=Facts(qty=qty, uom=uom, weak=True) if births else None,
            births=births,
        )


def _of_state(event: StateEvent, met: Met) -> Iterator[Statement]:
    at_us = to_us(event.at)
    ending = int(not ENDING.isdisjoint(event.set_)) - int(not ENDING.isdisjoint(event.unset))
    for i, ref in enumerate(event.items):
        path = f"items.{i}"
        term = _term(path, ref, at_us, met)
        if term is not None:
            yield Statement(
                event.id,
                i,
                Says.ABOUT,
                at_us,
                RANK_STATE,
                event.id,
                path,
                subject=term,
                ending=ending,
            )


def _term(path: str, ref: Ref | None, at_us: int, met: Met) -> Term | None:
    match ref:
        case NameRef():
            return _named(path, ref, at_us)
        case PassRef():
            return Term(path, key_of_ref(ref), at_us if ref.at is None else to_us(ref.at))
        case HolderRef():
            return _found(path, met.get(path, ()))
        case _:
            return None


def _found(path: str, taken: Iterable[Taken]) -> Term | None:
    """The one thing that the holder held; of several, none is meant."""
    sources = [one.source for one in taken if one.source is not None]
    if len(sources) != 1:
        return None
    source = sources[0]
    return Term(path, source.key, source.at_us, source.name)


def _named(path: str, ref: NameRef, at_us: int) -> Term:
    when_us = at_us if ref.at is None else to_us(ref.at)
    return Term(path, name_key(ref), when_us, (ref.scheme, ref.issuer, ref.value))
