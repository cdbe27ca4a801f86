"""Agents as they last said of themselves, and how far their data has come."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cloud.db import AsyncConnection


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent. `waiting_rows`: in its spool by its last hello. Times: agent's clock."""

    name: str
    site: str
    scope: tuple[str, ...]
    identity: str
    version: str
    hello_at: datetime | None
    set_aside: str | None
    waiting_rows: int
    events_until: datetime | None
    samples_until: datetime | None
    groups: tuple[dict[str, Any], ...]


async def agents(connection: AsyncConnection, sites: Sequence[str] | None) -> list[AgentRow]:
    """Agents of these sites (None: all), by name.

    `…_until`: watermark of the newest stored frame of the epoch's events and live lanes; everything
    before it is here, but for what `waiting_rows` counts.
    """
    found = await connection.execute(
        """
        select a.name, s.name, a.scope, a.identity, a.version, a.hello_at,
               case when a.set_aside_at is not null then coalesce(a.set_aside_reason, '') end,
               coalesce((select sum(h.rows) from hello h
                         where h.agent_id = a.agent_id and h.stated_by = a.epoch), 0),
               e.until, m.until, st.groups
        from agent a
        join site s using (site_id)
        left join lateral (
            select coalesce(g.watermark, g.t_max) as until from lane l join ledger g using (lane_id)
            where l.agent_id = a.agent_id and l.epoch = a.epoch and l.lane = 1
            order by g.seq desc limit 1
        ) e on true
        left join lateral (
            select coalesce(g.watermark, g.t_max) as until from lane l join ledger g using (lane_id)
            where l.agent_id = a.agent_id and l.epoch = a.epoch and l.lane = 2
            order by g.seq desc limit 1
        ) m on true
        left join lateral (
            select t.groups from status t where t.agent_id = a.agent_id order by t.at desc limit 1
        ) st on true
        where %(sites)s::text[] is null or s.name = any(%(sites)s)
        order by a.name
        """,
        {"sites": None if sites is None else list(sites)},
    )
    return [_agent(row) for row in await found.fetchall()]


def _agent(row: Sequence[Any]) -> AgentRow:
    name, site, scope, identity, version, hello_at, set_aside, waiting, events, samples, groups = (
        row
    )
    return AgentRow(
        name,
        site,
        tuple(scope),
        identity,
        version,
        hello_at,
        set_aside,
        int(waiting),
        events,
        samples,
        tuple(groups or ()),
    )
