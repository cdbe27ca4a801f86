"""How long to wait before the next try. Pure: the caller brings the random number and waits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first_s` to `limit_s`, each cut by up to `jitter` of itself."""

    first_s: float = 0.5
    limit_s: float = 30.0
    jitter: float = 0.3

    def delay_s(self, attempt: int, draw: float) -> float:
        """Seconds before try number `attempt` (from 0); `draw` is a random number in [0, 1)."""
        doublings = min(attempt, 62)  # a float holds 2**62; any limit is reached long before
        whole = min(self.limit_s, self.first_s * float(2**doublings))
        return whole * (1.0 - self.jitter * draw)


class Tries:
    """Counts tries in a row that failed. One that lasted before it failed begins the count anew."""

    def __init__(self, backoff: Backoff, lasting_s: float) -> None:
        self._backoff = backoff
        self._lasting_s = lasting_s
        self._failed = 0
        self._begun_s = 0.0

    def begin(self, now_s: float) -> None:
        self._begun_s = now_s

    def pause_s(self, now_s: float, draw: float) -> float:
        """Seconds until the next one, now that this one has failed."""
        if now_s - self._begun_s > self._lasting_s:
            self._failed = 0
        delay_s = self._backoff.delay_s(self._failed, draw)
        self._failed += 1
        return delay_s
