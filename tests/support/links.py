"""The wires between the processes of a line: each a relay that a test can cut, hang and mend.

The relays run on a loop of a thread of their own, so that a test that is no coroutine has them too.
"""

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.relay import HOST, Relay
from threadline.ports import free_port

ANSWER_S = 30.0


class Link:
    """One wire. Clients are told `port`; it may be laid before its server listens."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, target: int) -> None:
        self.name = name
        self.port = free_port()
        self._loop = loop
        self._relay = Relay(HOST, target)
        asyncio.run_coroutine_threadsafe(self._relay.open(self.port), loop).result(ANSWER_S)

    def cut(self) -> None:
        """Every connection is reset, and every new one until it is mended."""
        self._do(self._relay.refuse)

    def hang(self) -> None:
        """Nothing passes, and nobody is told."""
        self._do(self._relay.hang)

    def mend(self) -> None:
        self._do(self._relay.flow)

    def lose(self) -> None:
        """What is under way is gone, and both ends are told."""
        self._do(self._relay.cut)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._relay.close(), self._loop).result(ANSWER_S)

    def _do(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def doing() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(doing)
        if not done.wait(ANSWER_S):
            raise TimeoutError(f"the relay of {self.name} does not answer")


class Links:
    """All wires of a line; they end with it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self.all: dict[str, Link] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for link in self.all.values():
            link.close()
        asyncio.run_coroutine_threadsafe(_end_others(), self._loop).result(ANSWER_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_S)
        self._loop.close()

    def lay(self, name: str, target: int) -> int:
        """The port that one client is told instead of the server's own."""
        link = self.all[name] = Link(self._loop, name, target)
        return link.port


async def _end_others() -> None:
    """What is still carried has been cut, and ends by itself."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=ANSWER_S / 2)
