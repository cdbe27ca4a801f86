"""Fixtures of tests that need a migrated database, and an ingest on it."""

from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest

from tests.support.plant_store import Bench, prepare_database, running_ingest
from threadline.postgres import Postgres

FIXTURES = (
    "store_dsn",  # test: DSN of a migrated database of its own, three agents known
    "bench",  # test: an ingest running on it, with a fake source
)
AGENTS = [("berlin.press1", "L1/**"), ("berlin.press2", "L2/**"), ("turin.oven", "**")]
TEMPLATE = "store_template"

_numbers = count(1)


@pytest.fixture(scope="session")
def store_template(postgres_server: Postgres) -> str:
    """Migrated once; every test gets a copy."""
    prepare_database(postgres_server.create_database(TEMPLATE), AGENTS)
    return TEMPLATE


@pytest.fixture
def store_dsn(postgres_server: Postgres, store_template: str) -> Iterator[str]:
    name = f"store_{next(_numbers)}"
    yield postgres_server.create_database(name, template=store_template)
    postgres_server.drop_database(name)


@pytest.fixture
async def bench(store_dsn: str) -> AsyncIterator[Bench]:
    async with running_ingest(store_dsn) as running:
        yield running
