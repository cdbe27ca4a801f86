"""A migrated database of the trace view, and what it shows."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from itertools import count
from typing import Any

from cloud.db import AsyncConnection, connect
from cloud.migrate import migrate
from cloud.projection.rows import VIEW, Row
from cloud.projector import work_off
from cloud.recording import Recorded, Said, record_events
from cloud.storage import Policy, Wanted
from protocols.events import Event, event_hash
from tests.support.trace import Keyed, keyed
from threadline.postgres import Postgres

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
_POSITION = "select position from projection"
_numbers = count(1)
_templates: dict[int, str] = {}


@contextmanager
def migrated_database(server: Postgres) -> Iterator[str]:
    """The DSN of a database of its own, copied from one that was migrated once per run."""
    if id(server) not in _templates:
        migrate_database(server.create_database("trace_template"))
        _templates[id(server)] = "trace_template"
    name = f"trace_{next(_numbers)}"
    yield server.create_database(name, template=_templates[id(server)])
    server.drop_database(name)


def migrate_database(dsn: str) -> None:
    with connect(dsn, application="test") as connection:
        migrate(connection, Wanted.AUTO, Policy(), NOW)


async def record(connection: AsyncConnection, *events: Event) -> Recorded:
    async with connection.transaction():
        return await record_events(connection, [Said(one, event_hash(one)) for one in events])


async def work_off_all(connection: AsyncConnection) -> None:
    while (await work_off(connection)).more:
        pass


async def until_position(connection: AsyncConnection, position: int, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while await one(connection, _POSITION) < position:  # noqa: ASYNC110 - a commit elsewhere
            await asyncio.sleep(0.002)


async def one(connection: AsyncConnection, query: str) -> Any:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0]


async def read_view(connection: AsyncConnection, known_at: int | None = None) -> Keyed:
    """All rows without knowledge time; with `known_at`, of the tables that keep versions only."""
    rows: list[Row] = []
    for kind in VIEW:
        if known_at is None or kind.TABLE.known:
            rows += await read_table(connection, kind, known_at)
    return keyed(rows)


async def read_table(
    connection: AsyncConnection, kind: type[Row], known_at: int | None
) -> Sequence[Row]:
    columns = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]  # rows are dataclasses
    when = "true" if not kind.TABLE.known else "known_to is null"
    if known_at is not None:
        when = f"known_from <= {known_at} and coalesce(known_to, {known_at} + 1) > {known_at}"
    query = f"select {columns} from {kind.TABLE.name} where {when}"  # noqa: S608 - names of ours
    cursor = await connection.execute(query)
    return [kind(*row) for row in await cursor.fetchall()]
