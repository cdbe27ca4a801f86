"""One nest with a hand-shake. The PLC holds a result until it is told that it was taken.

    ready       read key, block, key       torn: again; torn too often: a gap, and taken
    whole       tell the pass              the key of the last pass: tell nothing
    committed   write taken                refused, or ready stays: look at the key again

Rule 1: taken is written after what was read is synced, never before.
Rule 2: the state is what was told; what is under way is forgotten by a restart and done again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from protocols.events import PassEvent
from protocols.samples import DataType, SampleBatch
from rules.binding.counting import Counted, Step, Tokens, count_on, forked
from rules.binding.evidence import read_rows
from rules.binding.handover import HandOver, MailboxState
from rules.binding.plan import MailboxPlan
from rules.binding.readers import polled_witnesses, take_row
from rules.binding.rows import Reading
from rules.binding.telling import Call, Teller, Told, conditions_of, watch_condition
from rules.binding.texts import set_back
from rules.ports import ReadRequest, WriteRequest

TORN_MAX: Final = 5
_ALWAYS_US: Final = 2**63 - 1
Rows: TypeAlias = Mapping[str, Reading]


@dataclass(slots=True)
class _Doing:
    """What is under way. `unsure`: told, and not yet known to be committed."""

    ready: bool = False
    taken: bool = False  # this ready was answered
    looking: int | None = None  # a read of the key alone
    reading: int | None = None  # a hand-over's read
    writing: int | None = None
    resetting: int | None = None
    torn: int = 0
    not_before_us: int = 0
    again_us: int = 0  # before this, taken is not written a second time
    unsure: Told | None = None

    @property
    def busy(self) -> bool:
        return (self.looking, self.reading, self.writing) != (None, None, None)


class MailboxNest:
    """Rows of `ready` in; reads, passes and writes of `taken` out."""

    def __init__(self, teller: Teller, cycle: MailboxPlan, tokens: Tokens) -> None:
        self.state = MailboxState()
        self._teller = teller
        self._cycle = cycle
        self._tokens = tokens
        self._doing = _Doing()
        self._witnesses = polled_witnesses(teller.plan)

    def restart(self, from_us: int, call: Call) -> None:  # noqa: ARG002 - same for every nest
        self._doing = _Doing()

    def on_clock_set_back(self, call: Call) -> None:  # noqa: ARG002 - same for every nest
        for text in self.state.texts.values():
            set_back(text)

    def fork(self) -> None:
        self.state.forked = True

    @property
    def keep_from_us(self) -> int | None:
        """Rows from here on are still needed."""
        return _ALWAYS_US if self.state.seen_us is None else self.state.seen_us

    def on_row(self, path: str, row: Reading, call: Call) -> None:
        take_row(self.state.texts, self._witnesses, path, row)
        if path == self._cycle.taken:
            self._reset_taken(row, call.told)
        if path == self._cycle.ready.path and row.usable:
            self._take_ready(row)
            self._go_on(call)

    def settle(self, call: Call) -> None:
        """A hand-shake has nothing that waits for other rows."""

    def on_tick(self, call: Call) -> None:
        self._go_on(call)

    def on_read(self, token: int, batches: tuple[SampleBatch, ...], call: Call) -> None:
        rows = read_rows(batches)
        if token == self._doing.looking:
            self._doing.looking = None
            self._look(rows[0], call)
        elif token == self._doing.reading:
            self._doing.reading = None
            self._read(rows, call)

    def on_read_failed(self, token: int, call: Call) -> None:
        if token in (self._doing.looking, self._doing.reading):
            self._doing.looking = self._doing.reading = None
            self._wait(call.now_us)

    def on_written(self, token: int, call: Call) -> None:
        doing = self._doing
        doing.resetting = None if token == doing.resetting else doing.resetting
        if token != doing.writing:
            return
        doing.writing = doing.unsure = None
        self._answered(call.now_us)
        if self._cycle.entries > 1:
            doing.not_before_us = call.now_us

    def on_write_failed(self, token: int, call: Call) -> None:
        """Nobody knows whether it was committed: look at the key before anything else."""
        doing = self._doing
        doing.resetting = None if token == doing.resetting else doing.resetting
        if token == doing.writing:
            doing.writing = None
            self._answered(call.now_us)

    def _answered(self, now_us: int) -> None:
        """What is known of ready is older than the answer: only its next row counts."""
        doing = self._doing
        doing.taken, doing.ready = True, False
        doing.again_us = now_us + self._cycle.retry_us
        doing.not_before_us = doing.again_us

    def _take_ready(self, row: Reading) -> None:
        state, doing = self.state, self._doing
        if row.value is True:
            doing.ready = True
            answered = doing.taken or doing.writing is not None  # it is still the last one's ready
            if state.seen_us is None and not answered:
                state.seen_us = row.time_us
            return
        state.unseen_us, state.seen_us = row.time_us, None
        doing.ready = doing.taken = False
        doing.torn = doing.not_before_us = 0

    def _reset_taken(self, row: Reading, told: Told) -> None:
        """A PLC that leaves it to the agent: ready is gone, taken still stands."""
        doing = self._doing
        over = self.state.unseen_us is not None and not doing.ready
        free = doing.writing is None and doing.resetting is None and doing.reading is None
        bit = self._cycle.taken_type is DataType.BOOL
        if bit and over and free and row.usable and row.value is True:
            doing.resetting = self._tokens.request()
            told.writes.append(
                WriteRequest(doing.resetting, self._cycle.taken, value=False, after_commit=False)
            )

    def _go_on(self, call: Call) -> None:
        doing = self._doing
        if not doing.ready or doing.busy or call.now_us < doing.not_before_us:
            return
        if doing.taken:
            doing.looking = self._tokens.request()
            call.told.reads.append(ReadRequest(doing.looking, (self._cycle.key_set,)))
        else:
            self._request(call.told)

    def _request(self, told: Told) -> None:
        cycle = self._cycle
        self._doing.reading = self._tokens.request()
        sets = (cycle.key_set, cycle.block_set, cycle.key_set)
        told.reads.append(ReadRequest(self._doing.reading, sets))

    def _look(self, rows: Rows, call: Call) -> None:
        """Ready stays although taken was written: the same result still, or the next one?"""
        key, last = self._key(rows), self.state.last
        if key is None:
            self._wait(call.now_us)
        elif last is None or key % self._cycle.key.modulus != last.raw:
            self._doing.taken = False
            self._go_on(call)
        elif call.now_us < self._doing.again_us:
            self._doing.not_before_us = self._doing.again_us  # the PLC may be about to see it
        else:
            self._tell_again(call.told)
            self._write_taken(call.told)

    def _read(self, rows: list[dict[str, Reading]], call: Call) -> None:
        key, again = self._key(rows[0]), self._key(rows[2])
        if key is None or again is None or not any(row.usable for row in rows[1].values()):
            self._wait(call.now_us)
            return
        hand_over = HandOver(self._teller, self._cycle, self.state, rows[1], call.pasts)
        if key == again:
            self._whole(key, hand_over, call.told)
        else:
            self._torn(again, hand_over, call.told)

    def _whole(self, key: int, hand_over: HandOver, told: Told) -> None:
        self._doing.torn = 0
        counted = self._count(key)
        if counted.step is Step.SAME:
            self._tell_again(told)
        else:
            self._tell(counted, hand_over, told)
        watch_condition(self.state.raised, self._teller, told, ("torn", None), hand_over.read_us)
        self._write_taken(told)

    def _tell(self, counted: Counted, hand_over: HandOver, told: Told) -> None:
        handed = hand_over.tell(counted.count, counted.missed)
        told.events += handed.events
        told.curves += handed.record.curves
        self._doing.unsure = Told(list(handed.events), list(handed.record.curves))
        event = next(one for one in handed.events if isinstance(one, PassEvent))
        for condition in conditions_of(event):
            self._watch(condition, handed.cycle.seen_us, told)

    def _torn(self, key: int, hand_over: HandOver, told: Told) -> None:
        """The key changed between two reads, so what lies between is of two cycles."""
        self._doing.torn += 1
        if self._doing.torn < TORN_MAX:
            self._request(told)
            return
        self._doing.torn = 0
        counted, moment = self._count(key), hand_over.moment()
        text = f"changed while it was read, {TORN_MAX} times: the PLC does not wait for taken"
        self._watch(("torn", text), moment.seen_us, told)
        if counted.step is not Step.SAME:
            first = counted.missed[0] if counted.missed else counted.count.count
            missed = (first, counted.count.count)
            gap = self._teller.tell_gap(counted.count, missed, moment, self.state.last_to_us)
            told.events.append(gap.model_copy(update={"reason": text}))
            hand_over.give_up(counted.count)
        self._write_taken(told)

    def _tell_again(self, told: Told) -> None:
        """Told before, perhaps not kept: the same events, which the receiver knows by their ids."""
        self.state.seen_us = None
        if self._doing.unsure is not None:
            told.events += self._doing.unsure.events
            told.curves += self._doing.unsure.curves

    def _write_taken(self, told: Told) -> None:
        """A bit, or the number of what was taken. A PLC that no longer waits is not answered."""
        last = self.state.last
        if not self._doing.ready or last is None:
            return
        bit = self._cycle.taken_type is DataType.BOOL
        self._doing.writing = self._tokens.request()
        value = True if bit else last.raw or 0
        told.writes.append(
            WriteRequest(self._doing.writing, self._cycle.taken, value, after_commit=True)
        )

    def _key(self, rows: Rows) -> int | None:
        row = rows.get(self._cycle.key.count.path)
        return int(row.value) if row is not None and row.usable else None

    def _count(self, raw: int) -> Counted:
        state, key, draw = self.state, self._cycle.key, self._tokens.series
        counted = count_on(state.last, raw, key, draw)
        if not state.forked or counted.step is Step.SAME:
            return counted
        state.forked = False
        return count_on(forked(state.last, draw), raw, key, draw)

    def _wait(self, now_us: int) -> None:
        self._doing.not_before_us = now_us + self._cycle.retry_us

    def _watch(self, condition: tuple[str, str | None], at_us: int, told: Told) -> None:
        watch_condition(self.state.raised, self._teller, told, condition, at_us)
