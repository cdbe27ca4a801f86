"""What is between Kafka and ingest: records waiting to be handed out, and those handed out. Pure.

Rule 1: whatever was read in an earlier turn is forgotten with it: it will be read again.
Rule 2: of what waits the more urgent topic comes first, whichever was read first.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from cloud.source import Appetite, Part, Record


class Desk:
    """A turn begins with every new sharing out of the parts."""

    def __init__(self, topics: Sequence[str]) -> None:
        """`topics`: the most urgent first."""
        self._topics = tuple(topics)
        self.renew()

    def renew(self) -> None:
        self._turn = object()  # equal to no other, of whatever desk
        self._waiting: dict[str, deque[Record]] = {topic: deque() for topic in self._topics}
        self._after: dict[Part, int] = {}
        self._taken: dict[Part, int] = {}
        self._under_way = 0
        self._bytes = 0

    @property
    def turn(self) -> object:
        return self._turn

    @property
    def bytes_under_way(self) -> int:
        return self._bytes

    @property
    def is_quiet(self) -> bool:
        """Everything handed out was answered for."""
        return self._under_way == 0

    @property
    def is_empty(self) -> bool:
        return not any(self._waiting.values())

    def waiting(self, topic: str) -> int:
        return len(self._waiting[topic])

    def begin(self, part: Part, after: int) -> None:
        """Of this part the database holds `after`."""
        self._after[part] = after

    def after(self, part: Part) -> int:
        return self._after[part]

    def put(self, record: Record, part: Part, offset: int) -> None:
        self._waiting[part.topic].append(record)
        self._after[part] = offset + 1

    def pop(self, appetite: Appetite) -> list[Record]:
        """Within the appetite, but one at least if there is any."""
        taken: list[Record] = []
        size = 0
        for waiting in self._waiting.values():
            while waiting and len(taken) < appetite.records:
                size += len(waiting[0].data)
                if taken and size > appetite.size:
                    break
                taken.append(waiting.popleft())
        self._under_way += len(taken)
        self._bytes += sum(len(record.data) for record in taken)
        return taken

    def holds(self, records: Iterable[Record]) -> bool:
        return all(record.token is self._turn for record in records)

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Of this turn; the others are passed over."""
        for record in records:
            if record.token is self._turn and record.place is not None:
                self._under_way -= 1
                self._bytes -= len(record.data)
                self._taken[record.place.part] = record.place.offset + 1

    def newly_taken(self) -> dict[Part, int]:
        """The next offsets of parts that moved since this was asked last."""
        taken, self._taken = self._taken, {}
        return taken
