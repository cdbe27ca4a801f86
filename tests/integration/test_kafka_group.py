"""Several ingest processes on one Kafka: shared out, taken over, stopped in mid-COPY, killed."""

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cloud.db import Connection, connect
from cloud.verify.delivery import verify_agent
from protocols.frames import Frame, Lane
from tests.support.frames import AgentVoice
from tests.support.kafka_plant import KafkaPlant
from tests.support.many_frames import large_frames, some_frames
from tests.support.services import need
from threadline.children import Child, Children
from threadline.kafka import Kafka
from threadline.ports import free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PATIENCE_S = 120.0
PARTITIONS = 4


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The processes read the topics by their real names, so they get a server of their own."""
    need("kafka")
    with Children(tmp_path_factory.mktemp("group")) as children:
        server = Kafka(children)
        server.start()
        KafkaPlant(server.bootstrap, "").make(PARTITIONS)
        yield server


@pytest.fixture
def plant(own_kafka: Kafka) -> Iterator[KafkaPlant]:
    made = KafkaPlant(own_kafka.bootstrap, "")
    yield made
    made.delete()
    made.make(PARTITIONS)


class Fleet:
    """Ingest processes on one plant and one database."""

    def __init__(self, children: Children, plant: KafkaPlant, dsn: str, name: str) -> None:
        self._children = children
        self._plant = plant
        self._dsn = dsn
        self._name = name
        self._count = 0

    def start(self) -> Child:
        self._count += 1
        command = [sys.executable, "-m", "threadline", "cloud", "ingest", "--source", "kafka"]
        command += ["--kafka-bootstrap", self._plant.bootstrap, "--metrics-port", str(free_port())]
        env = {"THREADLINE_CLOUD_DATABASE": self._dsn, "THREADLINE_CLOUD_KAFKA_GROUP": self._name}
        return self._children.start(f"{self._name}_{self._count}", command, env=env)


@pytest.fixture
def fleet(
    children: Children, plant: KafkaPlant, store_dsn: str, request: pytest.FixtureRequest
) -> Fleet:
    return Fleet(children, plant, store_dsn, request.node.name.split("[")[0][:40])


@pytest.fixture
def database(store_dsn: str) -> Iterator[Connection]:
    with connect(store_dsn, application="test") as connection:
        yield connection


def until(happens: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def one(database: Connection, query: str) -> int:
    row = database.execute(query).fetchone()
    assert row is not None
    return int(row[0] or 0)


def taken(database: Connection) -> int:
    return one(database, "select sum(next_offset) from kafka_position")


def owners(database: Connection) -> int:
    return one(database, "select count(distinct owner) from kafka_position where topic = 'tl.live'")


def assert_exactly_once(database: Connection, sent: list[Frame]) -> None:
    rows = sum(frame.header.rows for frame in sent)
    found = database.execute("select count(*), count(distinct frame) from sample").fetchone()
    assert found == (rows, len(sent))
    for agent in {frame.header.agent for frame in sent}:
        report = verify_agent(database, agent)
        assert report.duplicates == 0
        assert report.missing == 0


def voices(count: int) -> list[AgentVoice]:
    """Of one agent each epoch has its own key in no partition: they all go to that agent's."""
    names = ("berlin.press1", "berlin.press2", "turin.oven")
    return [AgentVoice(names[at % 3], epoch=at + 1, now_us=hour_ago_us()) for at in range(count)]


def hour_ago_us() -> int:
    """The processes have the system's clock; nothing may be ahead of it."""
    return time.time_ns() // 1000 - 3_600_000_000


def in_copy(database: Connection) -> bool:
    """A COPY into the samples that is at work: it has taken rows and is not done."""
    query = (
        "select count(*) from pg_stat_progress_copy p join pg_stat_activity a using (pid)"
        " where p.tuples_processed > 0 and a.application_name = 'threadline ingest'"
        " and a.datname = current_database()"
    )
    return one(database, query) > 0


def stop_in_copy(child: Child, database: Connection) -> None:
    """SIGSTOP while it copies; the server waits for more of the COPY, and holds its locks."""
    for _ in range(200):
        until(lambda: in_copy(database))
        child.send(signal.SIGSTOP)
        time.sleep(0.3)  # what was on the wire arrives
        if in_copy(database):
            return
        child.send(signal.SIGCONT)
    pytest.fail("never caught inside COPY")


def test_i10_an_ingest_stopped_inside_copy_is_ended_and_nothing_is_stored_twice(
    fleet: Fleet, plant: KafkaPlant, database: Connection
) -> None:
    (voice,) = voices(1)
    sent = large_frames(voice, 60)
    zombie = fleet.start()
    until(lambda: owners(database) == 1)
    plant.send(*sent)
    stop_in_copy(zombie, database)
    stored = taken(database)
    assert stored < len(sent)
    heir = fleet.start()
    until(lambda: taken(database) == len(sent))
    assert heir.exit_code is None
    assert "ended backends of another reader" in heir.log.read_text()
    assert_exactly_once(database, sent)
    zombie.send(signal.SIGCONT)
    more = large_frames(voice, 10)
    plant.send(*more)
    until(lambda: taken(database) == len(sent) + len(more))
    until(lambda: owners(database) == 2)  # it is a member again
    assert_exactly_once(database, [*sent, *more])
    assert "Traceback" not in zombie.log.read_text()
    assert one(database, "select gen from kafka_log") == 0


def test_a_part_that_moves_in_mid_copy_is_handed_over_in_peace(
    fleet: Fleet, plant: KafkaPlant, database: Connection
) -> None:
    """Who can still store does, before it gives the part up: nobody's backend is ended."""
    sent = [frame for voice in voices(6) for frame in large_frames(voice, 15)]
    first = fleet.start()
    until(lambda: owners(database) == 1)
    plant.send(*sent)
    until(lambda: in_copy(database))
    second = fleet.start()
    until(lambda: owners(database) == 2)
    until(lambda: taken(database) == len(sent))
    assert_exactly_once(database, sent)
    for child in (first, second):
        assert "ended backends" not in child.log.read_text()
        assert "Traceback" not in child.log.read_text()


def test_from_one_to_four_readers_and_back(
    fleet: Fleet, plant: KafkaPlant, database: Connection, children: Children
) -> None:
    rng = random.Random(5)  # noqa: S311 - seeded
    agents = voices(9)
    sent: list[Frame] = []

    def flow(count: int) -> None:
        for _ in range(count):
            voice = rng.choice(agents)
            frames = some_frames(voice, 2) + some_frames(voice, 1, Lane.BACKLOG)
            plant.send(*frames)
            sent.extend(frames)

    crew = [fleet.start()]
    until(lambda: owners(database) == 1)
    flow(20)
    for size in (2, 3, 4):
        crew.append(fleet.start())
        flow(15)
        until(lambda size=size: owners(database) == size)  # type: ignore[misc] # bound now
    flow(20)
    children.kill(crew.pop(0))
    flow(15)
    children.stop(crew.pop(0))
    flow(15)
    children.kill(crew.pop(0))
    flow(15)
    until(lambda: taken(database) == len(sent))
    until(lambda: owners(database) == 1)
    assert_exactly_once(database, sent)
    assert one(database, "select gen from kafka_log") == 0
