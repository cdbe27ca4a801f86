"""Step 4 of the storing transaction: a log's parts move on with what was stored of them.

Rule 1: only the owner of a part moves it, only from where it stands, only in the transaction that
stores what it moved over.
Rule 2: an owner is written down with its backends before they take their first lock, so that the
next owner can end them.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cloud.db import AsyncConnection, AsyncCursor, TupleRow, translated
from cloud.source import Move, Overtaken


@dataclass(frozen=True, slots=True)
class Count:
    """What one transaction counts, and for whom."""

    owner: UUID
    moves: tuple[Move, ...]


class Counting:
    """Sent on one journey with the admission, then heard: the parts stay locked to the commit."""

    def __init__(self, connection: AsyncConnection, count: Count | None) -> None:
        self._connection = connection
        self._count = count
        self._moved: AsyncCursor[TupleRow] | None = None

    async def send(self) -> None:
        """In the caller's pipeline. Without a log there is nothing to send."""
        if self._count is None or not self._count.moves:
            return
        moves = self._count.moves
        columns = [
            [one.part.topic for one in moves],
            [one.part.number for one in moves],
            [one.expected for one in moves],
            [one.next_offset for one in moves],
            [one.stamp for one in moves],
        ]
        self._moved = await self._connection.execute(_MOVE, [*columns, self._count.owner])

    async def log_gen(self) -> int | None:
        """Once the pipeline has ended. None: no log.

        A move that is made already, by a commit whose answer was lost, counts as made. Overtaken:
        parts stand elsewhere or are another's; the transaction has to end without a commit.
        """
        if self._moved is None or self._count is None:
            return None
        gens = [int(gen) for (gen,) in await self._moved.fetchall()]
        wanted = len(self._count.moves)
        if len(gens) != wanted:
            raise Overtaken(f"{wanted - len(gens)} of {wanted} parts are counted by another")
        return max(gens)


async def enlist(owner: UUID, *connections: AsyncConnection) -> None:
    """These backends work for this owner, and no others any more."""
    with translated():
        await connections[0].execute("delete from ingest_owner where owner = %s", [owner])
        for connection in connections:
            await connection.execute(_ENLIST, [owner])
        await connections[0].execute(_FORGET)


_MOVE: Final = """
    update kafka_position p set next_offset = w.next_offset, stamp = w.stamp, moved_at = now()
    from unnest(%s::text[], %s::int4[], %s::int8[], %s::int8[], %s::bytea[])
        as w (topic, part, expected, next_offset, stamp)
    where p.topic = w.topic and p.part = w.part and p.owner = %s
    and (p.next_offset = w.expected or (p.next_offset = w.next_offset and p.stamp = w.stamp))
    returning (select gen from kafka_log)
"""

_ENLIST: Final = """
    insert into ingest_owner (owner, pid, backend_start)
    select %s, pid, backend_start from pg_stat_activity where pid = pg_backend_pid()
    on conflict (owner, pid) do update set backend_start = excluded.backend_start, seen_at = now()
"""

# Owners of long ago that count nothing any more.
_FORGET: Final = """
    delete from ingest_owner o where seen_at < now() - interval '1 day'
    and not exists (select from pg_stat_activity a
        where a.pid = o.pid and a.backend_start = o.backend_start)
"""
