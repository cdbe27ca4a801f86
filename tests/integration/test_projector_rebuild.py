"""Rebuild on a real PostgreSQL: identical, beside the view in use, whatever happens meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from cloud.cli import app
from cloud.clock import Clock
from cloud.db import AsyncConnection, StoreTrouble, connect_async
from cloud.metrics import ProjectorMetrics
from cloud.projection.holders import Discipline
from cloud.projection.masters import Masters
from cloud.projection.whole import project
from cloud.projector import Projector
from cloud.rebuild import Difference, rebuild
from tests.support.trace import event, holder, keyed, lot, name, work
from tests.support.trace_database import (
    migrated_database,
    one,
    read_view,
    record,
    until_position,
    work_off_all,
)
from tests.support.trace_worlds import world
from threadline.postgres import Postgres

pytestmark = pytest.mark.integration


LAID_OUT = (
    "select tablename, indexname, indexdef from pg_indexes where schemaname = 'public'",
    "select viewname, definition, '' from pg_views where schemaname = 'public'",
    """
    select relname, relacl::text, '' from pg_class
    where relacl is not null and relnamespace = 'public'::regnamespace
    """,
    """
    select table_name, column_name, data_type || is_nullable || coalesce(column_default, '')
    from information_schema.columns where table_schema = 'public'
    """,
    """
    select conname, conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint
    where connamespace = 'public'::regnamespace
    """,
)


@pytest.fixture
def dsn(postgres_server: Postgres) -> Iterator[str]:
    with migrated_database(postgres_server) as made:
        yield made


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[AsyncConnection]:
    opened = await connect_async(dsn, application="test")
    yield opened
    await opened.close()


def quietly(_taken: int, _waiting: int) -> None:
    pass


@pytest.mark.parametrize("seed", range(3))
async def test_a_rebuild_is_identical_even_in_what_was_known_when(
    dsn: str, connection: AsyncConnection, seed: int
) -> None:
    events = world(seed, most=40)
    for made in events:
        await record(connection, made)
        await work_off_all(connection)
    known = [await read_view(connection, seq) for seq in range(1, len(events) + 1)]
    done = await rebuild(dsn, quietly)
    assert (done.events, done.skipped, done.differences) == (len(events), 0, ())
    assert await read_view(connection) == keyed(project(events, Masters()))
    assert [await read_view(connection, seq) for seq in range(1, len(events) + 1)] == known


async def test_indexes_views_and_grants_are_there_afterwards(
    dsn: str, connection: AsyncConnection
) -> None:
    """Also those that other parts added to the view's tables."""
    await connection.execute("create view mine as select * from attempt")
    await connection.execute("create index mine_too on pass (operation) where counted")
    await connection.execute("drop role if exists reader_of_traces")
    await connection.execute("create role reader_of_traces")
    await connection.execute("grant select on item, link to reader_of_traces")
    before = await laid_out(connection)
    await rebuild(dsn, quietly)
    assert await laid_out(connection) == before
    await connection.execute("drop owned by reader_of_traces; drop role reader_of_traces")


async def laid_out(connection: AsyncConnection) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for query in LAID_OUT:
        found += await (await connection.execute(query)).fetchall()
    return sorted(found, key=str)


async def test_what_somebody_spoilt_is_named_and_made_good(
    dsn: str, connection: AsyncConnection
) -> None:
    events = [work(f"p{n}", n, n, name(f"U{n}")) for n in range(1, 6)]
    await record(connection, *events)
    await work_off_all(connection)
    await connection.execute("update item set material = 'GOLD'")
    done = await rebuild(dsn, quietly)
    assert done.differences == (Difference("item", 5, 5),)
    assert await read_view(connection) == keyed(project(events, Masters()))


async def test_new_masters_come_in_with_a_rebuild(dsn: str, connection: AsyncConnection) -> None:
    put = {"what": lot("L"), "to": holder("magazine/P"), "qty": {"value": "1"}}
    events = [
        event("m", "move", 0, **put),
        work("p", 1, 1, name("A"), feeds=[("magazine/P", "1")]),
        work("q", 2, 3, name("B"), feeds=[("magazine/P", "1")]),
    ]
    await record(connection, *events)
    await work_off_all(connection)
    await connection.execute(
        "insert into holder (holder, valid_from, discipline) values ('magazine', now(), 'fifo')"
    )
    done = await rebuild(dsn, quietly)
    assert {one_.table for one_ in done.differences} == {"link"}
    fifo = Masters(disciplines={"magazine": Discipline.FIFO})
    assert await read_view(connection) == keyed(project(events, fifo))


async def test_a_rebuild_broken_off_does_not_hinder_the_next(
    dsn: str, connection: AsyncConnection
) -> None:
    await record(connection, work("p", 1, 1, name("A")))
    await work_off_all(connection)
    await connection.execute("create schema projection_next")
    await connection.execute("create table projection_next.item (nonsense int4)")
    done = await rebuild(dsn, quietly)
    assert done.differences == ()
    left = "select count(*) from pg_namespace where nspname like 'projection%'"
    assert await one(connection, left) == 0


async def test_the_view_stays_in_use_and_is_kept_up_meanwhile(
    dsn: str, connection: AsyncConnection
) -> None:
    events = [work(f"p{n}", n, n, name(f"U{n}")) for n in range(1, 60)]
    projector = Projector(dsn, Clock(), ProjectorMetrics(CollectorRegistry()))
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(projector.run())
        await record(connection, *events[:40])
        rebuilding = tasks.create_task(rebuild(dsn, quietly))
        for made in events[40:50]:
            await record(connection, made)
            assert await one(connection, "select count(*) from pass") <= len(events)
        done = await rebuilding
        for made in events[50:]:
            await record(connection, made)
        await until_position(connection, len(events))
        keeping.cancel()
    assert done.differences == ()
    assert await read_view(connection) == keyed(project(events, Masters()))


async def test_only_one_rebuild_at_a_time(dsn: str, connection: AsyncConnection) -> None:
    await connection.execute("select pg_advisory_lock(%s)", [0x544C0005])
    with pytest.raises(StoreTrouble, match="another rebuild"):
        await rebuild(dsn, quietly)


def test_the_command_tells_what_it_did(dsn: str) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["rebuild", "--database", dsn])
    assert done.exit_code == 0, done.output
    assert "the view is the same as before" in done.stdout
    told = runner.invoke(app, ["rebuild", "--database", dsn, "--output", "json"])
    assert json.loads(told.stdout) == {"events": 0, "skipped": 0, "differences": []}
