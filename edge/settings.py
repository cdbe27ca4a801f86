"""What environment and command line lay over the file: addresses, secrets, single values. Pure.

Command line goes before environment, environment before file. A variable that begins with `EDGE_`
and is not known is a mistake: a misspelt one would silently change nothing.
"""

import copy
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge.document import Document, KeyPath, dotted
from protocols.errors import Problem

PREFIX: Final = "EDGE_"
VARIABLES: Final[Mapping[str, KeyPath]] = {
    "EDGE_AGENT": ("agent",),
    "EDGE_LINE": ("line",),
    "EDGE_ZONE": ("zone",),
    "EDGE_UPLINK_URL": ("uplink", "url"),
    "EDGE_UPLINK_CA": ("uplink", "ca"),
    "EDGE_UPLINK_CERTIFICATE": ("uplink", "certificate"),
    "EDGE_UPLINK_KEY": ("uplink", "key"),
    "EDGE_UPLINK_USERNAME": ("uplink", "username"),
    "EDGE_UPLINK_PASSWORD": ("uplink", "password"),
    "EDGE_SPOOL_PATH": ("spool", "path"),
    "EDGE_SPOOL_MAX_BYTES": ("spool", "max_bytes"),
    "EDGE_METRICS_LISTEN": ("metrics", "listen"),
    "EDGE_STATUS_SOCKET": ("status", "socket"),
}
DEVICE_PREFIX: Final = "EDGE_DEVICE_"  # EDGE_DEVICE_<NAME>_<OPTION>, of the device's connection


@dataclass(frozen=True, slots=True)
class Layered(Document):
    """The document with everything laid over it; a value tells where it comes from."""

    origins: Mapping[KeyPath, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def where(self, path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            origin = self.origins.get(path[:length])
            if origin is not None:
                return f"{origin}: {dotted(path)}"
        return Document.where(self, path)


def lay_over(document: Document, environment: Mapping[str, str], options: Iterable[str]) -> Layered:
    """`options`: `path=value` each. Unknown variables and options without a value: `problems`."""
    data = copy.deepcopy(document.data)
    origins: dict[KeyPath, str] = {}
    problems: list[Problem] = []
    for name, value in sorted(environment.items()):
        path = _path_of(name, data)
        if path is not None:
            problems += _put(data, path, value, f"environment {name}")
            origins[path] = f"environment {name}"
        elif name.startswith(PREFIX) and name not in _named_by_file(document.data):
            problems.append(_unknown(name))
    for option in options:
        text, equals, value = option.partition("=")
        path = tuple(text.split("."))
        if not (equals and text):
            problems.append(
                Problem(
                    "command line --set", option, "is not path=value", "Like uplink.url=mqtt://…"
                )
            )
            continue
        problems += _put(data, path, value, f"command line --set {text}")
        origins[path] = f"command line --set {text}"
    return Layered(document.name, data, document.lines, origins, tuple(problems))


def _path_of(name: str, data: Mapping[str, Any]) -> KeyPath | None:
    """Where a variable's value belongs; None: not one of ours."""
    if name in VARIABLES:
        return VARIABLES[name]
    devices = data.get("devices")
    if not name.startswith(DEVICE_PREFIX) or not isinstance(devices, dict):
        return None
    rest = name.removeprefix(DEVICE_PREFIX)
    fitting = [device for device in devices if rest.startswith(f"{_upper(str(device))}_")]
    if not fitting:
        return None
    device = max(fitting, key=lambda each: len(str(each)))  # p1_a before p1
    option = rest.removeprefix(f"{_upper(str(device))}_").lower()
    return ("devices", str(device), "connection", option) if option else None


def _upper(device: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", device.upper())


def _named_by_file(data: Mapping[str, Any]) -> set[str]:
    uplink = data.get("uplink")
    named = uplink.get("password_env") if isinstance(uplink, dict) else None
    return {str(named)} if named else set()


def _unknown(name: str) -> Problem:
    close = difflib.get_close_matches(name, VARIABLES, 1)
    remedy = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(VARIABLES)}"
    if name.startswith(DEVICE_PREFIX):
        remedy = "Write EDGE_DEVICE_<NAME>_<OPTION> with the name of a configured device."
    return Problem(f"environment {name}", "", "is not a variable of the agent", f"{remedy}")


def _put(data: dict[str, Any], path: KeyPath, value: str, origin: str) -> list[Problem]:
    here: Any = data
    for key in path[:-1]:
        if not isinstance(here, dict):
            break
        if here.get(key) is None:
            here[key] = {}
        here = here[key]
    if not isinstance(here, dict):
        return [Problem(origin, "", f"there is nothing called {dotted(path)}", "Correct the path.")]
    here[path[-1]] = value
    return []
