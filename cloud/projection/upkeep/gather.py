"""Which statements must be resolved together with some: those tied to them by name, slot and time.

Rule 1: of a name that is seldom spoken of, all statements are taken, whatever their time.
Rule 2: of a busy one (a transfer label put on thing after thing) only those from a time at which
nobody bore it, to the next such time: what was before is told by a `Prior`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from cloud.projection.lives import Prior
from cloud.projection.rows import ItemNameRow, ItemRow, StatementRow
from cloud.projection.statements import (
    EARLIEST_US,
    LATEST_US,
    STATEMENT,
    Says,
    Statement,
)
from cloud.projection.workspace import Workspace
from protocols.events import to_us

Which: TypeAlias = tuple[UUID, int]
"""A statement: event, ordinal."""
Ending: TypeAlias = tuple[int, bool] | None
"""When the last life of a name ended, and whether its item did; None: there was none."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The time, half open, of which a busy name's statements are taken."""

    from_us: int = EARLIEST_US
    to_us: int = LATEST_US

    def touches(self, span: tuple[int, int]) -> bool:
        return span[0] < self.to_us and span[1] >= self.from_us


@dataclass(slots=True)
class Part:
    """What is resolved together. `stretches`: of busy names only."""

    tied: dict[Which, Statement] = field(default_factory=dict)
    keys: set[UUID] = field(default_factory=set)
    stretches: dict[UUID, Stretch] = field(default_factory=dict)
    priors: dict[UUID, Prior] = field(default_factory=dict)

    def holds(self, key: UUID, at: datetime) -> bool:
        """Whether what is known of a key at a time follows from this part."""
        stretch = self.stretches.get(key)
        return stretch is None or stretch.from_us <= to_us(at) < stretch.to_us


Point: TypeAlias = tuple[UUID, int]
"""A key and a time that a part must hold."""


class Gathering:
    """Gathers one part. `points`: what it turned out to need beside what its seeds are tied to."""

    def __init__(self, ws: Workspace, seeds: Iterable[Statement], points: Iterable[Point]) -> None:
        self._ws = ws
        self._seeds = list(seeds)
        self._points = list(points)
        self._part = Part()
        self._busy: dict[UUID, list[ItemNameRow]] = {}
        self._spans: list[tuple[frozenset[UUID], tuple[int, int]]] = []

    async def gather(self) -> Part:
        self._spans = [(frozenset({key}), (at_us, at_us)) for key, at_us in self._points]
        self._spans += [(one.keys, await self._span(one)) for one in self._seeds]
        self._part.keys = {key for keys, _ in self._spans for key in keys}
        asked: set[UUID] = set()
        grown = True
        while grown or self._part.keys - asked:
            fresh = self._part.keys - asked
            asked |= fresh
            await self._ask(fresh)
            grown = await self._reach()
        for key, stretch in self._part.stretches.items():
            prior = await self._prior(key, stretch)
            if prior is not None:
                self._part.priors[key] = prior
        return self._part

    async def _ask(self, keys: set[UUID]) -> None:
        if not keys:
            return
        rows, busy = await self._ws.read_few(StatementRow, "key", keys)
        await self._take(row for row in rows if row.key not in busy)
        for life in await self._ws.read(ItemNameRow, "name_key", busy):
            self._busy.setdefault(life.name_key, []).append(life)
        for key in busy:
            self._busy.setdefault(key, [])

    async def _reach(self) -> bool:
        """Let every busy name's stretch cover all times at which it is spoken of here."""
        grown = False
        for key, lives in self._busy.items():
            stretch = self._stretch(key, lives)
            if stretch is not None and stretch != self._part.stretches.get(key):
                self._part.stretches[key] = stretch
                rows = await self._ws.statements_within(key, stretch.from_us, stretch.to_us)
                await self._take(rows, stretch)
                grown = True
        return grown

    async def _take(self, rows: Iterable[StatementRow], stretch: Stretch | None = None) -> None:
        for row in rows:
            which = (row.event, row.ordinal)
            if which in self._part.tied:
                continue
            statement = STATEMENT.validate_python(row.body)
            span = await self._span(statement)
            if stretch is None or stretch.touches(span):
                self._part.tied[which] = statement
                self._part.keys |= statement.keys
                self._spans.append((statement.keys, span))

    async def _span(self, statement: Statement) -> tuple[int, int]:
        """The times that it matters at; of a floating one those of its pass, was and is."""
        if not statement.is_floating or statement.subject is None:
            return statement.span
        slot = statement.subject.key
        rows = await self._ws.read(StatementRow, "key", [slot])
        told = [STATEMENT.validate_python(row.body) for row in rows] + self._seeds
        times = [one.at_us for one in told if one.says is Says.SLOT and one.slot == slot]
        times += [statement.same_as.at_us] if statement.same_as is not None else []
        return min([statement.at_us, *times]), max([statement.at_us, *times])

    def _stretch(self, key: UUID, lives: list[ItemNameRow]) -> Stretch | None:
        spans = [span for keys, span in self._spans if key in keys]
        if not spans:
            return None
        starts = _starts(lives)
        first_us = min(span[0] for span in spans)
        last_us = max(span[1] for span in spans)
        return Stretch(
            max((one for one in starts if one <= first_us), default=EARLIEST_US),
            min((one for one in starts if one > last_us), default=LATEST_US),
        )

    async def _prior(self, key: UUID, stretch: Stretch) -> Prior | None:
        lives = [one for one in self._busy[key] if to_us(one.valid_from) < stretch.from_us]
        last = _ended_last(lives)
        if not last:
            return None
        items = await self._ws.read(ItemRow, "item", {one.item for one in last})
        known = {row.item: row for row in items}
        return Prior(
            (last[0].scheme, last[0].issuer, last[0].value),
            tuple(sorted({one.item for one in last})),
            _end_us(last[0]),
            any(_ended_with(one, known) for one in last),
        )


def ending(
    lives: Iterable[ItemNameRow], items: Mapping[UUID, ItemRow], prior: Prior | None
) -> Ending:
    """How the last life of a name ended, as far as a later one can tell."""
    last = _ended_last(list(lives))
    if not last:
        return None if prior is None else (prior.to_us, prior.by_end)
    end_us = _end_us(last[0])
    return end_us, any(_ended_with(one, items) for one in last)


def _ended_last(lives: list[ItemNameRow]) -> list[ItemNameRow]:
    last_us = max((_end_us(one) for one in lives), default=None)
    return [one for one in lives if _end_us(one) == last_us]


def _end_us(life: ItemNameRow) -> int:
    return LATEST_US if life.valid_to is None else to_us(life.valid_to)


def _ended_with(life: ItemNameRow, items: Mapping[UUID, ItemRow]) -> bool:
    item = items.get(life.item)
    return item is not None and life.valid_to is not None and item.ended_at == life.valid_to


def _starts(lives: list[ItemNameRow]) -> list[int]:
    """The times at which a name began after a time at which nobody bore it."""
    ordered = sorted((to_us(one.valid_from), _end_us(one)) for one in lives)
    starts: list[int] = []
    reached = EARLIEST_US
    for start_us, end_us in ordered:
        if start_us > reached:
            starts.append(start_us)
        reached = max(reached, end_us)
    return starts
