"""The embedded servers: they start, survive what they must, and end only what is theirs."""

from pathlib import Path

import psycopg
import pytest

from tests.support.services import need
from threadline.children import Children
from threadline.postgres import Postgres

pytestmark = pytest.mark.integration


def test_postgres_keeps_what_was_committed_over_a_kill(tmp_path: Path) -> None:
    need("postgres")
    with Children(tmp_path) as children:
        server = Postgres(children)
        server.start()
        with psycopg.connect(server.dsn()) as client:
            client.execute("CREATE TABLE seen (id int)")
            client.execute("INSERT INTO seen VALUES (1)")
        server.kill()
        server.start()
        with psycopg.connect(server.dsn()) as client:
            assert client.execute("SELECT id FROM seen").fetchall() == [(1,)]
            assert client.execute("SHOW synchronous_commit").fetchone() == ("on",)
            assert client.execute("SHOW fsync").fetchone() == ("on",)


def test_postgres_wants_its_password(postgres_server: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{postgres_server.port}/postgres")


def test_each_module_has_a_database_of_its_own(postgres: str, postgres_server: Postgres) -> None:
    assert postgres != postgres_server.dsn()
    with psycopg.connect(postgres) as client:
        row = client.execute("SELECT current_database()").fetchone()
    assert row is not None
    assert row[0].startswith("test_stack_")
