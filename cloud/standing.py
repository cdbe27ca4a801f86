"""How ingest stands: which part keeps it from working, since when, and when it last wrote.

Rule 1: one log line down and one up per part, whatever happens in between.
Rule 2: healthy means that what came in was confirmed by the database, not that a process lives.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from cloud.clock import Clock
from protocols.probes import Health

RUNNING: Final = "running"
STARTING: Final = "starting"
STALE_S: Final = 60.0  # records waiting this long without a confirmed write are no health


@dataclass(slots=True)
class _Waiting:
    """Records of one line that are taken and not confirmed."""

    records: int = 0
    since_s: float = 0.0


@dataclass(slots=True)
class _Shared:
    """What all lines of a process show together."""

    down: dict[str, tuple[str, str]] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    last_write_at: datetime | None = None
    last_write_s: float | None = None


class Standing:
    """One per process, with a view for each line. `on_change` hears every new state."""

    def __init__(
        self,
        clock: Clock,
        on_change: Callable[[str], None] = lambda _: None,
        line: str = "",
        shared: _Shared | None = None,
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._line = line
        self._shared = shared or _Shared()
        self._log = structlog.get_logger("cloud.ingest")

    def of_line(self, line: str) -> "Standing":
        """The same standing, seen by one of several lines: its parts are told apart by its name."""
        return Standing(self._clock, self._on_change, line, self._shared)

    @property
    def state(self) -> str:
        for state, _ in self._shared.down.values():
            return state
        return RUNNING if self._shared.started else STARTING

    def down(self, part: str, state: str, reason: str) -> None:
        """Log the first line; the reason of a state that stays is only remembered."""
        name = self._name(part)
        before = self._shared.down.get(name)
        self._shared.down[name] = state, reason
        if before is None or before[0] != state:
            self._log.warning("down", part=name, state=state, reason=reason)
            self._on_change(self.state)

    def up(self, part: str) -> None:
        name = self._name(part)
        was = self._shared.down.pop(name, None)
        if was is not None or name not in self._shared.started:
            self._shared.started.add(name)
            self._log.info("up", part=name)
            self._on_change(self.state)

    def begin(self) -> None:
        """What was taken before is no longer waited for: its senders send it again."""
        self._shared.waiting[self._line] = _Waiting()

    def took(self, records: int) -> None:
        waiting = self._waiting
        if waiting.records == 0:
            waiting.since_s = self._clock.monotonic_s()
        waiting.records += records

    def wrote(self, records: int) -> None:
        """These records are confirmed."""
        waiting = self._waiting
        waiting.records -= records
        waiting.since_s = self._clock.monotonic_s()
        self._shared.last_write_at = self._clock.now()
        self._shared.last_write_s = waiting.since_s

    def gave_up(self, records: int) -> None:
        """These are another's by now."""
        self._waiting.records -= records

    def health(self) -> Health:
        shared = self._shared
        now = self._clock.monotonic_s()
        reason = next((reason for _, reason in shared.down.values()), "")
        age = None if shared.last_write_s is None else now - shared.last_write_s
        lines = shared.waiting.values()
        records = sum(line.records for line in lines)
        stuck = any(line.records > 0 and now - line.since_s > STALE_S for line in lines)
        if stuck and not reason:
            reason = f"{records} records wait without a confirmed write"
        healthy = self.state == RUNNING and not stuck
        last = shared.last_write_at
        return Health(healthy, self.state, reason, last, age, records, "records")

    @property
    def _waiting(self) -> _Waiting:
        return self._shared.waiting.setdefault(self._line, _Waiting())

    def _name(self, part: str) -> str:
        return f"{part} of {self._line}" if self._line else part
