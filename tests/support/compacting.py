"""Frames that grow old in a ledger, and one compaction of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from cloud.compaction import Compacted, Run, compact
from cloud.db import AsyncConnection, connect_async
from protocols.events import from_us
from protocols.frames import Frame, Lane
from protocols.notices import Hello, LaneState
from protocols.samples import DataType
from tests.support.frames import AgentVoice, sample
from tests.support.plant_store import Bench

T0 = 1_790_000_000_000_000
MINUTE_US = 60_000_000
KEEP = timedelta(days=14)
ROWS = 5


def seal(voice: AgentVoice, *, lane: Lane = Lane.LIVE, minutes: int = 7) -> Frame:
    """Rows of their own values, sealed some minutes after the frame before."""
    voice.now_us += minutes * MINUTE_US
    rows = [sample(f"d.x{n}", DataType.INT32, voice.now_us - n, n) for n in range(ROWS)]
    return voice.samples(rows, lane=lane, filtered=1)


def spoken(epoch: int = 0xABC) -> AgentVoice:
    """Early enough that hours of frames are not ahead of the clock."""
    return AgentVoice(epoch=epoch, now_us=T0 - 24 * 60 * MINUTE_US)


async def say_hello(bench: Bench, voice: AgentVoice, *lanes: LaneState) -> None:
    voice.now_us += MINUTE_US
    at = from_us(voice.now_us)
    hello = Hello(agent=voice.agent, epoch=voice.epoch, at=at, lanes=lanes)
    await bench.send(voice.hello(hello))


def floor(voice: AgentVoice, seq: int, *, lane: Lane = Lane.LIVE) -> LaneState:
    return LaneState(epoch=voice.epoch, lane=lane, floor=seq, head=voice.seqs.get(lane, 0))


def grow_old(bench: Bench, days: int = 15) -> None:
    bench.connection.execute(
        "update ledger set received_at = now() - %s * interval '1 day'", [days]
    )


@asynccontextmanager
async def compactor(dsn: str) -> AsyncIterator[AsyncConnection]:
    connection = await connect_async(dsn, application="threadline compaction")
    try:
        yield connection
    finally:
        await connection.close()


async def compacted(dsn: str, *, frames_max: int = 1000) -> Compacted:
    async with compactor(dsn) as connection:
        done = await compact(connection, KEEP, frames_max=frames_max)
    assert done is not None
    return done


def ranges(bench: Bench) -> list[Run]:
    found = bench.rows("select seq_from, seq_to from ledger_range order by lane_id, seq_from")
    return [Run(*row) for row in found]


def left(bench: Bench) -> list[int]:
    return [seq for (seq,) in bench.rows("select seq from ledger order by lane_id, seq")]


async def sent(
    bench: Bench, count: int, *, below: int | None = None
) -> tuple[AgentVoice, list[Frame]]:
    """`count` frames, stored; then a hello that holds nothing below `below` (None: holds none)."""
    voice = spoken()
    frames = [seal(voice) for _ in range(count)]
    await bench.send(*frames)
    await say_hello(bench, voice, floor(voice, count + 1 if below is None else below))
    return voice, frames
