"""The MQTT broker of the stack: mosquitto where it is installed, else amqtt in Python.

Both are child processes behind the same three calls. Nothing here is a recommendation for a plant.
"""

import base64
import hashlib
import json
import secrets
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from threadline.children import Child, Children, StackError, wait_until
from threadline.ports import HOST, free_port, listens

START_S = 20.0
PASSWORD_ROUNDS = 101


@dataclass(frozen=True)
class Tls:
    """Files of the broker's own certificate and of the authority that signed its clients'."""

    certificate: Path
    key: Path
    authority: Path
    clients_need_certificate: bool = False


@dataclass(frozen=True)
class BrokerSettings:
    """What a test or the demo may want of a broker. `passwords` empty means anybody may come."""

    max_queued_messages: int = 1000
    passwords: dict[str, str] = field(default_factory=dict)
    tls: Tls | None = None


class Broker(Protocol):
    """One broker. Its port stays the same over a restart."""

    name: str
    host: str
    port: int

    @property
    def child(self) -> Child: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def pick_broker(children: Children, settings: BrokerSettings | None = None) -> Broker:
    """The better of the brokers that this machine has."""
    kind = Mosquitto if Mosquitto.program() else Amqtt
    return kind(children, settings)


class _Started:
    """What both brokers share: a configuration file, a child, a port that answers."""

    name = ""
    host = HOST

    def __init__(
        self,
        children: Children,
        settings: BrokerSettings | None = None,
        *,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self._settings = settings or BrokerSettings()
        self._children = children
        self._home = children.directory / self.name
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        if self._child is None:
            raise StackError(f"{self.name} is not started")
        return self._child

    def start(self) -> None:
        self._home.mkdir(exist_ok=True)
        self._child = child = self._children.start(self.name, self._command())
        ready = f"listening on port {self.port}"
        wait_until(lambda: listens(child.pid, self.port), child, ready, START_S)

    def stop(self) -> None:
        self._children.stop(self.child)

    def kill(self) -> None:
        self._children.kill(self.child)

    def _command(self) -> Sequence[str]:
        raise NotImplementedError


class Mosquitto(_Started):
    """Eclipse mosquitto, with its queues on disk."""

    name = "mosquitto"

    @staticmethod
    def program() -> str | None:
        """Debian puts it where an ordinary user's path does not look."""
        return shutil.which("mosquitto") or shutil.which(
            "mosquitto", path="/usr/sbin:/usr/local/sbin"
        )

    def _command(self) -> Sequence[str]:
        program = self.program()
        if program is None:
            raise StackError("mosquitto is not installed: apt-get install mosquitto")
        file = self._home / "mosquitto.conf"
        file.write_text("\n".join(self._lines()) + "\n")
        return [program, "-c", str(file)]

    def _lines(self) -> list[str]:
        return [
            f"listener {self.port} {HOST}",
            "user root",  # started by root it would otherwise leave for a user without our folder
            "persistence true",
            f"persistence_location {self._home}/",
            "autosave_interval 5",
            f"max_queued_messages {self._settings.max_queued_messages}",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
            *self._access_lines(),
            *self._tls_lines(),
        ]

    def _access_lines(self) -> list[str]:
        if not self._settings.passwords:
            return ["allow_anonymous true"]
        file = self._home / "passwords"
        file.touch(mode=0o600)
        file.write_text(password_lines(self._settings.passwords))
        return ["allow_anonymous false", f"password_file {file}"]

    def _tls_lines(self) -> list[str]:
        tls = self._settings.tls
        if tls is None:
            return []
        needed = str(tls.clients_need_certificate).lower()
        return [
            f"certfile {tls.certificate}",
            f"keyfile {tls.key}",
            f"cafile {tls.authority}",
            f"require_certificate {needed}",
            f"use_identity_as_username {needed}",
        ]


class Amqtt(_Started):
    """amqtt, a broker in Python for MQTT 3.1.1. It keeps nothing over a restart."""

    name = "amqtt"

    def _command(self) -> Sequence[str]:
        if self._settings.passwords or self._settings.tls:
            raise StackError(
                "amqtt runs open and plain here: install mosquitto for passwords or TLS"
            )
        file = self._home / "amqtt.yaml"
        file.write_text(json.dumps(self._configuration(), indent=1))
        return [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(file)]

    def _configuration(self) -> dict[str, object]:
        return {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self.port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
            },
        }


def password_lines(passwords: dict[str, str]) -> str:
    """Mosquitto's file: PBKDF2 with SHA-512, salted, the form its own tool writes."""
    lines = []
    for user, password in passwords.items():
        salt = secrets.token_bytes(12)
        key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PASSWORD_ROUNDS)
        words = [base64.b64encode(part).decode() for part in (salt, key)]
        lines.append(f"{user}:$7${PASSWORD_ROUNDS}${'$'.join(words)}")
    return "\n".join(lines) + "\n"
