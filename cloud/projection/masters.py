"""The masters that the projection itself depends on: disciplines of holders, calendars of sites."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloud.projection.holders import Discipline
from cloud.projection.shifts import Calendar


@dataclass(frozen=True, slots=True)
class Masters:
    """`disciplines`: by holder, or by kind of holder (`magazine`, the part before the slash)."""

    disciplines: Mapping[str, Discipline] = field(default_factory=dict)
    calendars: Mapping[str, Sequence[Calendar]] = field(default_factory=dict)

    def discipline_of(self, holder: str) -> Discipline:
        kind = holder.split("/", 1)[0]
        return self.disciplines.get(holder) or self.disciplines.get(kind, Discipline.SINGLE)
