"""What is done to a line that must lose nothing: killed, stopped, cut off, at moments of a seed.

A plan is made before the run and tells all of it: the same seed does the same things at the same
moments, as far as the machine keeps them.
"""

import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush

from tests.support.line import Line
from tests.support.links import Links

BEGIN, END = 0.08, 0.8  # of the time: the line is up, and gets a while to recover
LONG_STOP = 0.25  # of all stops: longer than sessions and leases live
KILLS_AWAY_S = (0.0, 2.0)
STOPS_S = (0.5, 4.0)
LONG_STOPS_S = (11.0, 14.0)
CUTS_S = (0.0, 3.0)


class Blow(StrEnum):
    KILL = "kill"  # -9, and started again
    STOP = "stop"  # SIGSTOP, SIGCONT
    CUT = "cut"  # every connection of a wire is reset, and refused until it is mended
    HANG = "hang"  # nothing passes a wire and nobody is told; then what was under way is lost


@dataclass(frozen=True, order=True)
class Step:
    """`whom`: a part of the line, or one of its wires."""

    at_s: float
    blow: Blow
    whom: str
    for_s: float


def plan(seed: int, seconds: float, parts: Sequence[str], wires: Sequence[str]) -> list[Step]:
    """Every part killed and stopped once, every wire cut once and hung once, in any order."""
    draw = random.Random(seed)  # noqa: S311 - a test's dice
    dealt = [(blow, part) for part in parts for blow in (Blow.KILL, Blow.STOP)]
    dealt += [(blow, wire) for wire in wires for blow in (Blow.CUT, Blow.HANG)]
    return sorted(
        Step(draw.uniform(BEGIN, END) * seconds, blow, whom, _length(draw, blow))
        for blow, whom in dealt
    )


def strike(line: Line, steps: Sequence[Step], seconds: float) -> None:
    """Do it all, and return when the time is over and everything runs.

    What begins late, since a server took its time to come back, ends as much later.
    """
    begun = time.monotonic()
    due = [(step.at_s, number, False) for number, step in enumerate(steps)]
    while due:
        at_s, number, has_begun = heappop(due)
        time.sleep(max(0.0, begun + at_s - time.monotonic()))  # the moment is the condition
        act = _Act(line, steps[number])
        if has_begun:
            act.end()
        else:
            act.begin()
            heappush(due, (time.monotonic() - begun + steps[number].for_s, number, True))
    time.sleep(max(0.0, begun + seconds - time.monotonic()))


def _length(draw: random.Random, blow: Blow) -> float:
    if blow is Blow.KILL:
        return draw.uniform(*KILLS_AWAY_S)
    if blow is Blow.STOP:
        return draw.uniform(*(LONG_STOPS_S if draw.random() < LONG_STOP else STOPS_S))
    return draw.uniform(*CUTS_S)


class _Act:
    """The beginning or the end of a step."""

    def __init__(self, line: Line, step: Step) -> None:
        self._line = line
        self._step = step

    def begin(self) -> None:
        line, step = self._line, self._step
        match step.blow:
            case Blow.KILL:
                line.kill(step.whom)
            case Blow.STOP:
                line.send(step.whom, signal.SIGSTOP)
            case Blow.CUT:
                _wires(line).all[step.whom].cut()
            case Blow.HANG:
                _wires(line).all[step.whom].hang()

    def end(self) -> None:
        line, step = self._line, self._step
        match step.blow:
            case Blow.KILL:
                line.restart(step.whom)
            case Blow.STOP:
                line.send(step.whom, signal.SIGCONT)
            case Blow.CUT:
                _wires(line).all[step.whom].mend()
            case Blow.HANG:
                _wires(line).all[step.whom].lose()
                _wires(line).all[step.whom].mend()


def _wires(line: Line) -> Links:
    assert line.links is not None
    return line.links
