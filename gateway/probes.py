"""Two pages for machines: `/metrics` for Prometheus, `/health` for whoever restarts or alarms.

Owns a very small HTTP server: GET, one answer, connection closed. Never in the way of the bridge.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Final

from gateway.metrics import Metrics
from gateway.standing import Standing
from protocols.errors import Busy

REQUEST_S: Final = 5.0
REQUEST_BYTES_MAX: Final = 8192
CONNECTIONS_MAX: Final = 32


class Probes:
    """Serves until closed. `port`: the one given, or found when that was 0."""

    def __init__(self, standing: Standing, metrics: Metrics) -> None:
        self._standing = standing
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._open = 0

    @property
    def port(self) -> int:
        return 0 if self._server is None else int(self._server.sockets[0].getsockname()[1])

    async def open(self, host: str, port: int) -> None:
        """Busy: the port is taken."""
        try:
            self._server = await asyncio.start_server(
                self._serve, host, port, limit=REQUEST_BYTES_MAX
            )
        except OSError as error:
            raise Busy(f"{host}:{port}: {error.strerror or error}", 10.0) from error

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_S):
                    writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that does not speak HTTP is let go
        finally:
            self._open -= 1
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        match request.split(b" ", 2)[:2]:
            case [b"GET", b"/metrics"]:
                return _page(HTTPStatus.OK, self._metrics.exposition(), Metrics.CONTENT_TYPE)
            case [b"GET", b"/health"]:
                health = self._standing.health()
                status = HTTPStatus.OK if health.healthy else HTTPStatus.SERVICE_UNAVAILABLE
                return _page(status, json.dumps(health.as_json()).encode(), "application/json")
            case [b"GET", _]:
                return _page(HTTPStatus.NOT_FOUND, b"/metrics or /health\n", "text/plain")
            case _:
                return _page(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n", "text/plain")


def _page(status: HTTPStatus, body: bytes, content_type: str) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
