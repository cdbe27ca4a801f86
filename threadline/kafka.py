"""The embedded Kafka of one directory: one node, broker and controller at once, in KRaft mode.

It listens on the loopback address only and makes no topic by itself. One node means one copy of
each record: a plant has three. It never holds a plant's data.
"""

import base64
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from threadline.children import Child, Children, StackError, wait_until
from threadline.kafka_jars import JAVA_MIN, jars, java
from threadline.ports import HOST, free_port

START_S = 90.0  # Java on a busy machine; after a kill it reads its logs first
FORMAT_S = 60.0
PROBE_S = 2.0
MESSAGE_BYTES_MAX = 4 * 2**20
JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # quick to start; two cores have other work than to optimise
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)


@dataclass(frozen=True)
class SideDoor:
    """One more port for clients, that tells them to come back by another: a relay in between.

    Kafka's clients go where the broker says it is, so a relay needs a listener that names it.
    """

    name: str
    port: int
    told_port: int


class Kafka:
    """One server. Ports and data stay over a restart, so clients come back by themselves."""

    name = "kafka"
    host = HOST

    def __init__(
        self,
        children: Children,
        *,
        port: int | None = None,
        side_doors: Sequence[SideDoor] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings`: of the server, beside ours or instead of them."""
        self.port = port or free_port()
        self._controller_port = free_port()
        self._side_doors = tuple(side_doors)
        self._settings = dict(settings or {})
        self._children = children
        self._home = children.directory / self.name
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        if self._child is None:
            raise StackError("Kafka is not started")
        return self._child

    @property
    def bootstrap(self) -> str:
        """What clients are told: `kafka_bootstrap`."""
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        self._home.mkdir(exist_ok=True)
        file = self._home / "server.properties"
        file.write_text("\n".join(self._lines()) + "\n")
        if not (self._data / "meta.properties").exists():
            self._format(file)
        command = [*_java_command(), "kafka.Kafka", str(file)]
        self._child = child = self._children.start(self.name, command)
        wait_until(lambda: answers(self.port), child, "answering", START_S)

    def stop(self) -> None:
        self._children.stop(self.child)

    def kill(self) -> None:
        self._children.kill(self.child)

    def wipe(self) -> None:
        """All records and topics go, as after the loss of its disks; it must not run."""
        shutil.rmtree(self._data)

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _format(self, file: Path) -> None:
        command = [*_java_command(), "kafka.tools.StorageTool", "format", "--standalone"]
        command += [f"--cluster-id={_cluster_id()}", "--config", str(file)]  # it may begin with -
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=FORMAT_S
        )
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise StackError(f"Kafka could not format {self._data}:\n{done.stdout}{done.stderr}")

    def _lines(self) -> list[str]:
        whole = {**_SETTINGS, **self._listeners(), "log.dirs": str(self._data), **self._settings}
        return [f"{name}={value}" for name, value in whole.items()]

    def _listeners(self) -> dict[str, str]:
        doors = [SideDoor("PLAINTEXT", self.port, self.port), *self._side_doors]
        inside = f"{HOST}:{self._controller_port}"
        listen = [f"{one.name}://{HOST}:{one.port}" for one in doors]
        told = [f"{one.name}://{HOST}:{one.told_port}" for one in doors]
        names = [*(one.name for one in doors), "CONTROLLER"]
        return {
            "controller.quorum.bootstrap.servers": inside,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join([*listen, f"CONTROLLER://{inside}"]),
            "advertised.listeners": ",".join([*told, f"CONTROLLER://{inside}"]),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
        }


_SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(MESSAGE_BYTES_MAX),
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",  # nobody waits here for more members to come
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",  # so long a killed node keeps its next start waiting
    "log.cleaner.dedupe.buffer.size": "16777216",
}


def answers(port: int) -> bool:
    """Whether a broker that takes clients answers there: it can list its topics."""
    try:
        with closing(socket.create_connection((HOST, port), PROBE_S)) as wire:
            wire.sendall(_LIST_TOPICS)
            (length,) = struct.unpack(">i", _exactly(wire, 4))
            return _has_controller(_exactly(wire, length))
    except OSError:
        return False


# Kafka's Metadata request, version 7: length, then key, version, correlation and client id, then no
# list of topics (all of them) and no leave to make any.
_BODY = struct.pack(">hhih2siB", 3, 7, 1, 2, b"tl", -1, 0)
_LIST_TOPICS = struct.pack(">i", len(_BODY)) + _BODY


def _has_controller(answer: bytes) -> bool:
    """Correlation, throttle time, then brokers: node, host, port, rack; cluster; controller."""
    at = 8
    (brokers,) = struct.unpack_from(">i", answer, at)
    at += 4
    for _ in range(brokers):
        at = _after_text(answer, _after_text(answer, at + 4) + 4)
    at = _after_text(answer, at)
    (controller,) = struct.unpack_from(">i", answer, at)
    return bool(brokers) and controller >= 0


def _after_text(answer: bytes, at: int) -> int:
    (length,) = struct.unpack_from(">h", answer, at)
    return at + 2 + max(0, int(length))


def _exactly(wire: socket.socket, count: int) -> bytes:
    taken = b""
    while len(taken) < count:
        part = wire.recv(count - len(taken))
        if not part:
            raise ConnectionResetError("ended early")
        taken += part
    return taken


def _java_command() -> list[str]:
    program = java()
    if program is None:
        raise StackError(
            f"Kafka needs Java {JAVA_MIN} or later: apt-get install openjdk-17-jre-headless"
        )
    return [program, *JAVA_OPTIONS, "-cp", f"{jars()}{os.sep}*"]


def _cluster_id() -> str:
    """Kafka's own form of a random 128 bit number."""
    return base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
