"""Recorded samples through a binding: what its stations would have said. Pure; nothing is written.

A row that `report` held back said what the last one said: a group's batch is filled up with that.
What a station asks to read is answered from the recording: of each tag the last row until a second
after the question, which is when the agent read it. A hand-shake's writes all succeed.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from edge.compile import AgentPlan
from edge.configured import POLLED
from protocols.events import Alarm, Event
from protocols.samples import DataType, Quality, Sample, SampleBatch, from_samples
from rules.ports import Binder, Outcome, ReadRequest

TICK_US: Final = 100_000
ANSWER_US: Final = 1_000_000
IDLE_US: Final = 60_000_000  # longer silence is an outage: no use in ticking through it
_TURNS_MAX: Final = 1_000  # of questions and answers after one batch


@dataclass(slots=True)
class Replayed:
    """What followed, in order."""

    events: list[Event] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    curves: int = 0
    batches: int = 0
    unanswered: int = 0
    unknown: set[str] = field(default_factory=set)


def replay(plan: AgentPlan, binder: Binder, samples: Sequence[Sample]) -> Replayed:
    """`samples` in order of agent time."""
    return _Replay(plan, binder, samples).run(samples)


class _Replay:
    def __init__(self, plan: AgentPlan, binder: Binder, samples: Iterable[Sample]) -> None:
        self._binder = binder
        self._found = Replayed()
        self._groups = {
            row.path: (read.device, read.group, read.mode in POLLED)
            for read in plan.tests
            for row in read.plan.tags
        }
        self._paths = {
            (read.device, read.group): [row.path for row in read.plan.tags] for read in plan.tests
        }
        self._said: dict[str, Sample] = {}
        self._rows: Mapping[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            self._rows[sample.path].append(sample)
        self._now_us: int | None = None

    def run(self, samples: Sequence[Sample]) -> Replayed:
        self._found.unknown = {sample.path for sample in samples} - set(self._groups)
        for batch in self._batches(samples):
            now_us = int(batch.agent_times.max())
            self._pass_time(now_us)
            self._found.batches += 1
            self._absorb(self._binder.on_batch(batch, now_us), now_us)
        if self._now_us is not None:
            self._pass_time(self._now_us + IDLE_US)
        return self._found

    def _batches(self, samples: Iterable[Sample]) -> Iterator[SampleBatch]:
        """Polled rows of one group and one moment belong together."""
        polled = (sample for sample in samples if self._groups.get(sample.path, ("", "", False))[2])
        for (group, _), rows in groupby(
            polled, lambda row: (self._groups[row.path][:2], row.agent_time_us // (TICK_US // 2))
        ):
            yield self._filled(group, list(rows))

    def _filled(self, group: tuple[str, str], rows: Sequence[Sample]) -> SampleBatch:
        """With what the group's other tags said last, at the time of these."""
        at_us = rows[-1].time_us
        self._said.update((row.path, row) for row in rows)
        new = {row.path for row in rows}
        held_back = [
            self._said[path]._replace(time_us=at_us, agent_time_us=rows[-1].agent_time_us)
            for path in self._paths[group]
            if path in self._said and path not in new
        ]
        return from_samples([*rows, *held_back])

    def _pass_time(self, until_us: int) -> None:
        if self._now_us is None or until_us - self._now_us > IDLE_US:
            self._now_us = until_us
        while self._now_us + TICK_US <= until_us:
            self._now_us += TICK_US
            self._absorb(self._binder.on_tick(self._now_us), self._now_us)

    def _absorb(self, outcome: Outcome, now_us: int) -> None:
        waiting = [outcome]
        for _ in range(_TURNS_MAX):
            if not waiting:
                return
            waiting += self._one(waiting.pop(0), now_us)

    def _one(self, outcome: Outcome, now_us: int) -> list[Outcome]:
        self._found.events += outcome.events
        self._found.alarms += outcome.alarms
        self._found.curves += len(outcome.curves)
        answers = [self._answer(read, now_us) for read in outcome.reads]
        written = [self._binder.on_written(write.token, now_us) for write in outcome.writes]
        return answers + written

    def _answer(self, read: ReadRequest, now_us: int) -> Outcome:
        batches = [self._set(self._binder.read_sets[name], now_us) for name in read.sets]
        if any(bool(batch.kind.any()) for batch in batches):
            return self._binder.on_read(read.token, tuple(batches), now_us)
        self._found.unanswered += 1
        return self._binder.on_read_failed(read.token, "it was not recorded", now_us)

    def _set(self, paths: Sequence[str], now_us: int) -> SampleBatch:
        """A tag that was never recorded (`report: off`) is BAD."""
        rows = [self._last(path, now_us + ANSWER_US) or self._unrecorded(path) for path in paths]
        return from_samples(
            row._replace(time_us=max(row.time_us, now_us), agent_time_us=max(row.time_us, now_us))
            for row in rows
        )

    def _unrecorded(self, path: str) -> Sample:
        return Sample(path, DataType.BOOL, 0, None, Quality.BAD, None, 0, None)

    def _last(self, path: str, until_us: int) -> Sample | None:
        rows = self._rows.get(path, [])
        at = bisect_right(rows, until_us, key=lambda row: row.agent_time_us)
        return rows[at - 1] if at else None
