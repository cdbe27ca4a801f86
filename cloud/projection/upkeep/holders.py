"""Timelines of holders taken up again where an event changed them, until they run as before."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias
from uuid import UUID

from pydantic import TypeAdapter

from cloud.projection.holders import (
    Contents,
    Discipline,
    Do,
    Entry,
    Met,
    Op,
    Order,
    Step,
    Taken,
    ops_of,
    step,
)
from cloud.projection.rows import HolderOpRow
from cloud.projection.workspace import Workspace
from protocols.events import Event

PAGE_FIRST: Final = 16  # uses read at once when a late event makes a stretch run again; most are
PAGE_MAX: Final = 512  # short, so pages begin small and grow
DisciplineOf: TypeAlias = Callable[[str], Discipline]

_OP: Final = TypeAdapter(Op)
_TAKEN: Final = TypeAdapter(tuple[Taken, ...])
_CONTENTS: Final = TypeAdapter(Contents)


@dataclass(slots=True)
class Shifted:
    """Events whose uses of holders met something else, and mounts whose content row changed."""

    readers: set[UUID] = field(default_factory=set)
    mounts: set[UUID] = field(default_factory=set)


@dataclass(slots=True)
class _Work:
    """What is new in one holder's timeline."""

    fresh: list[Op] = field(default_factory=list)
    gone: list[HolderOpRow] = field(default_factory=list)
    again: list[Order] = field(default_factory=list)

    @property
    def orders(self) -> list[Order]:
        return [one.order for one in self.fresh] + [one.order for one in self.gone] + self.again


async def rerun(
    ws: Workspace, on: Iterable[Event], off: Iterable[UUID], discipline_of: DisciplineOf
) -> Shifted:
    """Take the uses of some events in and of others out."""
    work: dict[str, _Work] = defaultdict(_Work)
    for row in await ws.read(HolderOpRow, "event", off):
        work[row.holder].gone.append(row)
    for event in on:
        for op in ops_of(event):
            work[op.holder].fresh.append(op)
    shifted = Shifted(mounts={row.event for one in work.values() for row in one.gone})
    while work:
        holder = min(work, key=lambda one: (min(work[one].orders), one))
        changed = await _Run(ws, holder, discipline_of(holder)).go(work.pop(holder), shifted)
        for row in await _passed_on(ws, changed):
            if not any(op.event == row.event for op in work[row.holder].fresh):
                work[row.holder].again.append(row.order)
        work = defaultdict(_Work, {name: one for name, one in work.items() if one.orders})
    return shifted


async def met_by(ws: Workspace, events: Iterable[UUID]) -> dict[UUID, dict[str, tuple[Taken, ...]]]:
    """What events met in holders, by event and path."""
    found: dict[UUID, dict[str, tuple[Taken, ...]]] = defaultdict(dict)
    for row in await ws.read(HolderOpRow, "event", events):
        if row.do in (Do.READ, Do.FEED):
            found[row.event][row.path] = taken_of(row)
    return found


async def contents_put_by(ws: Workspace, move: UUID) -> Iterator[tuple[str, Entry, int | None]]:
    """What a move put into holders: holder, content, when it left."""
    rows = await ws.read(HolderOpRow, "event", [move])
    return (
        (row.holder, entry, row.left_us)
        for row in rows
        if row.do == Do.PUT and row.state is not None
        for entry in contents_of(row).held
        if entry.put == move
    )


def taken_of(row: HolderOpRow) -> tuple[Taken, ...]:
    return _TAKEN.validate_python(row.taken)


def contents_of(row: HolderOpRow) -> Contents:
    return _CONTENTS.validate_python(row.state)


async def _passed_on(ws: Workspace, readers: Iterable[UUID]) -> list[HolderOpRow]:
    """Mounts that put what their own event read elsewhere."""
    rows = await ws.read(HolderOpRow, "event", readers)
    return [row for row in rows if row.do == Do.PUT and _op_of(row).source is None]


def _op_of(row: HolderOpRow) -> Op:
    return _OP.validate_python(row.body)


def _row_of(op: Op, after: Step, before: Contents) -> HolderOpRow:
    changes = after.contents != before
    return HolderOpRow(
        holder=op.holder,
        at_us=op.at_us,
        rank=op.rank,
        event=op.event,
        ordinal=op.ordinal,
        do=op.do.value,
        path=op.path,
        body=_OP.dump_python(op, mode="json"),
        taken=_TAKEN.dump_python(after.taken, mode="json"),
        state=_CONTENTS.dump_python(after.contents, mode="json") if changes else None,
        left_us=None,
    )


