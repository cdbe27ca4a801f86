"""What every letterbox of the gateway does: the real one out of Kafka, and the fake."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import count

import pytest

from gateway.kafka_access import KafkaAccess
from gateway.kafka_receipts import KafkaLetterbox
from gateway.ports import Letter, Letterbox, Trouble
from tests.support.gateway_fakes import FakeLetterbox
from tests.support.kafka_client import make_topic, write

TOPIC = "tl.receipts"
_groups = count(1)


@dataclass
class Rig:
    letterbox: Letterbox
    post: Callable[..., None]


@contextlib.asynccontextmanager
async def real(bootstrap: str) -> AsyncIterator[Rig]:
    await asyncio.to_thread(make_topic, bootstrap, TOPIC)
    letterbox = KafkaLetterbox(KafkaAccess(bootstrap), f"letterbox{next(_groups)}")

    def post(*letters: Letter) -> None:
        write(bootstrap, TOPIC, [(one.agent.encode(), one.receipt) for one in letters])

    try:
        yield Rig(letterbox, post)
    finally:
        await letterbox.close()


@pytest.fixture(params=["fake", pytest.param("kafka", marks=pytest.mark.integration)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "fake":
        letterbox = FakeLetterbox()
        yield Rig(letterbox, letterbox.post)
        return
    async with real(request.getfixturevalue("kafka").bootstrap) as made:
        yield made


def letters(count: int, name: str) -> list[Letter]:
    return [Letter(f"{name}.a", b"%d" % number) for number in range(count)]


async def take(letterbox: Letterbox, wanted: int) -> list[Letter]:
    taken: list[Letter] = []
    async with asyncio.timeout(30):
        while len(taken) < wanted:
            taken += await letterbox.take()
    return taken


async def begun(rig: Rig) -> None:
    """A new group begins with what comes from now on: its first letter says that it listens."""
    await rig.letterbox.open()
    waiting = asyncio.ensure_future(rig.letterbox.take())  # noqa: TID251 - ends with the test
    async with asyncio.timeout(30):
        while not waiting.done():
            await asyncio.to_thread(rig.post, Letter("begin.a", b""))
            await asyncio.wait([waiting], timeout=0.5)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while True:
                await rig.letterbox.take()
    await rig.letterbox.sent()


async def test_receipts_come_in_order(rig: Rig) -> None:
    await begun(rig)
    await asyncio.to_thread(rig.post, *letters(100, "order"))
    assert await take(rig.letterbox, 100) == letters(100, "order")


async def test_what_was_not_said_to_be_sent_comes_again(rig: Rig) -> None:
    await begun(rig)
    await asyncio.to_thread(rig.post, *letters(5, "again"))
    await take(rig.letterbox, 5)
    await rig.letterbox.close()
    await rig.letterbox.open()
    assert await take(rig.letterbox, 5) == letters(5, "again")


async def test_what_was_sent_never_comes_again(rig: Rig) -> None:
    await begun(rig)
    await asyncio.to_thread(rig.post, *letters(5, "sent"))
    await take(rig.letterbox, 5)
    await asyncio.sleep(1.1)  # offsets are committed once a second at most
    await rig.letterbox.sent()
    await rig.letterbox.close()
    await rig.letterbox.open()
    await asyncio.to_thread(rig.post, *letters(2, "later"))
    assert await take(rig.letterbox, 2) == letters(2, "later")


async def test_closed_it_gives_nothing(rig: Rig) -> None:
    await rig.letterbox.open()
    await rig.letterbox.close()
    with pytest.raises(Trouble):
        await rig.letterbox.take()
    await rig.letterbox.close()
