"""What the agent declares of its tags: unit, scale, address, place. Pure.

A tag version is declared once per epoch, with the first cut that uses it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from protocols.events import from_us
from protocols.notices import TagLine
from protocols.samples import SampleBatch, Tag

_DICTIONARIES_MAX = 256  # dictionaries known to be declared; the pollers have one a group


@dataclass(frozen=True, slots=True)
class TagFacts:
    """What the file says of one tag."""

    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    address: str = ""
    station: str = ""
    nest: str = ""
    report: Mapping[str, Any] | None = None
    was: str | None = None


class Catalogue:
    """Says each tag version once until `forget`."""

    def __init__(self, facts: Mapping[str, TagFacts]) -> None:
        self._facts = dict(facts)
        self._declared: set[Tag] = set()
        self._dictionaries: dict[int, tuple[Tag, ...]] = {}

    def new_lines(self, batch: SampleBatch) -> Iterable[TagLine]:
        """Lines of the batch's tag versions that were not declared yet."""
        if self._dictionaries.get(id(batch.tags)) is batch.tags or not len(batch):
            return ()
        if len(self._dictionaries) >= _DICTIONARIES_MAX:
            self._dictionaries.clear()
        self._dictionaries[id(batch.tags)] = batch.tags
        since_us = int(batch.time.min())
        new = [tag for tag in batch.tags if tag not in self._declared]
        self._declared.update(new)
        return [self._line(tag, since_us) for tag in new]

    def forget(self) -> None:
        """A new epoch: every version is declared again."""
        self._declared.clear()
        self._dictionaries.clear()

    def _line(self, tag: Tag, since_us: int) -> TagLine:
        facts = self._facts.get(tag.path) or self._facts.get(tag.path.rpartition("[")[0])
        said = facts or TagFacts()
        return TagLine(
            path=tag.path,
            since=from_us(since_us),
            type=tag.type,
            unit=said.unit,
            scale=said.scale,
            offset=said.offset,
            address=said.address,
            station=said.station,
            nest=said.nest,
            report=None if said.report is None else dict(said.report),
            was=said.was,
        )
