"""What agents say of themselves: hello and status, kept as the latest, and two of one name noticed.

Rule 1: the latest by the agent's own clock wins, whatever order they arrive in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloud.admission import Agent
from cloud.db import AsyncConnection, Jsonb
from cloud.ledger import Entry, signed
from cloud.lost_spools import LostSpool, alarm_of_loss, note_loss
from cloud.receipting import Answer
from cloud.recording import Raised, alarm_of
from protocols.events import Severity
from protocols.frames import Lane
from protocols.notices import Hello, LaneState, Status
from protocols.receipts import Said

SOURCE: Final = "cloud/ingest"
_LANES: Final = frozenset(int(lane) for lane in Lane) - {int(Lane.NONE)}


@dataclass(frozen=True, slots=True)
class HelloKept:
    """The alarms that follow from a hello, and the spool that it told the loss of."""

    raised: tuple[Raised, ...] = ()
    lost: LostSpool | None = None


async def keep_status(
    connection: AsyncConnection, agent: Agent, status: Status, now: datetime
) -> None:
    groups = [group.model_dump(mode="json") for group in status.groups]
    await connection.execute(
        _KEEP_STATUS,
        [
            agent.agent_id,
            signed(status.epoch),
            min(status.at, now),
            status.read,
            status.derived,
            status.filtered,
            status.discarded,
            status.stopping,
            Jsonb(groups),
        ],
    )


async def keep_hello(
    connection: AsyncConnection, agent: Agent, hello: Hello, now: datetime
) -> HelloKept:
    epoch, at = signed(hello.epoch), min(hello.at, now)
    lost = await _keep_epoch(connection, agent, hello, at)
    await connection.execute(
        _KEEP_AGENT, [epoch, hello.identity, hello.version, at, agent.agent_id, at]
    )
    lanes = [lane for lane in hello.lanes if lane.lane in _LANES]
    if lanes:
        columns = _lane_columns(lanes)
        await connection.execute(_KEEP_LANES, [agent.agent_id, epoch, at, *columns])
    cursor = await connection.execute(
        _SUCCESSOR, [agent.agent_id, epoch, at, agent.agent_id, epoch]
    )
    raised = [] if lost is None else [alarm_of_loss(lost, SOURCE)]
    if await cursor.fetchone() is not None:
        raised.append(_conflict(agent, hello.epoch, "says hello after its successor did", at))
    return HelloKept(tuple(raised), lost)


async def stored_heads(connection: AsyncConnection, agent: Agent, hello: Hello) -> list[Answer]:
    """The answer to a hello: of every lane it names, the highest seq that was admitted."""
    lanes = [lane for lane in hello.lanes if lane.lane in _LANES]
    cursor = await connection.execute(_HEADS, [*_lane_columns(lanes)[:2], agent.agent_id])
    heads = {(epoch, lane): seq for epoch, lane, seq in await cursor.fetchall()}
    return [
        Answer(
            agent.name,
            lane.epoch,
            lane.lane,
            heads.get((signed(lane.epoch), lane.lane)) or 0,
            None,
            Said.STATE,
        )
        for lane in lanes
    ]


async def beyond_their_head(
    connection: AsyncConnection, entries: Sequence[Entry], now: datetime
) -> list[Raised]:
    """Frames above what a newer epoch's hello stated as the head of theirs: two use one name."""
    old = [
        entry
        for entry in entries
        if entry.accepted.agent.epoch not in (None, signed(entry.header.epoch))
    ]
    if not old:
        return []
    columns = [
        [entry.accepted.agent.agent_id for entry in old],
        [signed(entry.header.epoch) for entry in old],
        [int(entry.header.lane) for entry in old],
        [entry.header.seq for entry in old],
        [entry.frame for entry in old],
    ]
    cursor = await connection.execute(_BEYOND, columns)
    frames = {frame for (frame,) in await cursor.fetchall()}
    found = {entry.header.epoch: entry.accepted.agent for entry in old if entry.frame in frames}
    return [
        _conflict(agent, epoch, "sends what its successor never had", now)
        for epoch, agent in found.items()
    ]


