"""The door to PostgreSQL: connections, their settings, and psycopg's failures under our names.

Rule 1: only this module imports psycopg; everyone else takes its types from here.
Rule 2: a failure of the database never says anything about the data, class 22 apart.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import IntEnum, StrEnum
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import AsyncCursor, sql
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from protocols.errors import Disconnected, Rejected

__all__ = [
    "BEGIN",
    "AsyncConnection",
    "AsyncCursor",
    "AsyncPool",
    "BadData",
    "Connection",
    "Jsonb",
    "LockKey",
    "StoreTrouble",
    "Trouble",
    "TupleRow",
    "committed",
    "connect",
    "connect_async",
    "lease",
    "make_pool",
    "sql",
    "translated",
]

Connection: TypeAlias = psycopg.Connection[TupleRow]
AsyncConnection: TypeAlias = psycopg.AsyncConnection[TupleRow]
AsyncPool: TypeAlias = AsyncConnectionPool[AsyncConnection]

CONNECT_TIMEOUT_S: Final = 10
LOCK_TIMEOUT: Final = "5s"  # a stopped owner of a lock is a named state, never a silent wait
TCP_USER_TIMEOUT_MS: Final = 15_000


class LockKey(IntEnum):
    """Advisory locks of the whole database; the numbers are ours and arbitrary."""

    MIGRATE = 0x544C0001
    EVENTS = 0x544C0002
    PARTITIONS = 0x544C0003
    PROJECTION = 0x544C0004
    REBUILD = 0x544C0005
    LOG = 0x544C0030
    COMPACTION = 0x544C0006


class Trouble(StrEnum):
    """Why the database cannot be written, as `state` and metrics show it."""

    DOWN = "database_down"
    TOO_OLD = "database_too_old"
    MIGRATION_MISSING = "migration_missing"
    FULL = "database_full"
    BLOCKED = "database_blocked"
    REFUSED = "database_refused"
    ERROR = "database_error"


class StoreTrouble(Disconnected):
    """The database cannot take anything now, whatever the data: wait, try the same again."""

    def __init__(self, trouble: Trouble, reason: str) -> None:
        self.trouble = trouble
        super().__init__(f"{trouble}: {reason}")


class BadData(Rejected):
    """The database says that a value cannot be held (class 22)."""


def connect(dsn: str, *, application: str) -> Connection:
    """A connection in autocommit; transactions are explicit. StoreTrouble: none can be had."""
    with translated():
        connection = psycopg.connect(
            dsn, autocommit=True, application_name=application, **_CONNECT_OPTIONS
        )
        try:
            connection.execute(_SESSION)
        except BaseException:
            connection.close()
            raise
    return connection


async def connect_async(dsn: str, *, application: str) -> AsyncConnection:
    """The same for an event loop. A connect that hangs ends by the time-out, not by the kernel."""
    with translated():
        connection = await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, application_name=application, **_CONNECT_OPTIONS
        )
        try:
            await connection.execute(_SESSION)
        except BaseException:
            await connection.close()
            raise
    return connection


def make_pool(dsn: str, *, application: str, connections: int, statement_s: float) -> AsyncPool:
    """A pool for readers, not open yet. A statement that takes longer is ended by the server."""

    async def configure(connection: AsyncConnection) -> None:
        await connection.execute(_SESSION)
        await connection.execute(f"set statement_timeout = {int(statement_s * 1000)}")

    return AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=connections,
        open=False,
        timeout=CONNECT_TIMEOUT_S,
        configure=configure,
        check=AsyncConnectionPool.check_connection,
        kwargs={"autocommit": True, "application_name": application, **_CONNECT_OPTIONS},
        name=application,
    )


@asynccontextmanager
async def lease(pool: AsyncPool) -> AsyncIterator[AsyncConnection]:
    """One connection of the pool. StoreTrouble: none in time."""
    with translated():
        try:
            async with pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise StoreTrouble(Trouble.DOWN, str(error)) from error


@asynccontextmanager
async def committed(connection: AsyncConnection) -> AsyncIterator[None]:
    """A transaction whose `BEGIN` the caller sends, in a pipeline with its first statements.

    psycopg's own waits for the answer to BEGIN, and no COPY can follow inside a pipeline.
    """
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error):  # the reason is what the caller hears, not what it led to
            await connection.rollback()
        raise
    await connection.commit()


BEGIN: Final = "begin"


@contextmanager
def translated() -> Iterator[None]:
    """Psycopg's exceptions leave as StoreTrouble or BadData."""
    try:
        yield
    except psycopg.Error as error:
        raise failure_of(error) from error
    except (TimeoutError, OSError) as error:
        raise StoreTrouble(Trouble.DOWN, str(error) or type(error).__name__) from error


def failure_of(error: psycopg.Error) -> StoreTrouble | BadData:
    """What a psycopg error means to the caller."""
    state = error.sqlstate or ""
    reason = _reason(error)
    if state.startswith("22") or isinstance(error, psycopg.DataError):
        return BadData(f"{state}: {reason}")
    if state in _BY_STATE:
        return StoreTrouble(_BY_STATE[state], reason)
    if state[:2] in _BY_CLASS:
        return StoreTrouble(_BY_CLASS[state[:2]], reason)
    if not state:  # no answer of a server: the connection is gone or was never made
        return StoreTrouble(Trouble.DOWN, reason)
    return StoreTrouble(Trouble.ERROR, f"{state}: {reason}")


_CONNECT_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

# The server's own side of the wire as well: a client whose machine is gone holds locks no longer.
# `on` or stronger: a server set to less is raised, one set to remote_apply is left alone.
_SESSION: Final = f"""
    set timezone = 'UTC';
    set lock_timeout = '{LOCK_TIMEOUT}';
    set tcp_user_timeout = {TCP_USER_TIMEOUT_MS};
    set tcp_keepalives_idle = 10;
    set tcp_keepalives_interval = 5;
    set tcp_keepalives_count = 3;
    select set_config('synchronous_commit', 'on', false)
    where current_setting('synchronous_commit') in ('off', 'local', 'remote_write');
"""

_BY_CLASS: Final = {
    "08": Trouble.DOWN,
    "57": Trouble.DOWN,  # shutdown, crash, cancelled
    "28": Trouble.REFUSED,
    "3D": Trouble.REFUSED,  # no such database
    "53": Trouble.FULL,  # disk, memory, connections
    "40": Trouble.BLOCKED,
    "55": Trouble.BLOCKED,
    "58": Trouble.FULL,  # i/o errors of the server
}
_BY_STATE: Final = {
    "42P01": Trouble.MIGRATION_MISSING,
    "42703": Trouble.MIGRATION_MISSING,
    "42883": Trouble.MIGRATION_MISSING,
    "42501": Trouble.REFUSED,
    "25006": Trouble.REFUSED,  # read-only: a standby
}


def _reason(error: psycopg.Error) -> str:
    primary = error.diag.message_primary or str(error)
    detail = error.diag.message_detail
    return " ".join(f"{primary}{f' ({detail})' if detail else ''}".split())
