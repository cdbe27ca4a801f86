"""Who is who: walks statements in order of time and says which mentions mean the same item.

Rule 1: whatever the order of arrival, the walk is by time, then kind, then id.
Rule 2: a name met again after its item ended begins a new item.
Rule 3: nothing is merged on suspicion: a name on two live items stays on both, with an alarm.
Rule 4: an item's id is the member id of its first mention; all members lead to it.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final
from uuid import UUID

from cloud.projection.holders import Certainty
from cloud.projection.item_rows import item_row, name_rows
from cloud.projection.keys import key_of
from cloud.projection.lives import Life, Lives, Place, Prior
from cloud.projection.rows import ItemNameRow, ItemRow, MentionRow, TraceAlarmRow
from cloud.projection.statements import Facts, Says, Statement, Term
from protocols.events import from_us


@dataclass(frozen=True, slots=True)
class Identity:
    """What a set of statements comes to."""

    items: tuple[ItemRow, ...]
    names: tuple[ItemNameRow, ...]
    mentions: tuple[MentionRow, ...]
    alarms: tuple[TraceAlarmRow, ...]
    beyond: frozenset[UUID] = frozenset()


def resolve(
    statements: Iterable[Statement], priors: Mapping[UUID, Prior] = MappingProxyType({})
) -> Identity:
    """The identity of everything that the statements speak of.

    Statements that share a key must come together, or all those after a time at which nobody bore
    the name; `priors` say who did before. `beyond`: keys of which that was not enough.
    """
    walk = _Walk()
    for key, prior in priors.items():
        walk.begin_after(key, prior)
    for place, statement in _in_order(list(statements)):
        walk.take(place, statement)
    return walk.result()


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """An alarm. With `items` it stands only if they do not turn out to be one.

    `ended`: items of which one must have ended then, if the name was given in due form.
    """

    name: str
    key: UUID
    at_us: int
    text: str
    event: UUID
    path: str
    items: tuple[int, ...]
    ended: tuple[tuple[int, int], ...] = ()


class _Walk:
    def __init__(self) -> None:
        self._lives = Lives()
        self._slots: dict[UUID, list[int]] = {}
        self._mentions: list[tuple[Statement, Term | None, list[int]]] = []
        self._suspicions: list[_Suspicion] = []
        self._beyond: set[UUID] = set()

    def begin_after(self, key: UUID, prior: Prior) -> None:
        self._lives.add_prior(key, prior)

    def take(self, place: Place, statement: Statement) -> None:
        match statement.says:
            case Says.SLOT:
                self._take_slot(place, statement)
            case Says.NAME:
                self._take_name(place, statement)
            case Says.USE | Says.ABOUT:
                self._take_use(place, statement)

    def result(self) -> Identity:
        return Identity(
            tuple(item_row(self._lives, root) for root in self._lives.roots()),
            tuple(name_rows(self._lives)),
            tuple(self._mention_rows()),
            tuple(self._alarm_rows()),
            frozenset(self._beyond),
        )

    # ---- statements

    def _take_slot(self, place: Place, statement: Statement) -> None:
        assert statement.slot is not None  # noqa: S101 - every slot statement has one
        early = self._slots.get(statement.slot, [])
        if statement.subject is None:
            items = early or [self._lives.open(place, statement.slot, statement.at_us)]
        else:
            items = self._look_up(place, statement, statement.subject)
            if len(items) == 1 and early:  # the slot was spoken of before its pass
                items = [self._lives.unite(items[0], early[0])]
            else:
                items = [*items, *early]
        self._slots[statement.slot] = items
        self._mentions.append((statement, None, []))
        if not all(self._lives[one].live for one in items):
            self._suspect("pass_after_end", statement, statement.slot, _AFTER_END)

    def _take_use(self, place: Place, statement: Statement) -> None:
        assert statement.subject is not None  # noqa: S101 - the extraction leaves out what has none
        items = self._look_up(place, statement, statement.subject)
        self._mentions.append((statement, statement.subject, items))
        if len(items) != 1:
            return
        self._learn(place, statement, items[0])
        if statement.ending > 0:
            self._lives.end(items[0], statement.at_us)
        elif statement.ending < 0:
            self._lives.revive(items[0], statement.at_us)

    def _take_name(self, place: Place, statement: Statement) -> None:
        item = self._subject(place, statement)
        for term in statement.ends:
            self._end_name(statement, item, term)
        for term in statement.names:
            item = self._give(statement, item, term)
            self._mentions.append((statement, term, [item]))
        self._learn(place, statement, item)
        if statement.same_as is not None:
            other = self._find(place, statement, statement.same_as)[0]
            self._mentions.append((statement, statement.same_as, [other]))
            self._lives.unite(item, other)

    def _subject(self, place: Place, statement: Statement) -> int:
        """The item that a name event speaks of; without any clue it is born now."""
        if statement.subject is not None:
            items = self._find(place, statement, statement.subject)
            self._mentions.append((statement, statement.subject, items))
            return items[0]
        if statement.ends:
            return self._find(place, statement, statement.ends[0])[0]
        for term in statement.names:
            for life in self._lives.covering(term.key, statement.at_us):
                if self._fits(life.item, statement.facts):
                    return life.item
        item = self._lives.open(place, statement.member_of(statement.names[0]), statement.at_us)
        self._lives[item].stub = False
        return item

    def _fits(self, item: int, facts: Facts | None) -> bool:
        """A second birth of another material is another item under the same name."""
        if facts is None or facts.material is None:
            return True
        said = [one.material for _, one in self._lives[item].facts if one.material and not one.weak]
        return not said or facts.material in said

    def _end_name(self, statement: Statement, item: int, term: Term) -> None:
        worn = [
            life for life in self._lives.covering(term.key, statement.at_us) if life.to_us is None
        ]
        mine = [life for life in worn if self._lives.root(life.item) == self._lives.root(item)]
        for life in mine:
            life.to_us = statement.at_us
        if not self._lives.by_key[term.key]:  # the name was there before, nobody had met it
            self._begin(item, term, statement.at_us).to_us = statement.at_us
        bearer = item if mine or not worn else worn[0].item
        self._mentions.append((statement, term, [bearer]))

    def _give(self, statement: Statement, item: int, term: Term) -> int:
        """Put a name on an item; returns the item, which may have turned out to be another."""
        lives = self._lives.covering(term.key, statement.at_us)
        owners = {self._lives.root(life.item) for life in lives}
        if self._lives.root(item) in owners:
            return item
        for owner in sorted(owners, key=self._lives.first):
            if self._lives[item].is_anonymous or self._lives[owner].is_anonymous:
                return self._lives.unite(item, owner)
        if owners:
            self._suspect("name_conflict", statement, term.key, _CONFLICT, (item, *owners))
        self._met_again(statement, term, item)
        self._begin(item, term, statement.at_us)
        return item

    def _learn(self, place: Place, statement: Statement, item: int) -> None:
        known = self._lives[item]
        if statement.facts is not None:
            known.facts.append((place, statement.facts))
        known.stub = known.stub and not (statement.births or statement.says is Says.NAME)
        if statement.births and known.born_us is None:
            known.born_us = statement.at_us

    # ---- references

    def _look_up(self, place: Place, statement: Statement, term: Term) -> list[int]:
        if statement.says is Says.ABOUT or term.at_us < statement.at_us:
            return self._find(place, statement, term)
        return self._use(place, statement, term)

    def _use(self, place: Place, statement: Statement, term: Term) -> list[int]:
        """Who bears the name now. Nobody: it begins, or begins again."""
        if term.name is None:
            return self._in_slot(place, statement, term)
        found = self._owners(statement, term)
        if found:
            return found
        item = self._lives.open(place, statement.member, statement.at_us)
        self._met_again(statement, term, item)
        self._begin(item, term, statement.at_us)
        return [item]

    def _find(self, place: Place, statement: Statement, term: Term) -> list[int]:
        """Who bore the name then; if nobody, the last before, else the first after."""
        if term.name is None:
            return self._in_slot(place, statement, term)
        found = self._owners(statement, term)
        if found:
            return found
        lives = self._lives.by_key[term.key]
        if lives:
            by_start = operator.attrgetter("from_us")
            before = [life for life in lives if life.from_us <= term.at_us]
            life = max(before, key=by_start) if before else min(lives, key=by_start)
            if self._lives[life.item].foreign:
                self._beyond.add(term.key)
            return [self._lives.root(life.item)]
        item = self._lives.open(place, statement.member_of(term), statement.at_us)
        self._begin(item, term, statement.at_us)
        return [item]

    def _owners(self, statement: Statement, term: Term) -> list[int]:
        lives = self._lives.covering(term.key, term.at_us)
        found = sorted({self._lives.root(life.item) for life in lives}, key=self._lives.first)
        if len(found) > 1:
            self._suspect("ambiguous_name", statement, term.key, _AMBIGUOUS, tuple(found))
        return found

    def _in_slot(self, place: Place, statement: Statement, term: Term) -> list[int]:
        if term.key not in self._slots:
            self._slots[term.key] = [self._lives.open(place, term.key, statement.at_us)]
        return [self._lives.root(one) for one in self._slots[term.key]]

    def _begin(self, item: int, term: Term, from_us_: int) -> Life:
        assert term.name is not None  # noqa: S101 - only names begin, slots are there at once
        return self._lives.add(item, term.key, term.name, from_us_)

    # ---- suspicions

    def _met_again(self, statement: Statement, term: Term, item: int) -> None:
        """Any life before this one has ended, or the name would not begin again."""
        ended = self._lives.ended_last(term.key)
        if ended:
            suspicion = _Suspicion(
                "name_reused",
                term.key,
                statement.at_us,
                _REUSED,
                statement.event,
                statement.path,
                (item, *(one for one, _ in ended)),
                ended if statement.says is Says.NAME else (),
            )
            self._suspicions.append(suspicion)

    def _suspect(
        self,
        name: str,
        statement: Statement,
        key: UUID,
        text: str,
        items: tuple[int, ...] = (),
    ) -> None:
        suspicion = _Suspicion(
            name, key, statement.at_us, text, statement.event, statement.path, items
        )
        self._suspicions.append(suspicion)

    # ---- rows

    def _mention_rows(self) -> Iterator[MentionRow]:
        for statement, term, found in self._mentions:
            slot = statement.slot if term is None else None if term.name else term.key
            items = found if slot is None else self._slots[slot]
            ids = sorted({self._lives.id_of(one) for one in items})
            certainty = Certainty.EXACT if len(ids) == 1 else Certainty.POSSIBLE
            path = statement.path if term is None else term.path
            member = statement.member if term is None else statement.member_of(term)
            for one in ids:
                yield MentionRow(
                    statement.event, path, statement.ordinal, one, member, certainty.value
                )

    def _alarm_rows(self) -> Iterator[TraceAlarmRow]:
        for one in dict.fromkeys(self._suspicions):
            if self._is_settled(one):
                continue
            yield TraceAlarmRow(
                alarm=key_of(one.name, str(one.event), one.path, str(one.key)),
                owner=one.key,
                name=one.name,
                at=from_us(one.at_us),
                text=one.text,
                events=[str(one.event)],
            )

    def _is_settled(self, one: _Suspicion) -> bool:
        if one.name == "name_reused":
            item, *last = (self._lives.id_of(item) for item in one.items)
            return item in last or not self._ended_then(one)
        return bool(one.items) and len({self._lives.id_of(item) for item in one.items}) == 1

    def _ended_then(self, one: _Suspicion) -> bool:
        """A label taken off and put on another thing is ordinary."""
        return not one.ended or any(
            self._lives[item].ended_us == ended_us for item, ended_us in one.ended
        )


_REUSED: Final = "the name was met again after its item had ended; a new item was opened"
_CONFLICT: Final = "the name is on two live items at once"
_AMBIGUOUS: Final = "the name means more than one live item; all of them are possible"
_AFTER_END: Final = "a pass worked an item that had ended"


def _in_order(statements: list[Statement]) -> list[tuple[Place, Statement]]:
    """By time; what names the item of a pass stands at that pass, unless it states a time."""
    pass_us = {one.slot: one.at_us for one in statements if one.slot is not None}

    def timed(one: Statement) -> Statement:
        if not one.is_floating or one.subject is None:
            return one
        return replace(one, at_us=pass_us.get(one.subject.key, one.at_us))

    def placed(one: Statement) -> tuple[Place, Statement]:
        return (one.at_us, one.rank, one.anchor, one.ordinal), one

    return sorted((placed(timed(one)) for one in statements), key=lambda pair: pair[0])
