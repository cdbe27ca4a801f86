"""Ingest: records from a source into the database, receipts back. Two tasks, one handing over.

The first takes, decides and prepares; the second stores, acknowledges and answers. While the
database works on one transaction, the buffers of the next are built.

Rule 1: a record is acknowledged after the commit that decides about it, or after the decision that
nothing is to be stored.
Rule 2: only one's own data can be rejected: trouble of the database or the broker is waited out.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from cloud.admission import (
    Accepted,
    Agent,
    Conduct,
    Decision,
    Later,
    Postponed,
    Reason,
    Refused,
    Statement,
    decide,
)
from cloud.agents import read_agents
from cloud.answering import later, rejected, state
from cloud.clock import Clock
from cloud.counting import Count
from cloud.db import BadData, translated
from cloud.metrics import Metrics
from cloud.receipting import receipts_of
from cloud.recording import Raised, alarm_of
from cloud.sessions import Session, Sessions, check_store_id
from cloud.source import Appetite, Overtaken, Record, Source, SourceState, SourceTrouble, moves_of
from cloud.standing import Standing
from cloud.statements import SOURCE
from cloud.storing import Prepared, Stored, Work, build, prepare, store
from protocols.errors import Disconnected
from protocols.events import Severity, to_us
from protocols.frames import Lane
from protocols.notices import Hello
from protocols.receipts import encode_receipt
from protocols.retry import Backoff, Tries
from protocols.tasks import for_ever

BROKER: Final = "broker"
AGENTS_FRESH_S: Final = 5.0  # how soon an agent added or released is noticed
LASTING_S: Final = 30.0  # two of one client id end each other's connections: no reason for haste
APPETITE: Final = Appetite(records=128, size=8 * 1024 * 1024)
RAW_BYTES_MAX: Final = 4 * 1024 * 1024  # decoded, of one transaction: more is hardly cheaper a row


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Records on their way through one transaction, and the session that prepared them."""

    records: tuple[Record, ...]
    work: Work
    postponed: tuple[Postponed, ...]
    prepared: Prepared
    session: Session


