"""Numbered, forward-only migrations: finds them, applies what is missing, remembers each.

Rule 1: a migration that was applied is never changed; its checksum is kept and compared.
Rule 2: each runs in a transaction of its own, unless its first line says `-- no transaction`.
Rule 3: one runner at a time, held by an advisory lock.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from cloud.db import AsyncConnection, Connection, LockKey, StoreTrouble, Trouble, translated
from cloud.storage import (
    POSTGRES_MIN,
    Policy,
    Storage,
    Wanted,
    apply_policy,
    decide,
    look_at,
)
from protocols.errors import ConfigError, Problem

NO_TRANSACTION: Final = "-- no transaction"
_NAME: Final = re.compile(r"(?P<number>[0-9]{4})_(?P<name>[a-z0-9_]+)(\.(?P<storage>[a-z]+))?\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `storage` None: the same for both."""

    number: int
    name: str
    storage: Storage | None
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def is_transactional(self) -> bool:
        return not self.sql.startswith(NO_TRANSACTION)

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a run did."""

    storage: Storage
    applied: tuple[Migration, ...]


def migrate(connection: Connection, wanted: Wanted, policy: Policy, now: datetime) -> Migrated:
    """Bring the database up to this program. ConfigError: it cannot be used, or was tampered with.

    Running it again changes nothing but the policies.
    """
    with translated(), _only_runner(connection):
        connection.execute(_APPLIED_TABLE)
        applied = _applied(connection)
        storage = _storage_of(applied) or _choose(connection, wanted)
        missing = plan(read_migrations(storage), applied)
        for migration in missing:
            _apply(connection, migration, storage)
        apply_policy(connection, storage, policy, now)
    return Migrated(storage, tuple(missing))


def read_migrations(storage: Storage) -> tuple[Migration, ...]:
    """This program's migrations for a storage, by number. ValueError: the folder is in disorder."""
    found = [_parse(entry.name, entry.read_text("utf-8")) for entry in _files()]
    chosen = sorted(
        (one for one in found if one.storage in (None, storage)), key=lambda one: one.number
    )
    numbers = [one.number for one in chosen]
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"a migration number is used twice: {numbers}")
    return tuple(chosen)


Applied = dict[int, tuple[str, str]]  # number -> storage, sha256


def plan(known: Sequence[Migration], applied: Applied) -> list[Migration]:
    """What is missing, in order. ConfigError: an applied migration is not the one we know."""
    problems = [
        Problem(
            f"migration {migration}",
            "",
            "was changed after it was applied",
            "Restore the file and write a new migration.",
        )
        for migration in known
        if migration.number in applied and applied[migration.number][1] != migration.sha256
    ]
    if problems:
        raise ConfigError(problems)
    return [migration for migration in known if migration.number not in applied]


async def check(connection: AsyncConnection) -> Storage:
    """The storage of a database that this program may write. StoreTrouble: too old, or behind."""
    with translated():
        version = connection.info.server_version // 10_000
        if version < POSTGRES_MIN:
            raise StoreTrouble(
                Trouble.TOO_OLD, f"PostgreSQL {version}; {POSTGRES_MIN} or later is needed"
            )
        applied = await _read_applied(connection)
    storage = _storage_of(applied)
    if storage is None:
        raise StoreTrouble(Trouble.MIGRATION_MISSING, "run `threadline cloud migrate`")
    missing = plan(read_migrations(storage), applied)
    if missing:
        names = ", ".join(map(str, missing))
        raise StoreTrouble(Trouble.MIGRATION_MISSING, f"{names}; run `threadline cloud migrate`")
    return storage


async def _read_applied(connection: AsyncConnection) -> Applied:
    cursor = await connection.execute("select to_regclass('migration') is not null")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return {}
    cursor = await connection.execute("select number, storage, sha256 from migration")
    return {number: (storage, sha256) for number, storage, sha256 in await cursor.fetchall()}


_APPLIED_TABLE: Final = """
    create table if not exists migration (
        number int4 primary key,
        name text not null,
        storage text not null,
        sha256 text not null,
        applied_at timestamptz not null default now()
    )
"""


@contextmanager
def _only_runner(connection: Connection) -> Iterator[None]:
    connection.execute("set lock_timeout = 0")  # another runner is waited for, however long
    connection.execute("select pg_advisory_lock(%s)", [LockKey.MIGRATE])
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("select pg_advisory_unlock(%s)", [LockKey.MIGRATE])


def _applied(connection: Connection) -> Applied:
    rows = connection.execute("select number, storage, sha256 from migration").fetchall()
    return {number: (storage, sha256) for number, storage, sha256 in rows}


def _storage_of(applied: Applied) -> Storage | None:
    for storage, _ in applied.values():
        return Storage(storage)
    return None


def _choose(connection: Connection, wanted: Wanted) -> Storage:
    storage = decide(look_at(connection), wanted)
    if storage is Storage.TIMESCALE:
        connection.execute("create extension if not exists timescaledb")
        decide(look_at(connection), wanted)  # the licence is known once the library is loaded
    return storage


def _apply(connection: Connection, migration: Migration, storage: Storage) -> None:
    if not migration.is_transactional:
        connection.execute(migration.sql)
        _remember(connection, migration, storage)
        return
    with connection.transaction():
        connection.execute(migration.sql)
        _remember(connection, migration, storage)


def _remember(connection: Connection, migration: Migration, storage: Storage) -> None:
    connection.execute(
        "insert into migration (number, name, storage, sha256) values (%s, %s, %s, %s)",
        [migration.number, migration.name, storage, migration.sha256],
    )


def _files() -> Iterator[Traversable]:
    yield from (
        entry
        for entry in files("cloud").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    )


def _parse(file_name: str, text: str) -> Migration:
    match = _NAME.fullmatch(file_name)
    if match is None:
        raise ValueError(f"{file_name}: not a migration's name (0001_words[.storage].sql)")
    storage = match["storage"]
    return Migration(
        int(match["number"]), match["name"], None if storage is None else Storage(storage), text
    )
