"""Items while they are told apart: which names they bore when, and which turned out to be one.

Rule 1: merging holds for all of time; an item lives while one of the merged lives.
Rule 2: a life begins and ends at the time of the walk, never before: what was looked up earlier
in the walk would be looked up again with the same answer.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from cloud.projection.statements import Facts

Place: TypeAlias = tuple[int, int, UUID, int]
"""Where a statement stands in the walk: time, rank, anchor, ordinal."""
First: TypeAlias = tuple[Place, UUID, int]
"""Where an item was first met, the member id that this gives it, and the time."""


@dataclass(slots=True)
class Item:
    """An item as it is known so far; `first` decides its id."""

    first: First
    keys: set[UUID] = field(default_factory=set)
    live: bool = True
    ended_us: int | None = None
    born_us: int | None = None
    stub: bool = True
    foreign: bool = False
    facts: list[tuple[Place, Facts]] = field(default_factory=list)

    @property
    def is_anonymous(self) -> bool:
        return not self.keys and self.stub

    def swallow(self, other: "Item") -> None:
        self.first = min(self.first, other.first)
        self.keys |= other.keys
        self.facts += other.facts
        self.stub = self.stub and other.stub
        self.foreign = self.foreign and other.foreign
        births = [one for one in (self.born_us, other.born_us) if one is not None]
        self.born_us = min(births, default=None)
        self.live = self.live or other.live
        ends = [one for one in (self.ended_us, other.ended_us) if one is not None]
        self.ended_us = None if self.live else max(ends, default=None)


@dataclass(slots=True)
class Life:
    """A stretch of a name on one item. `by_end`: it ended because the item ended."""

    item: int
    key: UUID
    name: tuple[str, str, str]
    from_us: int
    to_us: int | None = None
    by_end: bool = False

    def covers(self, at_us: int) -> bool:
        return self.from_us <= at_us and (self.to_us is None or at_us < self.to_us)


@dataclass(frozen=True, slots=True)
class Prior:
    """The last life of a name before what is resolved here: on which items, and how it ended."""

    name: tuple[str, str, str]
    items: tuple[UUID, ...]
    to_us: int
    by_end: bool


class Lives:
    """Items by number (any number of a merged item will do) and the lives of every name."""

    def __init__(self) -> None:
        self.by_key: dict[UUID, list[Life]] = defaultdict(list)
        self._items: list[Item] = []
        self._parent: list[int] = []

    def open(self, place: Place, member: UUID, at_us: int) -> int:
        self._items.append(Item((place, member, at_us)))
        self._parent.append(len(self._parent))
        return len(self._items) - 1

    def add(self, item: int, key: UUID, name: tuple[str, str, str], from_us: int) -> Life:
        life = Life(item, key, name, from_us)
        self.by_key[key].append(life)
        self[item].keys.add(key)
        return life

    def add_prior(self, key: UUID, prior: Prior) -> None:
        for item in prior.items:
            self._items.append(Item(((prior.to_us, -1, item, 0), item, prior.to_us), foreign=True))
            self._parent.append(len(self._parent))
            root = len(self._items) - 1
            self._items[root].live = False
            self._items[root].ended_us = prior.to_us if prior.by_end else None
            life = self.add(root, key, prior.name, prior.to_us)
            life.to_us, life.by_end = prior.to_us, prior.by_end

    def ended_last(self, key: UUID) -> tuple[tuple[int, int], ...]:
        """Item and end of those lives of a name that ended last."""
        ended = [(life.item, life.to_us) for life in self.by_key[key] if life.to_us is not None]
        last_us = max((to_us for _, to_us in ended), default=None)
        return tuple((item, to_us) for item, to_us in ended if to_us == last_us)

    def covering(self, key: UUID, at_us: int) -> list[Life]:
        return [life for life in self.by_key[key] if life.covers(at_us)]

    def of(self, item: int) -> Iterator[Life]:
        root = self.root(item)
        for key in sorted(self._items[root].keys):
            yield from (life for life in self.by_key[key] if self.root(life.item) == root)

    def end(self, item: int, at_us: int) -> None:
        """The item ends, and every name on it."""
        known = self[item]
        if not known.live:
            return
        known.live, known.ended_us = False, at_us
        for life in self.of(item):
            if life.to_us is None:
                life.to_us, life.by_end = at_us, True

    def revive(self, item: int, at_us: int) -> None:
        """It did not end after all: from now on its names go on, unless another item has them."""
        known = self[item]
        if known.live:
            return
        for life in list(self.of(item)):
            if life.by_end and life.to_us == known.ended_us:
                life.by_end = False
                if all(other.to_us is not None for other in self.by_key[life.key]):
                    self.add(item, life.key, life.name, at_us)
        known.live, known.ended_us = True, None

    def unite(self, one: int, other: int) -> int:
        winner, loser = self.root(one), self.root(other)
        if winner != loser:
            self._items[winner].swallow(self._items[loser])
            self._parent[loser] = winner
        return winner

    def root(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def roots(self) -> list[int]:
        roots = {self.root(one) for one in range(len(self._items))}
        return sorted(one for one in roots if not self._items[one].foreign)

    def id_of(self, item: int) -> UUID:
        return self[item].first[1]

    def first(self, item: int) -> First:
        return self[item].first

    def __getitem__(self, item: int) -> Item:
        return self._items[self.root(item)]
