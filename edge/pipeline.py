"""Batches in, cuts out: the binder sees each batch, the stage all rows of a cut at once.

Rule 1: read + derived = in the cut + filtered + discarded, for every cut.
Rule 2: a cut at least every 250 ms, rows or not: its state carries the time.
Rule 3: only the pipeline waits for the outbox; polling goes on, and the channel lets go when full.
Rule 4: what may only happen after a commit waits for the sync of the cut that holds its cause.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import uuid5

import structlog

from edge.after_commit import AfterCommit
from edge.catalogue import Catalogue
from edge.channel import (
    Answered,
    Channel,
    Item,
    Openings,
    Polled,
    Unanswered,
    Unwritten,
    Written,
)
from edge.clock import is_set
from edge.cut import Cut, Full, Handover, Outbox
from edge.requests import Desk
from edge.stamps import clock_unset
from protocols.codec import Curve, sizes
from protocols.driver import Clock
from protocols.errors import Rejected
from protocols.events import NAMESPACE, SEPARATOR, Alarm, AlarmState, Event, Severity, from_us
from protocols.frames import Totals
from protocols.notices import Outage, TagLine
from protocols.samples import DTYPE_OF, Dictionary, SampleBatch, ValueClass
from rules.ports import Binder, Outcome, Stage, WriteRequest

CUT_EVERY_S: Final = 0.25
CUT_ROWS: Final = 8192
CUT_BYTES: Final = 256 * 1024
TICK_S: Final = 0.1
STILL_S: Final = 2.0  # nothing of this process ran for so long: it was stopped, or starved
_STAGE: Final = "conditioning"
_BINDER: Final = "binding"
_LONG: Final = frozenset(DTYPE_OF) - {
    ValueClass.F64,
    ValueClass.I64,
    ValueClass.U64,
    ValueClass.BOOL,
}
_log = structlog.get_logger("edge.pipeline")


@dataclass(slots=True)
class Open:
    """What the next cut will hold; `samples` as they came. The stage sees all of it at once.

    `long_bytes`: of batches with texts and lists; numbers are bounded by their rows.
    """

    samples: list[SampleBatch] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    tags: list[TagLine] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    after_commit: list[WriteRequest] = field(default_factory=list)
    read: int = 0
    derived: int = 0
    filtered: int = 0
    discarded: int = 0
    long_bytes: int = 0

    @property
    def totals(self) -> Totals:
        return Totals(self.read, self.derived, self.filtered, self.discarded)


@dataclass(slots=True)
class Counted:
    """Since the agent started."""

    read: int = 0
    derived: int = 0
    filtered: int = 0
    discarded: int = 0
    cuts: int = 0
    full: int = 0
    events: int = 0
    curves: int = 0
    alarms: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What the pipeline works with."""

    agent: str
    channel: Channel
    openings: Openings
    clock: Clock
    stage: Stage
    binder: Binder
    outbox: Outbox
    desk: Desk
    catalogue: Catalogue


class Pipeline:
    """One task runs it. `begin` before the first request of any poller."""

    def __init__(self, parts: Parts) -> None:
        self.counted = Counted()
        self.after_commit = AfterCommit(parts.channel, parts.desk)
        self._parts = parts
        self._open = Open()
        self._taken: deque[Item] = deque()
        self._dictionary = Dictionary()
        self._cut_made: tuple[Cut, Open] | None = None
        self._stopping = False
        self._tick_s = self._cut_s = self._alive_s = parts.clock.monotonic_s()
        self._alive_us = parts.clock.now_us()

    def begin(self) -> None:
        """Go on from the last committed state, and declare what was not read since."""
        recovered = self._parts.outbox.recovered
        to_us = self._parts.clock.now_us()
        restored = self._restore(recovered.state, to_us)
        if recovered.watermark_us is not None:
            from_us_ = min(recovered.watermark_us, to_us)
            self._open.outages.append(_outage(from_us_, to_us, "agent was down", 0))
            if restored:
                self._absorb(self._parts.binder.on_restart(from_us_, to_us))
        self.report_all()

    def report_all(self) -> None:
        self._parts.stage.report_all()

    def on_forked(self) -> None:
        """The outbox opened a new epoch: names of passes and declared tags start afresh."""
        self._parts.binder.on_fork()
        self._parts.catalogue.forget()
        self._dictionary = Dictionary()  # only what is used from now on

    async def run(self) -> None:
        """Until `stop`; then the channel is drained and the last cut is put."""
        self._note_alive()
        await self._offer()  # what a bug left behind when it ended this task
        while not (self._stopping and self._parts.channel.is_empty and not self._taken):
            await self._step()
        await self._hand_over()

    def stop(self) -> None:
        """Call when no poller will say anything more."""
        self._stopping = True

    async def _step(self) -> None:
        now_s = self._parts.clock.monotonic_s()
        wait_s = max(0.0, min(self._tick_s + TICK_S, self._cut_s + CUT_EVERY_S) - now_s)
        if not self._taken:
            self._taken.extend(await self._parts.channel.take(0.0 if self._stopping else wait_s))
        await self._look_for_standstill()
        while self._taken:
            self._process_one(self._taken.popleft())
            if self._is_large():
                await self._hand_over()
        await self._when_due()

    async def _when_due(self) -> None:
        now_s = self._parts.clock.monotonic_s()
        if now_s >= self._tick_s + TICK_S - 1e-9:
            self._tick_s = now_s
            self._absorb(self._parts.binder.on_tick(self._parts.clock.now_us()))
        if now_s >= self._cut_s + CUT_EVERY_S - 1e-9:
            await self._hand_over()

    async def _look_for_standstill(self) -> None:
        """Declare a stretch in which not only this task stood still; no value is carried across.

        Never noticed: one in which the outbox had no room, when this task waits anyhow.
        """
        still_s, from_us_ = self._parts.clock.monotonic_s() - self._alive_s, self._alive_us
        self._note_alive()
        if still_s < STILL_S:
            return
        _log.warning("the agent stood still", for_s=round(still_s, 1))
        await self._close_cut()  # what was read before it; what was let go since comes after it
        self._open.outages.append(_outage(from_us_, self._now_us(), "agent stood still", 0))
        self.report_all()

    def _note_alive(self) -> None:
        self._alive_s = self._parts.clock.monotonic_s()
        self._alive_us = self._now_us()

    # One item.

    def _process_one(self, item: Item) -> None:
        try:
            self._process(item)
        except Exception:
            self._abandon(item)  # then it is the supervisor's
            raise

    def _abandon(self, item: Item) -> None:
        """A bug lost these rows: they are counted and named like any other loss."""
        if isinstance(item, Written | Unwritten):
            return
        rows = len(item.batch) if isinstance(item, Polled) else sum(map(len, item.batches))
        now_us = self._now_us()
        self._open.read += rows
        self._open.discarded += rows
        self._open.outages.append(_outage(item.ticket.opened_us, now_us, "bug", rows))
        self._parts.openings.close(item.ticket)

    def _process(self, item: Item) -> None:
        match item:
            case Polled():
                self._polled(item)
            case Answered() | Unanswered():
                self._answered(item)
            case Written():
                self._absorb(self._parts.binder.on_written(item.token, self._now_us()))
            case Unwritten():
                outcome = self._parts.binder.on_write_failed(
                    item.token, item.reason, self._now_us()
                )
                self._absorb(outcome)

    def _polled(self, item: Polled) -> None:
        now_us = self._now_us()
        batch = item.batch if is_set(now_us) else clock_unset(item.batch)
        self._absorb(self._parts.binder.on_batch(batch, now_us))
        self._carry(batch)
        self._parts.openings.close(item.ticket)

    def _answered(self, item: Answered | Unanswered) -> None:
        """Every row is carried when it comes; the binder waits for the last device's."""
        now_us = self._now_us()
        batches = item.batches
        if not is_set(now_us):
            batches = tuple(clock_unset(batch) for batch in batches)
        answer = self._parts.desk.completed(replace(item, batches=batches))
        match answer:
            case Answered():
                self._absorb(self._parts.binder.on_read(answer.token, answer.batches, now_us))
            case Unanswered():
                outcome = self._parts.binder.on_read_failed(answer.token, answer.reason, now_us)
                self._absorb(outcome)
            case None:
                pass
        for batch in batches:
            self._carry(batch)
        self._parts.openings.close(item.ticket)

    def _carry(self, batch: SampleBatch) -> None:
        self._open.samples.append(batch)
        self._open.read += len(batch)
        if _LONG & batch.values.keys():
            self._open.long_bytes += sizes([batch])

    def _absorb(self, outcome: Outcome) -> None:
        self._open.events.extend(outcome.events)
        self._open.curves.extend(outcome.curves)
        self._open.alarms.extend(outcome.alarms)
        for read in outcome.reads:
            self._parts.desk.read(read)
        for write in outcome.writes:
            if write.after_commit:
                self._open.after_commit.append(write)
            else:
                self._parts.desk.write(write)

    # One cut.

    def _is_large(self) -> bool:
        return self._open.read >= CUT_ROWS or self._open.long_bytes >= CUT_BYTES

    async def _hand_over(self) -> None:
        self._own_up()
        await self._close_cut()

    async def _close_cut(self) -> None:
        self._cut_s = self._parts.clock.monotonic_s()
        samples = self._staged()
        self._cut_made = self._cut(samples, self._open), self._open
        self._open = Open()
        await self._offer()

    def _staged(self) -> SampleBatch:
        """What the stage lets through of all rows since the last cut."""
        here = self._open
        rows = self._dictionary.concat(here.samples)
        here.samples = []
        try:
            staged = self._parts.stage.apply(rows)
        except Exception:
            here.discarded += len(rows)
            if len(rows):
                first_us = int(rows.agent_times.min())
                here.outages.append(_outage(first_us, self._now_us(), "bug", len(rows)))
            raise  # then it is the supervisor's
        here.derived += staged.derived
        here.filtered += staged.filtered
        here.tags.extend(self._parts.catalogue.new_lines(staged.batch))
        return staged.batch

    async def _offer(self) -> None:
        """Put the cut that was made and not taken yet, if any."""
        if self._cut_made is None:
            return
        cut, made_of = self._cut_made
        handover = await self._put(cut)
        self._note_alive()
        self._cut_made = None
        self._count(made_of)
        self.after_commit.add(handover, tuple(made_of.after_commit))

    async def _put(self, cut: Cut) -> Handover:
        """Only here the pipeline waits for the disk."""
        while True:
            try:
                return self._parts.outbox.put(cut)
            except Full:
                self.counted.full += 1
                await self._parts.outbox.room()

    def _cut(self, samples: SampleBatch, done: Open) -> Cut:
        parts = self._parts
        return Cut(
            samples=samples,
            events=tuple(done.events),
            alarms=tuple(done.alarms),
            curves=tuple(done.curves),
            tags=tuple(done.tags),
            outages=tuple(done.outages),
            state={_STAGE: parts.stage.snapshot(), _BINDER: parts.binder.snapshot()},
            watermark_us=parts.openings.watermark_us(parts.clock.now_us()),
            totals=done.totals,
        )

    def _own_up(self) -> None:
        """Name what the channel let go; no value is carried across it."""
        lost = self._parts.channel.take_lost()
        if lost is None:
            return
        _log.warning("overrun", rows=lost.rows, batches=lost.batches)
        self._open.read += lost.rows
        self._open.discarded += lost.rows
        self._open.outages.append(_outage(lost.from_us, lost.to_us, "overrun", lost.rows))
        self.report_all()

    def _count(self, done: Open) -> None:
        counted = self.counted
        counted.read += done.read
        counted.derived += done.derived
        counted.filtered += done.filtered
        counted.discarded += done.discarded
        counted.cuts += 1
        counted.events += len(done.events)
        counted.curves += len(done.curves)
        counted.alarms += len(done.alarms)

    # Coming back.

    def _restore(self, state: Mapping[str, bytes], now_us: int) -> bool:
        """True: the binder goes on where it was. A state that is refused is said, not hidden."""
        parts = self._parts
        stage, binder = state.get(_STAGE), state.get(_BINDER)
        if stage is not None:
            self._restored(_STAGE, parts.stage.restore, stage, now_us)
        return binder is not None and self._restored(_BINDER, parts.binder.restore, binder, now_us)

    def _restored(
        self, name: str, restore: Callable[[bytes], None], state: bytes, now_us: int
    ) -> bool:
        try:
            restore(state)
        except Rejected as error:
            _log.warning("state not taken over", part=name, reason=error.reason)
            self._open.alarms.append(self._alarm(f"state_refused/{name}", error.reason, now_us))
            return False
        return True

    def _alarm(self, key: str, text: str, now_us: int) -> Alarm:
        identity = SEPARATOR.join((self._parts.agent, key, str(now_us)))
        return Alarm(
            id=uuid5(NAMESPACE, identity),
            key=key,
            state=AlarmState.RAISED,
            severity=Severity.WARNING,
            at=from_us(now_us),
            text=text,
            source=self._parts.agent,
        )

    def _now_us(self) -> int:
        return self._parts.clock.now_us()


def _outage(from_time_us: int, to_time_us: int, reason: str, rows: int) -> Outage:
    return Outage(
        from_time=from_us(from_time_us), to_time=from_us(to_time_us), reason=reason, rows=rows
    )
