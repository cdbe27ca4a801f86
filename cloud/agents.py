"""The agents that this cloud knows: added, listed and released by people, read by ingest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloud.admission import Agent
from cloud.db import AsyncConnection, Connection, translated
from cloud.scope import checked
from protocols.errors import ConfigError, Problem
from protocols.frames import AGENT_PATTERN


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent as a person reads it."""

    name: str
    scope: tuple[str, ...]
    identity: str
    version: str
    added_at: datetime
    hello_at: datetime | None
    set_aside_at: datetime | None
    set_aside_reason: str | None


def add(connection: Connection, name: str, scope: Sequence[str]) -> bool:
    """Register an agent, or give a known one another scope. True: it is new.

    ConfigError: the name or a pattern cannot be used.
    """
    patterns = checked(scope)
    check_name(name)
    with translated(), connection.transaction():
        connection.execute(
            "insert into site (name) values (%s) on conflict do nothing", [name.partition(".")[0]]
        )
        row = connection.execute(_ADD, [name, list(patterns), name.partition(".")[0]]).fetchone()
    return bool(row and row[0])


def check_name(name: str) -> None:
    """ConfigError: not `site.name`."""
    site, dot, rest = name.partition(".")
    if not AGENT_PATTERN.fullmatch(name) or not (site and dot and rest):
        remedy = (
            "Write site.name of a-z, 0-9, - and ., at most 63 in all, for example berlin.press1."
        )
        raise ConfigError([Problem("AGENT", repr(name), "is not an agent's name", remedy)])


def agents(connection: Connection) -> list[AgentRow]:
    with translated():
        rows = connection.execute(_LIST).fetchall()
    return [AgentRow(name, tuple(scope), *rest) for name, scope, *rest in rows]


def release(connection: Connection, name: str) -> bool:
    """Let a set-aside agent go on. False: it is not known, or was not set aside."""
    with translated():
        cursor = connection.execute(
            "update agent set set_aside_at = null, set_aside_reason = null"
            " where name = %s and set_aside_at is not null",
            [name],
        )
    return cursor.rowcount == 1


async def read_agents(connection: AsyncConnection) -> dict[str, Agent]:
    """Everybody, by name."""
    cursor = await connection.execute(
        "select agent_id, site_id, name, scope, set_aside_at is not null, epoch from agent"
    )
    return {
        name: Agent(agent_id, site_id, name, tuple(scope), epoch, is_set_aside=aside)
        for agent_id, site_id, name, scope, aside, epoch in await cursor.fetchall()
    }


async def set_aside(connection: AsyncConnection, agent: Agent, reason: str) -> None:
    await connection.execute(
        "update agent set set_aside_at = now(), set_aside_reason = %s"
        " where agent_id = %s and set_aside_at is null",
        [reason, agent.agent_id],
    )


_ADD: Final = """
    insert into agent (site_id, name, scope)
    select site_id, %s, %s from site where name = %s
    on conflict (name) do update set scope = excluded.scope
    returning xmax = 0
"""

_LIST: Final = """
    select name, scope, identity, version, added_at, hello_at, set_aside_at, set_aside_reason
    from agent order by name
"""
