"""The ingest transaction: prepare, lock, admit, copy, record, commit.

Rule 1: everything that can be computed is computed before the lock.
Rule 2: what a frame became is known only when the commit has returned.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cloud.admission import Accepted, Agent, Reason, Refused, Statement
from cloud.agents import set_aside
from cloud.copying import HEADER, TRAILER, Rows, rows_of
from cloud.counting import Count, Counting
from cloud.db import BEGIN, AsyncConnection, committed, translated
from cloud.dead_letters import DeadLetter, keep
from cloud.ledger import Admission, Entry, LaneBook, Outcome, lane_key, signed
from cloud.lines import insert_curves, insert_stretches, insert_tag_lines
from cloud.lost_spools import LostSpool
from cloud.partitions import DayBook
from cloud.receipting import Answer
from cloud.recording import Origin, Raised, Said, alarm_of, record_alarms, record_events
from cloud.statements import SOURCE, beyond_their_head, keep_hello, keep_status, stored_heads
from cloud.tags import SitedTags, TagBook, UseBook, write_use
from protocols import receipts
from protocols.events import Severity
from protocols.frames import Header
from protocols.notices import Hello
from protocols.samples import Tag

CONDUCT: str = "over half of its last 100 frames were rejected"


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What one transaction is about. `aside`: agents to set aside in it."""

    accepted: tuple[Accepted, ...] = ()
    refused: tuple[Refused, ...] = ()
    statements: tuple[Statement, ...] = ()
    alarms: tuple[Raised, ...] = ()
    aside: tuple[Agent, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Step 0 done: ids known, buffers built. `rows`: of each entry, in their order."""

    work: Work
    entries: tuple[Entry, ...]
    rows: tuple[tuple[Rows, ...], ...]
    alarms: tuple[Raised, ...]


@dataclass(slots=True)
class Stored:
    """What a transaction did; true once it has committed."""

    answers: list[Answer] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    rejected: int = 0  # by the database, of frames that the checks had let through
    samples: int = 0
    events: int = 0
    event_repeats: int = 0
    event_conflicts: int = 0
    letters: int = 0
    letters_without_room: int = 0
    lost_spools: list[LostSpool] = field(default_factory=list)
    log_gen: int | None = None  # of the log that was counted; None: the source has none


class Books:
    """What is known of the database's ids: a copy, made anew with every connection."""

    def __init__(self) -> None:
        self.tags = TagBook()
        self.lanes = LaneBook()
        self.uses = UseBook()
        self.days = DayBook()


async def prepare(connection: AsyncConnection, books: Books, work: Work, now: datetime) -> Prepared:
    """Step 0: ids, lanes, partitions. Says nothing of being stored.

    Each statement commits alone: all of them may be repeated, and when everything is known, as it
    nearly always is, none is sent.
    """
    with translated():
        await books.tags.learn(connection, _sited_tags(work.accepted))
        await books.lanes.learn(connection, map(lane_key, work.accepted))
        alarms = await _write_uses(connection, books, work.accepted, now)
        batches = [one.contents.samples for one in work.accepted]
        await books.days.learn(connection, [batch for batch in batches if batch is not None])
    entries = tuple(_entry(accepted, books) for accepted in work.accepted)
    return Prepared(work, entries, (), tuple(alarms))


def build(prepared: Prepared, books: Books) -> Prepared:
    """The buffers of step 0. No database: may run in a thread."""
    rows = tuple(_rows(entry, books) for entry in prepared.entries)
    return replace(prepared, rows=rows)


async def store(
    connection: AsyncConnection,
    books: Books,
    prepared: Prepared,
    now: datetime,
    count: Count | None = None,
) -> Stored:
    """Steps 1 to 5. StoreTrouble, BadData: nothing of it is there, or (lost commit) all of it.

    `count`: of a log, step 4. Overtaken: nothing of it is there, somebody else does it.
    """
    with translated():
        async with committed(connection):
            transaction = _Transaction(connection, books, prepared, now)
            await transaction.begin(count)
            return await transaction.run()


class _Transaction:
    """One attempt. What it gathers is thrown away with it."""

    def __init__(
        self, connection: AsyncConnection, books: Books, prepared: Prepared, now: datetime
    ) -> None:
        self._connection = connection
        self._books = books
        self._prepared = prepared
        self._now = now
        self._stored = Stored()
        self._raised = [*prepared.work.alarms, *prepared.alarms]
        self._letters = [_letter(refused) for refused in prepared.work.refused]

    async def begin(self, count: Count | None) -> None:
        """Begin, steps 1, 2 and 4: one journey, because each costs as much as a thousand rows."""
        connection = self._connection
        admission = Admission(connection, self._prepared.entries)
        counting = Counting(connection, count)
        async with connection.pipeline():
            await connection.execute(BEGIN)
            await admission.send()
            await counting.send()
        self._stored.log_gen = await counting.log_gen()
        self._stored.outcomes = await admission.outcomes()

    async def run(self) -> Stored:
        entries, outcomes = self._prepared.entries, self._stored.outcomes
        places = [at for at, outcome in enumerate(outcomes) if outcome is Outcome.ADMITTED]
        admitted = [entries[at] for at in places]
        await self._copy(self._prepared.rows[at] for at in places)
        await self._insert_lines(admitted)
        await self._hear()
        for entry, outcome in zip(entries, outcomes, strict=True):
            self._answer(entry, outcome)
        await self._set_aside()
        await self._record(admitted)
        return self._stored

    async def _copy(self, admitted: Iterable[tuple[Rows, ...]]) -> None:
        """Step 3: all rows of one shape in one statement."""
        parts: dict[str, list[bytes | bytearray]] = {}
        for mine in admitted:
            for rows in mine:
                parts.setdefault(rows.shape.statement, []).append(rows.data)
                self._stored.samples += rows.count
        for statement in sorted(parts):
            async with self._connection.cursor().copy(statement) as copy:
                for part in (HEADER, *parts[statement], TRAILER):
                    await copy.write(part)

    async def _insert_lines(self, admitted: Sequence[Entry]) -> None:
        await insert_tag_lines(self._connection, self._books.tags, admitted)
        await insert_stretches(self._connection, admitted)
        await insert_curves(self._connection, admitted)
        self._raised += await beyond_their_head(self._connection, admitted, self._now)
        self._raised += _from_agents(admitted)

    async def _hear(self) -> None:
        """Unsequenced, hence outside the ledger; an unknown agent is answered and not kept."""
        for statement in self._prepared.work.statements:
            agent, said = statement.agent, statement.said
            if agent is None:
                continue
            if isinstance(said, Hello):
                kept = await keep_hello(self._connection, agent, said, self._now)
                self._raised += kept.raised
                self._stored.lost_spools += [] if kept.lost is None else [kept.lost]
                self._stored.answers += await stored_heads(self._connection, agent, said)
            else:
                await keep_status(self._connection, agent, said, self._now)

    def _answer(self, entry: Entry, outcome: Outcome) -> None:
        said, reason = _SAID[outcome]
        self._stored.answers.append(_answer(entry, said, reason))
        if outcome is Outcome.FORKED:
            self._letters.append(_entry_letter(entry, Reason.FORKED, "another digest is stored"))
        if outcome is Outcome.COMPACTED:
            detail = f"seq {entry.header.seq} was compacted long ago"
            self._letters.append(_entry_letter(entry, Reason.COMPACTED, detail))
            self._raised.append(_compacted(entry, self._now))

    async def _set_aside(self) -> None:
        for agent in self._prepared.work.aside:
            await set_aside(self._connection, agent, CONDUCT)
            alarm = alarm_of(
                f"set_aside/{agent.name}",
                f"{agent.name} is set aside: {CONDUCT}."
                f" After the cause is gone: threadline cloud agents release {agent.name}",
                at=self._now,
                source=SOURCE,
                what=self._now.isoformat(),
                severity=Severity.ERROR,
            )
            self._raised.append(Raised(alarm, agent.site_id))

    async def _record(self, admitted: Sequence[Entry]) -> None:
        """Last: events take the lock that makes their numbers follow the commits."""
        entries = {entry.frame: entry for entry in admitted}
        recorded = await record_events(self._connection, list(_said(admitted)))
        self._stored.events += recorded.new
        self._stored.event_repeats += recorded.repeats
        self._stored.event_conflicts += len(recorded.conflicts)
        for said in recorded.conflicts:
            entry = entries[_origin_of(said).frame]
            detail = f"event {said.event.id} is recorded with another content"
            self._letters.append(_entry_letter(entry, Reason.ID_CONFLICT, detail))
            self._raised.append(_id_conflict(entry, said, self._now))
        self._stored.letters = len(self._letters)
        self._stored.letters_without_room = await keep(self._connection, self._letters)
        await record_alarms(self._connection, self._raised)


_SAID: Mapping[Outcome, tuple[receipts.Said, str | None]] = {
    Outcome.ADMITTED: (receipts.Said.STORED, None),
    Outcome.REPEAT: (receipts.Said.STORED, None),
    Outcome.FORKED: (receipts.Said.FORKED, None),
    Outcome.COMPACTED: (receipts.Said.REJECTED, "compacted"),
}


def _sited_tags(accepted: Iterable[Accepted]) -> Iterator[SitedTags]:
    for one in accepted:
        if one.contents.samples is not None:
            yield one.agent.site_id, one.contents.samples.tags
        if one.contents.tags:
            yield one.agent.site_id, tuple(Tag(line.path, line.type) for line in one.contents.tags)


async def _write_uses(
    connection: AsyncConnection, books: Books, accepted: Iterable[Accepted], now: datetime
) -> list[Raised]:
    alarms: list[Raised] = []
    for one in accepted:
        batch = one.contents.samples
        if batch is None or len(batch) == 0:
            continue
        span = one.frame.header.t_min, one.frame.header.t_max
        ids = books.tags.map_of(one.agent.site_id, batch.tags).ids
        ids = books.uses.unwritten(one.agent.agent_id, ids, span)
        if len(ids):
            shared = await write_use(connection, one.agent.agent_id, ids, span)
            alarms += _path_shared(one.agent, shared, now)
    return alarms


def _path_shared(agent: Agent, shared: Mapping[str, str], now: datetime) -> Iterator[Raised]:
    for other in sorted(set(shared.values())):
        paths = sorted(path for path, name in shared.items() if name == other)
        pair = sorted((agent.name, other))
        alarm = alarm_of(
            f"path_shared/{pair[0]}/{pair[1]}",
            f"{pair[0]} and {pair[1]} send the same tags at the same time: {len(paths)},"
            f" such as {', '.join(paths[:5])}",
            at=now,
            source=SOURCE,
            what="/".join(pair),
            severity=Severity.WARNING,
        )
        yield Raised(alarm, agent.site_id)


def _rows(entry: Entry, books: Books) -> tuple[Rows, ...]:
    batch = entry.accepted.contents.samples
    if batch is None:
        return ()
    tags = books.tags.map_of(entry.accepted.agent.site_id, batch.tags)
    return rows_of(batch, tags, entry.frame)


def _entry(accepted: Accepted, books: Books) -> Entry:
    batch = accepted.contents.samples
    span = None
    if batch is not None and len(batch):
        span = int(batch.time.min()), int(batch.time.max())
    return Entry(accepted, books.lanes.lane_id(lane_key(accepted)), span)


def _said(admitted: Iterable[Entry]) -> Iterator[Said]:
    for entry in admitted:
        header = entry.header
        origin = Origin(
            entry.accepted.agent.agent_id,
            signed(header.epoch),
            int(header.lane),
            header.seq,
            entry.frame,
        )
        for said in entry.accepted.contents.events:
            yield Said(said.event, said.hash, origin)


def _origin_of(said: Said) -> Origin:
    if said.origin is None:
        raise ValueError("an event of a frame without its origin")
    return said.origin


def _from_agents(admitted: Iterable[Entry]) -> Iterator[Raised]:
    for entry in admitted:
        agent = entry.accepted.agent
        for alarm in entry.accepted.contents.alarms:
            yield Raised(alarm, agent.site_id, agent.agent_id, entry.frame)


def _answer(entry: Entry, said: receipts.Said, reason: str | None) -> Answer:
    header = entry.header
    agent = entry.accepted.agent.name
    return Answer(agent, header.epoch, int(header.lane), header.seq, header.digest, said, reason)


def _letter(refused: Refused) -> DeadLetter:
    record, header = refused.record, refused.header
    known = header if isinstance(header, Header) else None
    return DeadLetter(
        record.agent, refused.reason, refused.detail, record.data, known, record.channel
    )


def _entry_letter(entry: Entry, reason: Reason, detail: str) -> DeadLetter:
    record = entry.accepted.record
    return DeadLetter(record.agent, reason, detail, record.data, entry.header, record.channel)


def _compacted(entry: Entry, now: datetime) -> Raised:
    agent, header = entry.accepted.agent, entry.header
    alarm = alarm_of(
        f"compacted/{agent.name}",
        f"{agent.name} sent seq {header.seq} of lane {header.lane.name.lower()} again, long after"
        f" it had said that it holds nothing below its floor",
        at=now,
        source=SOURCE,
        what=f"{header.epoch:016x}/{int(header.lane)}/{header.seq}",
        severity=Severity.ERROR,
    )
    return Raised(alarm, agent.site_id)


def _id_conflict(entry: Entry, said: Said, now: datetime) -> Raised:
    agent = entry.accepted.agent
    alarm = alarm_of(
        f"id_conflict/{said.event.id}",
        f"{agent.name} says something else under the id of an event that is recorded",
        at=now,
        source=SOURCE,
        what=said.hash,
        severity=Severity.ERROR,
    )
    return Raised(alarm, agent.site_id, frame=entry.frame)
