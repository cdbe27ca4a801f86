"""How far what is stored reaches: agents' watermarks, gaps, events not yet in the view."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cloud.db import AsyncConnection
from cloud.queries.agents import agents
from cloud.queries.passes import PassRow


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything of this agent before these times is stored, but for `waiting_rows`."""

    agent: str
    events_until: datetime | None
    samples_until: datetime | None
    waiting_rows: int


@dataclass(frozen=True, slots=True)
class GapRow:
    station: str
    nest: str
    counts: int
    since: datetime | None
    until: datetime | None
    reason: str | None


async def sites_of(connection: AsyncConnection, item: UUID) -> list[str]:
    """Sites whose events speak of the item."""
    found = await connection.execute(
        "select distinct e.site from mention m join event e on e.id = m.event where m.item = %s",
        (item,),
    )
    return sorted(site for (site,) in await found.fetchall())


async def reaches(connection: AsyncConnection, sites: Sequence[str]) -> list[Reach]:
    return [
        Reach(one.name, one.events_until, one.samples_until, one.waiting_rows)
        for one in await agents(connection, sites)
    ]


async def gaps(connection: AsyncConnection, met: Sequence[PassRow]) -> list[GapRow]:
    """Gaps at the stations of these passes, between the first and the last of them."""
    if not met:
        return []
    found = await connection.execute(
        """
        select station, nest, uncovered, from_at, to_at, reason from gap
        where (site, station) in (select * from unnest(%(sites)s::text[], %(stations)s::text[]))
          and uncovered > 0 and at between %(first)s and %(last)s
        order by at, station, nest limit 100
        """,
        {
            "sites": [one.site for one in met],
            "stations": [one.station for one in met],
            "first": min(one.at for one in met),
            "last": max(one.ended or one.at for one in met),
        },
    )
    return [
        GapRow(station, nest, int(counts), since, until, reason)
        for station, nest, counts, since, until, reason in await found.fetchall()
    ]


async def events_behind(connection: AsyncConnection) -> int:
    """Events that are stored and not yet in the view."""
    found = await connection.execute(
        "select count(*) from (select from event where recorded_seq >"
        " (select position from projection) limit 10000) behind"
    )
    row = await found.fetchone()
    return 0 if row is None else int(row[0])
