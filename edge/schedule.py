"""When a group is due: a grid on the monotonic clock that never drifts. Pure; the poller waits.

Rule 1: slot k of a group is due at origin + phase + k · interval, whatever happened to slot k - 1.
Rule 2: a slot that is still waiting when the next one is due is an overrun: counted, never made up.
Rule 3: every slot is exactly one of started, overrun or down.
"""

import hashlib
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

_BUCKETS: Final = 80
_FIRST_S: Final = 1e-5
_GROWTH: Final = 1.25  # 80 buckets of 25 % reach from 10 µs to about 9 minutes


class Histogram:
    """Durations in buckets of 25 %: bounded memory, percentiles to that precision."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0

    def add(self, duration_s: float) -> None:
        at = 0
        if duration_s > _FIRST_S:
            at = min(_BUCKETS - 1, math.ceil(math.log(duration_s / _FIRST_S, _GROWTH)))
        self._counts[at] += 1
        self.count += 1

    def percentile_s(self, percent: float) -> float:
        """Upper edge of the bucket that holds this percentile; 0 without any duration."""
        if not self.count:
            return 0.0
        rank = math.ceil(self.count * percent / 100)
        seen = enumerate(accumulate(self._counts))
        return _FIRST_S * _GROWTH ** next(at for at, below in seen if below >= rank)


@dataclass(slots=True)
class Counters:
    """Slots of one group since the agent started: scheduled = started + overruns + down.

    `finished`: reads that the device answered. `down`: slots that passed while it was away.
    """

    scheduled: int = 0
    started: int = 0
    finished: int = 0
    overruns: int = 0
    down: int = 0


def phase_s(device: str, group: str, interval_s: float) -> float:
    """A fixed place within the interval, from the names alone: the same after every restart.

    A device has one phase and its groups follow each other from there in thousandths, because
    its reads are serial anyway; devices spread over the whole interval.
    """
    spread = (_fraction(device) + _fraction(f"{device}/{group}") / 1000) % 1.0
    return spread * interval_s


class GroupSchedule:
    """One group's place on the grid and what became of its slots."""

    def __init__(self, interval_s: float, phase_s: float, origin_s: float) -> None:
        self.interval_s = interval_s
        self.counters = Counters()
        self.jitter = Histogram()
        self.duration = Histogram()
        self._first_s = origin_s + phase_s
        self._slot = 0
        self._started_s = origin_s
        self._finished_s: float | None = None

    @property
    def due_s(self) -> float:
        """When the next slot is due. Multiplied, never summed: rounding does not add up."""
        return self._first_s + self._slot * self.interval_s

    def is_due(self, now_s: float) -> bool:
        return self._passed(now_s) > 0

    def start(self, now_s: float) -> None:
        """The latest slot that is due starts now; those before it were missed."""
        missed = self._passed(now_s) - 1
        if missed < 0:
            raise ValueError("a slot cannot start before it is due")
        self.counters.overruns += missed
        self._slot += missed
        self.jitter.add(now_s - self.due_s)
        self._slot += 1
        self.counters.scheduled += missed + 1
        self.counters.started += 1
        self._started_s = now_s

    def finish(self, now_s: float) -> None:
        """The read that started was answered."""
        self.counters.finished += 1
        self._finished_s = now_s
        self.duration.add(now_s - self._started_s)

    def stay_away(self, now_s: float) -> None:
        """The device is not there: slots due by now are counted and let go."""
        passed = self._passed(now_s)
        self.counters.scheduled += passed
        self.counters.down += passed
        self._slot += passed

    def age_s(self, now_s: float) -> float | None:
        """Since the last answer; None: there was none yet."""
        return None if self._finished_s is None else now_s - self._finished_s

    def _passed(self, now_s: float) -> int:
        """How many slots from the next one on are due."""
        late = (now_s - self.due_s) / self.interval_s
        # A wait may end on the very edge: a millionth of an interval early is in time.
        return max(0, math.floor(late + 1e-6) + 1)


def _fraction(name: str) -> float:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "big") / 2**48
