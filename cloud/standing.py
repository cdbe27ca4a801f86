"""How ingest stands: which part keeps it from working, since when, and when it last wrote.

Rule 1: one log line down and one up per part, whatever happens in between.
Rule 2: healthy means that what came in was confirmed by the database, not that a process lives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from cloud.clock import Clock

RUNNING: Final = "running"
STARTING: Final = "starting"
STALE_S: Final = 60.0  # records waiting this long without a confirmed write are no health


@dataclass(frozen=True, slots=True)
class Health:
    """What a probe is told. `age_s`: of the last confirmed write; None: none since the start."""

    healthy: bool
    state: str
    reason: str
    last_write_at: datetime | None
    age_s: float | None
    waiting: int

    def as_json(self) -> dict[str, Any]:
        at = self.last_write_at
        return {
            "healthy": self.healthy,
            "state": self.state,
            "reason": self.reason,
            "last_write_at": None if at is None else at.isoformat(),
            "last_write_age_s": self.age_s,
            "waiting_records": self.waiting,
        }


class Standing:
    """One per process. `on_change` hears every new state."""

    def __init__(self, clock: Clock, on_change: Callable[[str], None] = lambda _: None) -> None:
        self._clock = clock
        self._on_change = on_change
        self._down: dict[str, tuple[str, str]] = {}
        self._started: set[str] = set()
        self._log = structlog.get_logger("cloud.ingest")
        self._last_write_at: datetime | None = None
        self._last_write_s: float | None = None
        self._waiting_since_s: float | None = None
        self._waiting = 0

    @property
    def state(self) -> str:
        for state, _ in self._down.values():
            return state
        return RUNNING if self._started else STARTING

    def down(self, part: str, state: str, reason: str) -> None:
        """Log the first line; the reason of a state that stays is only remembered."""
        before = self._down.get(part)
        self._down[part] = state, reason
        if before is None or before[0] != state:
            self._log.warning("down", part=part, state=state, reason=reason)
            self._on_change(self.state)

    def up(self, part: str) -> None:
        was = self._down.pop(part, None)
        if was is not None or part not in self._started:
            self._started.add(part)
            self._log.info("up", part=part)
            self._on_change(self.state)

    def begin(self) -> None:
        """What was taken before is no longer waited for: its senders send it again."""
        self._waiting = 0

    def took(self, records: int) -> None:
        if self._waiting == 0:
            self._waiting_since_s = self._clock.monotonic_s()
        self._waiting += records

    def wrote(self, records: int) -> None:
        """These records are confirmed."""
        self._waiting -= records
        self._last_write_at = self._clock.now()
        self._last_write_s = self._waiting_since_s = self._clock.monotonic_s()

    def health(self) -> Health:
        now = self._clock.monotonic_s()
        reason = next((reason for _, reason in self._down.values()), "")
        age = None if self._last_write_s is None else now - self._last_write_s
        since = self._waiting_since_s
        stuck = self._waiting > 0 and since is not None and now - since > STALE_S
        if stuck and not reason:
            reason = f"{self._waiting} records wait without a confirmed write"
        healthy = self.state == RUNNING and not stuck
        return Health(healthy, self.state, reason, self._last_write_at, age, self._waiting)