async def _keep_epoch(
    connection: AsyncConnection, agent: Agent, hello: Hello, at: datetime
) -> LostSpool | None:
    values = [agent.agent_id, signed(hello.epoch), at, at, hello.single_copy or 0]
    cursor = await connection.execute(_BEGIN_EPOCH, values)
    if cursor.rowcount:
        return await note_loss(connection, agent, hello, at)
    await connection.execute(_KEEP_EPOCH, [*values[2:], *values[:2]])
    return None


def _conflict(agent: Agent, epoch: int, how: str, at: datetime) -> Raised:
    alarm = alarm_of(
        f"identity_conflict/{agent.name}",
        f"Two processes use the name {agent.name}: epoch {epoch:016x} {how}.",
        at=at,
        source=SOURCE,
        what=f"{epoch:016x}",
        severity=Severity.ERROR,
    )
    return Raised(alarm, agent.site_id)


def _lane_columns(lanes: Iterable[LaneState]) -> list[list[int]]:
    rows = [
        (signed(lane.epoch), lane.lane, lane.floor, lane.head, lane.rows)
        for lane in {(one.epoch, one.lane): one for one in lanes}.values()
    ]
    return [[row[at] for row in rows] for at in range(5)]


_KEEP_STATUS: Final = """
    insert into status (
        agent_id, epoch, at, read, derived, filtered, discarded, stopping, groups
    )
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (agent_id, epoch) do update set
        at = excluded.at, read = excluded.read, derived = excluded.derived,
        filtered = excluded.filtered, discarded = excluded.discarded,
        stopping = excluded.stopping, groups = excluded.groups, received_at = now()
    where status.at <= excluded.at
"""

_BEGIN_EPOCH: Final = """
    insert into epoch (agent_id, epoch, first_hello_at, last_hello_at, single_copy)
    values (%s, %s, %s, %s, %s)
    on conflict (agent_id, epoch) do nothing
"""

_KEEP_EPOCH: Final = """
    update epoch set
        first_hello_at = least(first_hello_at, %s),
        last_hello_at = greatest(last_hello_at, %s),
        single_copy = greatest(single_copy, %s)
    where agent_id = %s and epoch = %s
"""

_KEEP_AGENT: Final = """
    update agent set epoch = %s, identity = %s, version = %s, hello_at = %s
    where agent_id = %s and (hello_at is null or hello_at <= %s)
"""

_KEEP_LANES: Final = """
    insert into hello (agent_id, stated_by, at, epoch, lane, floor, head, rows)
    select %s, %s, %s, w.*
    from unnest(%s::int8[], %s::int2[], %s::int8[], %s::int8[], %s::int8[]) as w
    on conflict (agent_id, epoch, lane) do update set
        stated_by = excluded.stated_by, at = excluded.at, floor = excluded.floor,
        head = excluded.head, rows = excluded.rows, received_at = now()
    where hello.at <= excluded.at
"""

# A later epoch of the same agent that had said hello before this one did again.
_SUCCESSOR: Final = """
    select from epoch mine join epoch later on later.agent_id = mine.agent_id
    where mine.agent_id = %s and mine.epoch = %s
    and later.first_hello_at > mine.first_hello_at and later.first_hello_at < %s
    and later.agent_id = %s and later.epoch <> %s
    limit 1
"""

_HEADS: Final = """
    select w.epoch, w.lane, greatest(
        (select max(seq) from ledger where lane_id = l.lane_id),
        (
            select seq_to from ledger_range where lane_id = l.lane_id
            order by seq_from desc limit 1
        )
    )
    from unnest(%s::int8[], %s::int2[]) as w (epoch, lane)
    join lane l on l.agent_id = %s and l.epoch = w.epoch and l.lane = w.lane
"""

_BEYOND: Final = """
    select w.frame from unnest(%s::int4[], %s::int8[], %s::int2[], %s::int8[], %s::int8[])
        as w (agent_id, epoch, lane, seq, frame)
    join hello h using (agent_id, epoch, lane)
    where h.stated_by <> h.epoch and w.seq > h.head
"""
