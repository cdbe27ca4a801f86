"""Where the record of one cycle gets its values: from reads on request, and from polling."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from protocols.samples import DataType, SampleBatch
from rules.binding.aggregates import Aggregate
from rules.binding.names import storable, text_of
from rules.binding.plan import Source, Template
from rules.binding.rows import Reading, by_path, element_of

TEXT_CHARACTERS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one cycle. `polled` says which row of a polled tag counts; `aggregates` by label."""

    polled: Callable[[Source], Reading | None]
    read: Mapping[str, Reading]
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    triggered: Mapping[str, Reading] = field(default_factory=dict)

    def row(self, source: Source) -> Reading | None:
        """The row that counts, usable or not. None: there is none."""
        row = self.read.get(source.path) if source.read else self.polled(source)
        return element_of(row, source.element)

    def usable(self, source: Source) -> Reading | None:
        row = self.row(source)
        return row if row is not None and row.usable else None

    def number(self, source: Source) -> float | None:
        row = self.usable(source)
        return float(row.value) if row is not None else None

    def text(self, template: Template | None) -> str | None:
        """Filled with what the tags say. None: one of them says nothing."""
        if template is None:
            return None
        pieces = [self._piece(piece) for piece in template]
        if not all(pieces):
            return None
        return "".join(piece for piece in pieces if piece)[:TEXT_CHARACTERS_MAX]

    def _piece(self, piece: str | Source) -> str | None:
        if isinstance(piece, str):
            return piece
        row = self.usable(piece)
        text = text_of(row.value) if row is not None else None
        return storable(text.replace("\x00", "")) if text else None


def read_rows(batches: tuple[SampleBatch, ...]) -> list[dict[str, Reading]]:
    """Each read set's rows by path."""
    return [by_path(batch) for batch in batches]


def decimal(value: float | int, of: DataType | None) -> str:
    """As short as it was meant: a float32 of 0.1 is 0.1."""
    if float(value).is_integer():
        return str(int(value))
    return str(np.float32(value)) if of is DataType.FLOAT32 else repr(float(value))
