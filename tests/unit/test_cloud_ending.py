"""A library that cancels its own tasks cancels none of ours; nobody's cancelling is a bug."""

import asyncio

import pytest

from cloud.ingest import _for_ever
from cloud.kafka_log import end


async def awaits_what_it_cancelled() -> None:
    inner = asyncio.get_running_loop().create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    inner.cancel()
    await inner


async def test_what_a_library_cancels_while_it_ends_is_its_own_affair() -> None:
    await end(awaits_what_it_cancelled, 5.0)


async def test_an_end_that_never_comes_is_not_waited_for() -> None:
    await end(lambda: asyncio.sleep(3600), 5.0)
    assert asyncio.get_running_loop().time() < 60


async def test_a_bug_in_an_end_is_told() -> None:
    async def fails() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await end(fails, 5.0)


async def test_who_is_cancelled_while_it_waits_for_an_end_is_cancelled() -> None:
    waiting = asyncio.get_running_loop().create_task(end(lambda: asyncio.sleep(3600), 60.0))
    await asyncio.sleep(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_task_that_nobody_cancelled_does_not_end_without_a_word() -> None:
    with pytest.raises(RuntimeError, match="cancelled by nobody"):
        await _for_ever(awaits_what_it_cancelled())


async def test_a_task_that_somebody_cancelled_ends() -> None:
    running = asyncio.get_running_loop().create_task(_for_ever(asyncio.sleep(3600)))
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
