"""What an agent may speak of: patterns over stations. Pure.

A station is `line/station`. In a pattern `*` stands for anything within one level, `**` for
anything at all: `L1/**`, `L*/ST010`, `**`.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from protocols.errors import ConfigError, Problem

PATTERN_CHARS_MAX: Final = 255
_PATTERN: Final = re.compile(r"[^\s/\x00]+(/[^\s/\x00]+)*")


def covers(scope: Sequence[str], station: str) -> bool:
    """Whether any of the patterns takes the station in."""
    return any(_compiled(pattern).fullmatch(station) for pattern in scope)


def checked(patterns: Iterable[str]) -> tuple[str, ...]:
    """The patterns as they are. ConfigError: some can never match a station."""
    found = tuple(dict.fromkeys(patterns))
    problems = [
        Problem(
            "--scope",
            repr(pattern),
            "is not a pattern over stations",
            "Write line/station with * or **, for example L1/**.",
        )
        for pattern in found
        if len(pattern) > PATTERN_CHARS_MAX or not _PATTERN.fullmatch(pattern)
    ]
    if not found:
        problems.append(
            Problem(
                "--scope", "", "no pattern is given", "Say what it may speak of: --scope 'L1/**'."
            )
        )
    if problems:
        raise ConfigError(problems)
    return found


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    wild = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts), re.DOTALL)
