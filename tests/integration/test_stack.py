"""The embedded servers: they start, survive what they must, and end only what is theirs."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.services import need
from threadline.broker import Amqtt, Broker, BrokerSettings, Mosquitto, pick_broker
from threadline.children import Born, Children, StackError, birth_of, read_record
from threadline.postgres import Postgres
from threadline.stack import open_stack

pytestmark = pytest.mark.integration

WAIT_S = 20.0
SECRET = "open sesame"  # noqa: S105 - of a broker that lives for one test
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


# --- PostgreSQL -----------------------------------------------------------------------------------


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


def test_postgres_comes_back_while_a_client_held_its_memory(tmp_path: Path) -> None:
    """A backend outlives its killed server for a moment, and blocks the next one that long."""
    need("postgres")
    with Children(tmp_path) as children:
        server = Postgres(children)
        server.start()
        for _ in range(3):
            client = psycopg.connect(server.dsn())
            server.kill()
            server.start()
            with pytest.raises(psycopg.OperationalError):
                client.execute("SELECT 1")


def test_postgres_starts_although_another_process_has_its_old_number(tmp_path: Path) -> None:
    need("postgres")
    with Children(tmp_path) as children:
        server = Postgres(children)
        server.start()
        server.kill()
        lock = tmp_path / "postgres" / "postmaster.pid"
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        server.start()
        with psycopg.connect(server.dsn()) as client:
            assert client.execute("SELECT 1").fetchone() == (1,)


def test_postgres_wants_its_password(postgres_server: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{postgres_server.port}/postgres")


def test_each_module_has_a_database_of_its_own(postgres: str, postgres_server: Postgres) -> None:
    assert postgres != postgres_server.dsn()
    with psycopg.connect(postgres) as client:
        row = client.execute("SELECT current_database()").fetchone()
    assert row is not None
    assert row[0].startswith("test_stack_")


# --- brokers --------------------------------------------------------------------------------------


def test_a_broker_carries_a_message_and_comes_back_on_its_port(tmp_path: Path) -> None:
    for kind in (Mosquitto, Amqtt):
        need(kind.name)
        with Children(tmp_path / kind.name) as children:
            broker: Broker = kind(children)
            broker.start()
            assert echo(broker) == b"first"
            broker.kill()
            broker.start()
            assert echo(broker) == b"first"


def test_mosquitto_keeps_the_queue_of_a_client_that_is_away(tmp_path: Path) -> None:
    need("mosquitto")
    with Children(tmp_path) as children:
        broker = Mosquitto(children)
        broker.start()
        with session(broker, name="away", stays=True) as (client, _):
            subscribe(client)
        with session(broker) as (client, _):
            client.publish("t", b"kept", qos=1).wait_for_publish(WAIT_S)
        broker.stop()
        broker.start()
        with session(broker, name="away", stays=True) as (_, arrived):
            assert arrived() == b"kept"


def test_mosquitto_lets_in_who_knows_the_password(tmp_path: Path) -> None:
    need("mosquitto")
    with Children(tmp_path) as children:
        broker = Mosquitto(children, BrokerSettings(passwords={"l1.press": SECRET}))
        broker.start()
        with session(broker, user="l1.press", password=SECRET):
            pass
        with pytest.raises(ConnectionRefusedError), session(broker, user="l1.press"):
            pass


def test_the_better_broker_is_picked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(tmp_path)
    assert isinstance(pick_broker(children), Mosquitto if Mosquitto.program() else Amqtt)
    monkeypatch.setattr(Mosquitto, "program", staticmethod(lambda: None))
    assert isinstance(pick_broker(children), Amqtt)


def echo(broker: Broker) -> bytes:
    with session(broker) as (client, arrived):
        subscribe(client)
        client.publish("t", b"first", qos=1)
        return arrived()


@contextmanager
def session(
    broker: Broker,
    *,
    name: str = "",
    stays: bool = False,
    user: str | None = None,
    password: str | None = None,
) -> "Iterator[tuple[paho.Client, Callable[[], bytes]]]":
    """A connected client, and what waits for its first message."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=not stays)
    client.username_pw_set(user, password)
    answered, come = threading.Event(), threading.Event()
    codes: list[bool] = []
    seen: list[bytes] = []

    def on_connect(*arguments: object) -> None:
        codes.append(bool(getattr(arguments[3], "is_failure", True)))
        answered.set()

    def on_message(_client: object, _data: object, message: paho.MQTTMessage) -> None:
        seen.append(bytes(message.payload))
        come.set()

    client.on_connect, client.on_message = on_connect, on_message
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        assert answered.wait(WAIT_S)
        if codes[0]:
            raise ConnectionRefusedError
        yield client, lambda: seen[0] if come.wait(WAIT_S) else b"nothing came"
    finally:
        client.disconnect()
        client.loop_stop()


