"""Ingest's receipts reach the broker, or stay in Kafka until they do. In virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.mail import Mail
from gateway.metrics import Metrics
from gateway.ports import Letter, Trouble
from gateway.standing import Standing
from tests.support.gateway_fakes import ANSWERS_MAX, FakeIntake, FakeLetterbox, LoopClock


def letters(count: int, first: int = 0) -> list[Letter]:
    return [Letter("plant1.a", b"%d" % number) for number in range(first, first + count)]


@asynccontextmanager
async def running(intake: FakeIntake, letterbox: FakeLetterbox) -> AsyncIterator[Standing]:
    clock, metrics = LoopClock(), Metrics()
    standing = Standing(clock, metrics)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Mail(letterbox, intake, standing, metrics, clock).run())
        await asyncio.sleep(0.1)
        yield standing
        task.cancel()


async def opened() -> FakeIntake:
    intake = FakeIntake()
    await intake.open()
    return intake


async def test_what_the_broker_took_is_never_brought_again() -> None:
    intake, letterbox = await opened(), FakeLetterbox()
    async with running(intake, letterbox):
        letterbox.post(*letters(3))
        await asyncio.sleep(0.1)
        assert intake.sent == letters(3)
        assert letterbox.kept == []


async def test_nothing_is_said_to_be_sent_before_the_broker_took_it() -> None:
    intake, letterbox = await opened(), FakeLetterbox()
    intake.keeps_answers = True
    async with running(intake, letterbox):
        letterbox.post(*letters(3))
        await asyncio.sleep(60)
        assert letterbox.kept == letters(3)
        intake.take_answers()
        await asyncio.sleep(0.1)
        assert letterbox.kept == []


async def test_while_the_broker_is_away_receipts_wait_in_kafka() -> None:
    intake, letterbox = FakeIntake(), FakeLetterbox()
    async with running(intake, letterbox):
        letterbox.post(*letters(3))
        await asyncio.sleep(120)
        assert letterbox.kept == letters(3)
        await intake.open()
        await asyncio.sleep(20)
        assert (intake.sent, letterbox.kept) == (letters(3), [])


async def test_a_connection_lost_halfway_means_all_of_them_again() -> None:
    intake, letterbox = await opened(), FakeLetterbox()
    intake.keeps_answers = True
    async with running(intake, letterbox):
        letterbox.post(*letters(2))
        await asyncio.sleep(0.1)
        intake.cut()
        await intake.open()
        intake.keeps_answers = False
        await asyncio.sleep(20)
        assert intake.sent == [*letters(2), *letters(2)]
        assert letterbox.kept == []


async def test_more_than_the_broker_takes_at_once_waits_its_turn() -> None:
    intake, letterbox = await opened(), FakeLetterbox()
    intake.keeps_answers = True
    async with running(intake, letterbox):
        letterbox.post(*letters(ANSWERS_MAX + 10))
        await asyncio.sleep(1)
        assert len(intake.sent) == ANSWERS_MAX
        intake.keeps_answers = False
        intake.take_answers()
        await asyncio.sleep(1)
        assert intake.sent == letters(ANSWERS_MAX + 10)


async def test_a_lost_kafka_is_named_and_read_again_from_what_was_not_sent() -> None:
    intake, letterbox = await opened(), FakeLetterbox()
    async with running(intake, letterbox) as standing:
        letterbox.post(*letters(1))
        await asyncio.sleep(0.1)
        letterbox.refuses = Trouble("kafka_down", "away")
        letterbox.break_down()
        await asyncio.sleep(1)
        assert standing.health().state == "receipts_down"
        letterbox.post(*letters(1, first=1))
        letterbox.refuses = None
        await asyncio.sleep(20)
        assert standing.health().state != "receipts_down"
        assert intake.sent == letters(2)
