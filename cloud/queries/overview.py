"""The board: how fresh each agent's data is, and what each station made. Cheap enough to ask often.

Rule 1: of the ledger only the newest frames of the newest lanes are looked at, whatever its size.
Rule 2: nests are found by skipping through an index, never by reading every pass.
Rule 3: what is counted is bounded by its number of passes; a longer stretch is named, not begun.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from cloud.db import AsyncConnection
from cloud.queries.agents import AgentRow, agents

LATELY_S: Final = 10.0
LANES_MAX: Final = 16  # of an agent: the four of its newest epochs
PASSES_MAX: Final = 1_000_000  # counted in one call: a few seconds
FRAMES_MAX: Final = 256  # of a lane: at four frames a second far more than LATELY_S


@dataclass(frozen=True, slots=True)
class Freshness:
    """An agent, and how far behind now its stored data is.

    Attributes:
        lag_s: now less `samples_until`; clocks of agent and database both count. None: no samples.
        rows_per_s: samples stored, over the last LATELY_S or the newest FRAMES_MAX of each lane.
        stored_at: when the newest of these frames was stored.
    """

    agent: AgentRow
    lag_s: float | None
    rows_per_s: float
    stored_at: datetime | None


@dataclass(frozen=True, slots=True)
class StationRow:
    """One nest in a stretch of time. `passes`: of production; `others`: master, setup, trial, dry.

    Attributes:
        verdicts: of the items worked on in `passes`; an open pass has none yet.
        gaps: counts that no pass has.
        last_at, …: of the newest pass, production or not; the name is the item's newest.
    """

    site: str
    station: str
    nest: str
    passes: int
    others: int
    verdicts: dict[str, int]
    gaps: Decimal
    last_at: datetime | None
    last_verdict: str | None
    last_item: UUID | None
    last_scheme: str | None
    last_name: str | None


async def freshness(
    connection: AsyncConnection, sites: Sequence[str] | None
) -> tuple[datetime, list[Freshness]]:
    """The database's time, and agents of these sites (None: all), by name."""
    rows = await agents(connection, sites)
    found = await connection.execute(
        _STORED,
        {
            "agents": [row.name for row in rows],
            "lanes": LANES_MAX,
            "frames": FRAMES_MAX,
            "lately": LATELY_S,
        },
    )
    stored = {name: (rate, at) for name, rate, at in await found.fetchall()}
    now = await moment(connection)
    return now, [
        Freshness(row, _lag_s(row, now), *stored.get(row.name, (0.0, None))) for row in rows
    ]


async def moment(connection: AsyncConnection) -> datetime:
    """The database's time."""
    row = await (await connection.execute("select clock_timestamp()")).fetchone()
    assert row is not None  # noqa: S101 - a select without a table has one row
    now: datetime = row[0]
    return now


async def stations(
    connection: AsyncConnection, sites: Sequence[str] | None, since: datetime, until: datetime
) -> list[StationRow]:
    """Every nest that ever worked, with its passes of since ≤ at < until, by station and nest."""
    async with connection.transaction():
        await connection.execute(_ROOM_TO_JOIN)
        found = await connection.execute(
            _STATIONS,
            {"sites": None if sites is None else list(sites), "since": since, "until": until},
        )
        return [_station(row) for row in await found.fetchall()]


async def countable_from(
    connection: AsyncConnection, sites: Sequence[str] | None, since: datetime, until: datetime
) -> datetime:
    """The earliest moment, not before `since`, whose passes up to `until` are at most PASSES_MAX.

    To the shift, by its tally: the passes themselves are not looked at.
    """
    found = await connection.execute(
        _COUNTABLE,
        {
            "sites": None if sites is None else list(sites),
            "since": since,
            "until": until,
            "most": PASSES_MAX,
        },
    )
    row = await found.fetchone()
    return since if row is None else max(since, row[0])


def _lag_s(row: AgentRow, now: datetime) -> float | None:
    return None if row.samples_until is None else (now - row.samples_until).total_seconds()


def _station(row: Sequence[Any]) -> StationRow:
    site, station, nest, passes, others, verdicts, gaps, *last = row
    return StationRow(site, station, nest, passes, others, verdicts or {}, gaps, *last)


