"""Frames into the production table, beside a raw COPY of a prebuilt buffer into the same table.

The ways take turns transaction by transaction, each in another place of every turn, so a checkpoint
or a neighbour's work meets all of them alike. One connection, one transaction after the other, as
ingest does it. Parts of the work are told apart by this process' CPU.
"""

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import numpy as np
from psycopg.conninfo import make_conninfo

from cloud.admission import Accepted, Agent, decide
from cloud.agents import add, read_agents
from cloud.copying import HEADER, TRAILER, Shape, rows_of
from cloud.counting import Count
from cloud.db import connect
from cloud.migrate import migrate
from cloud.sessions import Session, open_session
from cloud.source import Move, Part, Record
from cloud.storage import Policy, Wanted
from cloud.storing import Work, build, prepare, store
from protocols import codec
from protocols.frames import Header, Kind, Lane, Totals, seal
from protocols.samples import DataType, SampleBatch, Tag, ValueClass
from tests.bench.report import Figure, of_rounds
from threadline.stack import Stack

TAGS = 1000
ROWS = 10_000  # of a frame, and of a transaction
TURNS = 20  # of a round
ROUNDS = 6
FRAMES_MANY = 10  # of a transaction that catches up
MANY = 4  # such transactions a round
AGENT = "bench.line1"
DSN_VARIABLE = "THREADLINE_BENCH_DSN"  # of another server than the embedded one
T0 = 1_790_000_000_000_000
PART = Part("tl.live", 0)
OWNER = UUID(int=7)
_NOW = datetime.fromtimestamp(T0 / 1e6 + 3600, UTC)


def measure(stack: Stack) -> list[Figure]:
    """The figures of ingest, on an empty database of the stack or of the server named outside."""
    dsn = os.environ.get(DSN_VARIABLE)
    if dsn is None:
        return asyncio.run(_measure(stack.postgres.create_database("bench_ingest")))
    name = f"bench_{secrets.token_hex(4)}"
    with connect(dsn, application="bench") as server:
        server.execute(f"create database {name}")
        try:
            return asyncio.run(_measure(make_conninfo(dsn, dbname=name)))
        finally:
            server.execute(f"drop database {name} with (force)")


