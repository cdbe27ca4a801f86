"""Send what waits in a spool, without any device: before a box is switched off or taken away.

It opens nothing but the spool and the way up. It never deletes: what no receipt closes stays in
the spool, whatever the time is.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge.outbox import SpoolOutbox

SAY_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is not known as stored, and what the uplink says of itself meanwhile."""

    frames: int
    rows: int
    uplink: str


@dataclass(frozen=True, slots=True)
class Drained:
    """`stored`, `rejected`: entries answered so. Rejected ones are in the quarantine."""

    before: Waiting
    left: Waiting
    stored: int
    rejected: int


async def drain(
    outbox: SpoolOutbox, timeout_s: float, told: asyncio.Event, say: Callable[[Waiting], None]
) -> Drained:
    """Until nothing waits, the time is over or `told` is set; then the outbox is closed.

    `say` hears every two seconds how far it has come.
    """
    before = look(outbox)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(outbox.run())
        helpers = [tasks.create_task(_tell(outbox, say)), tasks.create_task(told.wait())]
        emptied = tasks.create_task(outbox.emptied())
        ends = [emptied, helpers[-1]]
        await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        uplink = outbox.status().uplink  # later it is closed, which says nothing
        for task in (*helpers, emptied):
            task.cancel()
        await outbox.drain_and_stop()
        await running
    left = look(outbox)
    counted = outbox.status().counters
    return Drained(
        before,
        Waiting(left.frames, left.rows, uplink),
        counted.get("frames_stored", 0),
        counted.get("frames_rejected", 0),
    )


def look(outbox: SpoolOutbox) -> Waiting:
    held = outbox.holdings
    frames = sum(one.waiting_frames for one in held)
    return Waiting(frames, sum(one.waiting_rows for one in held), outbox.status().uplink)


async def _tell(outbox: SpoolOutbox, say: Callable[[Waiting], None]) -> None:
    while True:
        await asyncio.sleep(SAY_EVERY_S)
        say(look(outbox))
