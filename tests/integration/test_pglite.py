"""TimescaleDB in WebAssembly does what tests/support/pglite/README.md says it does."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.rows import scalar_row

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)
HYPERTABLE = """
    CREATE TABLE {name} (tag bigint NOT NULL, time timestamptz NOT NULL, value float8)
    WITH (tsdb.hypertable, tsdb.partition_column = 'time', tsdb.chunk_interval = '1 day',
          tsdb.segmentby = 'tag', tsdb.orderby = 'time')
"""


@pytest.fixture
def client(pglite: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pglite, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        yield connection


def hypertable(client: psycopg.Connection, name: str, rows: int) -> sql.Identifier:
    table = sql.Identifier(name)
    client.execute(sql.SQL(HYPERTABLE).format(name=table))
    copy_rows(client, table, rows)
    return table


def copy_rows(client: psycopg.Connection, table: sql.Identifier, rows: int) -> None:
    order = sql.SQL("COPY {} (tag, time, value) FROM STDIN (FORMAT binary)").format(table)
    with client.cursor().copy(order) as copy:
        copy.set_types(["int8", "timestamptz", "float8"])
        for number in range(rows):
            copy.write_row((number % 10, START + timedelta(minutes=number), float(number)))


def count(client: psycopg.Connection, table: sql.Identifier) -> int:
    found = client.cursor(row_factory=scalar_row).execute(
        sql.SQL("SELECT count(*) FROM {}").format(table)
    )
    return int(found.fetchone() or 0)


def test_binary_copy_of_many_rows_into_a_hypertable(client: psycopg.Connection) -> None:
    table = hypertable(client, "copied", 20_000)
    assert count(client, table) == 20_000
    chunks = client.execute("SELECT show_chunks('copied')").fetchall()
    assert len(chunks) == 14


def test_a_copy_that_fails_says_why_and_the_session_goes_on(client: psycopg.Connection) -> None:
    with pytest.raises(errors.UndefinedTable):
        copy_rows(client, sql.Identifier("nowhere"), 3)
    assert client.execute("SELECT 1").fetchone() == (1,)


def test_columnstore_takes_rows_late(client: psycopg.Connection) -> None:
    table = hypertable(client, "compressed", 3_000)
    chunks = [str(row[0]) for row in client.execute("SELECT show_chunks('compressed')").fetchall()]
    for chunk in chunks:
        client.execute(sql.SQL("CALL convert_to_columnstore({})").format(sql.Literal(chunk)))
    copy_rows(client, table, 100)
    assert count(client, table) == 3_100


def test_direct_compress_of_a_copy(client: psycopg.Connection) -> None:
    client.execute("SET timescaledb.enable_direct_compress_copy = on")
    table = hypertable(client, "direct", 5_000)
    assert count(client, table) == 5_000
    compressed = client.execute(
        "SELECT count(*) FROM timescaledb_information.chunks "
        "WHERE hypertable_name = 'direct' AND is_compressed"
    ).fetchone()
    assert compressed == (4,)


def test_continuous_aggregate_and_policies(client: psycopg.Connection) -> None:
    hypertable(client, "measured", 3_000)
    client.execute(
        "CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS "
        "SELECT tag, time_bucket('1 hour', time) AS hour, avg(value) AS mean FROM measured "
        "GROUP BY 1, 2 WITH NO DATA"
    )
    client.execute("CALL refresh_continuous_aggregate('hourly', NULL, NULL)")
    assert client.execute("SELECT count(*) FROM hourly").fetchone() == (500,)
    client.execute("SELECT add_retention_policy('measured', INTERVAL '90 days')")
    jobs = client.execute(  # the retention, and the columnstore policy of WITH (tsdb.hypertable)
        "SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_name = 'measured'"
    ).fetchone()
    assert jobs == (2,)


def test_clients_take_turns_from_transaction_to_transaction(
    client: psycopg.Connection, pglite: str
) -> None:
    client.execute("CREATE TABLE turns (who text)")
    seen: list[int] = []

    def other() -> None:
        with psycopg.connect(pglite, prepare_threshold=0) as second:
            row = second.execute("SELECT count(*) FROM turns WHERE who <> %s", ["x"]).fetchone()
            seen.append(row[0] if row else -1)

    with client.transaction():
        client.execute("INSERT INTO turns VALUES (%s)", ["first"], prepare=True)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        assert not seen
        client.execute("INSERT INTO turns VALUES (%s)", ["first"], prepare=True)
    thread.join(10)
    assert seen == [2]


def test_a_client_that_leaves_takes_its_transaction_and_statements_along(
    client: psycopg.Connection, pglite: str
) -> None:
    client.execute("CREATE TABLE left_open (id int)")
    leaver = psycopg.connect(pglite, prepare_threshold=0)
    leaver.execute("INSERT INTO left_open VALUES (%s)", [1])
    leaver.close()
    assert client.execute("SELECT count(*) FROM left_open").fetchone() == (0,)
    names = client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert names == (0,)


@pytest.mark.parametrize("name", ["all", '"_pg3_0"'])
def test_a_client_that_forgets_its_statements_leaves_those_of_others(
    client: psycopg.Connection, pglite: str, name: str
) -> None:
    """psycopg says it after every rollback and every change of the schema."""
    client.execute("SELECT 1", prepare=True)
    with psycopg.connect(pglite, autocommit=True) as other:
        other.execute("SELECT 2", prepare=True)
        other.execute(f"DEALLOCATE {name}")
        seen = other.execute("SELECT name FROM pg_prepared_statements").fetchall()
        assert len(seen) == 1, "that of the first client"
    assert client.execute("SELECT 1", prepare=True).fetchone() == (1,)


def test_settings_of_the_connection_string_hold(pglite: str) -> None:
    with psycopg.connect(f"{pglite}&options=-c%20lock_timeout%3D1234") as client:
        assert client.execute("SHOW lock_timeout").fetchone() == ("1234ms",)
