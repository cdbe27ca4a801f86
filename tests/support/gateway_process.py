"""The gateway as the process that a plant runs, for tests: started, asked, killed.

Broker and Kafka are the test's own; every gateway of a test shares one group.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.topics import TOPICS
from protocols.frames import Frame
from protocols.topics import sealed_of
from tests.support.kafka_client import read_all, topics
from threadline.broker import Broker
from threadline.children import Child, Children
from threadline.kafka import Kafka
from threadline.ports import HOST, free_port

PATIENCE_S = 60.0
LOOK_S = 0.1
COMMAND = (sys.executable, "-m", "threadline", "--log-format", "json", "gateway")


@dataclass
class GatewayProcess:
    """One of them. `env`: settings beside broker, Kafka and group."""

    children: Children
    broker: Broker
    bootstrap: str
    name: str = "gateway"
    env: Mapping[str, str] = field(default_factory=dict)
    child: Child | None = None

    def __post_init__(self) -> None:
        self.probes = free_port()

    @property
    def settings(self) -> dict[str, str]:
        own = {
            "THREADLINE_GATEWAY_MQTT_PORT": str(self.broker.port),
            "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP": self.bootstrap,
            "THREADLINE_GATEWAY_KAFKA_GROUP": "tests",
        }
        return own | dict(self.env)

    def start(self) -> None:
        command = [*COMMAND, "run", "--metrics-port", str(self.probes)]
        self.child = self.children.start(self.name, command, env=self.settings)

    @property
    def running(self) -> Child:
        assert self.child is not None
        return self.child

    def stop(self) -> int:
        return self.children.stop(self.running)

    def kill(self) -> None:
        self.children.kill(self.running)

    def call(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Another command with the same settings."""
        return subprocess.run(
            [*COMMAND, *words],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **self.settings},
            timeout=PATIENCE_S,
        )

    def health(self) -> dict[str, Any]:
        """What it says; state `away` when it says nothing."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.probes}/health", timeout=5) as page:
                told: dict[str, Any] = json.loads(page.read())
        except urllib.error.HTTPError as unhealthy:
            told = json.loads(unhealthy.read())
        except OSError:
            return {"state": "away"}
        return told

    def value(self, name: str, labels: str = "") -> float:
        """Of a metric, 0 when there is none; `labels` as in the exposition."""
        with urllib.request.urlopen(f"http://{HOST}:{self.probes}/metrics", timeout=5) as page:
            text = page.read().decode()
        name = re.escape(f"threadline_gateway_{name}{labels}")
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def until_state(self, state: str, timeout_s: float = PATIENCE_S) -> None:
        told: dict[str, Any] = {}

        def is_there() -> bool:
            told.update(self.health())
            return bool(told["state"] == state)

        try:
            await until(is_there, timeout_s)
        except TimeoutError:
            raise AssertionError(f"not {state}, {told}:\n{self.running.last_lines()}") from None


async def until(wanted: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Asks in a thread, again and again; TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(wanted):  # noqa: ASYNC110 - there is no event of it
            await asyncio.sleep(LOOK_S)


@dataclass(frozen=True)
class Stored:
    """One record of Kafka's, as a test wants it."""

    topic: str
    key: str
    value: bytes
    headers: dict[str, bytes]
    time_ms: int

    @property
    def sealed(self) -> bytes:
        return sealed_of(list(self.headers.items()), self.value)


def stored(kafka: Kafka, topic: str, agent: str | None = None) -> list[Stored]:
    """Of one topic, and of one agent if it is named."""
    found = [
        Stored(
            topic,
            (one.key or b"").decode(),
            one.value or b"",
            {name: body or b"" for name, body in one.headers},
            one.time_ms,
        )
        for one in read_all(kafka.bootstrap, topic)
    ]
    return [one for one in found if agent in (None, one.key)]


def has_frames(kafka: Kafka, topic: str, frames: list[Frame]) -> bool:
    """Every one of them, verbatim."""
    there = {one.sealed for one in stored(kafka, topic)}
    return all(frame.sealed in there for frame in frames)


def make_topics(gateway: GatewayProcess) -> None:
    done = gateway.call("topics", "create")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(TOPICS) <= topics(gateway.bootstrap)