@dataclass(frozen=True, slots=True)
class _Use:
    """One position of a timeline: as it stood, and the use it holds now (None: taken out)."""

    order: Order
    stood: HolderOpRow | None
    op: Op | None


class _Run:
    """One holder, from the first change to where it runs as before."""

    def __init__(self, ws: Workspace, holder: str, discipline: Discipline) -> None:
        self._ws = ws
        self._holder = holder
        self._discipline = discipline
        self._at_end = False
        self._left: dict[UUID, int] = {}
        self._mounts: dict[UUID, tuple[HolderOpRow, HolderOpRow | None]] = {}

    async def go(self, work: _Work, shifted: Shifted) -> list[UUID]:
        """The events whose uses met something else; the same and changed mounts in `shifted`."""
        first, last = min(work.orders), max(work.orders)
        state = await self._ws.state_before(self._holder, first)
        contents = was = Contents() if state is None else contents_of(state)
        start = contents
        changed: list[UUID] = []
        for row in work.gone:
            self._ws.drop(row)
        self._at_end = await self._ws.is_past_end(self._holder, first)
        ended = True
        async for use in _merged(work, _Pages(self._ws, self._holder, first)):
            if use.order > last and contents == was:
                ended = False
                break
            was = contents_of(use.stood) if use.stood is not None and use.stood.state else was
            if use.op is not None:
                contents = await self._use(use, use.op, contents, changed)
        await self._settle(start, contents, shifted, ended=ended)
        if not self._at_end:
            self._ws.forget_tail(self._holder)
        shifted.readers.update(changed)
        return changed

    async def _use(self, use: _Use, op: Op, before: Contents, changed: list[UUID]) -> Contents:
        after = step(before, op, self._discipline, await self._met(op))
        row = _row_of(op, after, before)
        if op.do is Do.PUT:
            self._mounts[op.event] = (row, use.stood)
        elif use.stood is None or use.stood.taken != row.taken:
            changed.append(op.event)
        self._ws.put(row)
        if self._at_end:
            self._ws.append_to_tail(row)
        self._left.update((put, op.at_us) for put in after.left)
        return after.contents

    async def _met(self, op: Op) -> Met:
        if op.do is not Do.PUT or op.source is not None:
            return lambda _event, _path: ()
        met = await met_by(self._ws, [op.event])
        return lambda event, path: met.get(event, {}).get(path, ())

    async def _settle(
        self, start: Contents, contents: Contents, shifted: Shifted, *, ended: bool
    ) -> None:
        """Say of every mount met on the way when its content left."""
        for entry in start.held:
            if entry.put not in self._mounts:
                for row in await self._ws.read(HolderOpRow, "event", [entry.put]):
                    if row.holder == self._holder and row.do == Do.PUT:
                        self._mounts[entry.put] = (row, row)
        held = {entry.put for entry in contents.held}
        for put, (row, stood) in self._mounts.items():
            left = self._left.get(put)
            if left is None and put in held and not ended and stood is not None:
                left = stood.left_us  # what comes after is as it was
            settled = replace(row, left_us=left)
            self._ws.put(settled)
            if settled != stood:
                shifted.mounts.add(put)


class _Pages:
    """Stored uses from an order on, read in pages."""

    def __init__(self, ws: Workspace, holder: str, first: Order) -> None:
        self._ws = ws
        self._holder = holder
        self._next: Order | None = first
        self._size = PAGE_FIRST
        self._page: list[HolderOpRow] = []

    async def head(self) -> HolderOpRow | None:
        if not self._page and self._next is not None:
            found = await self._ws.ops_from(self._holder, self._next, self._size)
            self._page = list(found)
            self._next = _after(found[-1].order) if len(found) == self._size else None
            self._size = min(4 * self._size, PAGE_MAX)
        return self._page[0] if self._page else None

    def advance(self) -> None:
        self._page.pop(0)


def _after(order: Order) -> Order:
    at_us, rank, event, ordinal = order
    return (at_us, rank, event, ordinal + 1)


async def _merged(work: _Work, stored: _Pages) -> AsyncIterator[_Use]:
    """Fresh, removed and stored uses in order."""
    extra = [_Use(op.order, None, op) for op in work.fresh]
    extra += [_Use(row.order, row, None) for row in work.gone]
    extra.sort(key=lambda use: use.order)
    while True:
        head = await stored.head()
        if extra and (head is None or extra[0].order <= head.order):
            yield extra.pop(0)
        elif head is not None:
            stored.advance()
            yield _Use(head.order, head, _op_of(head))
        else:
            return
