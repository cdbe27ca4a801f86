"""The agent's file of the demo: the example's, told where the simulated plant and broker are."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from threadline.children import StackError

SOCKET_BYTES_MAX = 107  # of a path to a Unix socket


@dataclass(frozen=True, slots=True)
class Places:
    """Where the agent finds what it needs. `ports`: by device, as the simulated plant says."""

    ports: Mapping[str, Mapping[str, Any]]
    broker_url: str
    spool: Path
    socket: Path


def plant_file() -> Path:
    return Path(str(files("simulators") / "plants" / "edrive.yaml"))


def example_file() -> Path:
    return Path(str(files("edge") / "examples" / "edrive.yaml"))


def agent_file_text(example: str, places: Places) -> str:
    """The example with its comments, and other addresses. StackError: they do not fit together."""
    if len(str(places.socket).encode()) > SOCKET_BYTES_MAX:
        raise StackError(
            f"{places.socket}: a socket's path may have {SOCKET_BYTES_MAX} bytes at most; "
            "choose a shorter --directory"
        )
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 1000
    agent = yaml.load(example)
    missing = agent["devices"].keys() - places.ports.keys()
    if missing:
        raise StackError(f"the simulated plant has no devices {sorted(missing)} of the example")
    for name, device in agent["devices"].items():
        _point(device["connection"], places.ports[name])
    agent["uplink"]["url"] = places.broker_url
    agent.setdefault("spool", {})["path"] = str(places.spool)
    agent.setdefault("status", {})["socket"] = str(places.socket)
    agent.pop("metrics", None)  # several demos may run on one machine
    written = StringIO()
    yaml.dump(agent, written)
    return written.getvalue()


def _point(connection: MutableMapping[str, Any], port: Mapping[str, Any]) -> None:
    if "url" in port:
        connection["url"] = port["url"]
    else:
        connection["host"], connection["port"] = port["host"], port["port"]
