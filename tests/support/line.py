"""The whole line of real processes for system tests: started, killed, cut off, asked, ended.

Frames go straight from the broker to ingest, or through a gateway and Kafka. With links every wire
between two processes is a relay that a test can cut.

Everything is a child of one directory; the truth is the plant's journal.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from cloud.db import Connection, connect
from edge.status import AgentStatus, ask_status
from protocols.errors import Disconnected
from simulators.journal import Record, read_journal
from tests.support.links import Links
from tests.support.truth import Stretch
from threadline.broker import Mosquitto
from threadline.children import Child, Children, wait_until
from threadline.demo.files import Places, agent_file_text, example_file, plant_file
from threadline.demo.line import threadline
from threadline.kafka import Kafka, SideDoor
from threadline.ports import HOST, free_port
from threadline.postgres import Postgres
from threadline.route import Route

AGENT = "plant1.line1"
SERVERS = ("postgres", "broker", "kafka")
PARTITIONS = 3
SECONDS = "THREADLINE_SYSTEM_SECONDS"
UP_S = 60.0
SETTLE_S = 90.0


@dataclass
class Line:
    """`start_all` in the order of the way of the data; every part can be killed and restarted."""

    children: Children
    seed: int = 4711
    plant: Path = field(default_factory=plant_file)
    route: Route = Route.DIRECT
    links: Links | None = None
    gateways: int = 1
    processes: dict[str, Child] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory = self.children.directory
        self.postgres = Postgres(self.children)
        self.broker = Mosquitto(self.children)
        self._doors = self._side_doors()
        self.kafka = Kafka(self.children, side_doors=list(self._doors.values()))
        self.journal_file = self.directory / "journal.jsonl"
        self.agent_file = self.directory / "agent.yaml"
        self.socket = self.directory / "agent.sock"
        self.probes = free_port()
        self.gateway_probes = {name: free_port() for name in self.gateway_names}
        self.api = free_port()
        self.env: dict[str, str] = {}
        self.agent_stopped_us = 0
        self.agent_pauses: list[Stretch] = []  # SIGSTOP to SIGCONT

    @property
    def gateway_names(self) -> tuple[str, ...]:
        """They share one subscription, and one wire each way."""
        return tuple(f"gateway{number}" for number in range(1, self.gateways + 1))

    @property
    def parts(self) -> tuple[str, ...]:
        """Whatever can be killed, in the order of the way."""
        if self.route is Route.DIRECT:
            return ("agent", "broker", "ingest", "postgres")
        return ("agent", "broker", *self.gateway_names, "kafka", "ingest", "postgres")

    def start_all(self) -> None:
        self.postgres.start()
        self.broker.start()
        self.env = {
            "THREADLINE_CLOUD_DATABASE": self.postgres.create_database("trace"),
            "THREADLINE_CLOUD_MQTT_HOST": HOST,
            "THREADLINE_CLOUD_MQTT_PORT": str(self.broker.port),
            "THREADLINE_LOG_FORMAT": "json",
        }
        if self.route is Route.KAFKA:
            self.start_kafka()
        self.command("cloud", "migrate")
        self.command("cloud", "agents", "add", AGENT, "--scope", "L1/**")
        self.token = self.command("cloud", "token", "create", "test", "--scope", "read").strip()
        self.start_plant()
        if self.route is Route.KAFKA:
            for name in self.gateway_names:
                self.start(name)
        self.start("ingest")
        self.start("agent")
        wait_until(self._agent_answers, self.processes["agent"], "answering", UP_S)

    def start_kafka(self) -> None:
        """The server and its topics."""
        self.kafka.start()
        self.env |= {
            "THREADLINE_GATEWAY_MQTT_HOST": HOST,
            "THREADLINE_GATEWAY_MQTT_PORT": str(self.broker.port),
            "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "THREADLINE_GATEWAY_KAFKA_GROUP": "threadline-gateway",
            "THREADLINE_CLOUD_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
        }
        self.make_topics()

    def make_topics(self) -> None:
        self.command("gateway", "topics", "create", "--partitions", str(PARTITIONS))

    def start_plant(self) -> None:
        ports = self.directory / "ports.json"
        child = self.children.start(
            "plant",
            threadline(
                "simulators", "run", str(self.plant), "--seed", str(self.seed),
                "--ports-file", str(ports), "--journal", str(self.journal_file),
                "--control", str(self.directory / "plant.sock"),
            ),
        )  # fmt: skip
        self.processes["plant"] = child
        wait_until(ports.exists, child, "listening", UP_S)
        broker = f"mqtt://{HOST}:{self._wire('agent-broker', self.broker.port)}"
        places = Places(
            json.loads(ports.read_text()), broker, self.directory / "spool", self.socket
        )
        self.agent_file.write_text(agent_file_text(example_file().read_text(), places))

    def start(self, name: str) -> None:
        source = ["--source", "kafka"] if self.route is Route.KAFKA else []
        words = {
            "agent": ["edge", "run", str(self.agent_file)],
            "ingest": ["cloud", "ingest", "--metrics-port", str(self.probes), *source],
            "api": ["cloud", "api", "--host", HOST, "--port", str(self.api)],
            **{
                gateway: ["gateway", "run", "--metrics-port", str(port)]
                for gateway, port in self.gateway_probes.items()
            },
        }[name]
        env = {**self.env, **self._told.get(name, {})}
        self.processes[name] = self.children.start(name, threadline(*words), env=env)

    def kill(self, name: str) -> None:
        """kill -9, nothing else. What it had forked goes on and sees it, also if it was stopped."""
        forked = self._family(name)[1:]
        if name in SERVERS:
            getattr(self, name).kill()
        else:
            self.children.kill(self.processes[name])
        _signal(forked, signal.SIGCONT)

    def restart(self, name: str) -> None:
        if name in SERVERS:
            getattr(self, name).start()
        else:
            self.start(name)

    def send(self, name: str, sent: signal.Signals) -> None:
        """SIGSTOP, SIGCONT: to a server as a whole, with what it has forked."""
        now_us = time.time_ns() // 1000
        if name == "agent" and sent is signal.SIGSTOP:
            self.agent_pauses.append(Stretch(now_us, now_us))
        elif name == "agent" and sent is signal.SIGCONT:
            self.agent_pauses.append(Stretch(self.agent_pauses.pop().from_us, now_us))
        _signal(self._family(name), sent)

    def _family(self, name: str) -> list[psutil.Process]:
        """It and what it has forked; nobody if it has just been killed."""
        child = getattr(self, name).child if name in SERVERS else self.processes[name]
        try:
            parent = psutil.Process(child.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def command(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            threadline(*words), capture_output=True, text=True, timeout=180, check=False,
            env={**os.environ, **self.env},
        )  # fmt: skip
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask_plant(self, **asked: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as talk:
            talk.settimeout(30)
            talk.connect(str(self.directory / "plant.sock"))
            talk.sendall(json.dumps(asked).encode() + b"\n")
            answer: dict[str, Any] = json.loads(talk.makefile().readline())
        assert answer["ok"], answer
        return answer

    def agent_status(self) -> AgentStatus:
        return ask_status(self.socket)

    def stop_agent_and_drain(self) -> None:
        """Clean stop; what it still holds goes out; then the view catches up."""
        self.agent_stopped_us = time.time_ns() // 1000
        assert self.children.stop(self.processes["agent"], how=signal.SIGTERM) == 0
        self.command("edge", "drain", str(self.agent_file), "--timeout", f"{SETTLE_S:g}s")

    def wait_for_view(self) -> None:
        self.wait(lambda: self.one(_BEHIND) == 0, "the projection to catch up")

    def journal(self) -> list[Record]:
        self.ask_plant(do="flush")
        return list(read_journal(self.journal_file))

    def one(self, query: str, *values: Any) -> Any:
        rows = self.rows(query, *values)
        return rows[0][0] if rows else None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.database() as connection:
            return connection.execute(query, values or None).fetchall()

    def database(self) -> Connection:
        return connect(self.env["THREADLINE_CLOUD_DATABASE"], application="system test")

    def wait(self, ready: Callable[[], bool], what: str, timeout_s: float = SETTLE_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
            time.sleep(0.1)

    @cached_property
    def _told(self) -> dict[str, dict[str, str]]:
        """What gateway and ingest are told other than everybody: the near ends of their wires."""
        database, port = self.env["THREADLINE_CLOUD_DATABASE"], f":{self.postgres.port}/"
        wire = self._wire("ingest-postgres", self.postgres.port)
        ingest = {"THREADLINE_CLOUD_DATABASE": database.replace(port, f":{wire}/")}
        if self.route is Route.DIRECT:
            wire = self._wire("ingest-broker", self.broker.port)
            return {"ingest": {**ingest, "THREADLINE_CLOUD_MQTT_PORT": str(wire)}}
        gateway = {
            "THREADLINE_GATEWAY_MQTT_PORT": str(self._wire("gateway-broker", self.broker.port)),
            "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP": self._bootstrap("gateway"),
        }
        ingest["THREADLINE_CLOUD_KAFKA_BOOTSTRAP"] = self._bootstrap("ingest")
        return {"ingest": ingest, **dict.fromkeys(self.gateway_names, gateway)}

    def _wire(self, name: str, target: int) -> int:
        return target if self.links is None else self.links.lay(name, target)

    def _side_doors(self) -> dict[str, SideDoor]:
        """Kafka's clients go where it says it is: each wire to it is a listener of its own."""
        if self.links is None or self.route is Route.DIRECT:
            return {}
        ports = {name: free_port() for name in ("gateway", "ingest")}
        return {
            name: SideDoor(name.upper(), port, self.links.lay(f"{name}-kafka", port))
            for name, port in ports.items()
        }

    def _bootstrap(self, name: str) -> str:
        door = self._doors.get(name)
        return self.kafka.bootstrap if door is None else f"{HOST}:{door.told_port}"

    def _agent_answers(self) -> bool:
        try:
            self.agent_status()
        except Disconnected:
            return False
        return True


def _signal(processes: Sequence[psutil.Process], sent: signal.Signals) -> None:
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(sent)


_BEHIND = """
    select count(*) from event where recorded_seq >
    (select position from projection)
"""


def seconds_of_life(otherwise: float) -> float:
    """How long a line of a system test runs; somebody who has time says a longer one."""
    return float(os.environ.get(SECONDS) or otherwise)


def tags_of(agent_file: Path) -> Mapping[str, Mapping[str, Any]]:
    """Path → the tag as configured, with device and group, straight from the file."""
    agent = YAML(typ="safe", pure=True).load(agent_file.read_text())
    found: dict[str, Mapping[str, Any]] = {}
    for device, one in agent["devices"].items():
        for group, each in one["groups"].items():
            for name, tag in each["tags"].items():
                whole = {"address": tag} if isinstance(tag, str) else dict(tag)
                report = whole.get("report") or each.get("report") or one.get("report")
                found[f"{device}.{name}"] = {
                    **whole,
                    "report": report or agent.get("report"),
                    "device": device,
                    "group": group,
                    "mode": each.get("mode", "cyclic"),
                }
    return found
