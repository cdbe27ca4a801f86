"""The plant's clocks: monotonic time for order and distance, UTC for the journal. Both in µs."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Two readings of now; tests pass a virtual pair."""

    mono_us: Callable[[], int]
    utc_us: Callable[[], int]


def system_clock() -> Clock:
    return Clock(
        mono_us=lambda: time.monotonic_ns() // 1000,
        utc_us=lambda: time.time_ns() // 1000,
    )
