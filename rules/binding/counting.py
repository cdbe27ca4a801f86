"""The PLC's counter, unwrapped: which pass this is, and which ones nobody saw.

Rule 1: the same count is the same pass; forward is the next one, what it leaves out is a gap.
Rule 2: back is a wrap if it leaves out at most `jump_max` counts, else a reset: a new series.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from rules.binding.plan import KeyPlan

Draw: TypeAlias = Callable[[], int]
UNKNOWN_MANY: Final = 2**31  # cycles that nobody saw


@dataclass(frozen=True, slots=True)
class Tokens:
    """`series`: random 64 bit, drawn by the caller. `request`: the next request's number."""

    series: Draw
    request: Draw


@dataclass(frozen=True, slots=True)
class Count:
    """A pass of a nest: `count` unwrapped; `raw` as read, None where the agent counts."""

    series: int
    count: int
    raw: int | None = None


class Step(Enum):
    FIRST = "first"
    SAME = "same"
    NEXT = "next"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Counted:
    """`missed`: first and last count without a pass."""

    count: Count
    step: Step
    missed: tuple[int, int] | None = None


def count_on(last: Count | None, raw: int, key: KeyPlan, draw: Draw) -> Counted:
    """`draw` is asked only where a series begins."""
    raw %= key.modulus
    if last is None or last.raw is None:
        return Counted(Count(draw(), raw, raw), Step.FIRST)
    forward = (raw - last.raw) % key.modulus
    if forward == 0:
        return Counted(last, Step.SAME)
    if raw < last.raw and forward > key.jump_max:
        return Counted(Count(draw(), raw, raw), Step.RESET)
    count = last.count + forward
    missed = (last.count + 1, count - 1) if forward > 1 else None
    return Counted(Count(last.series, count, raw), Step.NEXT, missed)


def left_out(before: Count | None, count: Count | None) -> int:
    """How many cycles between two counts nobody saw; of two series nobody knows."""
    if before is None or count is None or before.series != count.series:
        return UNKNOWN_MANY
    return max(0, count.count - before.count - 1)


def forked(last: Count | None, draw: Draw) -> Count | None:
    """The same place in a new series: what the other one counts under the old is not ours."""
    return None if last is None else Count(draw(), last.count, last.raw)
