"""One nest whose cycles are seen by the edges of two bits.

    idle     start ▶ running           end ▶ a pass whose start was not seen
    running  end ▶ closing             start, timeout, counter went on ▶ closing, its end unseen
    closing  every row that belongs to it has come, or its time is up ▶ the pass is told

Rule 1: changes are taken in order of time once the tags they could contradict have a later row; of
    two between the same polls, the one that fits the state comes first.
Rule 2: passes are told in the order of their ends; a pass without a count is a gap, never a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from protocols.events import EndedBy, PassEvent
from protocols.samples import SampleBatch
from rules.binding.closing import (
    Ended,
    counts_at_start,
    expected_raw,
    late_reads,
    lost_part,
    name_late,
    raw_of,
)
from rules.binding.counting import Count, Step, Tokens, count_on, forked
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
    take_level,
    triggered_values,
)
from rules.binding.evidence import read_rows
from rules.binding.plan import EdgesPlan, KeyPlan, Source
from rules.binding.readers import polled_witnesses, take_row
from rules.binding.rows import Past, Reading
from rules.binding.telling import Call, Teller, Told, conditions_of, watch_condition
from rules.binding.texts import forget_until
from rules.ports import ReadRequest

GRACE_US: Final = 2_000_000  # batches may wait so long in the channel behind the poller
READ_MAX_US: Final = 10_000_000
READ_AGAIN_US: Final = 500_000
READS_MAX: Final = 3
CLOSINGS_MAX: Final = 4


@dataclass(slots=True)
class _Late:
    """The read at the end of one cycle; forgotten by a restart and asked again."""

    token: int | None = None
    tries: int = 0
    not_before_us: int = 0
    over: bool = False
    rows: Mapping[str, Reading] | None = None
    raw: int | None = None


class EdgesNest:
    """Rows of polled tags in; passes, and reads of what is read at the end, out."""

    def __init__(self, teller: Teller, cycle: EdgesPlan, tokens: Tokens, epoch: int) -> None:
        self.state = EdgesState()
        self._teller = teller
        self._plan = teller.plan
        self._cycle = cycle
        self._tokens = tokens
        self._witnesses = polled_witnesses(teller.plan)
        self._triggers = triggered_values(teller.plan)
        self._waited = [one for one in teller.plan.sources if not one.read and one.wait_us]
        self._watched = {one.path: one for one in self._levels()}
        self._late: dict[int, _Late] = {}
        self._own_series = epoch
        self._stepped = False

    def _levels(self) -> list[Source]:
        cycle = self._cycle
        own = [cycle.start.source, cycle.end.source]
        triggers = [value.trigger.source for value in self._triggers if value.trigger]
        return [*own, *triggers, *([cycle.key.count] if cycle.key else [])]

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
        covered_us = self._covered_us()
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
        while (change := self._next_change()) is not None:
            self._take_change(*change, call.pasts)
        covered_us = self._covered_us()
        if covered_us is not None:
            self._advance(covered_us, call.pasts)
        self._stepped = False
        self._notice_count(call.pasts)
        self._tell_open(call.told)
        self._read_late(call)
        self._finish_ready(call)

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
        self._name_late(call)

    def on_read(self, token: int, batches: tuple[SampleBatch, ...], call: Call) -> None:
        late = next((one for one in self._late.values() if one.token == token), None)
        if late is None:
            return
        late.token = None
        rows = read_rows(batches)
        if self._cycle.key_set is None:
            late.rows, late.over = rows[0], True
        else:
            self._take_guarded(late, rows)
        self.settle(call)

    def on_read_failed(self, token: int, call: Call) -> None:
        for late in self._late.values():
            if late.token == token:
                late.token, late.not_before_us = None, call.now_us + READ_AGAIN_US
                late.over = late.tries >= READS_MAX
        self.settle(call)

    # What changed, in order of time.

    def _heads(self) -> dict[str, Change]:
        state = self.state
        queues = {"end": state.ends, "start": state.starts, "count": state.counts}
        return {name: changes[0] for name, changes in queues.items() if changes}

    def _covered_us(self) -> int | None:
        """Up to here no further start or end can show. None: not known yet."""
        ends = (self._cycle.start.source, self._cycle.end.source)
        levels = [self.state.levels.get(one.path) for one in ends if one.wait_us]
        if not levels:  # only subscribed tags, which say nothing while they do not change
            levels = [self.state.levels.get(one.path) for one in ends]
            known = [level.at_us for level in levels if level and level.at_us is not None]
            return max(known, default=None)
        times = [level.at_us if level else None for level in levels]
        known = [time_us for time_us in times if time_us is not None]
        return min(known) if len(known) == len(times) else None

    def _next_change(self) -> tuple[str, Change] | None:
        heads = self._heads()
        if not heads:
            return None
        first = min(heads.values(), key=lambda change: change.at_us)
        covered_us = self._covered_us()
        if not self._stepped and (covered_us is None or first.at_us > covered_us):
            return None
        running = self.state.open is not None
        for name in ("end", "start", "count") if running else ("start", "end", "count"):
            head = heads.get(name)
            if head and (head is first or head.since_us < first.at_us):
                return name, head
        return None

    def _take_change(self, name: str, change: Change, pasts: dict[str, Past]) -> None:
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

    def _start(self, change: Change, pasts: dict[str, Past]) -> None:
        if self.state.open is not None:
            self._close(change, EndedBy.NEXT_START, pasts)
        self._open(Open(change.at_us, change.at_us, change.at_us - change.since_us), pasts)

    def _open(self, open_: Open, pasts: dict[str, Past]) -> None:
        key = self._cycle.key
        self._advance(open_.begun_us, pasts)
        self.state.open, self.state.swallow_end = open_, False
        if key is None:
            open_.count = self._count_own()
        elif open_.raw is None:
            before = pasts.setdefault(key.count.path, Past()).before(open_.begun_us - 1)
            open_.before_raw = None if before is None else int(before.value) % key.modulus
        begin_values(open_, self._plan, pasts)

    def _end(self, change: Change, pasts: dict[str, Past]) -> None:
        if self.state.open is None and self.state.swallow_end:
            self.state.swallow_end = False
            return
        if self.state.open is None:
            self.state.open = Open(change.at_us, None)
            self.state.open.count = self._count_own() if self._cycle.key is None else None
        self._close(change, EndedBy.END, pasts)

    def _counted_on(self, change: Change, pasts: dict[str, Past]) -> None:
        """The counter went on in a running cycle that had its number: its end was not seen."""
        open_, last, key = self.state.open, self.state.last, self._cycle.key
        if open_ is None or key is None or change.value % key.modulus == open_.raw:
            return
        if not counts_at_start(open_, last.raw if last else None):
            return
        by = EndedBy.RESTART if open_.restarted else EndedBy.NEXT_START
        self._close(change, by, pasts)
        started_us = None if change.across_silence else change.at_us
        self._open(Open(change.at_us, started_us, raw=change.value % key.modulus), pasts)

    def _close(self, change: Change, by: EndedBy, pasts: dict[str, Past]) -> None:
        open_ = self.state.open
        if open_ is None:
            return
        self._advance(change.at_us, pasts)
        self.state.open = None
        error_us = change.at_us - change.since_us
        across = change.across_silence and by is EndedBy.END and open_.started_us is not None
        self.state.closings.append(Closing(open_, change.at_us, by, error_us, across))

    def _advance(self, until_us: int, pasts: dict[str, Past]) -> None:
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

    def _notice_count(self, pasts: dict[str, Past]) -> None:
        open_, key = self.state.open, self._cycle.key
        if open_ is None or key is None or open_.raw is not None:
            return
        row = pasts.get(key.count.path, Past()).after(open_.begun_us)
        open_.raw = None if row is None else int(row.value) % key.modulus

    def _tell_open(self, told: Told) -> None:
        """Only with a number that is surely this cycle's, and after all cycles before."""
        open_ = self.state.open
        if not self._plan.open or open_ is None or open_.opened or self.state.closings:
            return
        if open_.started_us is None or (open_.count is None and not self._number(open_, told)):
            return
        if open_.count is not None:
            open_.opened = True
            told.events.append(
                self._teller.tell_open(open_.count, open_.started_us, open_.error_us)
            )

    def _number(self, open_: Open, told: Told) -> bool:
        key, last = self._cycle.key, self.state.last
        counted_at_start = (
            key is not None
            and open_.raw is not None
            and last is not None
            and open_.raw % key.modulus != last.raw
        )
        if not counted_at_start or key is None or open_.raw is None:
            return False
        closing = Closing(open_, open_.begun_us, EndedBy.END)
        open_.count = self._take_count(closing, open_.raw, key, told)
        return open_.count is not None

    def _take_count(self, closing: Closing, raw: int, key: KeyPlan, told: Told) -> Count | None:
        """The pass's count, after a gap for those left out. None: it was told already."""
        state, draw = self.state, self._tokens.series
        counted = count_on(state.last, raw, key, draw)
        if state.forked and counted.step is not Step.SAME:
            state.forked = False
            counted = count_on(forked(state.last, draw), raw, key, draw)
        if counted.step is Step.SAME:
            return None
        if counted.missed is not None:
            cycle = Ended(self._teller, state, closing, {}, {}).cycle()
            told.events.append(
                self._teller.tell_gap(counted.count, counted.missed, cycle, state.last_end_us)
            )
        state.last = counted.count
        return counted.count

    # Reading at the end.

    def _read_late(self, call: Call) -> None:
        if not self._cycle.read_sets:
            return
        for closing in self.state.closings:
            if closing.ended_by is EndedBy.END:
                self._ask(self._late.setdefault(closing.ended_us, _Late()), call)

    def _ask(self, late: _Late, call: Call) -> None:
        if late.over or late.token is not None or call.now_us < late.not_before_us:
            return
        guard = (self._cycle.key_set,) if self._cycle.key_set else ()
        late.tries += 1
        late.token = self._tokens.request()
        call.told.reads.append(ReadRequest(late.token, (*guard, *self._cycle.read_sets, *guard)))

    def _take_guarded(self, late: _Late, rows: list[dict[str, Reading]]) -> None:
        """Good only if the counter stood still: else the next cycle may have overwritten it."""
        path = self._cycle.key.count.path if self._cycle.key else ""
        first, last = rows[0].get(path), rows[-1].get(path)
        whole = first and last and first.usable and last.usable and first.value == last.value
        late.over = bool(whole) or late.tries >= READS_MAX
        if whole and first is not None:
            late.rows, late.raw = rows[1], int(first.value)

    # Telling.

    def _finish_ready(self, call: Call) -> None:
        while self.state.closings:
            closing = self.state.closings[0]
            full = len(self.state.closings) > CLOSINGS_MAX
            if not (full or self._is_complete(closing, call)):
                return
            self.state.closings.pop(0)
            self._finish(closing, call)
            self._late.pop(closing.ended_us, None)

    def _is_complete(self, closing: Closing, call: Call) -> bool:
        waits = [one for one in self._waited if not _covers(call.pasts, one.path, closing.ended_us)]
        longest_us = max((one.wait_us for one in waits), default=0)
        late = self._late.get(closing.ended_us)
        reading = late is not None and not late.over
        waited_us = call.now_us - closing.ended_us
        rows_there = not waits or waited_us > longest_us + GRACE_US
        reading = reading or not self._has_count(closing, call)
        return (rows_there and not reading) or not -GRACE_US <= waited_us <= READ_MAX_US

    def _has_count(self, closing: Closing, call: Call) -> bool:
        key = self._cycle.key
        if key is None or closing.cycle.count is not None or closing.ended_by is EndedBy.TIMEOUT:
            return True
        past = call.pasts.get(key.count.path, Past())
        return raw_of(closing, self.state.last, key, past) is not None

    def _finish(self, closing: Closing, call: Call) -> None:
        key = self._cycle.key
        count, read = closing.cycle.count, self._read_of(closing, None)
        if count is None and key is not None:
            past = call.pasts.setdefault(key.count.path, Past())
            raw = raw_of(closing, self.state.last, key, past)
            closing = self._without_the_lost(closing, raw, key, call)
            count = None if raw is None else self._take_count(closing, raw, key, call.told)
            read = self._read_of(closing, raw)
        at_us = closing.ended_us
        if count is None:
            text = f"a cycle ended ({closing.ended_by}) and the counter did not go on"
            begun = closing.cycle.started_us is not None
            self._watch(call.told, ("counter", text if begun else None), at_us)
            self.state.last_end_us = at_us
            for reader in self.state.texts.values():
                forget_until(reader, at_us)
            return
        self._watch(call.told, ("counter", None), at_us)
        self._tell(closing, count, read, call)

    def _without_the_lost(
        self, closing: Closing, raw: int | None, key: KeyPlan, call: Call
    ) -> Closing:
        """An end seen after a silence may be a later cycle's: then the one before lost its end."""
        expected = expected_raw(closing, self.state.last, key)
        if not closing.across_silence or raw is None or expected in (None, raw):
            return closing
        lost = lost_part(closing)
        count = self._take_count(lost, expected or 0, key, call.told)
        if count is not None:
            self._tell(lost, count, {}, call)
        return replace(closing, cycle=Open(closing.ended_us, None, restarted=True))

    def _tell(
        self, closing: Closing, count: Count, read: Mapping[str, Reading], call: Call
    ) -> None:
        told = call.told
        ended = Ended(self._teller, self.state, closing, call.pasts, read)
        events, record = ended.tell(count, self.state.last_end_us)
        told.events += events
        told.curves += record.curves
        self.state.last_end_us = closing.ended_us
        event = next(one for one in events if isinstance(one, PassEvent))
        for condition in conditions_of(event):
            self._watch(told, condition, closing.ended_us)

    def _read_of(self, closing: Closing, raw: int | None) -> Mapping[str, Reading]:
        """What was read at the end, if the counter says that it is this cycle's."""
        late = self._late.get(closing.ended_us)
        key = self._cycle.key
        if late is None or late.rows is None:
            return {}
        if self._cycle.key_set is None or key is None:
            return late.rows
        if late.raw is None or raw is None or late.raw % key.modulus != raw:
            return {}
        return late.rows

    def _name_late(self, call: Call) -> None:
        """Nothing started since: a late read can only be of the last, unnamed pass."""
        state, items = self.state, self._plan.items
        unnamed = state.unnamed
        if unnamed is None or items is None or state.open or state.closings or state.starts:
            return
        reads = late_reads(self._teller, state, unnamed, unnamed.until_us)
        before_us = items.before_us or 0
        if reads and call.now_us > reads[0][0].at_us + before_us + GRACE_US:
            call.told.events.append(name_late(self._teller, state, unnamed, reads[0]))
            state.unnamed = None
            self._watch(call.told, ("unnamed", None), reads[0][0].at_us)
        elif not reads and call.now_us > unnamed.until_us + before_us + GRACE_US:
            state.unnamed = None

    def _watch(self, told: Told, condition: tuple[str, str | None], at_us: int) -> None:
        watch_condition(self.state.raised, self._teller, told, condition, at_us)


def _covers(pasts: dict[str, Past], path: str, time_us: int) -> bool:
    past = pasts.get(path)
    return past is not None and past.covers(time_us)
