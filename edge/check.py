"""`edge check`: every mistake of an agent's file at once, before anything is connected.

It reads the file, the environment it is given and what the file names on this machine; it opens no
connection and changes nothing.
"""

import copy
import os
import socket
import ssl
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.compile import AgentPlan, compile_agent
from edge.config import EdgeConfig, UplinkConfig
from edge.document import KeyPath, read_document
from edge.findings import Finding, follows, shape
from edge.settings import Layered, lay_over
from protocols.errors import ConfigError, Problem

PORT_MAX: Final = 65_535
_DEVICE_FILES: Final = frozenset({"certificate", "key", "server_certificate"})
_PORTS: Final = f"Write a port from 1 to {PORT_MAX}."
SOCKET_BYTES_MAX: Final = 107  # of a Unix socket's path on Linux (sun_path less its end)


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A file without a mistake, with what works otherwise than one may think."""

    config: EdgeConfig
    plan: AgentPlan
    password: str | None
    notes: tuple[Problem, ...]


def check(
    file: Path, environment: Mapping[str, str] | None = None, options: Iterable[str] = ()
) -> Checked:
    """ConfigError: all mistakes, in the order of the file."""
    given = environment or {}
    document = lay_over(read_document(file), given, options)
    shaped = shape(_with_device_files(document.data, file.parent))
    findings = list(shaped.findings)
    if shaped.config is None:
        raise ConfigError([*document.problems, *_problems(document, findings)])
    config = at_folder(shaped.config, file.parent)
    compiling = compile_agent(config, shaped.stations, _paths(document.data))
    deeper = [*_surroundings(config, given), *compiling.findings]
    findings += [each for each in deeper if not follows(each, shaped.findings)]
    if findings or document.problems or compiling.plan is None:
        raise ConfigError([*document.problems, *_problems(document, findings)])
    notes = _problems(document, [*_notes(config), *compiling.notes])
    return Checked(config, compiling.plan, _password(config.uplink, given), tuple(notes))


def socket_of(file: Path, environment: Mapping[str, str]) -> Path:
    """Where a running agent with this file answers; the rest of the file may be faulty."""
    document = lay_over(read_document(file), environment, ())
    shaped = shape(document.data)
    faults = [each for each in shaped.findings if each.path[0] in ("spool", "status")]
    if shaped.config is None or faults:
        raise ConfigError(_problems(document, shaped.findings))
    return at_folder(shaped.config, file.parent).socket


def at_folder(config: EdgeConfig, folder: Path) -> EdgeConfig:
    """Paths in the file are meant from the file's own folder."""
    uplink = {
        name: folder / path
        for name in ("ca", "certificate", "key")
        if (path := getattr(config.uplink, name)) is not None
    }
    sock = config.status.socket
    return config.model_copy(
        update={
            "uplink": config.uplink.model_copy(update=uplink),
            "spool": config.spool.model_copy(update={"path": folder / config.spool.path}),
            "status": config.status.model_copy(
                update={"socket": None if sock is None else folder / sock}
            ),
        }
    )


