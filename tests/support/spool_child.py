"""A process that writes a spool until it is killed: `python -m tests.support.spool_child FOLDER 1`.

It prints the number of each cut once its hand-over said synced: what it printed must be there.
With `careless` behind it commits without syncing: a bug planted to see that a test finds it.
"""

import asyncio
import secrets
import sys
from pathlib import Path
from typing import Any

from edge.cut import Full, Handover
from edge.database import Database
from edge.retention import Limits
from edge.spool import Spool
from edge.spool_folder import SpoolFolder
from edge.writer import Writer
from protocols.driver import Clock
from tests.support import cuts
from tests.support.real_clock import RealClock

MIB = 1024 * 1024


async def write(folder: Path, first: int) -> None:
    clock: Clock = RealClock()
    disk = SpoolFolder(folder, clock.now_us)
    spool = Spool(
        disk.open().store, "plant1.a", lambda: secrets.randbits(64), Limits(bytes_max=64 * MIB)
    )
    writer = Writer(spool, disk, clock)
    number = first
    async with asyncio.TaskGroup() as tasks:
        while True:
            try:
                handover = writer.put(cuts.cut(number, cuts.rows(number, 50), events=2))
            except Full:
                await writer.room()
                continue
            tasks.create_task(tell(handover, number))
            number += 1
            await asyncio.sleep(0.001)


async def tell(handover: Handover, number: int) -> None:
    await handover.wait_synced()
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def plant_commit_without_sync() -> None:
    set_up = Database._set_up

    def careless(database: Database) -> None:
        set_up(database)
        database._db.execute("PRAGMA synchronous = OFF")

    database_type: Any = Database
    database_type._set_up = careless


if __name__ == "__main__":
    if "careless" in sys.argv[3:]:
        plant_commit_without_sync()
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
