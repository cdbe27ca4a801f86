"""The proof of collection of one station: cycles counted = passes + gaps, per nest and counter.

Where each number comes from:

- counted: the counts from the first to the last that any pass or gap of a series names; with a
  counter's tag, the cycles that its stored samples counted in the period, whatever the events say
- passes: counts of passes in force; gaps: counts that a gap in force names and that have no pass
- missing: counted, and neither a pass nor a gap; doubled: a count that two passes claim
- a series whose station has no counter of its own (no modulus) is unproven: the agent counted
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeAlias

from cloud.db import Connection, translated
from cloud.projection.force import head_of, in_force
from cloud.verify.delivery import BEGINNING, END
from protocols.errors import ConfigError, Problem
from protocols.events import GapEvent, PassEvent, decode_event

MISSING_SHOWN_MAX: Final = 20
_Cycle: TypeAlias = PassEvent | GapEvent


@dataclass(frozen=True, slots=True)
class SeriesCount:
    """One nest and series. `missing_counts`: the first of them."""

    nest: str
    series: str
    first: int
    last: int
    counted: int
    passes: int
    gaps: int
    missing: int
    doubled: int
    proven: bool
    missing_counts: tuple[int, ...]

    @property
    def holds(self) -> bool:
        return not (self.missing or self.doubled)


@dataclass(frozen=True, slots=True)
class CounterCount:
    """What the samples of a counter's tag counted, against the passes and gaps of its nest."""

    path: str
    samples: int
    counted: int
    told: int

    @property
    def holds(self) -> bool:
        return self.counted == self.told


@dataclass(frozen=True, slots=True)
class Collection:
    """A station in a period."""

    site: str
    station: str
    from_at: datetime
    to_at: datetime
    series: tuple[SeriesCount, ...]
    counter: CounterCount | None = None

    @property
    def holds(self) -> bool:
        return all(one.holds for one in self.series) and (
            self.counter is None or self.counter.holds
        )


@dataclass(frozen=True, slots=True)
class Counter:
    """The tag that counts the cycles of a nest, and where it wraps."""

    path: str
    modulus: int
    nest: str = ""


def verify_station(
    connection: Connection,
    site: str,
    station: str,
    from_at: datetime = BEGINNING,
    to_at: datetime = END,
    counter: Counter | None = None,
) -> Collection:
    """ConfigError: nobody ever told of the station, or the counter's tag is not known."""
    with translated(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        told = _in_force(connection, site, station)
        if not told:
            remedy = "Write it as line/station, with --site."
            raise ConfigError([Problem("--station", repr(station), "has no events", remedy)])
        cycles = [one for one in told if from_at <= one.at < to_at]
        series = tuple(count_series(cycles))
        counted = None
        if counter is not None:
            counted = _count_tag(connection, (site, from_at, to_at), counter, series)
    return Collection(site, station, from_at, to_at, series, counted)


def count_series(cycles: Iterable[_Cycle]) -> list[SeriesCount]:
    """Pure: each nest and series by itself."""
    found: dict[tuple[str, int], list[_Cycle]] = defaultdict(list)
    for one in cycles:
        series = one.key.series if isinstance(one, PassEvent) else one.series
        found[one.nest, series].append(one)
    return [_count(nest, series, found[nest, series]) for nest, series in sorted(found)]


def counted_by(values: Sequence[int], modulus: int) -> int:
    """Cycles between the first and the last of a counter's values, wrapping at the modulus."""
    return sum((b - a) % modulus for a, b in pairwise(values))


def _count(nest: str, series: int, cycles: Sequence[_Cycle]) -> SeriesCount:
    passes = [one for one in cycles if isinstance(one, PassEvent)]
    counts: dict[int, set[object]] = defaultdict(set)
    for one in passes:
        counts[one.key.count].add(one.pass_id)
    gaps = merged((g.from_count, g.to_count) for g in cycles if isinstance(g, GapEvent))
    ends = [*counts, *(count for gap in gaps for count in gap)]
    covered = sum(high - low + 1 for low, high in gaps)
    covered -= sum(any(low <= count <= high for low, high in gaps) for count in counts)
    counted = max(ends) - min(ends) + 1
    holes = list(_holes(counts, gaps))
    return SeriesCount(
        nest,
        f"{series:016x}",
        min(ends),
        max(ends),
        counted,
        len(counts),
        covered,
        counted - len(counts) - covered,
        sum(len(ids) - 1 for ids in counts.values()),
        proven=all(one.key.modulus is not None for one in passes),
        missing_counts=tuple(holes[:MISSING_SHOWN_MAX]),
    )


def merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same counts as stretches that do not touch."""
    found: list[tuple[int, int]] = []
    for low, high in sorted((min(one), max(one)) for one in stretches):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found


def _holes(counts: Iterable[int], gaps: Sequence[tuple[int, int]]) -> Iterable[int]:
    taken = merged([*((count, count) for count in counts), *gaps])
    for (_, high), (low, _) in pairwise(taken):
        yield from range(high + 1, min(low, high + 1 + MISSING_SHOWN_MAX))


def _in_force(connection: Connection, site: str, station: str) -> list[_Cycle]:
    rows = connection.execute(_EVENTS, {"site": site, "station": station}).fetchall()
    events = [(decode_event(json.dumps(body)), seq) for body, seq in rows]
    standing = in_force(head_of(event, seq) for event, seq in events).standing
    return [
        event
        for event, _ in events
        if event.id in standing and isinstance(event, PassEvent | GapEvent)
    ]


def _count_tag(
    connection: Connection,
    period: tuple[str, datetime, datetime],
    counter: Counter,
    series: Sequence[SeriesCount],
) -> CounterCount:
    rows = connection.execute(_COUNTER, [period[0], counter.path, *period[1:]]).fetchall()
    if not rows:
        remedy = "Give the path of the tag that counts the cycles."
        raise ConfigError([Problem("--counter", repr(counter.path), "has no samples", remedy)])
    values = [int(value) for (value,) in rows]
    told = sum(one.passes + one.gaps for one in series if one.nest == counter.nest)
    return CounterCount(counter.path, len(values), counted_by(values, counter.modulus), told)


_EVENTS: Final = """
    with cycle as (
        select id, body, recorded_seq from event
        where kind in ('pass', 'gap') and site = %(site)s and body->>'station' = %(station)s
    )
    select body, recorded_seq from cycle
    union all
    select e.body, e.recorded_seq from event e
    where e.kind = 'void' and exists (select from cycle where cycle.id = any(e.replaces))
    order by recorded_seq
"""

# A condition may be tried on rows of any tag, so none of it may fail on any value.
_COUNTER: Final = """
    select coalesce(s.i64::numeric, s.f64::numeric) from sample s join tag t using (tag)
    join site using (site_id)
    where site.name = %s and t.path = %s and s.time >= %s and s.time < %s
    and coalesce(s.quality, 0) & 3221225472 = 0
    and (s.i64 is not null or s.f64 between -9007199254740992 and 9007199254740992)
    order by s.time
"""
