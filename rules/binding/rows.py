"""Rows as a station sees them: the few that matter, found by numpy, and a short past of each tag.

Rule 1: a decision about a moment waits until the tags it needs have a row at or after it, so it
    does not matter how rows are cut into batches.
Rule 2: a past keeps what is at or after the moment asked for, and one row before it; bounded.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from protocols.samples import SEVERITY_MASK, Column, SampleBatch, Tag, Value
from rules.binding.stored import Stored
from rules.dictionaries import PerDictionary

BAD_SEVERITY: Final = 0x80000000
_ROWS_MAX: Final = 2_000  # a past beyond it forgets its oldest rows


class Reading(NamedTuple):
    """One row of a known tag."""

    time_us: int
    value: Stored
    quality: int

    @property
    def usable(self) -> bool:
        """There is a value, good or uncertain."""
        return self.value is not None and self.quality & SEVERITY_MASK != BAD_SEVERITY


@dataclass(slots=True)
class Past:
    """The newest rows of one tag, in order of time."""

    rows: list[Reading] = field(default_factory=list)

    @property
    def newest_us(self) -> int | None:
        return self.rows[-1].time_us if self.rows else None

    def add(self, row: Reading) -> None:
        """A row earlier than the newest means that the clock stepped back: the past is void."""
        if self.rows and row.time_us < self.rows[-1].time_us:
            self.rows.clear()
        self.rows.append(row)
        if len(self.rows) > _ROWS_MAX:
            del self.rows[: _ROWS_MAX // 2]

    def before(self, time_us: int) -> Reading | None:
        """The last usable row at or before."""
        return next(
            (row for row in reversed(self.rows) if row.time_us <= time_us and row.usable), None
        )

    def after(self, time_us: int) -> Reading | None:
        """The first usable row at or after."""
        return next((row for row in self.rows if row.time_us >= time_us and row.usable), None)

    def covers(self, time_us: int) -> bool:
        """Whether a row at or after has come, usable or not."""
        return bool(self.rows) and self.rows[-1].time_us >= time_us

    def between(self, after_us: int, until_us: int) -> Iterator[Reading]:
        """Rows later than the first time, up to the second."""
        return (row for row in self.rows if after_us < row.time_us <= until_us)

    def forget(self, before_us: int) -> None:
        """Drop what lies before, but keep the last usable row of it, and the newest row."""
        rows = self.rows
        newer = next((at for at, row in enumerate(rows) if row.time_us >= before_us), len(rows) - 1)
        if newer <= 0:
            return
        held = [row for row in rows[:newer] if row.usable][-1:]
        first = rows[newer]
        self.rows = (
            rows[newer:] if first.usable and first.time_us <= before_us else held + rows[newer:]
        )


class Interest:
    """Which rows of a batch matter to anybody."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        self._wanted = PerDictionary(self._learn)

    def rows(self, batch: SampleBatch) -> list[tuple[str, Reading]]:
        """Rows of wanted tags in the order of the batch."""
        wanted = self._wanted.of(batch.tags)
        if wanted is None or not len(batch):
            return []
        return [
            (batch.tags[int(batch.tag[row])].path, reading_of(batch, int(row)))
            for row in np.flatnonzero(wanted[batch.tag])
        ]

    def _learn(self, tags: tuple[Tag, ...]) -> Column | None:
        wanted = np.array([tag.path in self._paths for tag in tags], np.bool_)
        return wanted if bool(wanted.any()) else None


def reading_of(batch: SampleBatch, row: int) -> Reading:
    return Reading(int(batch.time[row]), batch.value(row), int(batch.quality[row]))


def by_path(batch: SampleBatch) -> dict[str, Reading]:
    """The last row of each tag of a batch that was read on request."""
    return {batch.tags[int(tag)].path: reading_of(batch, row) for row, tag in enumerate(batch.tag)}


def element_of(row: Reading | None, element: int | None) -> Reading | None:
    """One element of a list, with the row's time and quality. None: the list is shorter."""
    if row is None or element is None or row.value is None:
        return row
    values: Any = row.value
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or element >= len(values):
        return None
    return Reading(row.time_us, _plain(values[element]), row.quality)


def _plain(value: Any) -> Value:
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain
