"""A store of the projection in memory: what PostgreSQL does for the workspace, in plain Python."""

from collections.abc import Collection, Coroutine, Sequence
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from cloud.projection.holders import Order
from cloud.projection.rows import VIEW, HolderOpRow, PassRow, Row, StatementRow
from cloud.projection.workspace import Changes, Key, Past, Tail, Version, key_of_row
from protocols.events import Event

T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nobody, as over a store in memory."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("it waited for something")


class MemoryStore:
    def __init__(self) -> None:
        self.rows: dict[type[Row], dict[Key, Version]] = {}
        self.past: list[Past] = []
        self.known_events: dict[UUID, Event] = {}
        self.rows_read = 0
        self.largest_read = 0

    async def read(
        self, kind: type[Row], column: str, values: Collection[Any]
    ) -> Sequence[Version]:
        found = self._where(kind, column, values)
        self._count(len(found))
        return found

    async def events(self, ids: Collection[UUID]) -> Sequence[Event]:
        return [self.known_events[one] for one in ids]

    async def tails(self, holders: Collection[str]) -> dict[str, Tail]:
        return {
            holder: Tail(rows[-1].order, next((r for r in reversed(rows) if r.state), None))
            for holder in holders
            if (rows := self._timeline(holder))
        }

    async def state_before(self, holder: str, order: Order) -> HolderOpRow | None:
        rows = [row for row in self._timeline(holder) if row.order < order and row.state]
        return rows[-1] if rows else None

    async def ops_from(self, holder: str, order: Order, limit: int) -> Sequence[HolderOpRow]:
        found = [row for row in self._timeline(holder) if row.order >= order][:limit]
        self._count(len(found))
        return found

    async def count_passes(self, line: UUID, low: Decimal, high: Decimal) -> int:
        rows = [version.row for version in self.rows.get(PassRow, {}).values()]
        return sum(
            isinstance(row, PassRow) and row.line == line and low <= row.count <= high
            for row in rows
        )

    async def read_few(
        self, kind: type[Row], column: str, values: Collection[Any], most: int
    ) -> Sequence[Version]:
        found = [one for value in values for one in self._where(kind, column, [value])[:most]]
        self._count(len(found))
        return found

    async def statements_within(
        self, key: UUID, from_us: int, to_us: int
    ) -> Sequence[StatementRow]:
        rows = [version.row for version in self.rows.get(StatementRow, {}).values()]
        found = [
            row
            for row in rows
            if isinstance(row, StatementRow)
            and row.key == key
            and row.from_us < to_us
            and row.to_us >= from_us
        ]
        self._count(len(found))
        return found

    async def write(self, changes: dict[type[Row], Changes]) -> None:
        for kind, one in changes.items():
            table = self.rows.setdefault(kind, {})
            for key in one.removed:
                del table[key]
            for key, known_to in one.ended:
                gone = table.pop(key)
                self.past.append(Past(gone.row, gone.known_from, known_to))
            self.past.extend(one.past)
            for version in one.added:
                key = key_of_row(version.row)
                assert key not in table, version
                table[key] = version

    def view(self) -> list[Row]:
        return [version.row for kind in VIEW for version in self.rows.get(kind, {}).values()]

    def view_as_known_at(self, seq: int) -> list[Row]:
        """What the tables that keep versions showed when `seq` had been worked off."""
        versions = [
            Past(version.row, version.known_from, seq + 1)
            for kind in VIEW
            if kind.TABLE.known
            for version in self.rows.get(kind, {}).values()
        ]
        return [one.row for one in (*versions, *self.past) if one.known_from <= seq < one.known_to]

    def _where(self, kind: type[Row], column: str, values: Collection[Any]) -> list[Version]:
        versions = self.rows.get(kind, {}).values()
        return [one for one in versions if getattr(one.row, column) in values]

    def _timeline(self, holder: str) -> list[HolderOpRow]:
        rows = (version.row for version in self.rows.get(HolderOpRow, {}).values())
        own = [row for row in rows if isinstance(row, HolderOpRow) and row.holder == holder]
        return sorted(own, key=lambda row: row.order)

    def _count(self, rows: int) -> None:
        self.rows_read += rows
        self.largest_read = max(self.largest_read, rows)
