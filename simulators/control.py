"""The control socket: JSON lines in, JSON lines out, on a unix socket that only this user opens.

    {"do": "stop" | "start" | "hang" | "resume", "device": NAME of a device or controller}
    {"do": "move_namespace", "device": NAME}   OPC UA: restarts with another namespace index
    {"do": "status"}   units and cycles, mailboxes that wait, responses sent
    {"do": "flush"}    the journal's file is complete up to now
    {"do": "set", "device": NAME, "tag": NAME, "value": VALUE}   for tags that the line leaves alone

Every answer has `ok`; a refused request says why in `error`, and the connection goes on.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from simulators.plant import Plant
from simulators.servers import Served
from simulators.tags import Value

ACTIONS = ("status", "flush", "set", "stop", "start", "hang", "resume", "move_namespace")
_MOST_LINE_BYTES = 65_536


class Refused(Exception):
    """The request cannot be done; the text is for the asker."""


@asynccontextmanager
async def serve_control(plant: Plant, path: Path) -> AsyncIterator[None]:
    """Listens while the context lives; a socket file left by a dead plant is replaced."""
    _remove(path)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _talk(plant, reader, writer)

    server = await asyncio.start_unix_server(talk, path, limit=_MOST_LINE_BYTES)
    _close_to_others(path)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _close_to_others(path: Path) -> None:
    path.chmod(0o600)


async def _talk(plant: Plant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(json.dumps(await _answer(plant, line)).encode() + b"\n")
            await writer.drain()
    except (ConnectionError, ValueError):
        pass  # the asker is gone, or sent a line without end: its connection ends here
    finally:
        writer.close()


async def _answer(plant: Plant, line: bytes) -> dict[str, Any]:
    try:
        return {"ok": True, **await _do(plant, json.loads(line))}
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        return {"ok": False, "error": f"no JSON: {exc}"}
    except Refused as exc:
        return {"ok": False, "error": str(exc)}


async def _do(plant: Plant, request: Any) -> dict[str, Any]:  # whatever JSON holds
    if not isinstance(request, dict):
        raise Refused('a request is an object like {"do": "status"}')
    match request.get("do"):
        case "status":
            return plant.status()
        case "flush":
            plant.journal.flush()
            return {}
        case "set":
            _set(plant, request)
            return {}
        case "stop" | "start" | "hang" | "resume" | "move_namespace" as action:
            await _act(plant, str(action), str(request.get("device")))
            return {}
        case other:
            raise Refused(f"cannot do {other!r}, only {', '.join(ACTIONS)}")


async def _act(plant: Plant, action: str, name: str) -> None:
    server = plant.server_of(name)
    if server is None:
        known = ", ".join([*plant.config.devices, *plant.config.controllers])
        raise Refused(f"no device {name!r}, known: {known}")
    plant.journal.event(action, device=name)
    match action:
        case "stop":
            await server.stop()
        case "start":
            await server.start()
        case "hang":
            server.hang()
        case "resume":
            server.resume()
        case _:
            await _move_namespace(server, name)


async def _move_namespace(server: Served, name: str) -> None:
    try:
        await server.restart_with_moved_namespace()
    except NotImplementedError as exc:
        raise Refused(f"{name}: {exc}") from exc


def _set(plant: Plant, request: dict[str, Any]) -> None:
    image = plant.images.get(str(request.get("device")))
    name = str(request.get("tag"))
    if image is None or name not in image.slots:
        raise Refused(f"no tag {request.get('device')}.{name}")
    value: Value = request.get("value")  # type: ignore[assignment]  # the image judges it
    try:
        image.put(name, value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise Refused(f"{name} cannot hold {value!r}: {exc}") from exc
