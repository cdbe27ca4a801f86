"""Tasks that are to run for ever, what begins them anew, what ends them; no word of what they do.

A library may cancel tasks of its own and await them: what comes out of that passes for a
cancelling of whoever asked, and a task would end without a word.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

import structlog

from protocols.retry import Backoff

Begin = Callable[[], Coroutine[None, None, None]]
RETRY: Final = Backoff(first_s=0.5, limit_s=15.0)


async def for_ever(work: Coroutine[None, None, None]) -> None:
    """RuntimeError: cancelled, though nobody asked for it. That is a bug, and is told as one."""
    try:
        await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("cancelled by nobody") from None


async def supervise(begin: Begin, told: asyncio.Event, name: str) -> None:
    """Log a bug whole, and begin anew. `told`: to end: a bug may hide that it was cancelled."""
    log = structlog.get_logger(name)
    attempt = 0
    while not told.is_set():
        try:
            await for_ever(begin())
        except Exception:
            log.exception("a bug; the part begins anew")
        await asyncio.sleep(RETRY.delay_s(attempt, 0.0))
        attempt += 1


async def end(close: Callable[[], Awaitable[None]], within_s: float) -> None:
    """Let a part of a library end in a task of its own, or leave it to itself after a while."""
    ending = asyncio.get_running_loop().create_task(_await(close))
    try:
        await asyncio.wait([ending], timeout=within_s)
    finally:
        ending.cancel()
    if ending.done() and not ending.cancelled():
        ending.result()


def at_signal(stop: Callable[[], None]) -> None:
    """Call it when the process is told to end: SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def _await(close: Callable[[], Awaitable[None]]) -> None:
    await close()
