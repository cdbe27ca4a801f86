"""Which value of the PLC's counter is a cycle's, whether the PLC counts at its start or at its end.

Rule 1: a start that was seen tells it: the counter changed with it, or it did not. What was seen of
    whole cycles is remembered for those whose start was not.
Rule 2: where nothing tells, there is no number: the count becomes a gap, never another cycle's.
"""

from dataclasses import dataclass

from protocols.events import EndedBy
from rules.binding.cycling import Closing, EdgesState, Open
from rules.binding.plan import EdgesPlan, KeyPlan
from rules.binding.rows import Past, Reading


@dataclass(frozen=True, slots=True)
class Numbering:
    """Of one nest with a counter; `past` is the counter's."""

    cycle: EdgesPlan
    key: KeyPlan
    state: EdgesState
    past: Past

    def own(self, open_: Open) -> int | None:
        """What the counter shows of this cycle while it runs. None: nothing yet, or not known."""
        if open_.number is not None or open_.raw is None:
            return open_.number
        if self.state.last is not None and open_.raw == self.state.last.raw:
            return None
        return open_.raw if self._counts_at_start(open_) else None

    def expected(self, open_: Open) -> int | None:
        """What this cycle is or will be counted as. None: not known."""
        own = self.own(open_)
        if own is not None or open_.raw is None:
            return own
        at_end = self._counts_at_start(open_) is False
        return (open_.raw + 1) % self.key.modulus if at_end else None

    def ended(self, closing: Closing) -> int | None:
        """The number of a cycle that ended. None: not known yet, or never."""
        row = self.past.after(closing.ended_us)
        after = None if self._is_late(row, closing) else self.read(row)
        if closing.across_silence:
            return after
        own = self.own(closing.cycle)
        if own is not None or closing.ended_by is EndedBy.TIMEOUT:
            return own
        return after if closing.ended_by is EndedBy.END else self._passed(closing.cycle, after)

    def _counts_at_start(self, open_: Open) -> bool | None:
        """As seen of this cycle, unless that contradicts what was seen of whole ones."""
        learnt = self.state.counts_at_start
        if open_.before_raw is None:
            return learnt
        seen = open_.raw != open_.before_raw
        return seen if learnt in (None, seen) else None

    def _passed(self, open_: Open, after: int | None) -> int | None:
        """The number of a cycle that the next one ended: counted, if the counter went past it."""
        expected = self.expected(open_)
        if expected is None:
            return after if open_.raw == after else None
        return None if after in (None, open_.raw) else expected

    def is_settled(self, closing: Closing) -> bool:
        """Whether later rows can tell nothing more."""
        if closing.ended_by is EndedBy.TIMEOUT or self.ended(closing) is not None:
            return True
        return self._is_late(self.past.after(closing.ended_us), closing)

    def learn(self, closing: Closing) -> None:
        """When this PLC counts, from a cycle that was seen whole."""
        before, raw = closing.cycle.before_raw, closing.cycle.raw
        after = self.read(self.past.after(closing.ended_us))
        whole = closing.ended_by is EndedBy.END and not closing.across_silence
        if not whole or None in (before, raw, after):
            return
        if before != raw == after:
            self.state.counts_at_start = True
        elif before == raw != after:
            self.state.counts_at_start = False

    def read(self, row: Reading | None) -> int | None:
        return None if row is None else int(row.value) % self.key.modulus

    def _is_late(self, row: Reading | None, closing: Closing) -> bool:
        """A row after the end, when the next cycle may have counted on."""
        state, ended_us = self.state, closing.ended_us
        if closing.ended_by not in (EndedBy.END, EndedBy.TIMEOUT):
            return False
        if row is None or row.time_us == ended_us:
            return False
        begun = [one.cycle.begun_us for one in state.closings]
        begun += [state.open.begun_us] if state.open is not None else []
        times = (*begun, *heard_times(state, self.cycle))
        unheard = not heard_until(state, self.cycle, row.time_us) or self._skipped(row, ended_us)
        return unheard or any(ended_us < time_us <= row.time_us for time_us in times)

    def _skipped(self, row: Reading, ended_us: int) -> bool:
        """The counter was silent after the end and went on by more than this one cycle."""
        silence_us, last = self.key.count.silence_us, self.state.last
        if not silence_us or row.time_us <= ended_us + silence_us:
            return False
        return last is None or last.raw is None or self._went_on(last.raw, row) > 1

    def _went_on(self, raw: int, row: Reading) -> int:
        return (int(row.value) - raw) % self.key.modulus


def numbering_of(cycle: EdgesPlan, state: EdgesState, pasts: dict[str, Past]) -> Numbering | None:
    """None: no counter."""
    if cycle.key is None:
        return None
    return Numbering(cycle, cycle.key, state, pasts.setdefault(cycle.key.count.path, Past()))


def covered_until(state: EdgesState, cycle: EdgesPlan) -> int | None:
    """Up to here no further start or end can show. None: not known yet."""
    sources = (cycle.start.source, cycle.end.source)
    waited = [one for one in sources if one.wait_us]
    levels = [state.levels.get(one.path) for one in waited or sources]
    times = [level.at_us for level in levels if level and level.at_us is not None]
    if not waited:  # only subscribed tags, which say nothing while they do not change
        return max(times, default=None)
    return min(times) if len(times) == len(levels) else None


def heard_from(state: EdgesState, cycle: EdgesPlan, from_us: int, to_us: int) -> bool:
    """Whether no cycle can have been overlooked: start and end told from then to then."""
    times = heard_times(state, cycle)
    return bool(times) and max(times) <= from_us and heard_until(state, cycle, to_us)


def heard_until(state: EdgesState, cycle: EdgesPlan, time_us: int) -> bool:
    """Whether neither start nor end is silent at that time."""
    polled = [one for one in (cycle.start.source, cycle.end.source) if one.silence_us]
    levels = [state.levels.get(one.path) for one in polled]
    return all(
        level is not None
        and level.good_us is not None
        and level.good_us >= time_us - one.silence_us
        for one, level in zip(polled, levels, strict=True)
    )


def heard_times(state: EdgesState, cycle: EdgesPlan) -> list[int]:
    """Since when start and end have told without a silence."""
    paths = {cycle.start.source.path, cycle.end.source.path}
    levels = [state.levels.get(path) for path in sorted(paths)]
    return [level.heard_us for level in levels if level and level.heard_us is not None]