# A lane with more frames lately than are looked at is measured over the stretch that these cover.
_STORED: Final = """
    with newest as (
        select a.agent_id, a.name, l.lane_id from agent a cross join lateral (
            select lane_id from lane where agent_id = a.agent_id and lane in (2, 3)
            order by lane_id desc limit %(lanes)s
        ) l
        where a.name = any(%(agents)s)
    ), measured as (
        select n.name, f.at, f.rows / greatest(f.span_s, 0.1) as rate from newest n
        cross join lateral (
            select max(received_at) as at,
                   coalesce(sum(rows) filter (where kind = 1 and age_s < %(lately)s), 0) as rows,
                   case when count(*) = %(frames)s then least(max(age_s), %(lately)s)
                        else %(lately)s end as span_s
            from (
                select kind, rows, received_at,
                       extract(epoch from clock_timestamp() - received_at)::float8 as age_s
                from ledger where lane_id = n.lane_id order by seq desc limit %(frames)s
            ) g
        ) f
    )
    select name, sum(rate)::float8, max(at) from measured group by name
"""

# A million passes are joined in half the time that the server's usual 4 MB let them have.
_ROOM_TO_JOIN: Final = "set local work_mem = '32MB'"

# Nests are found, and their newest passes, by skipping through one index; a nest that made nothing
# in the stretch is shown by its last pass before the end of it. `offset 0`: how many passes a nest
# has is guessed nest by nest, so that few are looked up and many are joined at once.
_STATIONS: Final = """
    with recursive place as (
        (select site, station, nest from pass order by site, station, nest limit 1)
        union all
        select n.site, n.station, n.nest from place p cross join lateral (
            select site, station, nest from pass
            where (site, station, nest) > (p.site, p.station, p.nest)
            order by site, station, nest limit 1
        ) n
    ), asked as (
        select * from place where %(sites)s::text[] is null or site = any(%(sites)s)
    ), newest as (
        select a.*, p.pass_id, p.at from asked a cross join lateral (
            select pass_id, at from pass
            where site = a.site and station = a.station and nest = a.nest and at < %(until)s
            order by at desc, pass_id limit 1
        ) p
    ), made as (
        select a.*, p.passes, p.others from asked a cross join lateral (
            select count(*) filter (where purpose = 'production') as passes,
                   count(*) filter (where purpose <> 'production') as others
            from pass where site = a.site and station = a.station and nest = a.nest
              and at >= %(since)s and at < %(until)s
        ) p
    ), judged as (
        select site, station, nest, jsonb_object_agg(verdict, n) as verdicts from (
            select m.site, m.station, m.nest, i.verdict, count(*) as n
            from (
                select a.*, p.pass_id from asked a cross join lateral (
                    select pass_id from pass
                    where site = a.site and station = a.station and nest = a.nest
                      and at >= %(since)s and at < %(until)s and purpose = 'production'
                    offset 0
                ) p
            ) m join pass_item i using (pass_id)
            where i.role = 'work' and i.known_to is null
            group by m.site, m.station, m.nest, i.verdict
        ) v group by site, station, nest
    ), missed as (
        select g.site, g.station, g.nest, sum(g.uncovered) as gaps
        from asked join gap g using (site, station, nest)
        where g.at >= %(since)s and g.at < %(until)s
        group by g.site, g.station, g.nest
    )
    select n.site, n.station, n.nest, made.passes, made.others, judged.verdicts,
           coalesce(missed.gaps, 0), n.at, w.verdict, w.item, w.scheme, w.value
    from newest n
    join made using (site, station, nest)
    left join judged using (site, station, nest)
    left join missed using (site, station, nest)
    left join lateral (
        select i.verdict, i.item, named.scheme, named.value from pass_item i
        left join lateral (
            select scheme, value from item_name where item = i.item and known_to is null
            order by valid_from desc, scheme, value limit 1
        ) named on true
        where i.pass_id = n.pass_id and i.role = 'work' and i.known_to is null
        order by i.slot limit 1
    ) w on true
    order by n.site, n.station, n.nest
"""

# The tallies of shifts are few; back from the end, the first of them that is too much.
_COUNTABLE: Final = """
    select shift_to from (
        select shift_to, sum(sum(passes)) over (order by shift_to desc) as all_since from tally
        where (%(sites)s::text[] is null or site = any(%(sites)s))
          and shift_from < %(until)s and shift_to > %(since)s
        group by shift_to
    ) shift
    where all_since > %(most)s order by shift_to desc limit 1
"""
