"""Rows in memory between a store and the upkeep: read once, changed here, written together.

Rule 1: what was changed here is what is read, whether it was written yet or not.
Rule 2: a row that ends as it began is not written. A version lasts from one recorded_seq to
another.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast
from uuid import UUID

from cloud.projection.holders import Order
from cloud.projection.rows import HolderOpRow, Row, StatementRow
from protocols.events import Event

FEW: Final = 200  # rows of one value that are simply all read

R = TypeVar("R", bound=Row)
Key: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A row as known from one recorded_seq on."""

    row: Row
    known_from: int


@dataclass(frozen=True, slots=True)
class Past:
    """A version that is known no longer."""

    row: Row
    known_from: int
    known_to: int


@dataclass(slots=True)
class Changes:
    """What to write of one table. `ended` and `removed`: keys of current rows that stand there.

    Only tables that keep versions have `ended` and `past`.
    """

    removed: list[Key] = field(default_factory=list)
    ended: list[tuple[Key, int]] = field(default_factory=list)
    past: list[Past] = field(default_factory=list)
    added: list[Version] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.removed or self.ended or self.past or self.added)


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a holder's timeline: its last use, and the last one that changed its contents."""

    last: Order
    state: HolderOpRow | None


class Store(Protocol):
    """Where rows stay. Everything written is read by the next call."""

    async def read(
        self, kind: type[Row], column: str, values: Collection[Any]
    ) -> Sequence[Version]:
        """Current rows whose column has one of the values."""

    async def events(self, ids: Collection[UUID]) -> Sequence[Event]: ...

    async def tails(self, holders: Collection[str]) -> dict[str, Tail]: ...

    async def state_before(self, holder: str, order: Order) -> HolderOpRow | None:
        """The last use before `order` that changed what the holder holds."""

    async def ops_from(self, holder: str, order: Order, limit: int) -> Sequence[HolderOpRow]:
        """Uses at or after `order`, in order."""

    async def count_passes(self, line: UUID, low: Decimal, high: Decimal) -> int: ...

    async def read_few(
        self, kind: type[Row], column: str, values: Collection[Any], most: int
    ) -> Sequence[Version]:
        """As `read`, at most `most` rows of each value, no matter which."""

    async def statements_within(
        self, key: UUID, from_us: int, to_us: int
    ) -> Sequence[StatementRow]:
        """Statements under a key whose times touch the half-open stretch."""

    async def write(self, changes: dict[type[Row], Changes]) -> None: ...


def key_of_row(row: Row) -> Key:
    return tuple(getattr(row, column) for column in row.TABLE.key)


@dataclass(slots=True)
class _Slot:
    """One key: what the store has, what is true now, versions that came and went in between."""

    stored: Version | None
    now: Version | None
    past: list[Past] = field(default_factory=list)
    ended_at: int | None = None


