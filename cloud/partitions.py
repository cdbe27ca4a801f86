"""Partitions by day of a plain PostgreSQL: made before the transaction that needs them."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from cloud.admission import days_of
from cloud.db import AsyncConnection, LockKey
from cloud.storage import FIRST_DAY, Storage, partition_name, partition_statements
from protocols.samples import SampleBatch

_UNIX_DAY: Final = date(1970, 1, 1)


class DayBook:
    """Days that have their partition. Of a TimescaleDB there is nothing to know."""

    def __init__(self) -> None:
        self._days: set[int] = set()
        self.storage = Storage.TIMESCALE

    async def learn(self, connection: AsyncConnection, batches: Iterable[SampleBatch]) -> None:
        if self.storage is Storage.TIMESCALE:
            return
        wanted = {day for batch in batches if len(batch) for day in days_of(batch)}
        for number in sorted(wanted - self._days):
            day = _UNIX_DAY + timedelta(days=number)
            if day >= FIRST_DAY:
                await _make(connection, day)
            self._days.add(number)


async def _make(connection: AsyncConnection, day: date) -> None:
    """Two ingests want the same day at midnight: the second finds it made."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", [LockKey.PARTITIONS])
        cursor = await connection.execute("select to_regclass(%s)", [partition_name(day)])
        row = await cursor.fetchone()
        if row is None or row[0] is None:
            for statement in partition_statements(day):
                await connection.execute(statement)
