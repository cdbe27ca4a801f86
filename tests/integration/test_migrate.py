"""Migrations on a real PostgreSQL and on TimescaleDB: what they make, remember and refuse."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from cloud import migrate as migrate_module
from cloud.db import Connection, StoreTrouble, Trouble, connect, connect_async
from cloud.migrate import Migration, check, migrate, read_migrations
from cloud.storage import (
    Policy,
    Server,
    Storage,
    Wanted,
    decide,
    kept_from,
    look_at,
    partition_name,
    partition_statements,
)
from protocols.errors import ConfigError
from threadline.postgres import Postgres

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
TABLES = {
    "agent", "alarm", "curve", "dead_letter", "epoch", "event", "hello", "lane", "ledger",
    "ledger_range", "migration", "sample", "sample_list", "site", "status", "store", "stretch",
    "tag", "tag_line", "tag_user",
}  # fmt: skip


@pytest.fixture(params=[Storage.PLAIN, Storage.TIMESCALE], scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[tuple[Connection, Storage]]:
    name = "postgres" if request.param is Storage.PLAIN else "pglite"
    with connect(request.getfixturevalue(name), application="test") as connection:
        migrate(connection, Wanted.AUTO, Policy(), NOW)
        yield connection, request.param


def test_migrate_makes_every_table(database: tuple[Connection, Storage]) -> None:
    connection, _ = database
    rows = connection.execute(
        "select tablename from pg_tables where schemaname = 'public'"
    ).fetchall()
    assert {name for (name,) in rows} >= TABLES


def test_migrate_again_applies_nothing_and_keeps_the_storage(
    database: tuple[Connection, Storage],
) -> None:
    connection, storage = database
    done = migrate(connection, Wanted.AUTO, Policy(), NOW)
    assert done == migrate_module.Migrated(storage, ())


def test_samples_have_no_unique_index(database: tuple[Connection, Storage]) -> None:
    connection, _ = database
    rows = connection.execute(
        "select indexdef from pg_indexes where tablename = 'sample'"
    ).fetchall()
    assert [definition for (definition,) in rows]
    assert not [definition for (definition,) in rows if "UNIQUE" in definition]


def test_a_changed_migration_is_refused(
    database: tuple[Connection, Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, storage = database
    real = read_migrations(storage)
    changed = Migration(real[0].number, real[0].name, None, real[0].sql + "\n-- edited")
    monkeypatch.setattr(migrate_module, "read_migrations", lambda _: (changed, *real[1:]))
    with pytest.raises(ConfigError, match="0001_store: was changed after it was applied"):
        migrate(connection, Wanted.AUTO, Policy(), NOW)


def test_a_failing_migration_leaves_nothing_behind(
    database: tuple[Connection, Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, storage = database
    bad = Migration(9999, "bad", None, "create table half (a int); select 1 / 0")
    real = read_migrations(storage)
    monkeypatch.setattr(migrate_module, "read_migrations", lambda _: (*real, bad))
    with pytest.raises(Exception, match="division by zero"):
        migrate(connection, Wanted.AUTO, Policy(), NOW)
    row = connection.execute("select to_regclass('half'), max(number) from migration").fetchone()
    assert row is not None
    assert row[0] is None
    assert row[1] < 9999


@pytest.mark.parametrize("database", [Storage.TIMESCALE], indirect=True)
def test_policies_are_set_and_taken_back(database: tuple[Connection, Storage]) -> None:
    connection, _ = database
    jobs = (
        "select hypertable_name, proc_name, config::text from timescaledb_information.jobs"
        " where hypertable_name in ('sample', 'sample_list') order by 1, 2"
    )
    migrate(
        connection, Wanted.AUTO, Policy(timedelta(days=3), keep_samples=timedelta(days=90)), NOW
    )
    found = connection.execute(jobs).fetchall()
    assert [(table, "3 days" in said, "90 days" in said) for table, _, said in found] == [
        ("sample", True, False), ("sample", False, True), ("sample_list", False, True),
    ]  # fmt: skip
    migrate(connection, Wanted.AUTO, Policy(None, None), NOW)
    assert connection.execute(jobs).fetchall() == []


@pytest.mark.parametrize("database", [Storage.TIMESCALE], indirect=True)
def test_lists_of_before_keep_their_rows_when_they_become_a_hypertable(
    database: tuple[Connection, Storage],
) -> None:
    connection, storage = database
    (mine,) = (one for one in read_migrations(storage) if one.number == 46)
    (before,) = (one for one in read_migrations(storage) if one.number == 5)
    with connection.transaction(force_rollback=True):
        connection.execute("drop table sample_list; drop table curve")
        connection.execute("alter table store drop column samples_from")
        connection.execute(before.sql)
        for day in (date(1970, 1, 1), date(2026, 11, 21), date(2026, 11, 22)):
            connection.execute(
                "insert into sample_list (time, frame, tag, f64s) values (%s, 1, 1, '{1,2}')", [day]
            )
        connection.execute(mine.sql)
        row = connection.execute(
            "select (select count(*) from sample_list where f64s = '{1,2}'), count(*)"
            " from show_chunks('sample_list')"
        ).fetchone()
    assert row == (3, 3)


def test_rows_of_any_day_find_their_place(database: tuple[Connection, Storage]) -> None:
    connection, storage = database
    days = [date(1970, 1, 1), date(2026, 11, 21), date(2026, 11, 22)]
    if storage is Storage.PLAIN:
        for day in days[1:]:
            for statement in partition_statements(day):
                connection.execute(statement)
    for day in days:
        connection.execute(
            "insert into sample (time, frame, tag, f64) values (%s, 1, 1, 1.5)", [day]
        )
    rows = connection.execute(
        "select time::date from sample where frame = 1 order by time"
    ).fetchall()
    assert [day for (day,) in rows] == days


@pytest.mark.parametrize("database", [Storage.PLAIN], indirect=True)
def test_keeping_a_time_drops_older_partitions_only(
    database: tuple[Connection, Storage],
) -> None:
    connection, _ = database
    for day in (date(2026, 3, 1), date(2026, 3, 2)):
        for statement in partition_statements(day):
            connection.execute(statement)
    now = datetime(2026, 3, 12, 13, tzinfo=UTC)
    times = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC),
             datetime(2026, 3, 2, tzinfo=UTC)]  # fmt: skip
    for table in ("sample", "sample_list"):
        for at in times:
            connection.execute(f"insert into {table} (time, frame, tag) values (%s, 77, 1)", [at])  # noqa: S608 - two names
    migrate(connection, Wanted.AUTO, Policy(keep_samples=timedelta(days=10)), now)
    row = connection.execute(
        "select to_regclass(%s), to_regclass(%s), to_regclass('sample_past')",
        [partition_name(date(2026, 3, 1)), partition_name(date(2026, 3, 2))],
    ).fetchone()
    assert row == (None, "sample_20260302", "sample_past")
    for table in ("sample", "sample_list"):
        left = connection.execute(f"select time from {table} where frame = 77").fetchall()  # noqa: S608 - two names
        assert left == [(times[-1],)], table
    assert kept_from(connection) == times[-1]


def test_what_was_deleted_stays_known_when_more_is_kept(
    database: tuple[Connection, Storage],
) -> None:
    """A policy of TimescaleDB counts from the server's clock, which stands still meanwhile."""
    connection, _ = database
    with connection.transaction(force_rollback=True):
        row = connection.execute(
            "select now(), date_trunc('day', now() - interval '10 days', 'UTC')"
        ).fetchone()
        assert row is not None
        now, day = row
        connection.execute("update store set samples_from = null")
        migrate(connection, Wanted.AUTO, Policy(None, None), now)
        assert kept_from(connection) is None
        for keep in (timedelta(days=10), timedelta(days=99), None):
            migrate(connection, Wanted.AUTO, Policy(None, keep_samples=keep), now)
            assert kept_from(connection) == day


