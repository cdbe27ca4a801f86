"""Frames into the production table, beside a raw COPY of a prebuilt buffer into the same table.

The rounds take turns, so the machine's moods meet all of them; the table is emptied before each.
One connection, one transaction of 10,000 rows after the other, as ingest does it.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from cloud.admission import Accepted, Agent, decide
from cloud.agents import add, read_agents
from cloud.copying import HEADER, TRAILER, Shape, rows_of
from cloud.db import AsyncConnection, connect
from cloud.migrate import migrate
from cloud.sessions import Session, open_session
from cloud.source import Record
from cloud.storage import Policy, Wanted
from cloud.storing import Books, Work, build, prepare, store
from protocols import codec
from protocols.frames import Header, Kind, Lane, Totals, seal
from protocols.samples import DataType, SampleBatch, Tag, ValueClass
from tests.bench.report import Figure, of_rounds

TAGS = 1000
ROWS = 10_000  # of a frame, and of a transaction
FRAMES = 40
ROUNDS = 5
AGENT = "bench.line1"
T0 = 1_790_000_000_000_000
_NOW = datetime.fromtimestamp(T0 / 1e6 + 3600, UTC)


@dataclass(frozen=True, slots=True)
class Taken:
    """Of one round: wall seconds, and CPU seconds of this process."""

    wall_s: float
    cpu_s: float


async def measure(dsn: str) -> list[Figure]:
    """The figures of ingest, on an empty database."""
    records = [_record(seq) for seq in range(1, FRAMES + 1)]
    rounds: dict[str, list[Taken]] = {"raw": [], "rows": [], "ledger": []}
    async with _prepared(dsn) as (session, agent):
        connection, books = session.storing, session.books
        ways = {
            "raw": _raw(connection, await _buffers(connection, books, records, agent)),
            "rows": _rows(connection, books, records, agent),
            "ledger": _ledger(connection, books, records, agent),
        }
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                taken = await _round(connection, way)
                if turn:  # the first warms up: catalogues, plans, files
                    rounds[name].append(taken)
    return _figures(rounds)


def _figures(rounds: dict[str, list[Taken]]) -> list[Figure]:
    total = FRAMES * ROWS
    speed = {name: [total / one.wall_s / 1e6 for one in taken] for name, taken in rounds.items()}
    cpu = [one.cpu_s / total * 1e9 for one in rounds["ledger"]]
    raw_cpu = [one.cpu_s / total * 1e9 for one in rounds["raw"]]
    return [
        of_rounds("raw COPY, prebuilt", speed["raw"], "M rows/s"),
        of_rounds(
            "frame to rows", speed["rows"], "M rows/s", goal=">= 0.9", peer="raw COPY",
            peers=speed["raw"],
        ),
        of_rounds(
            "frame to rows with ledger", speed["ledger"], "M rows/s", goal=">= 0.95",
            peer="without", peers=speed["rows"],
        ),
        of_rounds(
            "client CPU with ledger", cpu, "ns/row", goal="<= 100", peer="raw COPY", peers=raw_cpu
        ),
    ]  # fmt: skip


Way = Callable[[], Awaitable[None]]


async def _round(connection: AsyncConnection, way: Way) -> Taken:
    await connection.execute("truncate sample, ledger")
    wall, cpu = time.perf_counter(), time.process_time()
    await way()
    taken = Taken(time.perf_counter() - wall, time.process_time() - cpu)
    found = await (await connection.execute("select count(*) from sample")).fetchone()
    if found != (FRAMES * ROWS,):
        raise AssertionError(f"{found} rows stored, not {FRAMES * ROWS}")
    return taken


def _raw(connection: AsyncConnection, buffers: list[bytes]) -> Way:
    async def way() -> None:
        for buffer in buffers:
            async with connection.transaction(), connection.cursor().copy(Shape.F64.statement) as c:
                await c.write(buffer)

    return way


def _rows(connection: AsyncConnection, books: Books, records: list[Record], agent: Agent) -> Way:
    async def way() -> None:
        for record in records:
            buffer = _buffer(books, record, agent)
            async with connection.transaction(), connection.cursor().copy(Shape.F64.statement) as c:
                await c.write(buffer)

    return way


def _ledger(connection: AsyncConnection, books: Books, records: list[Record], agent: Agent) -> Way:
    async def way() -> None:
        for record in records:
            work = Work(accepted=(_accepted(record, agent),))
            prepared = build(await prepare(connection, books, work, _NOW), books)
            await store(connection, books, prepared, _NOW)

    return way


async def _buffers(
    connection: AsyncConnection, books: Books, records: list[Record], agent: Agent
) -> list[bytes]:
    await prepare(connection, books, Work(accepted=(_accepted(records[0], agent),)), _NOW)
    return [_buffer(books, record, agent) for record in records]


def _buffer(books: Books, record: Record, agent: Agent) -> bytes:
    batch = _accepted(record, agent).contents.samples
    assert batch is not None
    (rows,) = rows_of(batch, books.tags.map_of(agent.site_id, batch.tags), 1)
    return HEADER + rows.data + TRAILER


def _accepted(record: Record, agent: Agent) -> Accepted:
    decision = decide(record, agent, _NOW)
    assert isinstance(decision, Accepted), decision
    return decision


def _record(seq: int) -> Record:
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
        Kind.SAMPLES, Lane.LIVE, AGENT, 7, seq, 1, ROWS, (seq - 1) * ROWS, last, int(times[0]),
        last, last, len(raw), compressed=True, totals=Totals(seq * ROWS),
    )  # fmt: skip
    return Record(AGENT, "live", seal(header, codec.compress(raw)).sealed, seq)


@asynccontextmanager
async def _prepared(dsn: str) -> AsyncIterator[tuple[Session, Agent]]:
    with connect(dsn, application="bench") as made:
        migrate(made, Wanted.AUTO, Policy(), _NOW)
        add(made, AGENT, ["**"])
    session = await open_session(dsn)
    agents = await read_agents(session.storing)
    yield session, agents[AGENT]
    await session.storing.close()
    await session.preparing.close()
