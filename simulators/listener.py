"""One listening address: start, stop, hang, resume. Knows no protocol.

A stopped device refuses connections and has dropped those it had. A hung one accepts and never
answers; on resume the connections that it left without an answer are dropped.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable

from simulators.outgoing import Outgoing

MAX_CONNECTIONS = 64
MAX_RECEIVED_BYTES = 65_536


class Listener:
    """A server socket whose port stays the same once chosen."""

    def __init__(self, host: str, port: int, open_link: "Callable[[Listener], Link]") -> None:
        self.host = host
        self.port = port
        self.hung = False
        self.connections = 0
        self.links: set[Link] = set()
        self._open_link = open_link
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: self._open_link(self), self.host, self.port
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for link in list(self.links):
            link.drop()
        await self._server.wait_closed()
        self._server = None
        self.hung = False

    async def close(self) -> None:
        await self.stop()

    def hang(self) -> None:
        self.hung = True

    def resume(self) -> None:
        self.hung = False
        for link in list(self.links):
            if link.left_unanswered:
                link.drop()

    async def restart_with_moved_namespace(self) -> None:
        raise NotImplementedError("only OPC UA has namespaces")


class Link(asyncio.Protocol):
    """One connection; a protocol's server says how bytes become requests and answers."""

    def __init__(self, listener: Listener) -> None:
        self.number = 0
        self.requests = 0
        self.left_unanswered = False
        self.outgoing: Outgoing | None = None
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()

    @abstractmethod
    def take(self, received: bytearray) -> bytes | None:
        """Removes one whole request from the front; None: wait. ValueError: not this protocol."""

    @abstractmethod
    def serve(self, request: bytes) -> None:
        """Answers one request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self._transport = transport
        if len(self._listener.links) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self._listener.connections += 1
        self.number = self._listener.connections
        self._listener.links.add(self)
        self.outgoing = Outgoing(transport)

    def data_received(self, data: bytes) -> None:
        if self._listener.hung:
            self.left_unanswered = True
            return
        self._received += data
        try:
            while (request := self.take(self._received)) is not None:
                self.requests += 1
                self.serve(request)
        except ValueError:
            self.drop()
        if len(self._received) > MAX_RECEIVED_BYTES:
            self.drop()

    def pause_writing(self) -> None:
        """Nothing to do: requests keep coming one by one, and `resume_writing` tells the end."""

    def resume_writing(self) -> None:
        if self.outgoing is not None:
            self.outgoing.drained()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._listener.links.discard(self)
        if self.outgoing is not None:
            self.outgoing.lost()

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