class _Sheet:
    """One table."""

    def __init__(self, kind: type[Row]) -> None:
        self.kind = kind
        self.slots: dict[Key, _Slot] = {}
        self.dirty: set[Key] = set()
        self.loaded: dict[str, set[Any]] = {column: set() for column in kind.TABLE.found_by}
        self._found: dict[str, dict[Any, set[Key]]] = {
            column: defaultdict(set) for column in kind.TABLE.found_by
        }

    def keys(self, column: str, value: Any) -> set[Key]:
        return self._found[column].get(value, set())

    def take_in(self, version: Version) -> None:
        """What the store has; what is known here already counts more."""
        key = key_of_row(version.row)
        if key not in self.slots:
            self.slots[key] = _Slot(version, version)
            self._index(key, version.row)

    def put(self, row: Row, seq: int) -> None:
        key = key_of_row(row)
        slot = self.slots.setdefault(key, _Slot(None, None))
        if slot.now is not None and slot.now.row == row:
            return
        self._leave(key, slot, seq)
        known_from = seq if self.kind.TABLE.known else 0
        slot.now = self._as_before(slot, row, seq) or Version(row, known_from)
        self._index(key, row)
        self.dirty.add(key)

    def drop(self, row: Row, seq: int) -> None:
        key = key_of_row(row)
        slot = self.slots.get(key)
        if slot is not None and slot.now is not None:
            self._leave(key, slot, seq)
            self.dirty.add(key)

    def changes(self) -> Changes:
        found = Changes()
        for key in self.dirty:
            slot = self.slots[key]
            found.past.extend(slot.past)
            if slot.stored != slot.now:
                self._change(found, key, slot)
            self.slots[key] = _Slot(slot.now, slot.now)
        self.dirty.clear()
        return found

    def _change(self, found: Changes, key: Key, slot: _Slot) -> None:
        if slot.stored is not None:
            if slot.ended_at is not None and slot.ended_at != slot.stored.known_from:
                found.ended.append((key, slot.ended_at))
            else:
                found.removed.append(key)
        if slot.now is not None:
            found.added.append(slot.now)

    def _leave(self, key: Key, slot: _Slot, seq: int) -> None:
        """The version that is true now ends. One that lasted no event was never known."""
        if slot.now is None:
            return
        for column, by_value in self._found.items():
            by_value[getattr(slot.now.row, column)].discard(key)
        if self.kind.TABLE.known:
            if slot.now is slot.stored:
                slot.ended_at = seq
            elif slot.now.known_from != seq:
                slot.past.append(Past(slot.now.row, slot.now.known_from, seq))
        slot.now = None

    def _as_before(self, slot: _Slot, row: Row, seq: int) -> Version | None:
        """A row that left and came back within one event never left."""
        if slot.past and slot.past[-1].known_to == seq and slot.past[-1].row == row:
            return Version(row, slot.past.pop().known_from)
        came_back = slot.stored is not None and slot.stored.row == row
        if came_back and not slot.past and slot.ended_at in (seq, None):
            slot.ended_at = None
            return slot.stored
        return None

    def _index(self, key: Key, row: Row) -> None:
        for column, by_value in self._found.items():
            by_value[getattr(row, column)].add(key)


