"""How the gateway stands: which part keeps it from working, since when, and when it last wrote.

Rule 1: one log line down and one up per part, whatever happens in between.
Rule 2: healthy means that what came in was confirmed by Kafka, not that a process lives.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

import structlog

from gateway.clock import Clock
from gateway.metrics import Metrics
from protocols.probes import Health

STALE_S: Final = 60.0  # messages waiting this long without a confirmed write are no health


class Part(StrEnum):
    """What can be down by itself. The order is the order in which a state is told."""

    KAFKA = "kafka"
    BROKER = "broker"
    RECEIPTS = "receipts"
    PROBES = "probes"


class Standing:
    """One per process; the metrics hear of every change."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._down: dict[Part, tuple[str, str]] = {}
        self._up: set[Part] = set()
        self._log = structlog.get_logger("gateway")
        self._last_write_at: datetime | None = None
        self._last_write_s: float | None = None
        self._waiting_since_s: float | None = None
        self._waiting = 0

    @property
    def state(self) -> str:
        for part in Part:
            if part in self._down:
                return self._down[part][0]
        return "running" if {Part.KAFKA, Part.BROKER} <= self._up else "starting"

    def is_down(self, part: Part) -> bool:
        return part in self._down

    def down(self, part: Part, state: str, reason: str) -> None:
        """Log the first line; the reason of a state that stays is only remembered."""
        before = self._down.get(part)
        self._down[part] = state, reason
        if before is None or before[0] != state:
            self._log.warning("down", part=part.value, state=state, reason=reason)
            self._metrics.state.state(self.state)

    def up(self, part: Part) -> None:
        was = self._down.pop(part, None)
        if was is not None or part not in self._up:
            self._up.add(part)
            self._log.info("up", part=part.value)
            self._metrics.state.state(self.state)

    def begin(self) -> None:
        """What was taken before is no longer waited for: its senders send it again."""
        self._waiting = 0

    def took(self, messages: int) -> None:
        if self._waiting == 0:
            self._waiting_since_s = self._clock.monotonic_s()
        self._waiting += messages

    def wrote(self, messages: int) -> None:
        """Records of so many messages are confirmed."""
        self._waiting -= messages
        self._last_write_at = self._clock.now()
        self._last_write_s = self._waiting_since_s = self._clock.monotonic_s()
        self._metrics.last_write.set(self._last_write_at.timestamp())

    def health(self) -> Health:
        now_s = self._clock.monotonic_s()
        reason = next((self._down[part][1] for part in Part if part in self._down), "")
        age_s = None if self._last_write_s is None else now_s - self._last_write_s
        since_s = self._waiting_since_s
        stuck = self._waiting > 0 and since_s is not None and now_s - since_s > STALE_S
        if stuck and not reason:
            reason = f"{self._waiting} messages wait without a confirmed write"
        healthy = self.state == "running" and not stuck
        last = self._last_write_at
        return Health(healthy, self.state, reason, last, age_s, self._waiting, "messages")
