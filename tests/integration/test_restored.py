"""A database brought back from a backup, while agent, broker and ingest go on: nothing stays lost.

Everything is real: the spool, mosquitto, PostgreSQL, its own programs for backup and restore.
"""

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloud.db import connect
from cloud.ingest import Ingest
from cloud.metrics import Metrics
from cloud.mqtt_source import MqttSettings, MqttSource
from cloud.restoring import Restored, note_restored
from cloud.sessions import Sessions
from cloud.standing import Standing
from cloud.verify.delivery import Delivery, verify_agent
from edge.mqtt import BrokerAddress, MqttBroker
from edge.outbox import Chance, OutboxSettings, SpoolOutbox, open_outbox
from edge.retention import Limits
from edge.uplink import Pace
from protocols.retry import Backoff
from tests.support import cuts
from tests.support.plant_store import FixedClock, prepare_database
from tests.support.real_clock import RealClock
from tests.support.services import need
from threadline.broker import Mosquitto
from threadline.children import Children
from threadline.ports import HOST
from threadline.postgres import USER, Postgres, as_server_user, program

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

AGENT = "plant1.a"
ROWS = 30
LATER = datetime(2027, 3, 1, tzinfo=UTC)  # the cuts have times of January 2027
QUICK = Pace(
    reconnect=Backoff(first_s=0.05, limit_s=0.2),
    resend=Backoff(first_s=1.0, limit_s=2.0),
    hello_s=0.1,
)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Children]:
    need("mosquitto")
    need("postgres")
    home = tmp_path / "services"
    home.mkdir()
    with Children(home) as started:
        yield started


@dataclass
class Plant:
    """The whole way, and a person who makes backups."""

    server: Postgres
    dsn: str
    outbox: SpoolOutbox
    standing: Standing

    async def send(self, first: int, last: int) -> None:
        """Cuts first..last-1, until all of them are said to be stored."""
        for number in range(first, last):
            self.outbox.put(cuts.cut(number, cuts.rows(number, ROWS), events=1))
        async with asyncio.timeout(60):
            await self.outbox.emptied()

    def stored(self) -> int:
        with connect(self.dsn, application="test") as connection:
            found = connection.execute("select count(*) from sample").fetchall()
        return int(found[0][0])

    async def until_stored(self, rows: int) -> None:
        try:
            async with asyncio.timeout(60):
                while await asyncio.to_thread(self.stored) < rows:  # noqa: ASYNC110 - a process
                    await asyncio.sleep(0.2)
                await self.outbox.emptied()
        except TimeoutError:
            pytest.fail(
                f"{self.stored()} of {rows} rows: {self.standing.health()}, {self.outbox.status()}"
            )

    def verify(self) -> Delivery:
        with connect(self.dsn, application="test") as connection:
            return verify_agent(connection, AGENT)

    def say_restored(self) -> Restored:
        with connect(self.dsn, application="test") as connection:
            return note_restored(connection)

    @property
    def data(self) -> Path:
        return self.server._data

    def run(self, name: str, *arguments: str) -> None:
        """One of PostgreSQL's own programs."""
        command = [program(name), "-h", HOST, "-p", str(self.server.port), "-U", USER, *arguments]
        env = {**os.environ, "PGPASSWORD": self.server._password()}
        done = subprocess.run(
            as_server_user(command), env=env, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@contextlib.asynccontextmanager
async def plant(folder: Path, own: Children) -> AsyncIterator[Plant]:
    server, broker = Postgres(own), Mosquitto(own)
    server.start()
    broker.start()
    dsn = server.create_database("plant")
    prepare_database(dsn, [(AGENT, "**")])
    clock, metrics = FixedClock(LATER), Metrics()
    standing = Standing(clock)
    sessions = Sessions(dsn, clock, standing, Backoff(first_s=0.05, limit_s=0.2))
    source = MqttSource(MqttSettings(broker.host, broker.port, "test-ingest"))
    settings = OutboxSettings(
        AGENT, folder / "spool", Limits(), "1", QUICK, drain_s=1.0, restarting=False
    )
    address = BrokerAddress(AGENT, broker.host, broker.port)
    chance = Chance(lambda: secrets.randbits(64), random.random)
    outbox = open_outbox(settings, MqttBroker(address), RealClock(), chance)
    async with asyncio.TaskGroup() as tasks:
        ingest = tasks.create_task(Ingest(source, sessions, standing, metrics, clock).run())
        tasks.create_task(outbox.run())
        yield Plant(server, dsn, outbox, standing)
        await outbox.drain_and_stop()
        ingest.cancel()


async def test_i4_a_base_backup_brought_back_gets_its_day_again(
    tmp_path: Path, own: Children
) -> None:
    """Same system, same timeline, same counter: only `cloud restored` can tell."""
    async with plant(tmp_path, own) as line:
        await line.send(0, 10)
        backup = line.data.parent / "backup"
        await asyncio.to_thread(
            line.run, "pg_basebackup", "-D", str(backup), "--checkpoint=fast", "-X", "stream"
        )
        await line.send(10, 25)
        assert line.stored() == 25 * ROWS
        line.server.kill()
        shutil.rmtree(line.data)
        backup.rename(line.data)
        await asyncio.to_thread(line.server.start)
        assert line.stored() == 10 * ROWS, "what was said to be stored is gone"
        await line.send(25, 26)
        assert line.stored() == 11 * ROWS, "and stays gone: agents see the same store"
        assert line.verify().waiting == 15 * ROWS, "but they hold it still"
        done = line.say_restored()
        assert done.before != done.after
        await line.until_stored(26 * ROWS)
        found = line.verify()
    assert found.holds
    assert (found.stored, found.missing, found.duplicates) == (26 * ROWS, 0, 0)


async def test_i4_a_dump_brought_back_is_noticed_by_itself(tmp_path: Path, own: Children) -> None:
    async with plant(tmp_path, own) as line:
        await line.send(0, 10)
        dump = line.data.parent / "plant.dump"
        await asyncio.to_thread(line.run, "pg_dump", "-Fc", "-f", str(dump), "plant")
        await line.send(10, 25)
        await asyncio.to_thread(bring_back, line, dump)
        await line.until_stored(25 * ROWS)
        found = line.verify()
    assert found.holds
    assert (found.stored, found.missing, found.duplicates) == (25 * ROWS, 0, 0)


def bring_back(line: Plant, dump: Path) -> None:
    """Once more when the server chose it, and not ingest, to end a deadlock: nothing was done."""
    words = ("--clean", "--if-exists", "--single-transaction", "-d", "plant", str(dump))
    while True:
        try:
            line.run("pg_restore", *words)
        except AssertionError as refused:
            if "deadlock detected" not in str(refused):
                raise
        else:
            return


def test_i4_the_same_backup_twice_is_two_stores(own: Children) -> None:
    """A counter that comes back with the backup would name both times alike."""
    server = Postgres(own)
    server.start()
    prepare_database(server.create_database("backup"))
    names = set()
    for _ in range(2):
        dsn = server.create_database("plant", template="backup")
        with connect(dsn, application="test") as connection:
            names.add(note_restored(connection).after.rpartition("-")[2])
        server.drop_database("plant")
    assert len(names) == 2
