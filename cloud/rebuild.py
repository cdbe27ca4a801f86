"""Makes the trace view again from all events, beside the one in use, and puts it in its place.

Rule 1: until the end everybody reads the view in use, and the projector keeps it up.
Rule 2: the tables are made by the very migrations that made the first ones, in a schema of their
own; a rebuild that was broken off leaves that schema, and the next one begins by dropping it.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from typing import Final, LiteralString, TypeAlias

from cloud import migrate
from cloud.db import AsyncConnection, LockKey, StoreTrouble, Trouble, connect_async, sql, translated
from cloud.projection.rows import VIEW, Row
from cloud.projector import BATCH, Worked, read_lag, take_turn, work_off
from cloud.storage import Storage

NEXT: Final = "projection_next"
FORMER: Final = "projection_former"
ATTEMPTS: Final = 20  # each waits as long as the connection's lock_timeout
LEVELLING_MAX: Final = 100
MIGRATIONS: Final = frozenset({10, 11})  # those that make the tables of the view

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
        storage = await migrate.check(connection)
        with translated():
            await _only_one(connection)
            home = await _home(connection)
            await _lay_out(connection, home, storage)
        done = await _take_all(connection, progress)
        return await _put_in_place(connection, home, done)
    finally:
        await connection.close()


async def _only_one(connection: AsyncConnection) -> None:
    cursor = await connection.execute("select pg_try_advisory_lock(%s)", [LockKey.REBUILD])
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise StoreTrouble(Trouble.BLOCKED, "another rebuild is at work")


async def _home(connection: AsyncConnection) -> str:
    """The schema that the view in use lives in."""
    row = await (await connection.execute("select current_schema()")).fetchone()
    return "public" if row is None else str(row[0])


async def _lay_out(connection: AsyncConnection, home: str, storage: Storage) -> None:
    await connection.execute(_sql("drop schema if exists {next} cascade"))
    await connection.execute(_sql("create schema {next}"))
    await connection.execute(_sql("set search_path = {next}, {home}", home))
    for migration in migrate.read_migrations(storage):
        if migration.number in MIGRATIONS:
            await connection.execute(migration.sql)


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
            await _swap(connection, home)
            await connection.execute(_sql("set search_path = {home}", home))
        await connection.execute(_sql("drop schema {next}"))
    return Rebuilt(done.events + events, done.skipped + skipped, tuple(differences))


async def _level(connection: AsyncConnection, home: str) -> tuple[int, int]:
    """Bring both views to the same event; what the new one took in, and left out."""
    taken = skipped = 0
    for _ in range(LEVELLING_MAX):
        await connection.execute(_sql("set local search_path = {home}", home))
        former = await _to_the_end(connection)
        await connection.execute(_sql("set local search_path = {next}, {home}", home))
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


async def _swap(connection: AsyncConnection, home: str) -> None:
    """The new tables and views come in, the former ones go. Whoever reads now waits a moment."""
    await connection.execute(_sql("create schema {former}"))
    relations = await (await connection.execute(_RELATIONS, [NEXT])).fetchall()
    for name, kind in relations:
        for source, target in ((home, FORMER), (NEXT, home)):
            await connection.execute(
                sql.SQL("alter {} {} set schema {}").format(
                    sql.SQL(_WORDS[kind]), sql.Identifier(source, name), sql.Identifier(target)
                )
            )
    for name, kind in sorted(relations, key=lambda one: one[1], reverse=True):  # views first
        await connection.execute(
            sql.SQL("drop {} {}").format(sql.SQL(_WORDS[kind]), sql.Identifier(FORMER, name))
        )
    await connection.execute(_sql("drop schema {former}"))


def _sql(text: LiteralString, home: str = "public") -> sql.Composed:
    return sql.SQL(text).format(
        next=sql.Identifier(NEXT), former=sql.Identifier(FORMER), home=sql.Identifier(home)
    )


_WORDS: Final[dict[str, LiteralString]] = {"r": "table", "v": "view"}
_RELATIONS: Final = """
    select relname, relkind::text from pg_class
    where relnamespace = %s::regnamespace and relkind in ('r', 'v') order by relname
"""
