"""Cycles that came and went while nobody looked: a gap soon after the silence, not with a pass.

Never more than telling early: what the next pass is, how it counts and whose it is stays the same,
and a pass that comes after all takes its count out of the gap.
"""

from typing import Final

from protocols.events import GapEvent
from rules.binding.counting import Step, count_on
from rules.binding.cycling import EdgesState, Level
from rules.binding.numbering import heard_times
from rules.binding.plan import EdgesPlan, KeyPlan
from rules.binding.telling import Cycle, Teller

STOOD_US: Final = 2_000_000  # some PLCs count before they show the start


def overlooked_gap(teller: Teller, state: EdgesState, cycle: EdgesPlan) -> GapEvent | None:
    """The counts that nobody saw. None: there are none, or a cycle may be running."""
    key, last = cycle.key, state.last
    if key is None or last is None or last.raw is None or state.forked:
        return None
    stood = _stood(state, cycle, key)
    if stood is None:
        return None
    raw, since_us = stood
    counted = count_on(last, raw, key, _no_series)
    missed = untold(state, (last.count + 1, counted.count.count))
    if counted.step is not Step.NEXT or missed is None:
        return None
    state.overlooked_to = missed[1]
    seen = Cycle(None, since_us, since_us, since_us, since_us)
    gap = teller.tell_gap(counted.count, missed, seen, state.last_end_us)
    text = f"the counter went from {missed[0] - 1} to {missed[1]} while nothing was read"
    return gap.model_copy(update={"reason": text})


def untold(state: EdgesState, missed: tuple[int, int]) -> tuple[int, int] | None:
    """What of these counts was not told as a gap before."""
    first = max(missed[0], (state.overlooked_to or 0) + 1)
    return (first, missed[1]) if first <= missed[1] else None


def _stood(state: EdgesState, cycle: EdgesPlan, key: KeyPlan) -> tuple[int, int] | None:
    """The counter after a silence, and since when it and both bits stand while nothing runs."""
    if state.open or state.closings or state.starts or state.ends:
        return None
    heard_us = max(heard_times(state, cycle), default=0)
    if state.last_end_us is None or heard_us <= state.last_end_us:
        return None
    sources = (cycle.start.source, cycle.end.source, key.count)
    start, end, count = (state.levels.get(one.path) or Level() for one in sources)
    if start.value == int(cycle.start.to) and end.value != int(cycle.end.to):
        return None
    levels = (start, end, count)
    since_us = max(heard_us, *(level.changed_us or 0 for level in levels))
    if count.value is None or min(level.good_us or 0 for level in levels) < since_us + STOOD_US:
        return None
    return count.value, since_us


def _no_series() -> int:
    """A counter that was reset: its series begins with its first pass."""
    return 0
