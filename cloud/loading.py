"""A file into the database, batch by batch, with what became of its lines. Used by `cloud load`."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Final

from cloud import migrate
from cloud.clock import Clock
from cloud.db import connect_async
from cloud.load import LINES_MAX, Answer, Speaker, Status, take
from cloud.load_files import read_lines
from protocols.printing import shown

SHOWN_MAX: Final = 200


class Report:
    """Counts lines, tells refused ones (or as JSON all of them) as they come."""

    def __init__(self, say: Callable[[str], None], complain: Callable[[str], None]) -> None:
        self._say = say
        self._complain = complain
        self.counts: Counter[Status] = Counter()

    @property
    def refused(self) -> int:
        return self.counts[Status.REFUSED]

    def take(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self.counts[answer.status] += 1
            if answer.status is Status.REFUSED and self.refused <= SHOWN_MAX:
                self._tell(answer)

    def take_as_json(self, answers: Iterable[Answer]) -> None:
        """One object a line."""
        for answer in answers:
            self.counts[answer.status] += 1
            self._say(json.dumps(asdict(answer), ensure_ascii=False))

    def sum_up(self) -> None:
        if self.refused > SHOWN_MAX:
            self._complain(f"… and {self.refused - SHOWN_MAX} more lines refused")
        counted = ", ".join(f"{self.counts[one]} {one}" for one in Status)
        self._say(f"{self.counts.total()} lines: {counted}")

    def _tell(self, answer: Answer) -> None:
        for fault in answer.faults:
            where = " ".join(filter(None, (answer.kind, fault.field)))
            self._complain(f"line {answer.number}: {shown(where)}: {shown(fault.reason)}")


async def load_file(
    dsn: str, file: Path, clock: Clock, heard: Callable[[Sequence[Answer]], None]
) -> None:
    """Batches are committed one by one; a run that was broken off is simply run again."""
    lines = read_lines(file)
    connection = await connect_async(dsn, application="threadline load")
    try:
        await migrate.check(connection)
        while batch := list(islice(lines, LINES_MAX)):
            heard(await take(connection, batch, Speaker(), clock.now()))
    finally:
        await connection.close()
