"""The shift that an instant belongs to: a site's zone and calendar, days from midnight without one.

Rule 1: shift starts are local times; a day on which clocks change has a longer or shorter shift.
"""

import operator
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Of one site, from `valid_from` on. `starts`: name and local time of each shift of a day."""

    zone: str = "UTC"
    starts: tuple[tuple[str, time], ...] = (("day", time(0)),)
    valid_from: datetime = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shift:
    name: str
    from_at: datetime
    to_at: datetime


PLAIN: Final = Calendar()
YEAR_MIN: Final = 2
YEAR_MAX: Final = 9998
NO_SHIFT: Final = Shift("none", datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))


def calendar_at(calendars: Sequence[Calendar], at: datetime) -> Calendar:
    """The one in force; without any, days of UTC."""
    begun = [one for one in calendars if one.valid_from <= at]
    return max(begun, key=operator.attrgetter("valid_from"), default=PLAIN)


def shift_of(calendars: Mapping[str, Sequence[Calendar]], site: str, at: datetime) -> Shift:
    """The last shift that began at or before the instant, to the next beginning."""
    if not YEAR_MIN <= at.year <= YEAR_MAX:  # no zone can be reckoned there
        return NO_SHIFT
    calendar = calendar_at(calendars.get(site, ()), at)
    zone = ZoneInfo(calendar.zone)
    today = at.astimezone(zone).date()
    begins = sorted(_begins(calendar, zone, today))
    here = bisect_right(begins, at, key=lambda one: one[0]) - 1
    return Shift(begins[here][1], begins[here][0], begins[here + 1][0])


def _begins(calendar: Calendar, zone: ZoneInfo, today: date) -> Iterator[tuple[datetime, str]]:
    """Of yesterday, today and tomorrow, so that both neighbours are there."""
    for day in (today - DAY, today, today + DAY):
        for name, start in calendar.starts:
            yield datetime.combine(day, start, zone).astimezone(UTC), name
