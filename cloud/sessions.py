"""The two connections of ingest and what is known through them, reopened together with back-off.

Rule 1: whatever was learned through a connection is forgotten with it: the database may be another.
Rule 2: a trouble is named once, then everything waits and tries the same again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from cloud import migrate
from cloud.clock import Clock
from cloud.counting import enlist
from cloud.db import AsyncConnection, StoreTrouble, Trouble, connect_async, translated
from cloud.standing import Standing
from cloud.storing import Books
from protocols.retry import Backoff

PART: Final = "database"
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Session:
    """`preparing` is shared under `lock`; `storing` belongs to the one storing task."""

    preparing: AsyncConnection
    storing: AsyncConnection
    store_id: str
    books: Books
    owner: UUID | None = None  # of a log's parts, in whose name these connections work
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def close(self) -> None:
        await self.preparing.close()
        await self.storing.close()


class Sessions:
    """Opens one session at a time, whoever asks."""

    def __init__(
        self,
        dsn: str,
        clock: Clock,
        standing: Standing,
        backoff: Backoff,
        owner: UUID | None = None,
    ) -> None:
        self._dsn = dsn
        self._clock = clock
        self._standing = standing
        self._backoff = backoff
        self._owner = owner
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._attempt = 0

    async def insist(self, act: Callable[[Session], Awaitable[T]]) -> T:
        """Do it until the database lets it be done. Everything but StoreTrouble leaves at once."""
        while True:
            session = await self._opened()
            try:
                done = await act(session)
            except StoreTrouble as trouble:
                await self._lost(session, trouble)
            else:
                return done

    async def insist_on_writing(self, act: Callable[[Session], Awaitable[T]]) -> T:
        """The same; only its success ends a trouble: reading may work where writing fails."""
        done = await self.insist(act)
        self._attempt = 0
        self._standing.up(PART)
        return done

    async def attempt(self, act: Callable[[Session], Awaitable[T]]) -> T:
        """Do it once, on what is open. StoreTrouble: it was not done."""
        if self._session is None:
            raise StoreTrouble(Trouble.DOWN, "not connected")
        return await act(self._session)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _opened(self) -> Session:
        async with self._opening:
            while self._session is None:
                try:
                    self._session = await open_session(self._dsn, self._owner)
                except StoreTrouble as trouble:
                    await self._wait(trouble)
            return self._session

    async def _lost(self, session: Session, trouble: StoreTrouble) -> None:
        async with self._opening:
            if self._session is session:
                await self.close()
                await self._wait(trouble)

    async def _wait(self, trouble: StoreTrouble) -> None:
        self._standing.down(PART, trouble.trouble, trouble.reason)
        delay_s = self._backoff.delay_s(self._attempt, self._clock.draw())
        self._attempt += 1
        await asyncio.sleep(delay_s)


async def open_session(dsn: str, owner: UUID | None = None) -> Session:
    """StoreTrouble: no server, too old, a migration is missing."""
    storing = await connect_async(dsn, application="threadline ingest")
    preparing = None
    try:
        storage = await migrate.check(storing)
        store_id = await read_store_id(storing)
        preparing = await connect_async(dsn, application="threadline ingest prepare")
        for connection in (storing, preparing):
            with translated():
                await connection.execute(_IMPATIENT)
        if owner is not None:
            await enlist(owner, storing, preparing)
    except BaseException:
        await storing.close()
        if preparing is not None:
            await preparing.close()
        raise
    books = Books()
    books.days.storage = storage
    return Session(preparing, storing, store_id, books, owner)


# Stopped between two statements it holds nothing for long; in mid-COPY only another can end it.
_IMPATIENT: Final = "set idle_in_transaction_session_timeout = '15s'"


async def check_store_id(session: Session) -> None:
    """StoreTrouble: it is another store by now, and what was learned of it may mean nothing."""
    found = await read_store_id(session.storing)
    if found != session.store_id:
        reason = f"another store than before: {found}, was {session.store_id}"
        raise StoreTrouble(Trouble.DOWN, reason)


async def read_store_id(connection: AsyncConnection) -> str:
    """Names this database's line of life: it changes when what was stored may be gone."""
    with translated():
        cursor = await connection.execute(STORE_ID)
        row = await cursor.fetchone()
    return "" if row is None else str(row[0])


# The timeline is read from the log's own name: the control file lags behind a promotion. A dump
# makes its tables anew, so the table's own number tells of it. The rest needs `cloud restored`.
STORE_ID: Final = """
    select concat_ws('-',
        (select system_identifier from pg_control_system()),
        ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0'),
        (select oid from pg_database where datname = current_database()),
        'store'::regclass::oid,
        (select restored from store)
    )
"""
