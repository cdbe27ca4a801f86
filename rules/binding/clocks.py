"""The PLC's clock against the agent's, learnt from hand-shakes. Pure arithmetic on µs.

A result that the PLC dates `t` is ready no earlier than t, and is seen by polling a little later:
its clock is behind ours by at most seen - t, and by at least unseen - t if it is told at once.
A clock that is set is believed again after as many hand-shakes as there are bounds, or at once if
what it says has become impossible.
"""

from dataclasses import dataclass, field
from typing import Final

BOUNDS_KEPT: Final = 8
PLAUSIBLE_US: Final = 86_400_000_000  # a time further from the agent's is no time at all


@dataclass(slots=True)
class ClockState:
    """The newest bounds of agent - PLC, as (lowest or None, highest)."""

    bounds: list[tuple[int | None, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Offset:
    """Agent's clock - PLC's clock, as near to none as the bounds allow."""

    offset_us: int
    error_us: int


def learn(state: ClockState, plc_us: int, seen_us: int, unseen_us: int | None) -> Offset | None:
    """Take the bounds of one hand-shake. None: this PLC's time is not to be believed."""
    lowest = None if unseen_us is None else unseen_us - plc_us
    state.bounds = [*state.bounds[1 - BOUNDS_KEPT :], (lowest, seen_us - plc_us)]
    known = _known(state)
    if not -PLAUSIBLE_US <= plc_us + known.offset_us - seen_us <= known.error_us:
        state.bounds = state.bounds[-1:]  # the PLC's clock was set
        known = _known(state)
    return known if abs(plc_us + known.offset_us - seen_us) <= PLAUSIBLE_US else None


def _known(state: ClockState) -> Offset:
    highest = min(high for _, high in state.bounds)
    lows = [low for low, _ in state.bounds if low is not None and low <= highest]
    if not lows:
        return Offset(min(0, highest), abs(highest))
    lowest = max(lows)
    return Offset(min(max(0, lowest), highest), highest - lowest)