def _with_device_files(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A driver checks that its files are there, so they are placed before."""
    placed = copy.deepcopy(dict(data))
    for device in _mapping(placed.get("devices")).values():
        connection = _mapping(_mapping(device).get("connection"))
        for name in _DEVICE_FILES & connection.keys():
            if isinstance(connection[name], str):
                device["connection"][name] = str(folder / connection[name])
    return placed


def _problems(document: Layered, findings: Iterable[Finding]) -> list[Problem]:
    placed = dict.fromkeys(
        (
            document.line(found.path),
            Problem(document.where(found.path), found.value, found.why, found.remedy),
        )
        for found in findings
    )
    return [problem for _, problem in sorted(placed, key=lambda each: each[0])]


def _paths(data: Mapping[str, Any]) -> set[str]:
    """Every tag that the file names, sound or not."""
    return set(_each_path(data))


def _each_path(data: Mapping[str, Any]) -> Iterator[str]:
    for device, body in _mapping(data.get("devices")).items():
        for group in _mapping(_mapping(body).get("groups")).values():
            for name in _mapping(_mapping(group).get("tags")):
                yield f"{device}.{name}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# What the file names on this machine.


def _surroundings(config: EdgeConfig, environment: Mapping[str, str]) -> Iterator[Finding]:
    if not config.devices:
        yield Finding(("devices",), "", "has no device", "Add one.")
    yield from _zone(config.zone)
    yield from _whole(config.uplink)
    yield from _files(config)
    yield from _credentials(config.uplink, environment)
    yield from _spool(config.spool.path)
    yield from _socket(config.socket)


def _zone(name: str) -> Iterator[Finding]:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        yield Finding(("zone",), name, "is not an IANA zone", "Write one like Europe/Berlin.")


def _whole(uplink: UplinkConfig) -> Iterator[Finding]:
    if uplink.certificate and not uplink.key:
        yield Finding(("uplink",), "", "has a certificate without its key", "Add `key:`.")
    if uplink.key and not uplink.certificate:
        yield Finding(("uplink",), "", "has a key without its certificate", "Add `certificate:`.")
    if uplink.certificate and not uplink.tls:
        why = "has no TLS, so the client certificate is never shown"
        yield Finding(("uplink", "url"), uplink.url, why, "Write mqtts://host:port.")
    if uplink.password and uplink.password_env:
        yield Finding(("uplink", "password_env"), "", "stands beside `password`", "Keep one.")
    if (uplink.password or uplink.password_env) and not uplink.username:
        yield Finding(("uplink",), "", "has a password without a user", "Add `username:`.")
    if not 1 <= uplink.port <= PORT_MAX:
        yield Finding(("uplink", "url"), uplink.url, "has no such port", _PORTS)


def _files(config: EdgeConfig) -> Iterator[Finding]:
    uplink, sound = config.uplink, True
    for name in ("ca", "certificate", "key"):
        path: Path | None = getattr(uplink, name)
        why = None if path is None else _unreadable(path)
        if why:
            sound = False
            yield Finding(("uplink", name), str(path), why, "Put the PEM file there.")
    if sound and uplink.tls:
        found = list(_pem(uplink))
        yield from found
        if not found and uplink.certificate:
            yield from _identity(config.agent, uplink.certificate)


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def _pem(uplink: UplinkConfig) -> Iterator[Finding]:
    context = ssl.create_default_context()
    if uplink.ca:
        try:
            context.load_verify_locations(uplink.ca)
        except ssl.SSLError:
            keys = ("uplink", "ca")
            yield Finding(keys, str(uplink.ca), "holds no certificate", "Put a PEM file there.")
    if uplink.certificate and uplink.key:
        try:
            context.load_cert_chain(uplink.certificate, uplink.key, password="")
        except ssl.SSLError as error:
            keys = ("uplink", "certificate")
            why = f"does not fit its key: {error.reason or error}"
            yield Finding(keys, str(uplink.certificate), why, "Use the pair, key unencrypted.")


def _identity(agent: str, certificate: Path) -> Iterator[Finding]:
    """The broker lets an agent speak as whom its certificate names, and as nobody else."""
    from edge.certificate import common_names  # noqa: PLC0415 - 10 MB, only who has one pays

    names = common_names(certificate)
    if names != [agent]:
        told = " and ".join(repr(name) for name in names) or "nobody"
        why = f"names {told} (CN), but this agent is {agent!r}"
        remedy = f"Use the certificate issued to {agent}, or correct `agent`."
        yield Finding(("uplink", "certificate"), str(certificate), why, remedy)


def _credentials(uplink: UplinkConfig, environment: Mapping[str, str]) -> Iterator[Finding]:
    name = uplink.password_env
    if name and name not in environment:
        keys = ("uplink", "password_env")
        yield Finding(keys, name, "is not set in the environment", f"Set {name}.")


def _password(uplink: UplinkConfig, environment: Mapping[str, str]) -> str | None:
    if uplink.password_env:
        return environment[uplink.password_env]
    return uplink.password.get_secret_value() if uplink.password else None


def _spool(path: Path) -> Iterator[Finding]:
    keys: KeyPath = ("spool", "path")
    around = (path, *path.parents, *path.absolute().parents)
    there = next(each for each in around if each.exists())
    if not there.is_dir():
        yield Finding(keys, str(path), f"cannot be a folder: {there} is a file", "Name a folder.")
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Finding(keys, str(path), f"{there} cannot be written", "Give the agent the right to.")


def _socket(path: Path) -> Iterator[Finding]:
    length = len(os.fsencode(path.absolute()))
    if hasattr(socket, "AF_UNIX") and length > SOCKET_BYTES_MAX:
        why = f"is {length} bytes long, a socket's path at most {SOCKET_BYTES_MAX}"
        yield Finding(("status", "socket"), str(path), why, "Give a shorter one, in /run.")


def _notes(config: EdgeConfig) -> Iterator[Finding]:
    if config.uplink.password:
        why = "is a password that whoever reads the file can read"
        yield Finding(("uplink", "password"), "", why, "Use EDGE_UPLINK_PASSWORD or password_env.")
    if not config.uplink.certificate:
        why = "has no client certificate: the agent's identity is unproven"
        yield Finding(("uplink",), "", why, "Give `certificate` and `key`.")
    if not config.uplink.tls:
        yield Finding(("uplink", "url"), config.uplink.url, "is not encrypted", "Use mqtts://.")
