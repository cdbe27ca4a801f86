"""The processes of the measured line: servers, simulated plant, ingest, API, agent. No production.

With a Kafka frames go through a gateway and it, else straight from the broker to ingest.
The plant is `simulators/plants/types.yaml`: a device a protocol, with 200 signals that change every
50 ms, and a block of types of which one number is changed by hand.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from cloud import agents
from cloud.db import connect
from cloud.migrate import migrate
from cloud.storage import Policy, Wanted
from cloud.tokens import Scope, create_token
from edge.status import AgentStatus, ask_status
from protocols.errors import Disconnected
from threadline.children import Child, wait_until
from threadline.demo.line import threadline
from threadline.kafka import Kafka
from threadline.ports import HOST, free_port
from threadline.stack import Stack

PLANT: Final = Path("simulators/plants/types.yaml")
AGENT: Final = "plant1.bench"
PROBE: Final = "types.int32"  # nobody but the measurement changes it
INTERVAL_S: Final = 0.1
UP_S: Final = 90.0
_COMMAND_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """A tag of the plant as `simulators addresses` prints it."""

    device: str
    name: str
    protocol: str
    address: str
    type: str


@dataclass(frozen=True, slots=True)
class Running:
    """The line, polled."""

    agent: Child
    ingest: Child
    dsn: str
    socket: Path
    control: Path
    api_port: int
    token: str
    ports: Mapping[str, Mapping[str, Any]]
    tags: tuple[Address, ...]

    def status(self) -> AgentStatus:
        return ask_status(self.socket)


@contextmanager
def open_line(stack: Stack, kafka: Kafka | None = None) -> Iterator[Running]:
    """Every device is up when it begins; its processes end with it, the servers go on."""
    started: list[Child] = []

    def start(name: str, *words: str, env: Mapping[str, str] | None = None) -> Child:
        started.append(stack.children.start(f"bench-{name}", threadline(*words), env=env))
        return started[-1]

    try:
        running = _start(stack, kafka, start)
        wait_until(lambda: _all_up(running.socket), running.agent, "told that it stores", UP_S)
        yield running
    finally:
        for child in reversed(started):
            stack.children.stop(child)


def _start(stack: Stack, kafka: Kafka | None, start: Callable[..., Child]) -> Running:
    directory = stack.children.directory / ("line" if kafka is None else "line-kafka")
    directory.mkdir()
    ports_file, control = directory / "ports.json", directory / "plant.sock"
    words = ["--ports-file", str(ports_file), "--control", str(control)]
    plant = start("plant", "simulators", "run", str(PLANT), *words)
    dsn = stack.postgres.create_database(directory.name.replace("-", "_"))
    token = _database(dsn)
    env = {"THREADLINE_CLOUD_DATABASE": dsn, **_way(stack, kafka)}
    source = ["--source", "mqtt" if kafka is None else "kafka"]
    if kafka is not None:
        topics = threadline("gateway", "topics", "create")
        whole_env = {**os.environ, **env}
        subprocess.run(topics, check=True, capture_output=True, env=whole_env, timeout=_COMMAND_S)
        start("gateway", "gateway", "run", "--metrics-port", str(free_port()), env=env)
    words = ["--metrics-port", str(free_port()), *source]
    ingest = start("ingest", "cloud", "ingest", *words, env=env)
    api_port = free_port()
    start("api", "cloud", "api", "--host", HOST, "--port", str(api_port), env=env)
    wait_until(ports_file.exists, plant, "listening", UP_S)
    ports = json.loads(ports_file.read_text("utf-8"))
    tags = _tags()
    agent_file, socket = directory / "agent.yaml", directory / "agent.sock"
    broker = f"mqtt://{stack.broker.host}:{stack.broker.port}"
    with agent_file.open("w", encoding="utf-8") as file:
        YAML().dump(_agent_file(tags, ports, broker, directory), file)
    agent = start("agent", "edge", "run", str(agent_file))
    return Running(agent, ingest, dsn, socket, control, api_port, token, ports, tags)


def _way(stack: Stack, kafka: Kafka | None) -> dict[str, str]:
    host, port = stack.broker.host, str(stack.broker.port)
    if kafka is None:
        return {"THREADLINE_CLOUD_MQTT_HOST": host, "THREADLINE_CLOUD_MQTT_PORT": port}
    return {
        "THREADLINE_GATEWAY_MQTT_HOST": host,
        "THREADLINE_GATEWAY_MQTT_PORT": port,
        "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "THREADLINE_GATEWAY_KAFKA_GROUP": "bench",
        "THREADLINE_CLOUD_KAFKA_BOOTSTRAP": kafka.bootstrap,
    }


def _database(dsn: str) -> str:
    """The token of a reader."""
    with connect(dsn, application="bench") as connection:
        now = datetime.now(UTC)  # noqa: TID251 - a measurement's own clock
        migrate(connection, Wanted.AUTO, Policy(), now)
        agents.add(connection, AGENT, ["L1/**"])
        token = create_token(
            connection, "bench", [Scope.READ], sites=None, lifetime=timedelta(days=1)
        )
    assert token is not None, "a new database has no token yet"
    return token


def _tags() -> tuple[Address, ...]:
    """The signals that change all the time, and the probe of each device."""
    words = threadline("simulators", "addresses", str(PLANT), "--output", "json")
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=_COMMAND_S)
    rows = [
        Address(
            row["device"],
            row["path"].partition(".")[2],
            row["protocol"],
            row["address"],
            row["type"],
        )
        for row in json.loads(done.stdout)
    ]
    return tuple(row for row in rows if row.name.startswith("analog.") or row.name == PROBE)


def _agent_file(
    tags: tuple[Address, ...], ports: Mapping[str, Mapping[str, Any]], broker: str, directory: Path
) -> dict[str, Any]:
    """All tags `on: change`, as a new file has it; nothing else is special about it."""
    devices: dict[str, Any] = {}
    for name, port in ports.items():
        own = {tag.name: _configured(tag) for tag in tags if tag.device == name}
        connection = {key: port[key] for key in _CONNECTION if key in port}
        if "url" in port:
            connection = {"protocol": port["protocol"], "url": port["url"]}
        group = {"interval": f"{INTERVAL_S * 1000:.0f}ms", "tags": own}
        devices[name] = {"connection": connection, "groups": {"fast": group}}
    return {
        "agent": AGENT,
        "line": "L1",
        "devices": devices,
        "uplink": {"url": broker},
        "spool": {"path": str(directory / "bench-spool")},
        "status": {"socket": str(directory / "agent.sock")},
    }


def _configured(tag: Address) -> dict[str, str]:
    """An address of OPC UA says nothing of the type; those of the others are the type's own."""
    typed = {"type": tag.type} if tag.protocol == "opcua" else {}
    return {"address": tag.address, **typed}


_CONNECTION: Final = ("protocol", "host", "port", "unit", "rack", "slot")


def _all_up(socket: Path) -> bool:
    """Devices answer, and the first frame has gone all the way."""
    try:
        found = ask_status(socket)
    except Disconnected:
        return False
    is_stored = found.uplink.counters.get("frames_stored", 0) > 0
    return is_stored and all(one.state == "up" for one in found.devices)


def rest_until(at_s: float) -> None:
    """The length of a measurement is its condition."""
    time.sleep(max(0.0, at_s - time.monotonic()))
