"""Writes that may only go out when their cause is synced: *taken* of a mailbox.

It owns the order of waiting. It never decides what is written.
"""

import asyncio
from collections import deque
from typing import NamedTuple

from edge.channel import Channel, Unwritten
from edge.cut import Handover, NotKept
from edge.requests import Desk
from rules.ports import WriteRequest


class _Due(NamedTuple):
    handover: Handover
    writes: tuple[WriteRequest, ...]


class AfterCommit:
    """Bounded by the binder, which has at most a few writes open per station."""

    def __init__(self, channel: Channel, desk: Desk) -> None:
        self._channel = channel
        self._desk = desk
        self._due: deque[_Due] = deque()
        self._filled = asyncio.Event()

    def add(self, handover: Handover, writes: tuple[WriteRequest, ...]) -> None:
        if writes:
            self._due.append(_Due(handover, writes))
            self._filled.set()

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            while self._due:
                await self._release(self._due.popleft())
            self._filled.clear()

    async def _release(self, due: _Due) -> None:
        try:
            await due.handover.wait_synced()
        except NotKept as why:
            for write in due.writes:
                self._channel.say(Unwritten(write.token, f"not kept: {why}"))
        else:
            for write in due.writes:
                self._desk.write(write)
