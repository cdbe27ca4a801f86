"""Compaction: what the ledger knows of frames that nobody can send any more, in few rows.

Rule 1: a lane's row is held FOR UPDATE from before the first look to the commit, so no admission is
under way in it.
Rule 2: only what is below the agent's floor, older than what a log behind the gateway keeps, and
taken moves; a hole stays a hole. Ranges grow and join; they are never deleted.
Rule 3: the work of a transaction is bounded; between two the lane is free.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple, TypeAlias

from cloud.admission import SEQ_BITS
from cloud.db import AsyncConnection, LockKey, StoreTrouble, Trouble, translated

FRAMES_MAX: Final = 1000  # of a transaction, while which the lane takes nothing
HELD_MAX: Final = "1s"  # how long a lane may be waited for, and ingest behind us


Tell: TypeAlias = Callable[[int], None]
"""Hears how many frames each transaction moved."""


class Run(NamedTuple):
    """Seqs one after the other."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was done. `busy`: lanes that somebody held too long, left for the next time."""

    frames: int = 0
    lanes: int = 0
    busy: int = 0


async def compact(
    connection: AsyncConnection,
    keep: timedelta,
    tell: Tell = lambda _: None,
    frames_max: int = FRAMES_MAX,
) -> Compacted | None:
    """All lanes once. None: somebody else is at it.

    StoreTrouble: what was done until then stays done.
    """
    with translated():
        if not await _try_lock(connection):
            return None
        try:
            await connection.execute(_IMPATIENT)
            return await _compact_all(connection, keep, tell, frames_max)
        finally:
            if not connection.closed:
                await connection.execute("select pg_advisory_unlock(%s)", [LockKey.COMPACTION])


async def compact_lane(
    connection: AsyncConnection, lane_id: int, keep: timedelta, frames_max: int = FRAMES_MAX
) -> int:
    """In the caller's transaction. How many frames moved; fewer than `frames_max`: that is all."""
    await connection.execute(_LOCK_LANE, [lane_id])
    seqs = await _movable(connection, lane_id, keep, frames_max)
    if not seqs:
        return 0
    span = {"lane": lane_id, "first": seqs[0], "last": seqs[-1]}
    cursor = await connection.execute(_MOVE, span)
    row = await cursor.fetchone()
    moved = 0 if row is None else int(row[0])
    runs = runs_of(seqs)
    known = await connection.execute(_NEAR, span)
    near = [Run(*one) for one in await known.fetchall()]
    joined = join(near, runs)
    gone = sorted({one.first for one in near} - {one.first for one in joined})
    await connection.execute(_ABSORBED, [lane_id, gone])
    for run in joined:
        await connection.execute(_RANGE, [lane_id, *run])
    return moved


def runs_of(seqs: Iterable[int]) -> list[Run]:
    return join((), (Run(seq, seq) for seq in seqs))


def join(known: Iterable[Run], more: Iterable[Run]) -> list[Run]:
    """All seqs of both, in order, in as few runs as there can be."""
    found: list[Run] = []
    for run in sorted([*known, *more]):
        if found and run.first <= found[-1].last + 1:
            found[-1] = Run(found[-1].first, max(found[-1].last, run.last))
        else:
            found.append(run)
    return found


async def _compact_all(
    connection: AsyncConnection, keep: timedelta, tell: Tell, frames_max: int
) -> Compacted:
    frames = lanes = busy = lane_id = 0
    while (found := await _next_lane(connection, lane_id)) is not None:
        lane_id = found
        try:
            moved = await _drain_lane(connection, lane_id, keep, tell, frames_max)
        except StoreTrouble as trouble:
            if trouble.trouble is not Trouble.BLOCKED:
                raise
            busy += 1
            continue
        frames += moved
        lanes += moved > 0
    return Compacted(frames, lanes, busy)


async def _drain_lane(
    connection: AsyncConnection,
    lane_id: int,
    keep: timedelta,
    tell: Tell,
    frames_max: int,
) -> int:
    """One transaction after the other, with as long a rest after each as it took."""
    loop = asyncio.get_running_loop()
    total = 0
    while True:
        began_s = loop.time()
        with translated():
            async with connection.transaction():
                moved = await compact_lane(connection, lane_id, keep, frames_max)
        total += moved
        if moved:
            tell(moved)
            await asyncio.sleep(loop.time() - began_s)
        if moved < frames_max:
            return total


async def _try_lock(connection: AsyncConnection) -> bool:
    cursor = await connection.execute("select pg_try_advisory_lock(%s)", [LockKey.COMPACTION])
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def _next_lane(connection: AsyncConnection, after: int) -> int | None:
    """Lanes without a row in the ledger are skipped by its index, however many they are."""
    cursor = await connection.execute(
        "select lane_id from ledger where lane_id > %s order by lane_id limit 1", [after]
    )
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def _movable(
    connection: AsyncConnection, lane_id: int, keep: timedelta, frames_max: int
) -> list[int]:
    """The lowest seqs that may go, in order."""
    wanted = {"lane": lane_id, "keep": keep, "frames": frames_max}
    cursor = await connection.execute(_MOVABLE, wanted)
    found = []
    for seq, is_old in await cursor.fetchall():
        if not is_old:  # what came late stops those behind it: they are few, and it gets old
            break
        found.append(int(seq))
    return found