def test_timescale_is_refused_where_it_is_not(postgres: str) -> None:
    with connect(postgres, application="test") as connection:
        server = look_at(connection)
    assert server.offered is None
    with pytest.raises(ConfigError, match=r"no extension timescaledb.*Install TimescaleDB 2.18"):
        decide(server, Wanted.TIMESCALE)


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (Server(14, None, None), "PostgreSQL 15 or later"),
        (Server(16, (2, 17, 2), "timescale"), r"TimescaleDB 2\.17\.2.*Use TimescaleDB 2\.18"),
        (Server(16, (2, 20, 0), "apache"), "timescaledb.license = timescale"),
    ],
)
def test_a_server_that_cannot_hold_it_is_refused_with_what_is_needed(
    server: Server, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        decide(server, Wanted.AUTO)


async def test_ingest_refuses_a_database_that_is_behind(
    monkeypatch: pytest.MonkeyPatch, postgres: str
) -> None:
    with connect(postgres, application="test") as first:
        migrate(first, Wanted.AUTO, Policy(), NOW)
    newer = Migration(9999, "later", None, "select 1")
    real = read_migrations(Storage.PLAIN)
    async with await connect_async(postgres, application="test") as connection:
        assert await check(connection) is Storage.PLAIN
        monkeypatch.setattr(migrate_module, "read_migrations", lambda _: (*real, newer))
        with pytest.raises(StoreTrouble, match="9999_later; run `threadline cloud migrate`") as was:
            await check(connection)
    assert was.value.trouble is Trouble.MIGRATION_MISSING


async def test_an_empty_database_is_a_missing_migration(postgres_server: Postgres) -> None:
    dsn = postgres_server.create_database("never_migrated")
    async with await connect_async(dsn, application="test") as connection:
        with pytest.raises(StoreTrouble) as was:
            await check(connection)
    assert was.value.trouble is Trouble.MIGRATION_MISSING


def test_no_server_is_named_database_down() -> None:
    with pytest.raises(StoreTrouble) as was:
        connect("postgresql://nobody@127.0.0.1:1/none", application="test")
    assert was.value.trouble is Trouble.DOWN
