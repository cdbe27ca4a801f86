"""`edge drain`: a spool filled while nobody listened is sent whole, or what is left is told.

Everything is real: the spool, mosquitto, ingest as a process, PostgreSQL.
"""

import asyncio
import json
import random
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloud.agents import add
from cloud.db import Connection, connect
from cloud.migrate import migrate
from cloud.storage import Policy, Wanted
from edge.clock import SystemClock
from edge.cut import Cut
from edge.mqtt import BrokerAddress, MqttBroker
from edge.outbox import Chance, OutboxSettings, SpoolOutbox, open_outbox
from edge.retention import Limits
from tests.support.cuts import START_US, curve, cut, rows
from tests.support.services import need
from threadline.broker import Mosquitto
from threadline.children import Children
from threadline.ports import free_port

pytestmark = pytest.mark.integration
AGENT = "plant1.line1"
CUTS = 40


@pytest.fixture(scope="module")
def database(postgres: str) -> Iterator[Connection]:
    with connect(postgres, application="test") as connection:
        migrate(connection, Wanted.PLAIN, Policy(), datetime.now(UTC))  # noqa: TID251 - real rows
        add(connection, AGENT, ["L1/**"])
        yield connection


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """One of its own, not started yet."""
    need("mosquitto")
    with Children(tmp_path / "servers") as children:
        yield Mosquitto(children)


@pytest.fixture
def agent_file(tmp_path: Path, broker: Mosquitto) -> Path:
    """Its only device is not there: a drain that asked for it would wait or fail."""
    file = tmp_path / "agent.yaml"
    group = {"interval": "1s", "tags": {"a": "holding:1:float32"}}
    connection = {"protocol": "modbus", "host": "127.0.0.1", "port": free_port()}
    text = {
        "agent": AGENT,
        "devices": {"p": {"connection": connection, "groups": {"g": group}}},
        "uplink": {"url": f"mqtt://{broker.host}:{broker.port}"},
        "spool": {"path": str(tmp_path / "spool")},
    }
    file.write_text(json.dumps(text))
    return file


def recent(number: int) -> Cut:
    """A cut of a moment ago, for ingest takes nothing of the future; each fifth has a curve."""
    shift_us = SystemClock().now_us() - START_US - 60_000_000
    batch = rows(number)
    made = cut(number, replace(batch, time=batch.time + shift_us))
    curves = (curve(number),) if number % 5 == 0 else ()
    return replace(made, curves=curves, watermark_us=made.watermark_us + shift_us)


async def fill(folder: Path, broker: Mosquitto) -> int:
    """Frames that wait in the spool of an agent that never reached its broker."""
    outbox = opened(folder, broker)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(outbox.run())
        for number in range(CUTS):
            await outbox.put(recent(number)).wait_synced()
        await outbox.drain_and_stop()
        await running
    return sum(one.waiting_frames for one in outbox.holdings)


def opened(folder: Path, broker: Mosquitto) -> SpoolOutbox:
    address = MqttBroker(BrokerAddress(AGENT, broker.host, broker.port))
    chance = Chance(lambda: secrets.randbits(64), random.random)
    return open_outbox(OutboxSettings(AGENT, folder, Limits()), address, SystemClock(), chance)


def drain(agent_file: Path, timeout: str) -> tuple[int, dict[str, Any], str]:
    words = ["edge", "drain", str(agent_file), "--timeout", timeout, "--output", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "threadline", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


async def test_a_spool_is_sent_whole_without_its_devices(
    database: Connection, postgres: str, broker: Mosquitto, agent_file: Path, tmp_path: Path
) -> None:
    waiting = await fill(tmp_path / "spool", broker)
    assert waiting > CUTS

    code, told, err = await asyncio.to_thread(drain, agent_file, "3s")
    assert code == 1, (told, err)
    assert told["left"]["frames"] == told["before"]["frames"] == waiting
    assert told["stored"] == 0
    assert "disconnected" in err

    broker.start()
    start_ingest(broker, postgres)
    code, told, err = await asyncio.to_thread(drain, agent_file, "40s")
    assert (code, err) == (0, "")
    assert told["before"]["frames"] == told["stored"] == waiting
    assert (told["left"]["frames"], told["rejected"]) == (0, 0)
    found = database.execute("select count(*), sum(rows) filter (where kind = 1) from ledger")
    assert found.fetchone() == (waiting, CUTS * 3)
    await stated(database, 0)

    code, told, _ = await asyncio.to_thread(drain, agent_file, "10s")
    assert (code, told["before"]["frames"]) == (0, 0)


_STATED = "select sum(rows) from hello"


async def stated(database: Connection, rows: int) -> None:
    """The agent's last hello, which ingest takes after the frames, says how the spool was left."""
    async with asyncio.timeout(20):
        while database.execute(_STATED).fetchone() != (rows,):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.05)


def start_ingest(broker: Mosquitto, dsn: str) -> None:
    words = ["cloud", "ingest", "--mqtt-port", str(broker.port), "--metrics-port", "0"]
    broker._children.start(
        "ingest",
        [sys.executable, "-m", "threadline", *words],
        env={"THREADLINE_CLOUD_DATABASE": dsn},
    )


async def test_a_spool_in_use_is_refused(
    broker: Mosquitto, agent_file: Path, tmp_path: Path
) -> None:
    outbox = opened(tmp_path / "spool", broker)
    running = asyncio.ensure_future(outbox.run())  # noqa: TID251 - stopped two lines below
    code, _, err = await asyncio.to_thread(drain, agent_file, "3s")
    await outbox.drain_and_stop()
    await running
    assert code == 2
    assert str(tmp_path / "spool") in err


@pytest.mark.parametrize("timeout", ["5", "soon", "-3s"])
def test_a_time_without_its_unit_is_refused(agent_file: Path, timeout: str) -> None:
    code, _, err = drain(agent_file, timeout)
    assert code == 2
    assert "--timeout" in err
    assert "30s" in err
