"""What the plant truly sent, per tag, by its journal alone; how what is stored compares with it.

Nothing of the product takes part in saying what is true.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulators.decoding import Decoder
from simulators.journal import ModbusResponse, OpcuaResponse, Record, S7Response

PATIENCE_US = 5_000_000  # an answer is taken at most this long after it was sent
BAD = 0x80000000


@dataclass(frozen=True, slots=True)
class Answer:
    """One value of one address in one response: snapshot and completion, UTC µs, and the value."""

    snapshot_us: int
    sent_us: int
    value: Any


@dataclass(frozen=True, slots=True)
class Row:
    """One stored sample."""

    time_us: int
    value: Any
    quality: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A declared outage, UTC µs."""

    from_us: int
    to_us: int
    reason: str = ""

    def meets(self, answer: Answer) -> bool:
        return answer.snapshot_us <= self.to_us and answer.sent_us >= self.from_us


@dataclass(slots=True)
class Comparison:
    """Of one tag or of many."""

    equal: int = 0
    in_outage: int = 0
    timed_out: int = 0
    bad_rows: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Comparison") -> None:
        self.equal += other.equal
        self.in_outage += other.in_outage
        self.timed_out += other.timed_out
        self.bad_rows += other.bad_rows
        self.wrong += other.wrong


def compare(
    path: str,
    answers: Sequence[Answer],
    rows: Sequence[Row],
    outages: Sequence[Stretch],
    pauses: Sequence[Stretch] = (),
) -> Comparison:
    """Answers in order of sending with stored rows in order of time, one to one, from the end on.

    A row meets the newest answer that it can be: one that was under way before the row's time. So
    an answer that nobody took cannot stand in for a later one that happens to say the same, as
    bits do. An answer without a row must lie in a declared outage, or have the next row, a BAD one,
    for itself alone: the agent gave up waiting for it, later than it otherwise may if it stood
    still meanwhile (`pauses`). A good row without an answer is invented or doubled.
    """
    found = Comparison()
    excuses = _Excuses(path, rows, outages, pauses)
    left = list(answers)
    for row in reversed(rows):
        if row.quality & BAD:
            found.bad_rows += 1
            continue
        while left and not _is(left[-1], row):
            excuses.judge(left.pop(), found)
        if not left:
            found.wrong.append(f"{path}: stored {row.value!r} at {row.time_us} was never sent")
            return found
        left.pop()
        found.equal += 1
    for answer in left:
        excuses.judge(answer, found)
    return found


def _is(answer: Answer, row: Row) -> bool:
    late = row.time_us - answer.sent_us
    return (
        same(answer.value, row.value) and row.time_us >= answer.snapshot_us and late < PATIENCE_US
    )


class _Excuses:
    """Why an answer may have no row."""

    def __init__(
        self,
        path: str,
        rows: Sequence[Row],
        outages: Sequence[Stretch],
        pauses: Sequence[Stretch],
    ) -> None:
        self._path = path
        self._rows = rows
        self._outages = outages
        self._pauses = pauses
        self._taken: set[int] = set()

    def judge(self, answer: Answer, found: Comparison) -> None:
        if any(outage.meets(answer) for outage in self._outages):
            found.in_outage += 1
        elif self._was_given_up(answer):
            found.timed_out += 1
        else:
            found.wrong.append(
                f"{self._path}: {answer.value!r} sent at {answer.sent_us} is not stored"
            )

    def _was_given_up(self, answer: Answer) -> bool:
        """An agent waits for one answer at a time: a BAD row speaks for one."""
        next_one = bisect_left(self._rows, answer.snapshot_us, key=lambda row: row.time_us)
        if next_one == len(self._rows) or next_one in self._taken:
            return False
        row = self._rows[next_one]
        late = row.time_us - answer.sent_us
        stood_still = any(
            answer.sent_us >= pause.from_us - PATIENCE_US and row.time_us >= pause.to_us
            for pause in self._pauses
            if answer.snapshot_us <= pause.to_us
        )
        if not row.quality & BAD or (late >= PATIENCE_US and not stood_still):
            return False
        self._taken.add(next_one)
        return True


def same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - NaN


def answers(journal: Iterable[Record], decoder: Decoder) -> dict[str, list[Answer]]:
    """Per path of the plant the values sent, in order of completion."""
    sent: dict[str, list[Answer]] = defaultdict(list)
    for record in journal:
        if not isinstance(record, (ModbusResponse, S7Response, OpcuaResponse)):
            continue
        sent_us = record.utc_us + record.sent_us - record.mono_us
        for path, value in decoder.values(record).items():
            sent[path].append(Answer(record.utc_us, sent_us, value))
    for found in sent.values():
        found.sort(key=lambda answer: answer.sent_us)
    return sent


def conditioned(
    rows: Sequence[Row], deadband: float, max_time_us: int, fresh_from_us: Sequence[int]
) -> list[Row]:
    """What report by exception lets through of these rows, said the slow way, row by row.

    A row goes out if nothing went out before, if its quality differs from the last one that went
    out, if its value differs by more than the deadband, if the last one is max_time old, or if it
    is the first one at or after a time from which everything is said anew.
    """
    out: list[Row] = []
    anew = sorted(fresh_from_us)
    for row in rows:
        is_anew = False
        while anew and row.time_us >= anew[0]:
            anew.pop(0)
            is_anew = True
        if not out or is_anew or _differs(out[-1], row, deadband, max_time_us):
            out.append(row)
    return out


def _differs(last: Row, row: Row, deadband: float, max_time_us: int) -> bool:
    if row.quality != last.quality or row.time_us - last.time_us >= max_time_us:
        return True
    if (row.value is None) != (last.value is None):
        return True
    if isinstance(row.value, (int, float)) and not isinstance(row.value, bool) and deadband:
        return bool(abs(row.value - last.value) > deadband)
    return not same(row.value, last.value)