# Stopped between two statements it would hold its lane, and ingest would wait for it.
_IMPATIENT: Final = f"""
    set lock_timeout = '{HELD_MAX}'; set idle_in_transaction_session_timeout = '15s'
"""

# While it is held no transaction admits into the lane; one that is under way is waited for.
_LOCK_LANE: Final = "select from lane where lane_id = %s for update"

# The floor is the newest that was said; where a later hello does not name the lane any more, all
# was let go. The newest frame of the agent's newest epoch stays: it tells how far its data came.
_MOVABLE: Final = f"""
    with facts as (
        select case
                when a.epoch is distinct from l.epoch and a.hello_at > newest.sealed_at
                    and (h.at is null or h.at < a.hello_at) then newest.seq + 1
                else greatest(newest.floor, h.floor)
            end as floor,
            case when a.epoch <> l.epoch then newest.seq + 1 else newest.seq end as below
        from lane l join agent a on a.agent_id = l.agent_id
        left join hello h on h.agent_id = l.agent_id and h.epoch = l.epoch and h.lane = l.lane
        cross join lateral (
            select seq, floor, sealed_at from ledger g where g.lane_id = l.lane_id
            order by seq desc limit 1
        ) newest
        where l.lane_id = %(lane)s
    )
    select g.seq, g.received_at < now() - %(keep)s::interval
    from ledger g, facts
    where g.lane_id = %(lane)s and g.seq < least(facts.floor, facts.below)
    and g.frame >= {1 << SEQ_BITS}
    order by g.seq limit %(frames)s
"""  # noqa: S608 - our own number

WEIGHT: Final = "({0} %% 2147483647 * 48271 %% 2147483647)"  # of a seq: tells frames apart in a sum

# Successive seqs of one hour of sealing become one row, or part of the row before them.
_MOVE: Final = f"""
    with moved as (
        delete from ledger where lane_id = %(lane)s and seq between %(first)s and %(last)s
        and frame >= {1 << SEQ_BITS}
        returning seq, kind, rows, rows_before, sealed_at, date_trunc('hour', sealed_at) as hour,
            time_min, time_max, t_min, coalesce(watermark, t_max) as until, floor, read, derived,
            filtered, discarded
    ),
    numbered as (
        select *, seq - row_number() over (partition by hour order by seq) as run from moved
    ),
    summed as (
        select min(seq) as seq_from, max(seq) as seq_to, hour, max(sealed_at) as sealed_to,
            sum(rows) as rows, min(rows_before) as rows_before,
            coalesce(sum(rows) filter (where kind = 1), 0) as samples,
            coalesce(sum(rows * {WEIGHT.format("seq")}) filter (where kind = 1), 0) as weighed,
            min(time_min) as time_min, max(time_max) as time_max, min(t_min) as t_min,
            (array_agg(until order by seq desc))[1] as until, max(floor) as floor,
            max(read) as read, max(derived) as derived, max(filtered) as filtered,
            max(discarded) as discarded
        from numbered group by hour, run
    ),
    kept as (
        insert into ledger_hour as k (
            lane_id, seq_from, seq_to, hour, sealed_to, rows, rows_before, samples, weighed,
            time_min, time_max, t_min, until, floor, read, derived, filtered, discarded
        )
        select %(lane)s, coalesce(p.seq_from, s.seq_from), s.seq_to, s.hour, s.sealed_to, s.rows,
            s.rows_before, s.samples, s.weighed, s.time_min, s.time_max, s.t_min,
            s.until, s.floor, s.read, s.derived, s.filtered, s.discarded
        from summed s
        left join lateral (
            select seq_from, seq_to, hour from ledger_hour h
            where h.lane_id = %(lane)s and h.seq_from < s.seq_from
            order by h.seq_from desc limit 1
        ) p on p.seq_to = s.seq_from - 1 and p.hour = s.hour
        on conflict (lane_id, seq_from) do update set
            seq_to = excluded.seq_to,
            sealed_to = greatest(k.sealed_to, excluded.sealed_to),
            rows = k.rows + excluded.rows,
            samples = k.samples + excluded.samples,
            weighed = k.weighed + excluded.weighed,
            time_min = least(k.time_min, excluded.time_min),
            time_max = greatest(k.time_max, excluded.time_max),
            t_min = least(k.t_min, excluded.t_min),
            until = excluded.until,
            floor = greatest(k.floor, excluded.floor),
            read = greatest(k.read, excluded.read),
            derived = greatest(k.derived, excluded.derived),
            filtered = greatest(k.filtered, excluded.filtered),
            discarded = greatest(k.discarded, excluded.discarded)
    )
    select count(*) from moved
"""  # noqa: S608 - our own words and number

# Ranges never overlap: of those that begin before, only the last may reach so far.
_NEAR: Final = """
    select seq_from, seq_to from ledger_range
    where lane_id = %(lane)s and seq_from <= %(last)s + 1 and seq_from >= coalesce((
        select max(seq_from) from ledger_range where lane_id = %(lane)s and seq_from <= %(first)s
    ), 0)
"""
_ABSORBED: Final = "delete from ledger_range where lane_id = %s and seq_from = any(%s::int8[])"
_RANGE: Final = """
    insert into ledger_range (lane_id, seq_from, seq_to) values (%s, %s, %s)
    on conflict (lane_id, seq_from) do update set seq_to = excluded.seq_to, compacted_at = now()
"""