class Workspace:
    """All tables. One event is worked in at a time, under its `recorded_seq`."""

    def __init__(self, store: Store, few: int = FEW) -> None:
        self._store = store
        self._few = few
        self._busy: dict[tuple[type[Row], str], set[Any]] = defaultdict(set)
        self._seq = 0
        self._sheets: dict[type[Row], _Sheet] = {}
        self._events: dict[UUID, Event] = {}
        self._tails: dict[str, Tail | None] = {}

    def begin(self, recorded_seq: int, event: Event) -> None:
        self._seq = recorded_seq
        self._events[event.id] = event

    async def read(self, kind: type[R], column: str, values: Iterable[Any]) -> list[R]:
        """Rows whose column has one of the values; None is never looked for."""
        sheet = self._sheet(kind)
        wanted = {value for value in values if value is not None}
        missing = wanted - sheet.loaded[column]
        if missing:
            for version in await self._store.read(kind, column, missing):
                sheet.take_in(version)
            sheet.loaded[column] |= missing
        keys = {key for value in wanted for key in sheet.keys(column, value)}
        slots = (sheet.slots[key] for key in keys)
        return [cast("R", slot.now.row) for slot in slots if slot.now is not None]

    async def read_few(
        self, kind: type[R], column: str, values: Iterable[Any]
    ) -> tuple[list[R], set[Any]]:
        """Rows as by `read`, but of values that have more than a few only their names."""
        sheet, known_busy = self._sheet(kind), self._busy[kind, column]
        wanted = {value for value in values if value is not None}
        missing = wanted - sheet.loaded[column] - known_busy
        if missing:
            found = await self._store.read_few(kind, column, missing, self._few + 1)
            counted = Counter(getattr(version.row, column) for version in found)
            many = {value for value, rows in counted.items() if rows > self._few}
            known_busy |= many
            for version in found:
                if getattr(version.row, column) not in many:
                    sheet.take_in(version)
            sheet.loaded[column] |= missing - many
        busy = wanted & known_busy
        return await self.read(kind, column, wanted - busy), busy

    async def statements_within(
        self, key: UUID, from_us: int, to_us: int
    ) -> Sequence[StatementRow]:
        await self.flush()
        rows = await self._store.statements_within(key, from_us, to_us)
        for row in rows:
            self._sheet(StatementRow).take_in(Version(row, 0))
        return rows

    def know_empty(self, kind: type[Row], column: str, value: Any) -> None:
        """There can be no stored row with this value: do not ask."""
        self._sheet(kind).loaded[column].add(value)

    async def events(self, ids: Iterable[UUID]) -> dict[UUID, Event]:
        wanted = set(ids)
        missing = [one for one in wanted if one not in self._events]
        if missing:
            self._events.update((one.id, one) for one in await self._store.events(missing))
        return {one: self._events[one] for one in wanted if one in self._events}

    def put(self, row: Row) -> None:
        self._sheet(type(row)).put(row, self._seq)

    def drop(self, row: Row) -> None:
        self._sheet(type(row)).drop(row, self._seq)

    def replace(self, old: Iterable[R], new: Iterable[R]) -> None:
        """Instead of the old rows the new ones; what is in both stays untouched."""
        by_key = {key_of_row(row): row for row in new}
        for row in old:
            if key_of_row(row) not in by_key:
                self._sheet(type(row)).drop(row, self._seq)
        for row in by_key.values():
            self._sheet(type(row)).put(row, self._seq)

    async def flush(self) -> None:
        """Write what changed since the last time."""
        changes = {kind: sheet.changes() for kind, sheet in self._sheets.items() if sheet.dirty}
        changes = {kind: one for kind, one in changes.items() if one}
        if changes:
            await self._store.write(changes)

    async def count_passes(self, line: UUID, low: Decimal, high: Decimal) -> int:
        await self.flush()
        return await self._store.count_passes(line, low, high)

    # ---- timelines of holders

    async def read_tails(self, holders: Iterable[str]) -> None:
        """Have the ends of these timelines at hand."""
        missing = set(holders) - self._tails.keys()
        if missing:
            await self.flush()
            found = await self._store.tails(missing)
            self._tails.update((holder, found.get(holder)) for holder in missing)

    async def state_before(self, holder: str, order: Order) -> HolderOpRow | None:
        await self.read_tails([holder])
        tail = self._tails[holder]
        if tail is None or tail.state is None:
            return None
        if tail.state.order < order:
            return tail.state
        await self.flush()
        return await self._store.state_before(holder, order)

    async def ops_from(self, holder: str, order: Order, limit: int) -> Sequence[HolderOpRow]:
        if await self.is_past_end(holder, order):
            return ()
        await self.flush()
        rows = await self._store.ops_from(holder, order, limit)
        for row in rows:
            self._sheet(HolderOpRow).take_in(Version(row, 0))
        return rows

    async def is_past_end(self, holder: str, order: Order) -> bool:
        await self.read_tails([holder])
        tail = self._tails[holder]
        return tail is None or tail.last < order

    def append_to_tail(self, row: HolderOpRow) -> None:
        """The row is the last of its holder now."""
        tail = self._tails.get(row.holder)
        before = tail.state if tail is not None else None
        self._tails[row.holder] = Tail(row.order, before if row.state is None else row)

    def forget_tail(self, holder: str) -> None:
        """The timeline was changed before its end: ask the store again."""
        self._tails.pop(holder, None)

    def _sheet(self, kind: type[Row]) -> _Sheet:
        if kind not in self._sheets:
            self._sheets[kind] = _Sheet(kind)
        return self._sheets[kind]
