"""The five answers to a failure, each named after what the caller does next.

    Problem                     one mistake in what a user wrote, with its way out
    Failure
    ├── ConfigError             refuse to start, print every problem, exit 2
    ├── Disconnected            the peer is gone: reopen with back-off
    ├── Busy                    the peer says later: wait, the queue fills, the spool absorbs
    └── Rejected                this data will never be taken: dead letter, go on

Anything else is a bug. A tag that cannot be read is no failure at all: it travels as a BAD sample.
"""

from collections.abc import Iterable
from dataclasses import dataclass


class Failure(Exception):
    """Root of what a caller is expected to handle."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it stands (`file: path.to.key`), the value, why, the way out."""

    where: str
    value: str
    why: str
    remedy: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.where}{shown}: {self.why}. {self.remedy}".rstrip()


class ConfigError(Failure):
    """What the user wrote cannot work; carries all problems at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Disconnected(Failure):
    """The peer is gone. `code` is the protocol's own code or ours, as it goes on BAD samples."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        self.reason = reason
        self.code = code
        super().__init__(reason)


class Busy(Failure):
    """The peer is there and says later."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class Rejected(Failure):
    """This data will never be taken. `rows` names the offending rows; empty means all of it."""

    def __init__(self, reason: str, rows: tuple[int, ...] = ()) -> None:
        self.reason = reason
        self.rows = rows
        super().__init__(reason)
