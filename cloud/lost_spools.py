"""A spool that is gone with all it had not sent: told by the first hello of the one in its place.

Rule 1: a hello names the lanes of earlier epochs, emptied ones too; one that names no epoch that is
known here comes from a spool that began without them.
Rule 2: it is decided once, when an epoch says its first hello. What was sealed after that hello is
no past of it: in a log frames may overtake the hello of a process that has ended since.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloud.admission import Agent
from cloud.db import AsyncConnection
from cloud.ledger import signed
from cloud.recording import Raised, alarm_of
from protocols.events import Severity, rfc3339
from protocols.notices import Hello


@dataclass(frozen=True, slots=True)
class LostSpool:
    """The agent came back at `back_at`; up to `lost_after` its earlier epochs are known."""

    agent: Agent
    epoch: int
    lost_after: datetime
    back_at: datetime


def earlier_epochs(hello: Hello) -> frozenset[int]:
    """What the spool behind it remembers of its past."""
    return frozenset(lane.epoch for lane in hello.lanes) - {hello.epoch}


async def note_loss(
    connection: AsyncConnection, agent: Agent, hello: Hello, at: datetime
) -> LostSpool | None:
    """Of an epoch's first hello, whose row is there. None: nothing is lost by what is stored."""
    values = {
        "agent": agent.agent_id,
        "epoch": signed(hello.epoch),
        "earlier": [signed(epoch) for epoch in earlier_epochs(hello)],
        "at": at,
    }
    cursor = await connection.execute(_NOTE_LOSS, values)
    row = await cursor.fetchone()
    return None if row is None else LostSpool(agent, hello.epoch, row[0], at)


def alarm_of_loss(lost: LostSpool, source: str) -> Raised:
    name = lost.agent.name
    alarm = alarm_of(
        f"spool_lost/{name}",
        f"{name} came back without its spool: rows read after {rfc3339(lost.lost_after)} up to"
        f" {rfc3339(lost.back_at)} are unknown.",
        at=lost.back_at,
        source=source,
        what=f"{lost.epoch:016x}",
        severity=Severity.ERROR,
    )
    return Raised(alarm, lost.agent.site_id)


# Of each lane only its last frame is looked at, whichever table has it.
_NOTE_LOSS: Final = """
    with ends as (
        select greatest(
            (select t_max from ledger where lane_id = l.lane_id order by seq desc limit 1),
            (
                select sealed_to from ledger_hour where lane_id = l.lane_id
                order by seq_from desc limit 1
            )
        ) as known_to
        from lane l where l.agent_id = %(agent)s and l.epoch <> %(epoch)s
        and not exists (
            select from lane where agent_id = %(agent)s and epoch = any(%(earlier)s::int8[])
        )
        and not exists (
            select from epoch where agent_id = %(agent)s and epoch = any(%(earlier)s::int8[])
        )
    ),
    past as (select max(known_to) as lost_after from ends where known_to < %(at)s)
    update epoch set lost_after = past.lost_after from past
    where agent_id = %(agent)s and epoch = %(epoch)s and past.lost_after is not null
    returning epoch.lost_after
"""
