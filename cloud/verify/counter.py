"""What the samples of a counter's tag counted, against the passes and gaps of its nest. Pure.

Rule 1: both are cut by the count, not by the clock: the counter's last value says up to which one.
Rule 2: a cycle and its count come within SETTLE of each other; at the edge either may be first.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, TypeAlias

from protocols.events import GapEvent, PassEvent

SETTLE: Final = timedelta(minutes=1)
Cycle: TypeAlias = PassEvent | GapEvent
Seen: TypeAlias = tuple[datetime, int]
"""A value of the counter, and when it was there."""


@dataclass(frozen=True, slots=True)
class Counter:
    """The tag that counts the cycles of a nest, and where it wraps."""

    path: str
    modulus: int
    nest: str = ""


@dataclass(frozen=True, slots=True)
class CounterCount:
    """`told`: passes and gaps. `settling`: counted just now and not told yet, in neither."""

    path: str
    samples: int
    counted: int
    told: int
    settling: int = 0

    @property
    def holds(self) -> bool:
        return self.counted == self.told


def against(
    counter: Counter, seen: Sequence[Seen], cycles: Iterable[Cycle], until: datetime
) -> CounterCount:
    """`seen`: in order of time, from the value that the period began with; at least one.

    Of the nest's series the one that is counted at the end is matched by count; of those before it
    all that was told since `seen` began.
    """
    counted = counted_by([value for _, value in seen], counter.modulus)
    fresh = _counted_since(seen, _settled(until), counter.modulus)
    mine = [one for one in cycles if one.nest == counter.nest]
    begun = [one for one in mine if one.at < until]
    if not begun:
        return CounterCount(counter.path, len(seen), counted - fresh, 0, fresh)
    series = _series(max(begun, key=lambda one: one.at))
    current = [one for one in mine if _series(one) == series]
    top = max(_span(one)[1] for one in current if one.at < until)
    ahead = _nearest(seen[-1][1] - top, counter.modulus)
    settling = min(max(ahead, 0), fresh)
    reached = top + ahead
    told = _covered(current, reached - counted + 1, reached)
    told += _covered([one for one in current if one.at < _settled(until)], reached + 1, None)
    told += _told_before(begun, series, seen[0][0])
    return CounterCount(counter.path, len(seen), counted - settling, told, settling)


def counted_by(values: Sequence[int], modulus: int) -> int:
    """Cycles between the first and the last of a counter's values, wrapping at the modulus."""
    return sum((b - a) % modulus for a, b in pairwise(values))


def merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same counts as stretches that do not touch."""
    found: list[tuple[int, int]] = []
    for low, high in sorted((min(one), max(one)) for one in stretches):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found


def _counted_since(seen: Sequence[Seen], since: datetime, modulus: int) -> int:
    steps = pairwise(seen)
    return sum((after - before) % modulus for (_, before), (at, after) in steps if at >= since)


def _nearest(difference: int, modulus: int) -> int:
    """The same difference, wrapped the shorter way."""
    half = modulus // 2
    return (difference + half) % modulus - half


def _covered(cycles: Iterable[Cycle], low: int, high: int | None) -> int:
    """Counts from low to high (None: and above) that a pass or a gap has."""
    spans = merged(_span(one) for one in cycles)
    ends = ((max(a, low), b if high is None else min(b, high)) for a, b in spans)
    return sum(max(0, last - first + 1) for first, last in ends)


def _told_before(cycles: Iterable[Cycle], series: int, since: datetime) -> int:
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for one in cycles:
        if _series(one) != series and one.at >= since:
            spans[_series(one)].append(_span(one))
    return sum(high - low + 1 for each in spans.values() for low, high in merged(each))


def _series(one: Cycle) -> int:
    return one.key.series if isinstance(one, PassEvent) else one.series


def _span(one: Cycle) -> tuple[int, int]:
    if isinstance(one, PassEvent):
        return one.key.count, one.key.count
    return min(one.from_count, one.to_count), max(one.from_count, one.to_count)


def _settled(until: datetime) -> datetime:
    return max(until, _FIRST) - SETTLE


_FIRST: Final = datetime.min.replace(tzinfo=UTC) + SETTLE
