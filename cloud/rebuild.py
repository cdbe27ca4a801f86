"""Makes the trace view again from all events, beside the one in use, and puts it in its place.

Rule 1: until the end everybody reads the view in use, and the projector keeps it up.
Rule 2: the new view grows in a schema of its own; a rebuild that was broken off leaves that schema,
and the next one begins by dropping it.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from typing import Final, TypeAlias

from cloud import migrate
from cloud.db import AsyncConnection, LockKey, StoreTrouble, Trouble, connect_async, sql, translated
from cloud.projection.rows import VIEW, Row
from cloud.projector import BATCH, Worked, read_lag, take_turn, work_off
from cloud.rebuild_schema import NEXT, current_schema, lay_out, look_at_home, look_at_next, swap

ATTEMPTS: Final = 20  # each waits as long as the connection's lock_timeout
LEVELLING_MAX: Final = 100

Progress: TypeAlias = Callable[[int, int], None]
"""Events taken in so far, events still waiting."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows of one table that only the former or only the new view has."""

    table: str
    former: int
    new: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`differences`: empty if the view was what the events say."""

    events: int
    skipped: int
    differences: tuple[Difference, ...]


async def rebuild(dsn: str, progress: Progress) -> Rebuilt:
    """StoreTrouble: nothing was changed; the view in use stays."""
    connection = await connect_async(dsn, application="threadline rebuild")
    try:
        await migrate.check(connection)
        with translated():
            await _only_one(connection)
            home = await current_schema(connection)
            await lay_out(connection, home)
        done = await _take_all(connection, progress)
        return await _put_in_place(connection, home, done)
    finally:
        await connection.close()


async def _only_one(connection: AsyncConnection) -> None:
    cursor = await connection.execute("select pg_try_advisory_lock(%s)", [LockKey.REBUILD])
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise StoreTrouble(Trouble.BLOCKED, "another rebuild is at work")


async def _take_all(connection: AsyncConnection, progress: Progress) -> Worked:
    """Everything recorded so far; what comes meanwhile is taken when the view is put in place."""
    taken = skipped = 0
    while True:
        worked = await work_off(connection, BATCH, LockKey.REBUILD)
        taken, skipped = taken + worked.events, skipped + worked.skipped
        with translated():
            waiting = await read_lag(connection, worked.position)
        progress(taken, waiting.events)
        if not worked.more:
            return Worked(taken, skipped, worked.position, 0, more=False, masters_pending=False)


async def _put_in_place(connection: AsyncConnection, home: str, done: Worked) -> Rebuilt:
    """Somebody may be reading for long: try again until the tables are free for a moment."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await _replace(connection, home, done)
        except StoreTrouble as trouble:
            if trouble.trouble is not Trouble.BLOCKED:
                raise
    return await _replace(connection, home, done)


async def _replace(connection: AsyncConnection, home: str, done: Worked) -> Rebuilt:
    with translated():
        async with connection.transaction():
            await take_turn(connection)  # the projector waits, so both views can be complete
            events, skipped = await _level(connection, home)
            differences = [one async for one in _differences(connection, home)]
            await swap(connection, home)
            await look_at_home(connection, home)
    return Rebuilt(done.events + events, done.skipped + skipped, tuple(differences))


async def _level(connection: AsyncConnection, home: str) -> tuple[int, int]:
    """Bring both views to the same event; what the new one took in, and left out."""
    taken = skipped = 0
    for _ in range(LEVELLING_MAX):
        await look_at_home(connection, home)
        former = await _to_the_end(connection)
        await look_at_next(connection, home)
        new = await _to_the_end(connection)
        taken, skipped = taken + new.events, skipped + new.skipped
        if former.position == new.position:
            return taken, skipped
    raise StoreTrouble(Trouble.BLOCKED, "events come faster than they can be taken in")


async def _to_the_end(connection: AsyncConnection) -> Worked:
    taken = skipped = 0
    while True:
        worked = await work_off(connection)
        taken, skipped = taken + worked.events, skipped + worked.skipped
        if not worked.more:
            return replace(worked, events=taken, skipped=skipped)


async def _differences(connection: AsyncConnection, home: str) -> AsyncIterator[Difference]:
    """Tables in which the two views are not the same, knowledge time apart."""
    for kind in VIEW:
        former = await _count_only(connection, kind, (home, NEXT))
        new = await _count_only(connection, kind, (NEXT, home))
        if former or new:
            yield Difference(kind.TABLE.name, former, new)


async def _count_only(
    connection: AsyncConnection, kind: type[Row], schemas: tuple[str, str]
) -> int:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # rows are dataclasses
    query = sql.SQL("select count(*) from ({} except {}) as differing").format(
        *(
            sql.SQL("select {} from {}{}").format(
                sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.Identifier(schema, kind.TABLE.name),
                sql.SQL(" where known_to is null" if kind.TABLE.known else ""),
            )
            for schema in schemas
        )
    )
    row = await (await connection.execute(query)).fetchone()
    return 0 if row is None else int(row[0])
