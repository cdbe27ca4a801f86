"""A database filled with the plant's story and asked everything, stage by stage.

Rule 1: the same on every storage; what differs between storages is in `Storage` alone.
Rule 2: filled by the product: migrations, ingest, load, projector, each with its own code.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
from prometheus_client import CollectorRegistry
from psycopg import conninfo, sql

from cloud.clock import Clock
from cloud.db import Connection, connect, connect_async
from cloud.metrics import ProjectorMetrics
from cloud.migrate import migrate
from cloud.projector import Projector
from cloud.storage import Policy, Wanted
from tests.support.plant_store import FixedClock, running_ingest
from tests.support.timescale_questions import (
    OF_SAMPLES,
    QUESTIONS,
    REBUILD,
    Asker,
    ask,
    asking,
)
from tests.support.timescale_story import (
    AGENTS,
    KEPT_FROM,
    NEW_MASTERS,
    NOW,
    Group,
    Plant,
    loaded,
)
from tests.support.trace_database import one, until_position, work_off_all

COMPRESSION: Final = "policy_compression"
RETENTION: Final = "policy_retention"
VERIFIED: Final = ("verify", AGENTS[0][0], "--output", "json")
_numbers = count(1)


class Stage(StrEnum):
    """In their order. `DELETED`: raw samples of the first days are gone."""

    FRESH = "fresh"
    COMPRESSED = "compressed"
    LATE = "late"
    COMPRESSED_AGAIN = "compressed again"
    DELETED = "deleted by age"


class Keeping(Protocol):
    """What a storage does to its samples as they grow old."""

    def compress(self, connection: Connection) -> None: ...
    def compress_again(self, connection: Connection) -> None: ...
    def delete(self, connection: Connection) -> None: ...


class Plain:
    """Partitions: nothing is compressed; what is old is dropped by `migrate`."""

    def compress(self, connection: Connection) -> None:
        """There is nothing to do."""

    def compress_again(self, connection: Connection) -> None:
        """There is nothing to do."""

    def delete(self, connection: Connection) -> None:
        migrate(connection, Wanted.AUTO, Policy(keep_samples=NOW - KEPT_FROM), NOW)


class Timescale:
    """By hand in both words that TimescaleDB has for it, then by the very policies recorded."""

    def compress(self, connection: Connection) -> None:
        for n, chunk in enumerate(chunks(connection)):
            word = "call convert_to_columnstore(%s)" if n % 2 else "select compress_chunk(%s)"
            connection.execute(word, [chunk.name])

    def compress_again(self, connection: Connection) -> None:
        migrate_and_run_jobs(connection, Policy(), COMPRESSION)

    def delete(self, connection: Connection) -> None:
        row = connection.execute("select now() - %s::timestamptz", [KEPT_FROM]).fetchone()
        assert row is not None
        migrate_and_run_jobs(connection, Policy(None, keep_samples=row[0]), RETENTION)


@dataclass(frozen=True)
class Chunk:
    """One chunk of `sample`, and how many rows of it are not in the columnstore."""

    name: str
    day: str
    is_compressed: bool
    loose_rows: int


@dataclass(frozen=True)
class Job:
    """A policy as TimescaleDB keeps it."""

    number: int
    table: str
    procedure: str
    config: Mapping[str, Any]


@dataclass
class Filled:
    """Answers by stage, chunks by stage, and what was asked to get them."""

    dsn: str
    answers: dict[Stage, dict[str, Any]] = field(default_factory=dict)
    chunks: dict[Stage, list[Chunk]] = field(default_factory=dict)
    once: dict[str, Any] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    routes: set[tuple[str, str]] = field(default_factory=set)
    commands: set[str] = field(default_factory=set)


def fill(dsn: str, directory: Path, keeping: Keeping, *, connections: int) -> Filled:
    """All stages of one empty database."""
    done = Filled(dsn)
    plant = Plant()
    with connect(dsn, application="test") as connection:
        migrate(connection, Wanted.AUTO, Policy(None, None), NOW)
    first = Asker(dsn)
    for agent, scope in AGENTS:
        done.once[f"{agent} added"] = first.run("agents", "add", agent, "--scope", scope)
    done.once["loaded"] = _load(first, directory, loaded())
    asyncio.run(_take_and_project(dsn, plant.first()))
    done.once["released"] = first.run("agents", "release", AGENTS[2][0])
    done.once["token"] = first.run("token", "create", "gone", "--scope", "read")["code"]
    done.once["revoked"] = first.run("token", "revoke", "gone")
    with asking(dsn, connections=connections) as asker:
        _stages(done, asker, (plant.late(), plant.last()), directory, keeping)
        with connect(dsn, application="test") as connection:
            done.jobs = jobs(connection)
        asyncio.run(_spoil(dsn))
    done.routes = asker.routes
    done.commands = first.commands | asker.commands
    return done


def chunks(connection: Connection) -> list[Chunk]:
    """By day; none where samples are in native partitions."""
    if not _has_chunks(connection):
        return []
    rows = connection.execute(
        "select format('%I.%I', chunk_schema, chunk_name), range_start::date::text, is_compressed"
        " from timescaledb_information.chunks where hypertable_name = 'sample' order by range_start"
    ).fetchall()
    return [
        Chunk(name, day, is_compressed, _loose(connection, name))
        for name, day, is_compressed in rows
    ]


def migrate_and_run_jobs(connection: Connection, policy: Policy, procedure: str) -> None:
    """Record the policy, then do at once what it would do by itself, and nobody else beside."""
    with connection.transaction():
        migrate(connection, Wanted.AUTO, policy, NOW)
        found = [one for one in jobs(connection) if one.procedure == procedure]
        for job in found:
            connection.execute("select alter_job(%s, scheduled => false)", [job.number])
    assert found
    for job in found:
        connection.execute("call run_job(%s)", [job.number])


def jobs(connection: Connection) -> list[Job]:
    """What is recorded for samples and lists; nothing where samples are in native partitions."""
    if not _has_chunks(connection):
        return []
    rows = connection.execute(
        "select job_id, hypertable_name, proc_name, config - 'hypertable_id'"
        " from timescaledb_information.jobs"
        " where hypertable_name in ('sample', 'sample_list') order by hypertable_name, proc_name"
    ).fetchall()
    return [Job(*row) for row in rows]


@contextmanager
def own_database(server: str, name: str) -> Iterator[str]:
    """A database of its own on a server that somebody else keeps; dropped afterwards."""
    named = f"{name}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as keeper:
        identifier = sql.Identifier(named)
        keeper.execute(sql.SQL("drop database if exists {} with (force)").format(identifier))
        keeper.execute(sql.SQL("create database {}").format(identifier))
        try:
            yield conninfo.make_conninfo(server, dbname=named)
        finally:
            keeper.execute(sql.SQL("drop database {} with (force)").format(identifier))


def _stages(
    done: Filled,
    asker: Asker,
    late: Sequence[Iterable[Group]],
    directory: Path,
    keeping: Keeping,
) -> None:
    def show(stage: Stage, questions: Iterable[str]) -> None:
        with connect(done.dsn, application="test") as connection:
            done.chunks[stage] = chunks(connection)
        done.answers[stage] = ask(asker, questions)

    def do(act: Callable[[Connection], None]) -> None:
        with connect(done.dsn, application="test") as connection:
            act(connection)

    show(Stage.FRESH, [name for name in QUESTIONS if name != REBUILD])
    done.once["loaded again"] = _load(asker, directory, loaded())
    do(keeping.compress)
    show(Stage.COMPRESSED, OF_SAMPLES)
    done.once["masters"] = _load(asker, directory, NEW_MASTERS)
    for groups in late:
        asyncio.run(_take_and_project(done.dsn, groups))
    show(Stage.LATE, QUESTIONS)
    do(keeping.compress_again)
    show(Stage.COMPRESSED_AGAIN, OF_SAMPLES)
    do(keeping.delete)
    show(Stage.DELETED, OF_SAMPLES)
    done.once["migrated again"] = asker.run("migrate", "--keep-samples", "4000d")["code"]
    done.once["verified under another policy"] = asker.run(*VERIFIED)
    done.once["restored"] = asker.run("restored")["code"]
    do(_age_the_ledger)
    done.once["compacted"] = asker.run("compact", "--output", "json")
    done.once["verified when compacted"] = asker.run(*VERIFIED)
    newest = json.loads(asker.command("dead-letters", "list", "--output", "json").stdout)[0]
    for word in ("retry", "drop"):
        done.once[word] = asker.run("dead-letters", word, str(newest["dead_letter_id"]))["code"]


def _age_the_ledger(connection: Connection) -> None:
    """So long ago that no log holds these frames any more."""
    connection.execute("update ledger set received_at = received_at - interval '60 days'")


def _load(asker: Asker, directory: Path, lines: Iterable[Mapping[str, Any]]) -> Any:
    file = directory / "lines.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return asker.run("load", str(file), "--output", "json")


async def _take_and_project(dsn: str, groups: Iterable[Group]) -> None:
    """Ingest with the projector beside it, until the view is complete.

    Whoever looks on waits in the loop, never in a call: where there is one session, the transaction
    that is waited for goes on in this very loop.
    """
    projector = Projector(dsn, Clock(), ProjectorMetrics(CollectorRegistry()))
    task = asyncio.get_running_loop().create_task(projector.run())
    onlooker = await connect_async(dsn, application="test")
    try:
        async with running_ingest(dsn, clock=FixedClock(at=NOW)) as bench:
            for group in groups:
                await bench.send(*group)
            newest = await one(onlooker, "select max(recorded_seq) from event")
            await until_position(onlooker, newest, timeout_s=60)
    finally:
        await onlooker.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _spoil(dsn: str) -> None:
    """An event that no version can read: it is left out of the view, and nothing else is."""
    connection = await connect_async(dsn, application="test")
    try:
        await connection.execute(_UNREADABLE)
        await work_off_all(connection)
        assert await one(connection, "select count(*) from projection_skipped") == 1
    finally:
        await connection.close()


_UNREADABLE: Final = """
    insert into event (recorded_seq, id, kind, site, at, by, replaces, body, hash)
    select nextval('event_seq'), gen_random_uuid(), 'move', 'werk1', now(), '', '{}', '{}', ''
"""


def _has_chunks(connection: Connection) -> bool:
    known = connection.execute("select to_regclass('timescaledb_information.chunks')").fetchone()
    return known != (None,)


def _loose(connection: Connection, chunk: str) -> int:
    """Rows that a chunk holds itself: those of the columnstore are in another table."""
    row = connection.execute(f"select count(*) from only {chunk}").fetchone()  # noqa: S608 - its name
    return 0 if row is None else int(row[0])
