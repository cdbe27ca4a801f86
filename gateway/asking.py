"""Asks a running gateway how it stands."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Final

ASK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Told:
    """What it said; `state` `not_there`: nothing."""

    state: str
    healthy: bool
    reason: str
    last_write_at: str | None = None
    waiting_messages: int | None = None


def ask(host: str, port: int) -> Told:
    url = f"http://{host}:{port}/health"
    try:
        with urllib.request.urlopen(url, timeout=ASK_S) as answer:
            body = answer.read()
    except urllib.error.HTTPError as unhealthy:
        body = unhealthy.read()
    except OSError as error:
        return Told("not_there", healthy=False, reason=f"{url}: {error}")
    return _told(url, body)


def _told(url: str, body: bytes) -> Told:
    try:
        said = json.loads(body)
        return Told(
            said["state"],
            said["healthy"],
            said["reason"],
            said["last_write_at"],
            said["waiting_messages"],
        )
    except (ValueError, KeyError, TypeError):
        return Told("not_there", healthy=False, reason=f"{url} is no gateway's")
