"""A TCP relay between a client and a server, so that a test can cut the wire or let it hang."""

import asyncio
from contextlib import suppress
from typing import Any

HOST = "127.0.0.1"


class Relay:
    """Carries bytes both ways on the running loop. `cut` resets every connection there is."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._carriers: set[asyncio.Task[Any]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, port)

    async def close(self) -> None:
        self.flow()
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        for carrier in list(self._carriers):  # one may still be reaching for the server
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def refuse(self) -> None:
        """Cut, and reset every new connection too, until it flows again."""
        self._refusing = True
        self.cut()

    def hang(self) -> None:
        """Nothing is lost and nothing arrives."""
        self._flowing.clear()

    def flow(self) -> None:
        self._refusing = False
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrier = asyncio.current_task()
        assert carrier is not None
        self._carriers.add(carrier)
        try:
            await self._carry(reader, writer)
        finally:
            self._carriers.discard(carrier)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()  # as if it had come to the server itself
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        if self._refusing:
            writer.transport.abort()
            far_writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(
                self._one_way(reader, far_writer), self._one_way(far_reader, writer)
            )
        except asyncio.CancelledError:
            writer.transport.abort()
            far_writer.transport.abort()
            raise
        finally:
            self._writers -= {writer, far_writer}

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