@dataclass(slots=True)
class Taken:
    """Seconds of one way in one round, by transaction; CPU is this process'."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    @property
    def rows_a_s(self) -> float:
        return ROWS / statistics.median(self.wall_s)

    def cpu_ns(self, rows: int = ROWS) -> float:
        """Of a row. The mean: the work of a transaction is the same, whoever interrupts it."""
        return statistics.mean(self.cpu_s) / rows * 1e9


Round = dict[str, Taken]
Way = Callable[[Round, int], Awaitable[None]]


async def _measure(dsn: str) -> list[Figure]:
    rounds = []
    async with _prepared(dsn) as ways:
        for number in range(ROUNDS + 1):
            found = await ways.round(number)
            if number:  # the first warms up: catalogues, plans, files
                rounds.append(found)
    return _figures(rounds)


def _figures(rounds: Sequence[Round]) -> list[Figure]:
    def speed(way: str) -> list[float]:
        return [one[way].rows_a_s / 1e6 for one in rounds]

    def cpu(way: str, rows: int = ROWS) -> list[float]:
        return [one[way].cpu_ns(rows) for one in rounds]

    many, unit = FRAMES_MANY * ROWS, "ns/row"
    return [
        of_rounds("raw COPY of a prebuilt buffer", speed("raw"), "M rows/s"),
        of_rounds("frame to rows", speed("rows"), "M rows/s", goal="ratio >= 0.9",
                  peer="raw COPY", peers=speed("raw")),
        of_rounds("frame to rows with ledger", speed("ledger"), "M rows/s", goal="ratio >= 0.95",
                  peer="without ledger", peers=speed("rows")),
        of_rounds("frame to rows with ledger and offsets", speed("offsets"), "M rows/s",
                  goal="ratio >= 0.95", peer="without both", peers=speed("rows")),
        of_rounds("client CPU, all", cpu("ledger"), unit, goal="<= 100",
                  peer="raw COPY", peers=cpu("raw")),
        of_rounds("client CPU: decode", cpu("decode"), unit),
        of_rounds("client CPU: build COPY", cpu("build"), unit),
        of_rounds("client CPU: psycopg and ledger", cpu("send"), unit,
                  peer="raw COPY", peers=cpu("raw")),
        of_rounds(f"client CPU, {FRAMES_MANY} frames a transaction", cpu("many", many), unit,
                  goal="<= 100", peer="1 frame", peers=cpu("ledger")),
    ]  # fmt: skip


class _Ways:
    """The ways into the table, over one connection; each round begins with it empty."""

    def __init__(self, session: Session, agent: Agent) -> None:
        self._connection, self._books = session.storing, session.books
        self._agent = agent
        self._records = [sealed_second(seq) for seq in range(1, TURNS + MANY * FRAMES_MANY + 1)]
        self._buffers: list[bytes] = []
        self._offset = 0

    async def learn(self) -> None:
        """Ids and partitions, and the buffers of the raw way."""
        works = Work(accepted=tuple(map(self._accepted, self._records)))
        await prepare(self._connection, self._books, works, _NOW)
        self._buffers = [self._buffer(record) for record in self._records[:TURNS]]

    async def round(self, number: int) -> Round:
        await self._connection.execute("truncate sample, ledger, kafka_position")
        await self._connection.execute(
            "insert into kafka_position (topic, part, owner) values (%s, %s, %s)",
            [PART.topic, PART.number, OWNER],
        )
        self._offset = 0
        ways: list[Way] = [self._raw, self._rows, self._ledger, self._offsets]
        found: Round = {}
        for turn in range(TURNS):
            for place in range(len(ways)):
                await self._forget(turn)  # the same frames again are no repeats
                await ways[(place + turn + number) % len(ways)](found, turn)
        for part in range(MANY):
            await self._many(found, TURNS + part * FRAMES_MANY)
        await self._check((len(ways) * TURNS + MANY * FRAMES_MANY) * ROWS)
        return found

    async def _check(self, rows: int) -> None:
        found = await (await self._connection.execute("select count(*) from sample")).fetchone()
        if found != (rows,):
            raise AssertionError(f"{found} rows stored, not {rows}")

    async def _raw(self, found: Round, turn: int) -> None:
        await _timed(found, "raw", partial(self._copy, self._buffers[turn]))

    async def _rows(self, found: Round, turn: int) -> None:
        async def way() -> None:
            await self._copy(self._buffer(self._records[turn]))

        await _timed(found, "rows", way)

    async def _ledger(self, found: Round, turn: int) -> None:
        records = self._records[turn : turn + 1]
        await _timed(found, "ledger", partial(self._store, records, found))

    async def _offsets(self, found: Round, turn: int) -> None:
        """As of a record from Kafka: its part moves on in the same transaction."""
        at = self._offset
        move = Move(PART, at, at + 1, at.to_bytes(16, "little"))
        self._offset += 1
        records, count = self._records[turn : turn + 1], Count(OWNER, (move,))
        await _timed(found, "offsets", partial(self._store, records, {}, count))

    async def _many(self, found: Round, first: int) -> None:
        records = self._records[first : first + FRAMES_MANY]
        await _timed(found, "many", partial(self._store, records, {}))

    async def _copy(self, buffer: bytes) -> None:
        connection = self._connection
        async with connection.transaction(), connection.cursor().copy(Shape.F64.statement) as copy:
            await copy.write(buffer)

    async def _forget(self, turn: int) -> None:
        await self._connection.execute("delete from ledger where seq = %s", [turn + 1])

    async def _store(
        self, records: Sequence[Record], found: Round, count: Count | None = None
    ) -> None:
        """As ingest does it; its parts are counted one by one."""
        began = time.process_time()
        work = Work(accepted=tuple(map(self._accepted, records)))
        decoded = time.process_time()
        prepared = await prepare(self._connection, self._books, work, _NOW)
        ready = time.process_time()
        prepared = build(prepared, self._books)
        built = time.process_time()
        await store(self._connection, self._books, prepared, _NOW, count)
        sent = time.process_time()
        for part, cpu_s in (
            ("decode", decoded - began),
            ("build", built - ready),
            ("send", ready - decoded + sent - built),
        ):
            found.setdefault(part, Taken()).cpu_s.append(cpu_s)

    def _buffer(self, record: Record) -> bytes:
        batch = self._accepted(record).contents.samples
        assert batch is not None
        (rows,) = rows_of(batch, self._books.tags.map_of(self._agent.site_id, batch.tags), 1)
        return HEADER + rows.data + TRAILER

    def _accepted(self, record: Record) -> Accepted:
        decision = decide(record, self._agent, _NOW)
        assert isinstance(decision, Accepted), decision
        return decision


async def _timed(found: Round, name: str, way: Callable[[], Awaitable[None]]) -> None:
    taken = found.setdefault(name, Taken())
    wall, cpu = time.perf_counter(), time.process_time()
    await way()
    taken.wall_s.append(time.perf_counter() - wall)
    taken.cpu_s.append(time.process_time() - cpu)


def sealed_second(seq: int, lane: Lane = Lane.LIVE) -> Record:
    """A second of a thousand tags at 100 ms, a float32 with two decimals each."""
    draw = np.random.default_rng(seq)
    tags = tuple(Tag(f"plc1.area.signal{n:04}", DataType.FLOAT32) for n in range(TAGS))
    cycles = ROWS // TAGS
    times = T0 + (seq * cycles + np.arange(cycles)) * 100_000
    values = draw.integers(0, 10_000, ROWS).astype(np.float32) / np.float32(100)
    batch = SampleBatch(
        tags,
        np.tile(np.arange(TAGS, dtype=np.int32), cycles),
        np.repeat(times, TAGS),
        np.full(ROWS, ValueClass.F64, np.uint8),
        {ValueClass.F64: values.astype(np.float64)},
        np.zeros(ROWS, np.uint32),
        np.full(ROWS, -1, np.int64),
    )
    raw = codec.encode_samples(batch)
    last = int(times[-1])
    header = Header(
        Kind.SAMPLES, lane, AGENT, 7, seq, 1, ROWS, (seq - 1) * ROWS, last, int(times[0]),
        last, last, len(raw), compressed=True, totals=Totals(seq * ROWS),
    )  # fmt: skip
    return Record(AGENT, lane.name.lower(), seal(header, codec.compress(raw)).sealed, seq)


@asynccontextmanager
async def _prepared(dsn: str) -> AsyncIterator[_Ways]:
    with connect(dsn, application="bench") as made:
        migrate(made, Wanted.AUTO, Policy(), _NOW)
        add(made, AGENT, ["**"])
    session = await open_session(dsn)
    agents = await read_agents(session.storing)
    ways = _Ways(session, agents[AGENT])
    await ways.learn()
    yield ways
    await session.storing.close()
    await session.preparing.close()