class Ingest:
    """Runs until it is cancelled; whatever is not committed then comes again."""

    def __init__(
        self,
        source: Source,
        sessions: Sessions,
        standing: Standing,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._source = source
        self._sessions = sessions
        self._standing = standing
        self._metrics = metrics
        self._clock = clock
        self._backoff = Backoff()
        self._log = structlog.get_logger("cloud.ingest")
        self._batches: asyncio.Queue[Batch] = asyncio.Queue(maxsize=1)
        self._agents: dict[str, Agent] = {}
        self._agents_read_s = float("-inf")
        self._waiting = 0
        self._conduct: defaultdict[str, Conduct] = defaultdict(Conduct)

    async def run(self) -> None:
        self._standing.begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(for_ever(self._take_for_ever()))
                tasks.create_task(for_ever(self._store_for_ever()))
        finally:
            self._metrics.waiting.dec(self._waiting)
            await self._source.close()
            await self._sessions.close()

    async def _take_for_ever(self) -> None:
        tries = Tries(self._backoff, LASTING_S)
        while True:
            tries.begin(self._clock.monotonic_s())
            try:
                await self._source.open()
                self._standing.up(BROKER)
                while True:
                    await self._take()
            except Overtaken as gone:
                self._log.warning("overtaken", why=gone.reason)
            except Disconnected as gone:
                self._standing.down(BROKER, _state_of(gone), gone.reason)
            await self._source.close()
            await asyncio.sleep(tries.pause_s(self._clock.monotonic_s(), self._clock.draw()))

    async def _take(self) -> None:
        records = tuple(await self._source.take(APPETITE))
        self._standing.took(len(records))
        self._wait_for(len(records))
        self._metrics.received_bytes.inc(sum(len(record.data) for record in records))
        while records:
            batch = await self._batch_of(records)
            await self._batches.put(batch)
            records = records[len(batch.records) :]

    async def _batch_of(self, records: tuple[Record, ...]) -> Batch:
        """As many of the records as fit the memory of one transaction, decided about once."""
        agents = await self._sessions.insist(partial(self._known_agents, records))
        now = self._clock.now()
        decisions = await asyncio.to_thread(_decide_some, records, agents, now)
        work, postponed = self._sort(decisions, now)
        taken = records[: len(decisions)]
        return await self._sessions.insist(partial(self._prepared, taken, work, postponed))

    async def _prepared(
        self,
        records: tuple[Record, ...],
        work: Work,
        postponed: tuple[Postponed, ...],
        session: Session,
    ) -> Batch:
        async with session.lock:
            prepared = await prepare(session.preparing, session.books, work, self._clock.now())
        prepared = await asyncio.to_thread(build, prepared, session.books)
        return Batch(records, work, postponed, prepared, session)

    async def _known_agents(
        self, records: Iterable[Record], session: Session
    ) -> Mapping[str, Agent]:
        """Everybody, seldom read again; sooner when somebody here would have to wait."""
        age_s = self._clock.monotonic_s() - self._agents_read_s
        known = [self._agents.get(record.agent) for record in records]
        in_doubt = any(agent is None or agent.is_set_aside for agent in known)
        if age_s > AGENTS_FRESH_S or (in_doubt and age_s > 1.0):
            async with session.lock:
                with translated():
                    self._agents = await read_agents(session.preparing)
            self._agents_read_s = self._clock.monotonic_s()
        return self._agents

    def _sort(
        self, decisions: Sequence[Decision], now: datetime
    ) -> tuple[Work, tuple[Postponed, ...]]:
        refused = tuple(one for one in decisions if isinstance(one, Refused))
        postponed = tuple(one for one in decisions if isinstance(one, Postponed))
        accepted = tuple(one for one in decisions if isinstance(one, Accepted))
        newer = [one for one in postponed if one.why is Later.UNKNOWN_VERSION]
        work = Work(
            accepted,
            refused,
            tuple(one for one in decisions if isinstance(one, Statement)),
            tuple(self._newer_version(one, now) for one in newer),
            self._ill_behaved(accepted, refused),
        )
        return work, postponed

    def _newer_version(self, postponed: Postponed, now: datetime) -> Raised:
        name = postponed.record.agent
        agent = self._agents.get(name)
        alarm = alarm_of(
            f"unknown_version/{name}",
            f"{name} sends what this program does not know: {postponed.detail}. It waits at the"
            " edge until this program is upgraded.",
            at=now,
            source=SOURCE,
            what=postponed.detail,
            severity=Severity.WARNING,
        )
        return Raised(alarm, None if agent is None else agent.site_id)

    def _ill_behaved(
        self, accepted: Iterable[Accepted], refused: Iterable[Refused]
    ) -> tuple[Agent, ...]:
        for one in accepted:
            self._conduct[one.agent.name].note(rejected=False)
        found = {}
        for bad in refused:
            agent = self._agents.get(bad.record.agent)
            if bad.reason is not Reason.UNREADABLE and agent is not None:
                self._conduct[agent.name].note(rejected=True)
                if self._conduct[agent.name].is_intolerable:
                    found[agent.name] = agent
        for name in found:
            del self._conduct[name]
            self._agents[name] = replace(self._agents[name], is_set_aside=True)
        return tuple(found.values())

    async def _store_for_ever(self) -> None:
        await self._sessions.insist_on_writing(
            _nothing
        )  # what is wrong with the database is known at once
        while True:
            batch = await self._batches.get()
            try:
                stored, store_id = await self._store(batch)
            except Overtaken:
                await self._abandon(batch)
                continue
            await self._source.acknowledge(batch.records)
            await self._answer(batch, stored, store_id)
            self._count(batch, stored)
            self._tell_losses(stored)

    async def _abandon(self, batch: Batch) -> None:
        """Others have these records by now."""
        await self._source.abandon(batch.records)
        self._metrics.abandoned.inc(len(batch.records))
        self._standing.gave_up(len(batch.records))
        self._wait_for(-len(batch.records))

    async def _store(self, batch: Batch) -> tuple[Stored, str]:
        started_s = self._clock.monotonic_s()
        done = await self._sessions.insist_on_writing(partial(self._store_in, batch))
        self._metrics.transaction_s.observe(self._clock.monotonic_s() - started_s)
        return done

    async def _store_in(self, batch: Batch, session: Session) -> tuple[Stored, str]:
        if not self._source.holds(batch.records):
            raise Overtaken("the group shared its parts out anew")
        if batch.session is not session:  # its ids may mean nothing in this database
            batch = await self._prepared(batch.records, batch.work, batch.postponed, session)
        now = self._clock.now()
        if any(isinstance(one.said, Hello) for one in batch.work.statements):
            await check_store_id(session)
        count = _count_of(session, batch.records)
        try:
            stored = await store(session.storing, session.books, batch.prepared, now, count)
        except BadData:
            stored = await self._store_one_by_one(session, batch.work, count)
        return stored, session.store_id

    async def _store_one_by_one(self, session: Session, work: Work, count: Count | None) -> Stored:
        """A value that the database cannot hold: whose is it? The others are stored.

        Counted with the last: what comes before it comes again if that fails, as a repeat.
        """
        rest = replace(work, accepted=())
        refused: list[Refused] = []
        total = Stored()
        for accepted in work.accepted:
            alone = Work(accepted=(accepted,))
            try:
                _add(total, await self._store_alone(session, alone))
            except BadData as bad:
                record, header = accepted.record, accepted.frame.header
                refused.append(Refused(record, Reason.REJECTED, bad.reason, header))
        aside = self._ill_behaved((), refused)
        rest = replace(rest, refused=(*rest.refused, *refused), aside=(*rest.aside, *aside))
        last = await self._store_alone(session, rest, count)
        _add(total, last)
        total.log_gen = last.log_gen
        total.answers += [rejected(one) for one in refused]
        total.rejected = len(refused)
        return total

    async def _store_alone(
        self, session: Session, work: Work, count: Count | None = None
    ) -> Stored:
        async with session.lock:
            prepared = await prepare(session.preparing, session.books, work, self._clock.now())
        prepared = build(prepared, session.books)
        return await store(session.storing, session.books, prepared, self._clock.now(), count)

    async def _answer(self, batch: Batch, stored: Stored, store_id: str) -> None:
        answers = [*stored.answers, *map(later, batch.postponed)]
        answers += [rejected(one) for one in batch.work.refused if one.header is not None]
        answers += [state(one) for one in batch.work.statements if isinstance(one.said, Hello)]
        for receipt in receipts_of(answers, store_id, stored.log_gen):
            try:
                await self._source.answer(receipt.agent, encode_receipt(receipt))
            except Disconnected:
                self._metrics.receipts_lost.inc()
            else:
                self._metrics.receipts.inc()

    def _count(self, batch: Batch, stored: Stored) -> None:
        metrics = self._metrics
        for outcome in stored.outcomes:
            metrics.frames.labels(outcome.value).inc()
        for refused in batch.work.refused:
            metrics.frames.labels(refused.reason.value).inc()
        metrics.frames.labels(Reason.REJECTED.value).inc(stored.rejected)
        metrics.frames.labels("later").inc(len(batch.postponed))
        metrics.samples.inc(stored.samples)
        metrics.events.labels("new").inc(stored.events)
        metrics.events.labels("repeat").inc(stored.event_repeats)
        metrics.events.labels("conflict").inc(stored.event_conflicts)
        metrics.dead_letters.inc(stored.letters)
        metrics.dead_letters_without_room.inc(stored.letters_without_room)
        metrics.transactions.inc()
        self._wait_for(-len(batch.records))
        self._standing.wrote(len(batch.records))
        now = self._clock.now()
        metrics.last_write.set(now.timestamp())
        if stored.log_gen is not None:
            metrics.log_gen.set(stored.log_gen)
        newest: dict[Lane, int] = {}
        for one in batch.work.accepted:
            header = one.frame.header
            newest[header.lane] = max(header.t_max, newest.get(header.lane, header.t_max))
        for lane, t_max in newest.items():
            metrics.lag_s.labels(lane.name.lower()).set((to_us(now) - t_max) / 1e6)

    def _tell_losses(self, stored: Stored) -> None:
        for lost in stored.lost_spools:
            self._metrics.spools_lost.inc()
            self._log.error(
                "spool lost",
                agent=lost.agent.name,
                lost_after=lost.lost_after.isoformat(),
                back_at=lost.back_at.isoformat(),
            )

    def _wait_for(self, records: int) -> None:
        self._waiting += records
        self._metrics.waiting.inc(records)


async def _nothing(_: Session) -> None:
    """Only to have a session."""


def _state_of(gone: Disconnected) -> str:
    return gone.state if isinstance(gone, SourceTrouble) else SourceState.BROKER_DOWN


def _count_of(session: Session, records: Sequence[Record]) -> Count | None:
    return None if session.owner is None else Count(session.owner, moves_of(records))


def _decide_some(
    records: Iterable[Record], agents: Mapping[str, Agent], now: datetime
) -> list[Decision]:
    """In order, until the decoded frames are large enough for one transaction."""
    decisions = []
    size = 0
    for record in records:
        decision = decide(record, agents.get(record.agent), now)
        decisions.append(decision)
        size += decision.frame.header.raw_len if isinstance(decision, Accepted) else 0
        if size >= RAW_BYTES_MAX:
            break
    return decisions


def _add(total: Stored, one: Stored) -> None:
    total.answers += one.answers
    total.outcomes += one.outcomes
    total.samples += one.samples
    total.events += one.events
    total.event_repeats += one.event_repeats
    total.event_conflicts += one.event_conflicts
    total.letters += one.letters
    total.letters_without_room += one.letters_without_room
    total.lost_spools += one.lost_spools
