"""The agent's clock: UTC that never runs backwards, and the day before which it is not set.

The only module of the edge that asks the system for the time. It never waits.
"""

import time
from collections.abc import Callable
from typing import Final

import structlog

# No agent was ever built before this day: an earlier clock has not been set since power-on.
CLOCK_SET_FROM_US: Final = 1_735_689_600_000_000  # 2025-01-01
_log = structlog.get_logger("edge.clock")
_SLEW: Final = 0.1
_FOLLOW_AT_ONCE_US: Final = 60_000_000


class SystemClock:
    """UTC for rows and frames, monotonic seconds for schedules.

    When the system's clock is set back, ours goes on at nine tenths of its speed until both agree:
    a watermark that was given stays true. A step back of more than a minute is a clock that was
    wrong before: it is followed at once and counted in `steps_back`.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._last_us = wall_ns() // 1000
        self._at_ns = monotonic_ns()
        self.steps_back = 0

    def now_us(self) -> int:
        wall_us = self._wall_ns() // 1000
        at_ns = self._monotonic_ns()
        slowest_us = self._last_us + int((at_ns - self._at_ns) / 1000 * (1 - _SLEW))
        if wall_us < self._last_us - _FOLLOW_AT_ONCE_US:
            self.steps_back += 1
            _log.warning("clock set back", by_s=round((self._last_us - wall_us) / 1e6))
            self._last_us = wall_us
        else:
            self._last_us = max(wall_us, slowest_us)
        self._at_ns = at_ns
        return self._last_us

    def monotonic_s(self) -> float:
        return self._monotonic_ns() / 1e9


def is_set(now_us: int) -> bool:
    """False: whoever gave this time has not been told the date yet."""
    return now_us >= CLOCK_SET_FROM_US
