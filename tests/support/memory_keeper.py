"""Counts of a log kept in memory: what the database does for one reader, without the database."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from cloud.source import Loss, Mark, Part, Record, moves_of


class MemoryKeeper:
    """A `cloud.source.Keeper`. `store` is what a transaction does."""

    def __init__(self) -> None:
        self.marks: dict[Part, Mark] = {}
        self.held: set[Part] = set()
        self.losses: list[Loss] = []

    async def claim(
        self, parts: Iterable[Part], topics: Mapping[str, UUID | None]
    ) -> Mapping[Part, Mark]:
        wanted = set(parts)
        assert {part.topic for part in wanted} <= topics.keys()
        self.held |= wanted
        return {part: self.marks.get(part, Mark()) for part in wanted}

    async def release(self, parts: Iterable[Part]) -> None:
        self.held -= set(parts)

    async def replaced(self, losses: Sequence[Loss]) -> None:
        self.losses += losses
        for loss in losses:
            self.marks.pop(loss.part, None)

    def store(self, records: Sequence[Record]) -> None:
        for move in moves_of(records):
            assert move.part in self.held
            assert self.marks.get(move.part, Mark()).next_offset == move.expected
            self.marks[move.part] = Mark(move.next_offset, move.stamp)