def subscribe(client: paho.Client) -> None:
    done = threading.Event()
    client.on_subscribe = lambda *_: done.set()
    client.subscribe("t", qos=1)
    assert done.wait(WAIT_S)


# --- both together --------------------------------------------------------------------------------


def test_a_stack_keeps_its_data_from_run_to_run_and_its_logs_do_not_grow(tmp_path: Path) -> None:
    need("postgres")
    sizes = []
    for number in range(3):
        with open_stack(tmp_path) as stack, psycopg.connect(stack.postgres.dsn()) as client:
            client.execute("CREATE TABLE IF NOT EXISTS runs (id int)")
            client.execute("INSERT INTO runs VALUES (%s)", [number])
            assert client.execute("SELECT count(*) FROM runs").fetchone() == (number + 1,)
            sizes.append(stack.postgres.child.log.stat().st_size)
    assert sizes[2] < 2 * sizes[1]


# --- children of one directory --------------------------------------------------------------------


def test_what_a_killed_run_left_is_ended_by_the_next(tmp_path: Path) -> None:
    """A run is killed with PostgreSQL under it; the next run of the directory clears and starts."""
    need("postgres")
    run = (
        "import sys, time\nfrom pathlib import Path\n"
        "from threadline.children import Children\nfrom threadline.postgres import Postgres\n"
        f"children = Children(Path({str(tmp_path)!r})).__enter__()\n"
        "Postgres(children).start()\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE) as dead:
        assert dead.stdout is not None
        assert dead.stdout.readline() == b"up\n"
        dead.send_signal(signal.SIGKILL)
    (left,) = read_record(tmp_path / "children.json")
    assert birth_of(left.pid) == left.birth
    with Children(tmp_path) as children:
        assert children.reclaimed == [left]
        assert birth_of(left.pid) is None
        Postgres(children).start()


def test_a_process_that_only_has_the_number_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEPER) as stranger:
        record = [{"name": "postgres", "pid": stranger.pid, "birth": "another boot 1"}]
        (tmp_path / "children.json").write_text(json.dumps(record))
        with Children(tmp_path):
            assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"name": "x"}]', '{"name": "x"}'])
def test_a_broken_record_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "children.json").write_text(text)
    with Children(tmp_path) as children:
        assert children.reclaimed == []


def test_two_runs_of_one_directory_do_not_mix(tmp_path: Path) -> None:
    with (
        Children(tmp_path),
        pytest.raises(StackError, match=f"in use by process {os.getpid()}"),
        Children(tmp_path),
    ):
        pass


def test_leaving_ends_every_child(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        first, second = (children.start(name, SLEEPER) for name in ("one", "two"))
        assert read_record(tmp_path / "children.json") == [
            Born("one", first.pid, birth_of(first.pid) or ""),
            Born("two", second.pid, birth_of(second.pid) or ""),
        ]
    assert not psutil.pid_exists(first.pid)
    assert not psutil.pid_exists(second.pid)
    assert read_record(tmp_path / "children.json") == []


def test_a_child_that_does_not_come_up_shows_its_last_words(tmp_path: Path) -> None:
    need("mosquitto")
    with Children(tmp_path) as children:
        first = Mosquitto(children)
        first.start()
        second = Mosquitto(children, port=first.port)
        with pytest.raises(StackError, match="in use"):
            second.start()
