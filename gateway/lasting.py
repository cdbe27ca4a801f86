"""Tasks that are to run for ever, and parts of a library that do not end well.

A library may cancel tasks of its own and await them: what comes out of that passes for a
cancelling of whoever asked, and a task would end without a word.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine


async def for_ever(work: Coroutine[None, None, None]) -> None:
    """RuntimeError: cancelled, though nobody asked for it. That is a bug, and is told as one."""
    try:
        await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("cancelled by nobody") from None


async def end(close: Callable[[], Awaitable[None]], within_s: float) -> None:
    """Let a part of a library end in a task of its own, or leave it to itself after a while."""
    ending = asyncio.get_running_loop().create_task(_await(close))
    try:
        await asyncio.wait([ending], timeout=within_s)
    finally:
        ending.cancel()
    if ending.done() and not ending.cancelled():
        ending.result()


async def _await(close: Callable[[], Awaitable[None]]) -> None:
    await close()
