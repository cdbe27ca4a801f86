"""A library that cancels its own tasks cancels none of ours; nobody's cancelling is a bug."""

import asyncio
import itertools

import pytest
from aiokafka import errors
from structlog.testing import capture_logs

from cloud import kafka_log
from protocols.tasks import end, for_ever, supervise


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
        await for_ever(awaits_what_it_cancelled())


async def test_a_task_that_somebody_cancelled_ends() -> None:
    running = asyncio.get_running_loop().create_task(for_ever(asyncio.sleep(3600)))
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_how_aiokafka_ends_is_no_matter() -> None:
    async def fails() -> None:
        raise errors.KafkaConnectionError("gone")

    await kafka_log.end(fails, 5.0)
    with pytest.raises(errors.KafkaConnectionError):
        await end(fails, 5.0)


async def test_a_bug_is_logged_whole_and_the_part_begins_anew() -> None:
    told = asyncio.Event()
    began: list[float] = []

    async def part() -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) < 3:
            raise ValueError(f"bug {len(began)}")
        await asyncio.sleep(3600)

    with capture_logs() as logs:
        running = asyncio.get_running_loop().create_task(supervise(part, told, "test"))
        await asyncio.sleep(60)
    assert [later - one for one, later in itertools.pairwise(began)] == [0.5, 1.0]
    assert [one["event"] for one in logs] == ["a bug; the part begins anew"] * 2
    assert all(one["exc_info"] for one in logs)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_bug_that_hides_the_cancelling_begins_nothing_anew() -> None:
    told = asyncio.Event()
    began: list[int] = []

    async def part() -> None:
        began.append(1)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ValueError("a bug") from None

    running = asyncio.get_running_loop().create_task(supervise(part, told, "test"))
    await asyncio.sleep(1)
    told.set()
    running.cancel()
    with capture_logs():
        await running
    assert began == [1]
