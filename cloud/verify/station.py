"""The proof of collection of one station: cycles counted = passes + gaps, per nest and counter.

Where each number comes from:

- the period: up to the moment before which no event and no sample is still to come, unless its
  end is given; so a line that runs is compared with itself
- counted: the counts from the first to the last that any pass or gap of a series names; with a
  counter's tag, the cycles that its stored samples counted in the period, whatever the events say
- passes: counts of passes in force; gaps: counts that a gap in force names and that have no pass
- missing: counted, and neither a pass nor a gap; doubled: a count that two passes claim
- a series whose station has no counter of its own (no modulus) is unproven: the agent counted
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, pairwise
from typing import Final

from cloud.db import Connection, translated
from cloud.projection.force import head_of, in_force
from cloud.verify.counter import Counter, CounterCount, Cycle, Seen, against, merged
from cloud.verify.delivery import BEGINNING, END
from cloud.verify.reach import surely_until
from protocols.errors import ConfigError, Problem
from protocols.events import GapEvent, PassEvent, decode_event

MISSING_SHOWN_MAX: Final = 20


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


def verify_station(
    connection: Connection,
    site: str,
    station: str,
    from_at: datetime = BEGINNING,
    to_at: datetime | None = None,
    counter: Counter | None = None,
) -> Collection:
    """`to_at` None: as far as everything is surely here.

    ConfigError: nobody ever told of the station, or the counter's tag is not known.
    """
    with translated(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        told = _told(connection, site, station)
        if not told.cycles:
            remedy = "Write it as line/station, with --site."
            raise ConfigError([Problem("--station", repr(station), "has no events", remedy)])
        until = to_at or _surely_until(connection, site, told, counter)
        cycles = [one for one in told.cycles if from_at <= one.at < until]
        counted = None
        if counter is not None:
            seen = _seen(connection, (site, from_at, until), counter)
            counted = against(counter, seen, told.cycles, until)
    return Collection(site, station, from_at, until, tuple(count_series(cycles)), counted)


def count_series(cycles: Iterable[Cycle]) -> list[SeriesCount]:
    """Pure: each nest and series by itself."""
    found: dict[tuple[str, int], list[Cycle]] = defaultdict(list)
    for one in cycles:
        series = one.key.series if isinstance(one, PassEvent) else one.series
        found[one.nest, series].append(one)
    return [_count(nest, series, found[nest, series]) for nest, series in sorted(found)]


def _count(nest: str, series: int, cycles: Sequence[Cycle]) -> SeriesCount:
    passes = [one for one in cycles if isinstance(one, PassEvent)]
    counts: dict[int, set[object]] = defaultdict(set)
    for one in passes:
        counts[one.key.count].add(one.pass_id)
    gaps = [(one.from_count, one.to_count) for one in cycles if isinstance(one, GapEvent)]
    told = merged([*((count, count) for count in counts), *gaps])
    first, last = told[0][0], told[-1][1]
    counted = last - first + 1
    covered = sum(high - low + 1 for low, high in told)
    return SeriesCount(
        nest,
        f"{series:016x}",
        first,
        last,
        counted,
        len(counts),
        covered - len(counts),
        counted - covered,
        sum(len(ids) - 1 for ids in counts.values()),
        proven=all(one.key.modulus is not None for one in passes),
        missing_counts=tuple(islice(_holes(told), MISSING_SHOWN_MAX)),
    )


def _holes(told: Sequence[tuple[int, int]]) -> Iterator[int]:
    for (_, high), (low, _) in pairwise(told):
        yield from range(high + 1, low)


@dataclass(frozen=True, slots=True)
class _Told:
    """Passes and gaps in force. `agent`: who told the newest; None: no agent, but people."""

    cycles: tuple[Cycle, ...]
    agent: int | None


def _told(connection: Connection, site: str, station: str) -> _Told:
    rows = connection.execute(_EVENTS, {"site": site, "station": station}).fetchall()
    events = [(decode_event(json.dumps(body)), seq) for body, seq, _ in rows]
    standing = in_force(head_of(event, seq) for event, seq in events).standing
    cycles = tuple(
        event
        for event, _ in events
        if event.id in standing and isinstance(event, PassEvent | GapEvent)
    )
    tellers = [agent for _, _, agent in rows if agent is not None]
    return _Told(cycles, tellers[-1] if tellers else None)


def _surely_until(
    connection: Connection, site: str, told: _Told, counter: Counter | None
) -> datetime:
    """END where no agent has to do with it."""
    agents = {told.agent}
    if counter is not None:
        row = connection.execute(_SAMPLER, [site, counter.path]).fetchone()
        agents.add(None if row is None else row[0])
    marks = [surely_until(connection, agent) for agent in agents if agent is not None]
    return min((mark for mark in marks if mark is not None), default=END)


def _seen(
    connection: Connection, period: tuple[str, datetime, datetime], counter: Counter
) -> list[Seen]:
    """The counter's values in the period, and the one that it began with."""
    site, from_at, until = period
    given = {"site": site, "path": counter.path, "from": from_at, "to": until}
    rows = connection.execute(_COUNTER, given).fetchall()
    if not rows:
        remedy = "Give the path of the tag that counts the cycles."
        raise ConfigError([Problem("--counter", repr(counter.path), "has no samples", remedy)])
    return [(time, int(value)) for time, value in rows]


_EVENTS: Final = """
    with cycle as (
        select id, body, recorded_seq, agent_id from event
        where kind in ('pass', 'gap') and site = %(site)s and body->>'station' = %(station)s
    )
    select body, recorded_seq, agent_id from cycle
    union all
    select e.body, e.recorded_seq, null from event e
    where e.kind = 'void' and exists (select from cycle where cycle.id = any(e.replaces))
    order by recorded_seq
"""

# Who sent the newest sample of a tag.
_SAMPLER: Final = """
    select l.agent_id from tag t join site using (site_id)
    cross join lateral (
        select s.time, s.frame from sample s where s.tag = t.tag order by s.time desc limit 1
    ) newest
    left join ledger g on g.frame = newest.frame and g.frame < 68719476736  -- from before
    join lane l on l.lane_id = coalesce(g.lane_id, newest.frame >> 36)
    where site.name = %s and t.path = %s
    order by newest.time desc limit 1
"""

# A condition may be tried on rows of any tag, so none of it may fail on any value.
_COUNTER: Final = """
    with version as (
        select t.tag from tag t join site using (site_id)
        where site.name = %(site)s and t.path = %(path)s
    ), usable as not materialized (
        select s.time, s.frame, coalesce(s.i64::numeric, s.f64::numeric) as value
        from sample s where s.tag in (select tag from version)
        and coalesce(s.quality, 0) & 3221225472 = 0
        and (s.i64 is not null or s.f64 between -9007199254740992 and 9007199254740992)
    )
    select time, value from (
        (select * from usable where time < %(from)s order by time desc, frame desc limit 1)
        union all
        select * from usable where time >= %(from)s and time < %(to)s
    ) seen
    order by time, frame
"""
