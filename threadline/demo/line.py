"""The processes of the demo's line: started in order, each waited for by name, ended together.

Rule 1: every wait is for a condition, has a bound, and names the log of who did not come up.
Rule 2: nothing of an earlier run is used: whoever looks at the result knows where it is from.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from cloud import agents
from cloud.db import connect
from cloud.migrate import migrate
from cloud.storage import Policy, Wanted
from cloud.tokens import Scope, create_token
from edge.status import ask_status
from protocols.errors import Disconnected
from threadline.children import Child, Children, StackError, wait_until
from threadline.demo.files import Places, agent_file_text, example_file, plant_file
from threadline.demo.signals import Leaving
from threadline.kafka import Kafka
from threadline.ports import HOST, free_port
from threadline.route import Route
from threadline.stack import Stack, start_servers

AGENT: Final = "plant1.line1"
SCOPE: Final = "L1/**"
UP_S: Final = 60.0  # a slow machine compiles every module at the first start
TOKEN_LIFE: Final = timedelta(days=1)
PROBE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Line:
    """The line, up. `processes`: by the name that people see; `env`: what ours are told by."""

    children: Children
    processes: Mapping[str, Child]
    env: Mapping[str, str]
    agent_file: Path
    env_file: Path
    socket: Path
    api_url: str
    token: str
    gateway_url: str | None = None  # of its probes

    @property
    def agent(self) -> Child:
        return self.processes["agent"]

    def look(self) -> None:
        """StackError: one of the processes has ended."""
        for name, child in self.processes.items():
            if child.exit_code is not None:
                raise StackError(
                    f"{name} ended with code {child.exit_code}; its log is {child.log}:\n"
                    f"{child.last_lines()}"
                )


@contextmanager
def open_line(
    directory: Path, route: Route, leaving: Leaving, say: Callable[[str], None]
) -> Iterator[Line]:
    """The whole line in this directory, whose earlier content goes.

    Raises:
        Left: somebody wanted to go before all was up.
        StackError: something does not come up.
    """
    with Children(directory) as children:
        children.wipe()
        yield _Starting(children, route, leaving, say).line()


class _Starting:
    """Starts one after the other; gives up as soon as somebody wants to leave."""

    def __init__(
        self, children: Children, route: Route, leaving: Leaving, say: Callable[[str], None]
    ) -> None:
        self._children = children
        self._route = route
        self._leaving = leaving
        self._say = say
        self._directory = children.directory
        self._env: dict[str, str] = {}
        self._processes: dict[str, Child] = {}

    def line(self) -> Line:
        plant, ports_file = self._plant()  # the slowest of all: the others start meanwhile
        stack = self._servers()
        dsn = stack.postgres.create_database("trace")
        token = make_database(dsn)
        self._say("the database has its tables, and knows the agent and a reader")
        self._env = {
            "THREADLINE_CLOUD_DATABASE": dsn,
            "THREADLINE_CLOUD_MQTT_HOST": stack.broker.host,
            "THREADLINE_CLOUD_MQTT_PORT": str(stack.broker.port),
        }
        served, api_url = self._api()
        gateway_url = None if stack.kafka is None else self._gateway(stack, stack.kafka)
        self._ingest()
        self._wait(plant, "listening on all its ports", ports_file.exists)
        ports: dict[str, dict[str, Any]] = json.loads(ports_file.read_text("utf-8"))
        self._say(f"the simulated plant runs: {len(ports)} devices")
        agent_file, socket = self._agent(ports, f"mqtt://{stack.broker.host}:{stack.broker.port}")
        page = f"{api_url}/openapi.json"
        self._wait(served, f"answering {page}", lambda: _answers(page))
        self._say(f"the trace API answers; its page is {api_url}/docs")
        env_file = self._directory / "env"
        write_env_file(env_file, {**asking_env(api_url, token), **self._env})
        return Line(
            self._children,
            self._processes,
            self._env,
            agent_file,
            env_file,
            socket,
            api_url,
            token,
            gateway_url,
        )

    def _plant(self) -> tuple[Child, Path]:
        ports = self._directory / "ports.json"
        words = ["simulators", "run", str(plant_file()), "--ports-file", str(ports)]
        words += ["--journal", str(self._directory / "journal.jsonl")]
        words += ["--control", str(self._directory / "plant.sock")]
        return self._start("plant", words), ports

    def _servers(self) -> Stack:
        self._leaving.look()
        stack = start_servers(self._children, route=self._route)
        self._processes["postgres"] = stack.postgres.child
        self._processes["broker"] = stack.broker.child
        names = ["PostgreSQL", stack.broker.name]
        if stack.kafka is not None:
            self._processes["kafka"] = stack.kafka.child
            names.append("Kafka")
        self._say(f"{', '.join(names[:-1])} and {names[-1]} are up")
        return stack

    def _api(self) -> tuple[Child, str]:
        """Started only: nobody waits for it but people."""
        port = free_port()
        words = ["cloud", "api", "--host", HOST, "--port", str(port)]
        return self._start("api", words), url_of(port)

    def _ingest(self) -> None:
        """Up before the agent: what the broker has no taker for comes again only after a while."""
        source = ["--source", "kafka"] if self._route is Route.KAFKA else []
        self._probed("ingest", ["cloud", "ingest", *source])
        self._say("ingest is up")

    def _gateway(self, stack: Stack, kafka: Kafka) -> str:
        """Its topics, and itself."""
        self._env |= {
            "THREADLINE_CLOUD_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "THREADLINE_GATEWAY_KAFKA_GROUP": "threadline-gateway",
            "THREADLINE_GATEWAY_MQTT_HOST": stack.broker.host,
            "THREADLINE_GATEWAY_MQTT_PORT": str(stack.broker.port),
        }
        self._leaving.look()
        made = run(["gateway", "topics", "create", "--partitions", "2"], self._env, UP_S)
        if made.returncode != 0:
            raise StackError(f"Kafka has no topics:\n{made.stdout}{made.stderr}")
        url = self._probed("gateway", ["gateway", "run"])
        self._say("the gateway is up")
        return url

    def _probed(self, name: str, words: Sequence[str]) -> str:
        """A process of ours, healthy by its own probe; where its probes are."""
        url = url_of(port := free_port())
        child = self._start(name, [*words, "--metrics-port", str(port)])
        self._wait(child, f"healthy by {url}/health", lambda: _answers(f"{url}/health"))
        return url

    def _agent(self, ports: Mapping[str, Mapping[str, Any]], broker: str) -> tuple[Path, Path]:
        agent_file, socket = self._directory / "agent.yaml", self._directory / "agent.sock"
        places = Places(ports, broker, self._directory / "spool", socket)
        agent_file.write_text(agent_file_text(example_file().read_text("utf-8"), places), "utf-8")
        agent = self._start("agent", ["edge", "run", str(agent_file)])
        self._wait(agent, "answering on its socket", lambda: _tells(socket))
        self._say(f"the agent runs; its file is {agent_file}")
        return agent_file, socket

    def _start(self, name: str, words: Sequence[str]) -> Child:
        self._leaving.look()
        child = self._children.start(name, threadline(*words), env=self._env)
        self._processes[name] = child
        return child

    def _wait(self, child: Child, what: str, ready: Callable[[], bool]) -> None:
        def is_ready() -> bool:
            self._leaving.look()
            return ready()

        wait_until(is_ready, child, what, UP_S)


def make_database(dsn: str) -> str:
    """What `cloud migrate`, `cloud agents add` and `cloud token create` do; a reader's token."""
    now = datetime.now(UTC)  # noqa: TID251 - the demo is where time comes in
    with connect(dsn, application="threadline demo") as connection:
        migrate(connection, Wanted.AUTO, Policy(), now)
        agents.add(connection, AGENT, [SCOPE])
        token = create_token(connection, "demo", [Scope.READ], sites=None, lifetime=TOKEN_LIFE)
    if token is None:
        raise StackError("a new database has a token named demo already")
    return token


def asking_env(api_url: str, token: str) -> dict[str, str]:
    """What `threadline trace` is told by."""
    return {"THREADLINE_API": api_url, "THREADLINE_TOKEN": token}


def write_env_file(file: Path, env: Mapping[str, str]) -> None:
    """For a shell that wants to ask the line: `. env`. Only its owner may read it."""
    file.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    file.write_text("\n".join(lines) + "\n", "utf-8")


def run(
    words: Sequence[str], env: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """One of our own commands to its end. StackError: it takes too long."""
    try:
        return subprocess.run(
            threadline(*words),
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env},
            timeout=timeout_s,
            start_new_session=True,  # a Ctrl-C is the demo's to answer
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"threadline {' '.join(words)} has not ended after {timeout_s:g} s"
        ) from error


def threadline(*words: str) -> list[str]:
    """Our own command, of this very installation."""
    return [sys.executable, "-m", "threadline", *words]


def url_of(port: int) -> str:
    return f"http://{HOST}:{port}"


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=PROBE_S) as answer:  # noqa: S310 - our own address, http
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP's own number
    except (URLError, OSError):
        return False


def _tells(socket: Path) -> bool:
    try:
        ask_status(socket, PROBE_S)
    except Disconnected:
        return False
    return True
