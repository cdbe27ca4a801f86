"""Ingest while its database, its source or itself is taken away: nothing lost, nothing twice."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cloud import storing
from cloud.db import StoreTrouble, Trouble, connect
from cloud.sessions import open_session
from protocols.frames import Frame
from protocols.receipts import Said
from protocols.samples import DataType
from tests.integration.conftest import AGENTS
from tests.support.fake_source import FakeSource
from tests.support.frames import AgentVoice, sample
from tests.support.plant_store import Bench, prepare_database, running_ingest
from tests.support.services import need
from threadline.children import Children
from threadline.postgres import Postgres

pytestmark = pytest.mark.integration

T0 = 1_790_000_000_000_000


def frames(count: int, *, epoch: int = 1, rows: int = 20) -> list[Frame]:
    voice = AgentVoice(epoch=epoch)
    return [
        voice.samples(
            [
                sample(f"d.x{row}", DataType.INT32, T0 + number * 1000 + row, number * rows + row)
                for row in range(rows)
            ]
        )
        for number in range(count)
    ]


async def stored(bench: Bench, wanted: list[Frame]) -> None:
    """As an agent does: send what is not said to be stored, again and again."""

    def missing() -> list[Frame]:
        return [frame for frame in wanted if (Said.STORED, None) not in bench.said(frame)]

    async with asyncio.timeout(60):
        while rest := missing():
            for frame in rest:
                bench.source.push(frame.header.agent, "live", frame.sealed)
            await asyncio.sleep(0.2)


def count(bench: Bench) -> tuple[int, int, int]:
    row = bench.rows("select count(*), count(distinct i64), count(distinct frame) from sample")[0]
    return row[0], row[1], row[2]


async def test_a_killed_backend_in_mid_transaction_is_no_loss_and_no_double(bench: Bench) -> None:
    """pg_terminate_backend at random moments, while frames keep coming."""
    rng = random.Random(7)  # noqa: S311 - seeded moments
    wanted = frames(60)

    async def kill() -> None:
        for _ in range(8):
            await asyncio.sleep(rng.random() * 0.15)
            bench.rows(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name like 'threadline ingest%%'"
                " and datname = current_database()"
            )

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kill())
        tasks.create_task(stored(bench, wanted))
    assert count(bench) == (1200, 1200, 60)
    assert bench.standing.state == "running"


async def test_i12_ingest_cancelled_at_random_moments_is_no_loss_and_no_double(
    store_dsn: str,
) -> None:
    rng = random.Random(11)  # noqa: S311 - seeded moments
    wanted = frames(40)
    said: set[tuple[int, int]] = set()
    for _ in range(6):
        async with running_ingest(store_dsn) as bench:
            for frame in wanted:
                bench.source.push(frame.header.agent, "live", frame.sealed)
            await asyncio.sleep(rng.random() * 0.1)
        said |= {(run.epoch, run.first) for one in bench.source.answers for run in one.runs}
    async with running_ingest(store_dsn) as bench:
        await stored(bench, wanted)
        assert count(bench) == (800, 800, 40)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Postgres]:
    need("postgres")
    with Children(tmp_path) as children:
        server = Postgres(children)
        server.start()
        yield server


async def test_a_killed_server_is_a_named_state_and_comes_back_by_itself(
    own_server: Postgres,
) -> None:
    dsn = own_server.create_database("plant")
    prepare_database(dsn, AGENTS)
    wanted = frames(30)
    source = FakeSource()
    with capture_logs() as lines:
        await _killed_and_back(own_server, dsn, source, wanted)
    said = [line["event"] for line in lines if line["part"] == "database"]
    assert said == ["up", "down", "up"]


async def _killed_and_back(
    own_server: Postgres, dsn: str, source: FakeSource, wanted: list[Frame]
) -> None:
    async with running_ingest(dsn, source=source) as bench:
        await bench.send(*wanted[:10])
        own_server.kill()
        for frame in wanted[10:]:
            source.push(frame.header.agent, "live", frame.sealed)
        await bench.until(lambda: bench.standing.state == "database_down")
        assert not bench.standing.health().healthy
        assert len(source.acknowledged) == 10, "nothing is acknowledged that is not stored"
        await asyncio.to_thread(own_server.start)
        with connect(dsn, application="test") as again:
            bench.connection = again
            await stored(bench, wanted)
            assert count(bench) == (600, 600, 30)
        assert bench.standing.state == "running"
        assert bench.standing.health().healthy


async def test_i11_a_missing_migration_stops_ingest_and_rejects_nothing(
    bench: Bench,
) -> None:
    frame = frames(1)[0]
    await bench.send(frame)
    bench.connection.execute("alter table sample rename column f64 to was_f64")
    bench.connection.execute("alter table sample rename column i64 to was_i64")
    other = frames(1, epoch=2)[0]
    bench.source.push(other.header.agent, "live", other.sealed)
    await bench.until(lambda: bench.standing.state == "migration_missing")
    assert bench.said(other) == []
    assert bench.one("select count(*) from dead_letter") == 0
    bench.connection.execute("alter table sample rename column was_f64 to f64")
    bench.connection.execute("alter table sample rename column was_i64 to i64")
    await bench.until(lambda: bench.said(other) == [(Said.STORED, None)])
    assert bench.standing.state == "running"


async def test_a_database_that_was_never_migrated_is_named(postgres_server: Postgres) -> None:
    dsn = postgres_server.create_database("bare")
    async with running_ingest(dsn) as bench:
        await bench.until(lambda: bench.standing.state == "migration_missing")
        assert "threadline cloud migrate" in bench.standing.health().reason
        await asyncio.to_thread(prepare_database, dsn, AGENTS)
        await stored(bench, frames(1))
        assert bench.standing.state == "running"


async def test_i10_a_lock_held_by_another_is_named_and_waited_out(
    bench: Bench, store_dsn: str
) -> None:
    """Somebody stopped in mid-transaction holds the admission; ingest says so."""
    first, second = frames(2)
    await bench.send(first)
    with connect(store_dsn, application="stopped") as other:
        with other.transaction():
            other.execute("select from lane for update")
            bench.source.push(second.header.agent, "live", second.sealed)
            await bench.until(lambda: bench.standing.state == "database_blocked")
        await bench.until(lambda: bench.said(second) == [(Said.STORED, None)])
    assert bench.standing.state == "running"


async def test_i6_two_ingests_of_the_same_frames_store_each_once(store_dsn: str) -> None:
    wanted = frames(60)
    async with running_ingest(store_dsn) as one, running_ingest(store_dsn) as two:
        for frame in wanted:
            one.source.push(frame.header.agent, "live", frame.sealed)
        for frame in reversed(wanted):
            two.source.push(frame.header.agent, "live", frame.sealed)
        await one.until(lambda: len(one.source.acknowledged) == 60)
        await two.until(lambda: len(two.source.acknowledged) == 60)
        assert count(one) == (1200, 1200, 60)
        for bench in (one, two):
            assert all(bench.said(frame) == [(Said.STORED, None)] for frame in wanted)


async def test_a_source_that_goes_away_is_opened_again(bench: Bench) -> None:
    first, second = frames(2)
    await bench.send(first)
    bench.source.refuse = "not authorised"
    bench.source.disconnect()
    await bench.until(lambda: bench.standing.state == "broker_down")
    bench.source.refuse = None
    await bench.until(lambda: bench.source.is_open)
    await bench.send(second)
    assert count(bench) == (40, 40, 2)
    assert bench.standing.state == "running"


async def test_a_commit_whose_answer_is_lost_is_found_in_the_ledger(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = storing.store
    lost: list[storing.Stored] = []

    async def store(*arguments: object) -> storing.Stored:
        done = await real(*arguments)  # type: ignore[arg-type] # passed through
        if not lost:
            lost.append(done)
            raise StoreTrouble(Trouble.DOWN, "the answer to COMMIT never came")
        return done

    monkeypatch.setattr("cloud.ingest.store", store)
    frame = frames(1)[0]
    await bench.send(frame)
    assert bench.said(frame) == [(Said.STORED, None)]
    assert count(bench) == (20, 20, 1)
    assert lost


async def test_i4_another_database_changes_the_store_id(postgres_server: Postgres) -> None:
    ids = []
    for name in ("life_one", "life_two"):
        dsn = postgres_server.create_database(name)
        prepare_database(dsn)
        session = await open_session(dsn)
        ids.append(session.store_id)
        await session.storing.close()
        await session.preparing.close()
        postgres_server.drop_database(name)
    assert len(set(ids)) == 2
    assert all(one.count("-") == 4 for one in ids)
