"""Cycles that ended, until all that belongs to them has come; then they are told, in their order.

A pass without a number is a gap, never a guess. An end that was seen after a silence may be a later
cycle's: then the one that ran before has lost its end.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from protocols.events import EndedBy, PassEvent
from rules.binding.closing import Ended, late_reads, lost_part, name_late
from rules.binding.counting import UNKNOWN_MANY, Count, Step, Tokens, count_on, forked, left_out
from rules.binding.cycling import Closing, EdgesState, Open, use_reads
from rules.binding.late import LateReads
from rules.binding.numbering import Numbering, covered_until, heard_from, numbering_of
from rules.binding.overlooked import overlooked_gap, untold
from rules.binding.plan import EdgesPlan, KeyPlan
from rules.binding.rows import Past, Reading
from rules.binding.telling import Call, Teller, conditions_of, watch_condition

GRACE_US: Final = 2_000_000  # batches may wait so long in the channel behind the poller
WAIT_MAX_US: Final = 10_000_000
CLOSINGS_MAX: Final = 4


class Endings:
    """Of one nest. The state is passed in with every call."""

    def __init__(self, teller: Teller, cycle: EdgesPlan, tokens: Tokens, late: LateReads) -> None:
        self._teller = teller
        self._cycle = cycle
        self._tokens = tokens
        self._late = late
        self._waited = [one for one in teller.plan.sources if not one.read and one.wait_us]

    def tell_ready(self, state: EdgesState, call: Call) -> None:
        while state.closings:
            full = len(state.closings) > CLOSINGS_MAX
            if not (full or self._is_complete(state, state.closings[0], call)):
                return
            self._finish(state, state.closings.pop(0), call)

    def tell_all(self, state: EdgesState, call: Call) -> None:
        """Whatever has not come yet."""
        while state.closings:
            self._finish(state, state.closings.pop(0), call)

    def tell_overlooked(self, state: EdgesState, call: Call) -> None:
        gap = overlooked_gap(self._teller, state, self._cycle)
        call.told.events += [gap] if gap is not None else []

    def tell_open(self, state: EdgesState, call: Call) -> None:
        """Only with a number that is surely this cycle's, and after all cycles before."""
        open_ = state.open
        if open_ is None or open_.opened or open_.started_us is None or state.closings:
            return
        if open_.count is None:
            open_.count = self._number_open(state, open_, call)
        if open_.count is not None:
            open_.opened = True
            event = self._teller.tell_open(open_.count, open_.started_us, open_.error_us)
            call.told.events.append(event)

    def name_late(self, state: EdgesState, call: Call) -> None:
        """Nothing started since: a late read can only be of the last, unnamed pass."""
        unnamed, items = state.unnamed, self._teller.plan.items
        if unnamed is None or items is None or state.open or state.closings or state.starts:
            return
        reads = late_reads(self._teller, state, unnamed, unnamed.until_us)
        before_us = items.before_us or 0
        covered_us = covered_until(state, self._cycle) or 0
        if not heard_from(state, self._cycle, unnamed.ended_us, covered_us):
            state.unnamed = None
        elif reads and covered_us > reads[0][0].at_us + before_us:
            call.told.events.append(name_late(self._teller, state, unnamed, reads[0]))
            state.unnamed = None
            self._watch(state, call, ("unnamed", None), reads[0][0].at_us)
        elif not reads and call.now_us > unnamed.until_us + before_us + GRACE_US:
            state.unnamed = None

    def _is_complete(self, state: EdgesState, closing: Closing, call: Call) -> bool:
        """Every tag has told until the end, the late read is there, and the number is known."""
        waited_us = call.now_us - closing.ended_us
        waits = [one for one in self._waited if not _covers(call.pasts, one.path, closing.ended_us)]
        longest_us = max((one.wait_us for one in waits), default=0)
        told = not waits or waited_us > longest_us + GRACE_US
        known = (
            told
            and not self._late.is_under_way(closing)
            and self._is_numbered(state, closing, call)
        )
        return known or not -GRACE_US <= waited_us <= WAIT_MAX_US

    def _is_numbered(self, state: EdgesState, closing: Closing, call: Call) -> bool:
        numbering = numbering_of(self._cycle, state, call.pasts)
        return numbering is None or closing.cycle.count is not None or numbering.is_settled(closing)

    def _finish(self, state: EdgesState, closing: Closing, call: Call) -> None:
        numbering = numbering_of(self._cycle, state, call.pasts)
        count, missed = closing.cycle.count, self._overlooked(state, closing)
        if count is None and numbering is not None:
            raw = numbering.ended(closing)
            numbering.learn(closing)
            closing = self._without_the_lost(state, closing, numbering, call)
            count, missed = self._count(state, closing, raw, call)
        read = self._late.take(closing, count.raw if count else None)
        if count is None:
            self._drop(state, closing, call)
        else:
            self._watch(state, call, ("counter", None), closing.ended_us)
            self._tell(state, (closing, count, missed), read, call)

    def _drop(self, state: EdgesState, closing: Closing, call: Call) -> None:
        """Without a number there is no pass; its reads are used up all the same."""
        text = f"a cycle ended ({closing.ended_by}) and the counter did not go on"
        begun = closing.cycle.started_us is not None
        self._watch(state, call, ("counter", text if begun else None), closing.ended_us)
        state.last_end_us = closing.ended_us
        use_reads(state, closing.ended_us)

    def _without_the_lost(
        self, state: EdgesState, closing: Closing, numbering: Numbering, call: Call
    ) -> Closing:
        """Tells the cycle that ran before a silence, unless the end is its own."""
        cycle = closing.cycle
        ran = cycle.begun_us < closing.ended_us
        expected, number = numbering.expected(cycle), numbering.ended(closing)
        if not (closing.across_silence and ran) or (number is not None and expected == number):
            return closing
        lost = lost_part(closing)
        count, missed = self._count(state, lost, expected, call)
        if count is not None:
            self._tell(state, (lost, count, missed), {}, call)
        return replace(closing, cycle=Open(closing.ended_us, None, restarted=True))

    def _count(
        self, state: EdgesState, closing: Closing, raw: int | None, call: Call
    ) -> tuple[Count | None, int]:
        """The pass's count, and how many nobody saw before it: a gap."""
        before, key = state.last, self._cycle.key
        if raw is None or key is None:
            return None, 0
        count = self._take_count(state, closing, (raw, key), call)
        return count, left_out(before, count)

    def _take_count(
        self, state: EdgesState, closing: Closing, of: tuple[int, KeyPlan], call: Call
    ) -> Count | None:
        raw, key = of
        draw = self._tokens.series
        counted = count_on(state.last, raw, key, draw)
        if state.forked and counted.step is not Step.SAME:
            state.forked = False
            counted = count_on(forked(state.last, draw), raw, key, draw)
        if counted.step is Step.SAME:
            return None
        if counted.step is not Step.NEXT:
            state.overlooked_to = None
        missed = untold(state, counted.missed) if counted.missed is not None else None
        if missed is not None:
            cycle = Ended(self._teller, state, closing, {}, {}).cycle()
            gap = self._teller.tell_gap(counted.count, missed, cycle, state.last_end_us)
            call.told.events.append(gap)
        state.last = counted.count
        return counted.count

    def _number_open(self, state: EdgesState, open_: Open, call: Call) -> Count | None:
        numbering = numbering_of(self._cycle, state, call.pasts)
        own = numbering.own(open_) if numbering is not None else None
        return self._count(state, Closing(open_, open_.begun_us, EndedBy.END), own, call)[0]

    def _overlooked(self, state: EdgesState, closing: Closing) -> int:
        """Where nothing counts: none, if start and end told all the time since the last one.

        Of one whose end was not seen, since it surely ran.
        """
        heard_us, last_us = closing.cycle.heard_us, state.reads_to_us
        sure = heard_us is not None and last_us is not None and heard_us <= last_us
        return 0 if sure else UNKNOWN_MANY

    def _tell(
        self,
        state: EdgesState,
        of: tuple[Closing, Count, int],
        read: Mapping[str, Reading],
        call: Call,
    ) -> None:
        closing, count, missed = of
        ended = Ended(self._teller, state, closing, call.pasts, read)
        events, record = ended.tell(count, missed)
        call.told.events += events
        call.told.curves += record.curves
        state.last_end_us = closing.ended_us
        event = next(one for one in events if isinstance(one, PassEvent))
        for condition in conditions_of(event):
            self._watch(state, call, condition, closing.ended_us)

    def _watch(
        self, state: EdgesState, call: Call, condition: tuple[str, str | None], at_us: int
    ) -> None:
        watch_condition(state.raised, self._teller, call.told, condition, at_us)


def _covers(pasts: dict[str, Past], path: str, time_us: int) -> bool:
    past = pasts.get(path)
    return past is not None and past.covers(time_us)
