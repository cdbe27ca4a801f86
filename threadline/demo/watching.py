"""Asks the running line how it is.

The agent by its socket, the cloud by its API, the gateway by its probes.
"""

import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil

from cloud.ask.client import Api, NotFound
from cloud.story import Story
from edge.status import AgentStatus, ask_status
from protocols.errors import ConfigError, Disconnected
from threadline.children import Child
from threadline.demo.figures import GatewayTold, Told
from threadline.demo.line import AGENT, Line

ASK_S: Final = 2.0
T = TypeVar("T")


class Watch:
    """One round of questions at a time. Who is silent is named and keeps nobody else from it."""

    def __init__(self, line: Line, api: Api, since: datetime) -> None:
        self._line = line
        self._api = api
        self._since = since

    def round(self) -> Told:
        """StackError: a process of the line has ended."""
        self._line.look()
        why: list[str] = []
        return Told(
            at_s=time.monotonic(),
            agent=_asked(self._agent, why),
            overview=_asked(self._overview, why),
            stations=_asked(self._stations, why),
            cpu_s={name: cpu_s(child) for name, child in self._line.processes.items()},
            why=tuple(dict.fromkeys(why)),
            gateway=_asked(self._gateway, why),
        )

    def story(self, item: str) -> Story | None:
        """None: nobody tells it now."""
        return _asked(lambda: Story.model_validate(self._api.read(f"/items/{item}/story")), [])

    def _gateway(self) -> GatewayTold | None:
        url = self._line.gateway_url
        return None if url is None else ask_gateway(url)

    def _agent(self) -> AgentStatus:
        return ask_status(self._line.socket, ASK_S)

    def _overview(self) -> dict[str, Any] | None:
        agents = self._api.read("/overview")["agents"]
        return next((one for one in agents if one["name"] == AGENT), None)

    def _stations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._api.read("/stations", {"from": self._since.isoformat()})
        return found


def _asked(ask: Callable[[], T], why: list[str]) -> T | None:
    try:
        return ask()
    except (Disconnected, ConfigError, NotFound) as error:
        why.append(str(error))
        return None


def ask_gateway(url: str) -> GatewayTold:
    """Its health, whatever it is, and how much it has carried. Disconnected: no answer."""
    try:
        health = json.loads(_read(f"{url}/health"))
        carried = _CARRIED.findall(_read(f"{url}/metrics"))
    except (OSError, ValueError) as error:
        raise Disconnected(f"the gateway does not answer: {error}") from error
    frames = sum(int(float(one)) for one in carried)
    return GatewayTold(
        health["state"], frames, health["waiting_messages"], health["last_write_age_s"]
    )


_CARRIED: Final = re.compile(r"^threadline_gateway_frames_total\{.*\} (\S+)$", re.MULTILINE)


def _read(url: str) -> str:
    """The text of the answer; one that says that it is unwell is an answer too."""
    try:
        with urlopen(url, timeout=ASK_S) as answer:  # noqa: S310 - our own address, http
            return str(answer.read(), "utf-8")
    except HTTPError as error:
        with error:
            return str(error.read(), "utf-8")


def cpu_s(child: Child) -> float:
    """Processor time of a child and of those it has started and that still run."""
    try:
        process = psutil.Process(child.pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(map(_own_cpu_s, family))


def _own_cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
