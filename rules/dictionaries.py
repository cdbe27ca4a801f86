"""What is worked out once per dictionary of tags, remembered by the dictionary's identity."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from protocols.samples import Tag

T = TypeVar("T")
DICTIONARIES_MAX: Final = 256  # the poller has one dictionary per group; others come and go


class PerDictionary(Generic[T]):
    """`learn` runs when a dictionary is new; a dictionary is never changed after it was made."""

    def __init__(self, learn: Callable[[tuple[Tag, ...]], T]) -> None:
        self._learn = learn
        self._known: dict[int, tuple[tuple[Tag, ...], T]] = {}

    def of(self, tags: tuple[Tag, ...]) -> T:
        known = self._known.get(id(tags))
        if known is None or known[0] is not tags:
            if len(self._known) >= DICTIONARIES_MAX:
                self._known.clear()
            known = self._known[id(tags)] = (tags, self._learn(tags))
        return known[1]
