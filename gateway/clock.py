"""The gateway's clock and dice: the only place in it where time and chance come from."""

import random
import time
from datetime import UTC, datetime


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the clock that others are handed

    def monotonic_s(self) -> float:
        return time.monotonic()

    def draw(self) -> float:
        """A random number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter
