"""The bridge: messages of the broker into Kafka, acknowledged when they are there.

Rule 1: it takes from the broker only while Kafka takes from it. When Kafka has been silent for
half a minute it leaves the broker, so that other gateways of the group have all of it and nothing
queues for this one.
Rule 2: whatever fails, what is not confirmed is written again, in order; nothing is acknowledged
for a failure. Writing twice is ingest's to notice, losing is nobody's.
Rule 3: `logged` is said of what Kafka confirmed, also when the connection it came by is gone.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.answering import Answers
from gateway.clock import Clock
from gateway.held import Held
from gateway.metrics import Metrics
from gateway.ports import HELD_BYTES_MAX, Intake, Message, Outlet, Record, Terms, Trouble
from gateway.sorting import outcome_of, sort
from gateway.standing import Part, Standing
from protocols.errors import ConfigError, Disconnected
from protocols.retry import Backoff, Tries
from protocols.tasks import for_ever

LASTING_S: Final = 30.0  # a session that ends sooner is another failed try
WATCH_S: Final = 1.0
FATAL: Final = frozenset({"topic_missing", "topic_settings"})  # no session can go on with these


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the bridge is.

    Attributes:
        stall_s: without a confirmation this long, Kafka is asked what is wrong.
        leave_s: and this long, the broker is left.
        inspect_s: Kafka's settings are looked at so often, whatever happens.
        drain_s: at the end, for what is held.
        retry: between two tries with either side.
    """

    stall_s: float = 10.0
    leave_s: float = 30.0
    inspect_s: float = 60.0
    drain_s: float = 3.0
    retry: Backoff = field(default_factory=lambda: Backoff(first_s=0.5, limit_s=15.0))


class Bridge:
    """Runs until it is cancelled; what is not confirmed then comes again from the agents."""

    def __init__(
        self,
        intake: Intake,
        outlet: Outlet,
        standing: Standing,
        metrics: Metrics,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._intake = intake
        self._outlet = outlet
        self._standing = standing
        self._metrics = metrics
        self._clock = clock
        self._pace = pace or Pace()
        self._held = Held()
        self._answers = Answers(intake, metrics)
        self._room = asyncio.Event()  # Kafka confirms, and little is held: the broker may be opened
        self._news = asyncio.Event()  # something was confirmed
        self._is_open = False  # the session with Kafka
        self._is_taking = False
        self._away_since_s = clock.monotonic_s()  # of Kafka, while there is no session
        self._looked_s = clock.monotonic_s()
        self._trouble: Trouble | None = None  # found by looking, ends the session

    async def run(self, told: asyncio.Event) -> None:
        """`told`: to end; what is held gets a moment to be confirmed first."""
        self._standing.begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                taking = tasks.create_task(for_ever(self._take_for_ever()))
                rest = [
                    tasks.create_task(for_ever(self._write_for_ever())),
                    tasks.create_task(for_ever(self._answers.run())),
                    tasks.create_task(for_ever(self._watch_for_ever())),
                ]
                await told.wait()
                taking.cancel()
                await self._drain()
                for task in rest:
                    task.cancel()
        finally:
            await self._intake.close()
            await self._outlet.close()

    async def _drain(self) -> None:
        """A moment for what is held: spares its agents half a minute, and ingest a repeat."""
        with contextlib.suppress(TimeoutError, Disconnected):
            async with asyncio.timeout(self._pace.drain_s):
                while self._held.messages:
                    await self._settled()
                await self._answers.said()
                await self._intake.answered()

    async def _settled(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _write_for_ever(self) -> None:
        tries = Tries(self._pace.retry, LASTING_S)
        while True:
            tries.begin(self._clock.monotonic_s())
            try:
                self._begin(await self._outlet.open())
                while True:
                    self._settle(await self._outlet.confirmed())
            except Trouble as trouble:
                self._end(trouble)
            await self._outlet.close()
            await asyncio.sleep(tries.pause_s(self._clock.monotonic_s(), self._clock.draw()))

    def _begin(self, terms: Terms) -> None:
        self._is_open = True
        self._trouble = None
        self._heed(terms)
        again = self._held.unconfirmed
        self._metrics.rewritten.inc(len(again))
        self._outlet.write(again)
        if not again:
            self._flow()

    def _end(self, trouble: Trouble) -> None:
        if self._is_open:
            self._away_since_s = self._clock.monotonic_s()
        self._is_open = False
        self._room.clear()
        told = self._trouble or trouble
        self._standing.down(Part.KAFKA, told.state, told.reason)

    def _settle(self, records: Sequence[Record]) -> None:
        now_s = self._clock.monotonic_s()
        self._held.confirm(records, now_s)
        self._release()
        self._answers.note(records)
        self._standing.wrote(len(records))
        for outcome, count in Counter(map(outcome_of, records)).items():
            self._metrics.frames.labels(outcome).inc(count)
        self._metrics.confirm_s.observe(now_s - records[0].taken_s)
        self._news.set()
        if self._held.oldest_s(now_s) <= self._pace.stall_s:
            self._flow()

    def _flow(self) -> None:
        """Kafka takes what it is given."""
        self._standing.up(Part.KAFKA)
        if self._held.size < HELD_BYTES_MAX // 2:
            self._room.set()

    async def _take_for_ever(self) -> None:
        tries = Tries(self._pace.retry, LASTING_S)
        while True:
            await self._room.wait()
            tries.begin(self._clock.monotonic_s())
            try:
                await self._open_intake()
                while True:
                    self._take(await self._intake.take())
            except Disconnected as gone:
                self._close_intake(gone)
            except ConfigError as wrong:
                self._standing.down(Part.BROKER, "broker_unfit", str(wrong))
            await self._intake.close()
            await asyncio.sleep(tries.pause_s(self._clock.monotonic_s(), self._clock.draw()))

    async def _open_intake(self) -> None:
        await self._intake.open()
        self._is_taking = True
        self._standing.up(Part.BROKER)
        self._answers.connected()

    def _close_intake(self, gone: Disconnected) -> None:
        left = self._is_taking and not self._room.is_set() and self._is_away
        self._is_taking = False
        if self._held.size >= HELD_BYTES_MAX // 2:
            self._room.clear()  # until less is held: each connection may bring its own share
        if not left:
            state = gone.state if isinstance(gone, Trouble) else "broker_down"
            self._standing.down(Part.BROKER, state, gone.reason)

    def _take(self, messages: Sequence[Message]) -> None:
        found = [sort(message) for message in messages]
        records = [record for record in found if record is not None]
        if len(records) < len(messages):
            self._pass_over(messages)
        self._held.add(messages, records, self._clock.monotonic_s())
        self._standing.took(len(records))
        if self._is_open:
            self._outlet.write(records)
        self._metrics.received_bytes.inc(sum(len(message.data) for message in messages))
        self._release()

    def _pass_over(self, messages: Sequence[Message]) -> None:
        """Of topics that are no agent's: nothing to carry."""
        foreign = [message for message in messages if not message.agent]
        for message in foreign:
            message.is_done = True
        self._metrics.ignored.inc(len(foreign))

    def _release(self) -> None:
        self._intake.acknowledge(self._held.release())
        self._metrics.held_bytes.set(self._held.size)
        self._metrics.held_messages.set(self._held.messages)

    @property
    def _is_away(self) -> bool:
        """Kafka, for so long that the broker is left."""
        now_s = self._clock.monotonic_s()
        away_s = self._held.waiting_s(now_s)
        if not self._is_open:
            away_s = max(away_s, now_s - self._away_since_s)
        return away_s > self._pace.leave_s

    async def _watch_for_ever(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now_s = self._clock.monotonic_s()
            ill = self._standing.is_down(Part.KAFKA)
            ill = ill or self._held.oldest_s(now_s) > self._pace.stall_s
            wait_s = self._pace.stall_s if ill else self._pace.inspect_s
            if self._is_open and now_s - self._looked_s > wait_s:
                await self._look()
            if self._is_taking and self._is_away:
                self._room.clear()
                await self._intake.close()

    async def _look(self) -> None:
        """What Kafka's settings are now, and when nothing is confirmed: why."""
        try:
            self._heed(await self._outlet.inspect())
            oldest_s = self._held.oldest_s(self._clock.monotonic_s())
            if oldest_s > self._pace.stall_s:
                oldest = self._held.unconfirmed[0]
                what = f"{oldest.topic} of {oldest.key.decode()}"
                why = f"it answers, but has not confirmed {what} for {oldest_s:.0f} s"
                self._standing.down(Part.KAFKA, "kafka_stalled", why)
            elif oldest_s == 0.0:
                self._flow()
        except Trouble as trouble:
            self._standing.down(Part.KAFKA, trouble.state, trouble.reason)
            if trouble.state in FATAL:
                self._trouble = trouble
                await self._outlet.close()
        self._looked_s = self._clock.monotonic_s()

    def _heed(self, terms: Terms) -> None:
        self._looked_s = self._clock.monotonic_s()
        self._answers.is_single_copy = terms.is_single_copy
        self._metrics.single_copy.set(terms.is_single_copy)
