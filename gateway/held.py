"""What was taken and is not acknowledged yet: in which order it may be, and how much it is. Pure.

Rule 1: a message is let go in order of receipt, when its record is confirmed and so are all before.
Rule 2: a record that is not confirmed can be written again, in order, as often as is needed.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.ports import Message, Record

_NEVER: Final = object()


class Held:
    """One per bridge; messages of several connections may be in it. Times in seconds, given."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._unconfirmed: dict[Record, None] = {}
        self._size = 0
        self._since_s: float | None = None

    @property
    def size(self) -> int:
        """Bytes of messages that are not acknowledged."""
        return self._size

    @property
    def messages(self) -> int:
        return len(self._messages)

    @property
    def unconfirmed(self) -> Sequence[Record]:
        """In order of receipt."""
        return tuple(self._unconfirmed)

    def waiting_s(self, now_s: float) -> float:
        """How long records have waited without any confirmation; 0: none waits."""
        return 0.0 if self._since_s is None else now_s - self._since_s

    def oldest_s(self, now_s: float) -> float:
        """For how long the first of the unconfirmed records waits; 0: none waits."""
        for record in self._unconfirmed:
            return now_s - record.taken_s
        return 0.0

    def add(self, messages: Iterable[Message], records: Iterable[Record], now_s: float) -> None:
        """In order of receipt; a message without a record is done already."""
        for message in messages:
            self._messages.append(message)
            self._size += len(message.data)
        for record in records:
            record.taken_s = now_s
            self._unconfirmed[record] = None
        if self._unconfirmed and self._since_s is None:
            self._since_s = now_s

    def confirm(self, records: Iterable[Record], now_s: float) -> None:
        """A record said twice is no matter."""
        for record in records:
            if self._unconfirmed.pop(record, _NEVER) is None:
                record.message.is_done = True
        self._since_s = now_s if self._unconfirmed else None

    def release(self) -> Sequence[Message]:
        """Whose turn it is to be acknowledged, in order; they are no longer held."""
        ready: list[Message] = []
        messages = self._messages
        while messages and messages[0].is_done:
            ready.append(messages.popleft())
        self._size -= sum(len(message.data) for message in ready)
        return ready
