"""One nest whose cycles are seen by the edges of two bits.

    idle     start ▶ running           end ▶ a pass whose start was not seen
    running  end ▶ closing             start, timeout, counter went on ▶ closing, its end unseen
    closing  every row that belongs to it has come, or its time is up ▶ the pass is told

Rule 1: changes are taken in order of time once the tags they could contradict have a later row; of
    two between the same polls, the one that fits the state comes first.
Rule 2: passes are told in the order of their ends; a pass without a count is a gap, never a guess.
"""

from protocols.events import EndedBy
from protocols.samples import SampleBatch
from rules.binding.counting import Count, Tokens
from rules.binding.cycling import (
    Change,
    Closing,
    EdgesState,
    Open,
    becomes,
    begin_values,
    break_values,
    extend_values,
    queue,
    set_clock_back,
    take_level,
    triggered_values,
    use_reads,
)
from rules.binding.ending import GRACE_US, Endings
from rules.binding.late import LateReads
from rules.binding.numbering import covered_until, heard_from, heard_times, numbering_of
from rules.binding.plan import EdgesPlan, Source
from rules.binding.readers import polled_witnesses, take_row
from rules.binding.rows import Past, Reading
from rules.binding.telling import Call, Teller

Pasts = dict[str, Past]


class EdgesNest:
    """Rows of polled tags in; passes, and reads of what is read at the end, out."""

    def __init__(self, teller: Teller, cycle: EdgesPlan, tokens: Tokens, epoch: int) -> None:
        self.state = EdgesState()
        self._plan = teller.plan
        self._cycle = cycle
        self._tokens = tokens
        self._late = LateReads(cycle, tokens)
        self._endings = Endings(teller, cycle, tokens, self._late)
        self._witnesses = polled_witnesses(teller.plan)
        self._triggers = triggered_values(teller.plan)
        self._watched = {one.path: one for one in self._levels()}
        self._own_series = epoch
        self._stepped = False  # the agent's clock went back: nothing waits for later rows

    def fork(self) -> None:
        self.state.forked = True

    def restart(self, from_us: int, call: Call) -> None:
        """Nothing was read for a while. Without a counter nobody knows whether it is one cycle."""
        self._late.clear()
        for closing in self.state.closings:
            break_values(closing.cycle)
        if self.state.open is None:
            return
        break_values(self.state.open)
        if self._cycle.key is None:
            ended_us = max(self.state.open.begun_us, from_us)
            self._close(Change(ended_us, ended_us), EndedBy.RESTART, call.pasts)
            self.state.swallow_end = True

    def on_clock_set_back(self, call: Call) -> None:
        """All that waits is decided with the rows there are: later ones have earlier times."""
        self._stepped = True
        self._decide(call.pasts)
        self._endings.tell_all(self.state, call)
        set_clock_back(self.state, self._watched.values(), call.now_us)

    def on_written(self, token: int, call: Call) -> None:
        """This nest writes nothing."""

    def on_write_failed(self, token: int, call: Call) -> None:
        """This nest writes nothing."""

    @property
    def keep_from_us(self) -> int | None:
        """Rows from here on are still needed. None: nothing was seen yet."""
        state = self.state
        times = [closing.ended_us for closing in state.closings]
        times += [head.at_us for head in self._heads().values()]
        if state.open is not None:
            times += state.open.awaited.values()
        covered_us = covered_until(self.state, self._cycle)
        return min([*times, covered_us]) if covered_us is not None else None

    def on_row(self, path: str, row: Reading, call: Call) -> None:  # noqa: ARG002 - same for every nest
        state = self.state
        take_row(state.texts, self._witnesses, path, row)
        source = self._watched.get(path)
        if source is None:
            return
        level = state.levels.get(path)
        self._stepped |= level is not None and row.time_us < (level.at_us or row.time_us)
        change = take_level(state, source, row)
        if change is None:
            return
        key = self._cycle.key
        if becomes(self._cycle.start, path, change):
            queue(state.starts, change)
        if becomes(self._cycle.end, path, change):
            queue(state.ends, change)
        if key is not None and key.count.path == path:
            queue(state.counts, change)
        for value in self._triggers:
            if value.trigger is not None and becomes(value.trigger, path, change):
                queue(state.triggers.setdefault(value.label, []), change)

    def settle(self, call: Call) -> None:
        """Decide all that can be decided with the rows there are."""
        self._decide(call.pasts)
        covered_us = covered_until(self.state, self._cycle)
        if covered_us is not None:
            self._advance(covered_us, call.pasts)
        self._stepped = False
        self._notice_count(call.pasts)
        if self._plan.open:
            self._endings.tell_open(self.state, call)
        self._late.ask(self.state.closings, call)
        self._endings.tell_ready(self.state, call)
        self._endings.tell_overlooked(self.state, call)

    def on_tick(self, call: Call) -> None:
        self.settle(call)
        open_ = self.state.open
        max_us = self._cycle.max_us
        if (
            open_ is not None
            and max_us is not None
            and call.now_us > open_.begun_us + max_us + GRACE_US
        ):
            ended_us = open_.begun_us + max_us
            self._close(Change(ended_us, ended_us), EndedBy.TIMEOUT, call.pasts)
            self.state.swallow_end = self._cycle.key is None
            self.settle(call)
        self._endings.name_late(self.state, call)

    def on_read(self, token: int, batches: tuple[SampleBatch, ...], call: Call) -> None:
        self._late.on_read(token, batches)
        self.settle(call)

    def on_read_failed(self, token: int, call: Call) -> None:
        self._late.on_read_failed(token, call.now_us)
        self.settle(call)

    # What changed, in order of time.

    def _decide(self, pasts: Pasts) -> None:
        while (change := self._next_change()) is not None:
            self._take_change(*change, pasts)

    def _levels(self) -> list[Source]:
        cycle = self._cycle
        own = [cycle.start.source, cycle.end.source]
        triggers = [value.trigger.source for value in self._triggers if value.trigger]
        return [*own, *triggers, *([cycle.key.count] if cycle.key else [])]

    def _heads(self) -> dict[str, Change]:
        state = self.state
        queues = {"end": state.ends, "start": state.starts, "count": state.counts}
        return {name: changes[0] for name, changes in queues.items() if changes}

    def _next_change(self) -> tuple[str, Change] | None:
        running = self.state.open is not None
        heads = self._heads()
        if running and "count" in heads and not self._levels_known(heads["count"].at_us):
            del heads["count"]
        if not heads:
            return None
        first = min(heads.values(), key=lambda change: change.at_us)
        covered_us = covered_until(self.state, self._cycle)
        if not self._stepped and (covered_us is None or first.at_us > covered_us):
            return None
        for name in ("end", "start", "count") if running else ("start", "end", "count"):
            head = heads.get(name)
            if head and (head is first or head.since_us < first.at_us):
                return name, head
        return None

    def _levels_known(self, time_us: int) -> bool:
        """Whether start and end were readable since: a bad row hides an end."""
        ends = (self._cycle.start.source, self._cycle.end.source)
        levels = [self.state.levels.get(one.path) for one in ends if one.wait_us]
        return self._stepped or all(
            level is not None and level.good_us is not None and level.good_us >= time_us
            for level in levels
        )

    def _take_change(self, name: str, change: Change, pasts: Pasts) -> None:
        self._notice_count(pasts)
        match name:
            case "start":
                self.state.starts.pop(0)
                self._start(change, pasts)
            case "end":
                self.state.ends.pop(0)
                self._end(change, pasts)
            case _:
                self.state.counts.pop(0)
                self._counted_on(change, pasts)
                self.state.counted_us = change.at_us

    def _start(self, change: Change, pasts: Pasts) -> None:
        if self.state.open is not None:
            self._close(change, EndedBy.NEXT_START, pasts)
        before = self._raw_before(change, pasts)
        error_us = change.at_us - change.since_us
        self._open(Open(change.at_us, change.at_us, error_us, before_raw=before), pasts)

    def _open(self, open_: Open, pasts: Pasts) -> None:
        self._advance(open_.begun_us, pasts)
        open_.heard_us = self._nothing_overlooked_since(open_)
        self.state.open, self.state.swallow_end = open_, False
        if self._cycle.key is None:
            open_.count = self._count_own()
        begin_values(open_, self._plan, pasts)

    def _nothing_overlooked_since(self, open_: Open) -> int | None:
        """A cycle too short for two polls shows in the counter alone."""
        heard_us = max(heard_times(self.state, self._cycle), default=None)
        if self._cycle.key is None:
            # Still swallowing: the cycle before may have run on until now, and been read for.
            return open_.begun_us if self.state.swallow_end else heard_us
        if heard_us is None:
            return None
        known = open_.before_raw is not None
        return max(heard_us, self.state.counted_us or heard_us) if known else None

    def _raw_before(self, change: Change, pasts: Pasts) -> int | None:
        """The counter surely before a start, and not long. After a silence that tells nothing."""
        numbering = numbering_of(self._cycle, self.state, pasts)
        if numbering is None or change.across_silence:
            return None
        row = numbering.past.before(change.since_us)
        one_poll_us = numbering.key.count.silence_us // 3
        fresh = row is not None and row.time_us >= change.since_us - one_poll_us
        return numbering.read(row) if fresh else None

    def _end(self, change: Change, pasts: Pasts) -> None:
        if self.state.open is None and self.state.swallow_end:
            self.state.swallow_end = False
            use_reads(self.state, change.at_us)
            return
        if self.state.open is None:
            self.state.open = Open(change.at_us, None)
            self.state.open.count = self._count_own() if self._cycle.key is None else None
        self._close(change, EndedBy.END, pasts)

    def _counted_on(self, change: Change, pasts: Pasts) -> None:
        """The counter went past a running cycle: its end was not seen, another one runs."""
        open_, numbering = self.state.open, numbering_of(self._cycle, self.state, pasts)
        if open_ is None or numbering is None or open_.raw is None:
            return
        if change.at_us <= open_.begun_us:
            return
        own, now = numbering.own(open_), change.value % numbering.key.modulus
        if now == open_.raw or (own is None and not change.across_silence):
            return
        open_.number = numbering.expected(open_)
        by = EndedBy.RESTART if open_.restarted else EndedBy.NEXT_START
        self._close(change, by, pasts)
        started_us = None if change.across_silence else change.at_us
        number = None if own is None else now
        going_on = Open(change.at_us, started_us, raw=now, raw_at_us=change.at_us, number=number)
        self._open(going_on, pasts)

    def _close(self, change: Change, by: EndedBy, pasts: Pasts) -> None:
        open_ = self.state.open
        if open_ is None:
            return
        self._advance(change.at_us, pasts)
        self.state.open = None
        told = (open_.begun_us, change.at_us)
        silent = change.across_silence or not heard_from(self.state, self._cycle, *told)
        across = silent and by is EndedBy.END
        if by is EndedBy.END and open_.raw_at_us > change.since_us:
            open_.raw = None  # read with the end or after it: not surely while the cycle ran
        closing = Closing(open_, change.at_us, by, change.at_us - change.since_us, across)
        closing.sure_us = self._sure_until(closing)
        self.state.closings.append(closing)

    def _sure_until(self, closing: Closing) -> int:
        """Until then it certainly ran: what was read later may be the next cycle's."""
        if closing.ended_by is EndedBy.END:
            return closing.ended_us - (closing.error_us if closing.across_silence else 0)
        begun_us = closing.cycle.begun_us
        end = self.state.levels.get(self._cycle.end.source.path)
        if closing.ended_by is not EndedBy.TIMEOUT or end is None or end.good_us is None:
            return begun_us
        until_us = min(closing.ended_us, end.good_us)
        runs = end.value != int(self._cycle.end.to)  # else it may have ended in a silence
        surely = runs and heard_from(self.state, self._cycle, begun_us, until_us)
        return max(begun_us, until_us) if surely else begun_us

    def _advance(self, until_us: int, pasts: Pasts) -> None:
        open_ = self.state.open
        for label, changes in self.state.triggers.items():
            due = [change for change in changes if change.at_us <= until_us]
            del changes[: len(due)]
            if open_ is not None and due and due[-1].at_us >= open_.begun_us:
                open_.awaited[label] = due[-1].at_us
        if open_ is not None:
            extend_values(open_, self._plan, pasts, until_us)

    # Counting.

    def _count_own(self) -> Count:
        """Without a PLC's counter: the series is the process, or drawn after a fork."""
        last = self.state.last
        if self.state.forked:
            self.state.forked, self._own_series = False, self._tokens.series()
        series = self._own_series
        count = last.count + 1 if last is not None and last.series == series else 1
        self.state.last = Count(series, count)
        return self.state.last

    def _notice_count(self, pasts: Pasts) -> None:
        """The counter since the start, if no other cycle can have begun until it was read."""
        open_, numbering = self.state.open, numbering_of(self._cycle, self.state, pasts)
        if open_ is None or numbering is None or open_.raw is not None:
            return
        row = numbering.past.after(open_.begun_us)
        if row is not None and heard_from(self.state, self._cycle, open_.begun_us, row.time_us):
            open_.raw, open_.raw_at_us = numbering.read(row), row.time_us
