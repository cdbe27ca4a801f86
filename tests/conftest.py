"""Fixtures of every test: the real services, each started once per run. The tuple is the index."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import kafka_mocks, services_pglite
from tests.support.logs import restored_logs
from tests.support.services import can_have, need, timescale_dsn
from threadline.broker import Amqtt, Broker, Mosquitto
from threadline.children import Children
from threadline.kafka import Kafka
from threadline.postgres import Postgres

FIXTURES = (
    "logs",  # test: logging is afterwards as it was before
    "children",  # run: child processes that end with the run
    "postgres_server",  # run: the embedded PostgreSQL itself, for tests that stop or kill it
    "postgres",  # module: DSN of a fresh database
    "mosquitto",  # run: a broker
    "amqtt",  # run: a broker
    "broker",  # run: each of the two in turn
    "pglite",  # module: DSN of a fresh TimescaleDB in WebAssembly
    "kafka",  # run: the embedded Kafka, empty of topics
    "kafka_mock",  # run: bootstrap of librdkafka's mock broker, which makes topics when asked
    "kafka_bootstrap",  # run: of Kafka, or of the mock where Kafka cannot run
    "timescale_native",  # run: DSN of a native TimescaleDB that somebody named
)

# A property holds or not however busy the machine is: no example fails for being slow to make.
# In CI the examples are the same each time, so that what fails was broken by the change.
settings.register_profile(
    "patient",
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("patient")

UNIT_TIMEOUT_S = (
    120  # far above what a unit test may take, for machines that do more than one thing
)

_numbers = itertools.count(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    units = Path(__file__).parent / "unit"
    for item in items:
        if item.path.is_relative_to(units) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(UNIT_TIMEOUT_S))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = _long_ones_first(items)


def _long_ones_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """For several workers: at the end nobody waits for a long file, and whole lines rarely meet."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    kinds: dict[str, list[list[pytest.Item]]] = {}
    for path, found in files.items():
        kinds.setdefault(path.parent.name, []).append(found)
    lines = kinds.pop("system", [])
    others = [*kinds.pop("integration", []), *itertools.chain(*kinds.values())]
    ordered: list[pytest.Item] = []
    for line, other in itertools.zip_longest(lines, others):
        ordered += (line or []) + (other or [])
    return ordered


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    with restored_logs():
        yield


@pytest.fixture(scope="session")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    with Children(tmp_path_factory.mktemp("services")) as started:
        yield started


@pytest.fixture(scope="session")
def postgres_server(children: Children) -> Postgres:
    need("postgres")
    server = Postgres(children)
    server.start()
    return server


@pytest.fixture(scope="module")
def postgres(postgres_server: Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    name = _database_name(request)
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def mosquitto(children: Children) -> Broker:
    need("mosquitto")
    return _started(Mosquitto(children))


@pytest.fixture(scope="session")
def amqtt(children: Children) -> Broker:
    need("amqtt")
    return _started(Amqtt(children))


@pytest.fixture(scope="session", params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest) -> Broker:
    started: Broker = request.getfixturevalue(request.param)
    return started


@pytest.fixture(scope="module")
def pglite(children: Children, request: pytest.FixtureRequest) -> Iterator[str]:
    need("pglite")
    child, dsn = services_pglite.start(children, _database_name(request))
    yield dsn
    children.stop(child)


@pytest.fixture(scope="session")
def kafka(children: Children) -> Kafka:
    need("kafka")
    server = Kafka(children)
    server.start()
    return server


@pytest.fixture(scope="session")
def kafka_mock() -> Iterator[str]:
    need("kafka_mock")
    with kafka_mocks.open_mock() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest) -> str:
    """For what both can serve. A run that requires Kafka gets no stand-in."""
    if can_have("kafka"):
        server: Kafka = request.getfixturevalue("kafka")
        return server.bootstrap
    mock: str = request.getfixturevalue("kafka_mock")
    return mock


@pytest.fixture(scope="session")
def timescale_native() -> str:
    need("timescale_native")
    return timescale_dsn()


def _started(broker: Broker) -> Broker:
    broker.start()
    return broker


def _database_name(request: pytest.FixtureRequest) -> str:
    """Short, unique in the run, and telling which module left it behind."""
    module = re.sub(r"\W+", "_", Path(str(request.path)).stem)
    return f"{module[:40]}_{next(_numbers)}".lower()
