"""What a process tells machines over HTTP: `/metrics` for Prometheus, `/health` for whoever alarms.

Owns a very small server: GET, one answer, connection closed. Never in the way of the work, and
never the judge of it: whoever serves says what is healthy.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

import structlog

REQUEST_S: Final = 5.0
REQUEST_BYTES_MAX: Final = 16 * 1024
CONNECTIONS_MAX: Final = 32
TAKEN_S: Final = 10.0  # until a port that was taken is tried again
_log = structlog.get_logger("probes")


@dataclass(frozen=True, slots=True)
class Health:
    """How work on `things` goes. `age_s`: of the last confirmed write; None: none since the start.

    `waiting`: things taken whose write is not confirmed.
    """

    healthy: bool
    state: str
    reason: str
    last_write_at: datetime | None
    age_s: float | None
    waiting: int
    things: str

    def as_json(self) -> dict[str, Any]:
        at = self.last_write_at
        return {
            "healthy": self.healthy,
            "state": self.state,
            "reason": self.reason,
            "last_write_at": None if at is None else at.isoformat(),
            "last_write_age_s": self.age_s,
            f"waiting_{self.things}": self.waiting,
        }


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    body: bytes
    content_type: str = "text/plain"
    status: HTTPStatus = HTTPStatus.OK

    def encoded(self) -> bytes:
        allow = "Allow: GET\r\n" if self.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n{allow}"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + self.body


class Probes:
    """The two pages of one process, each made when it is asked for."""

    def __init__(self, health: Callable[[], Health], metrics: Callable[[], Page]) -> None:
        self._health = health
        self._metrics = metrics

    async def serve(
        self, host: str, port: int, down: Callable[[str], None], up: Callable[[], None]
    ) -> None:
        """Until cancelled. `down`: why the port cannot be had; it is tried again. `up`: it can."""
        server = await self._listening(host, port, down)
        up()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            await server.wait_closed()

    async def _listening(self, host: str, port: int, down: Callable[[str], None]) -> asyncio.Server:
        while True:
            try:
                return await listen(self._find, host, port)
            except OSError as error:
                down(f"{host}:{port}: {error.strerror or error}")
            await asyncio.sleep(TAKEN_S)

    def _find(self, path: bytes) -> Page:
        match path:
            case b"/metrics":
                return self._metrics()
            case b"/health":
                health = self._health()
                status = HTTPStatus.OK if health.healthy else HTTPStatus.SERVICE_UNAVAILABLE
                return Page(json.dumps(health.as_json()).encode(), "application/json", status)
            case _:
                return Page(b"/metrics or /health\n", status=HTTPStatus.NOT_FOUND)


async def listen(find: Callable[[bytes], Page], host: str, port: int) -> asyncio.Server:
    """Answer with what `find` has for a path. OSError: the port cannot be had."""
    serve = _Door(find).serve
    return await asyncio.start_server(serve, host, port, limit=REQUEST_BYTES_MAX)


class _Door:
    """Bounded in time, bytes and connections; beyond them a client is let go without an answer."""

    def __init__(self, find: Callable[[bytes], Page]) -> None:
        self._find = find
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(request).encoded())
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _log.debug("a request that was not whole, or did not wait")
        finally:
            self._open -= 1
            writer.close()

    def _answer(self, request: bytes) -> Page:
        match request.split(b" ", 2)[:2]:
            case [b"GET", path]:
                return self._find(path)
            case _:
                return Page(b"only GET\n", status=HTTPStatus.METHOD_NOT_ALLOWED)
