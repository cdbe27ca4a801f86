"""Ctrl-C and its relatives as a condition to look at, so that nothing is cut off half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Left(Exception):
    """Somebody asked the demo to end."""


class Leaving:
    """Whether somebody asked for the end."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        self._asked.set()

    def look(self) -> None:
        """Left: the end was asked for."""
        if self._asked.is_set():
            raise Left

    def rest(self, seconds: float) -> None:
        """Wait, but not for longer than somebody wants to stay."""
        self._asked.wait(seconds)
        self.look()


@contextmanager
def leaving_by_signal() -> Iterator[Leaving]:
    """SIGINT, SIGTERM and SIGHUP ask for the end; asking again changes nothing."""
    leaving = Leaving()

    def hear(_number: int, _frame: FrameType | None) -> None:
        leaving.ask()

    before = {one: signal.signal(one, hear) for one in _ENDS}
    try:
        yield leaving
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
