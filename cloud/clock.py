"""The system's clock and dice, in one place; everything else is given them."""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall time to stamp with, monotonic time to wait by, a number in [0, 1) to spread by."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the injected clock

    def monotonic_s(self) -> float:
        return time.monotonic()

    def draw(self) -> float:
        return random.random()  # noqa: S311 - jitter
