"""Where samples live: a TimescaleDB hypertable or native partitions by day.

Rule 1: decided once, by the first migration; a database never changes its storage by itself.
Rule 2: a TimescaleDB that cannot compress is refused, never used half.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from cloud.db import Connection
from protocols.errors import ConfigError, Problem

POSTGRES_MIN: Final = 15
TIMESCALE_MIN: Final = (2, 18)  # the first with the columnstore's own commands
FIRST_DAY: Final = date(2024, 1, 1)  # everything before is one partition
PLAIN_NOTICE: Final = (
    "This server has no TimescaleDB: samples go into native partitions by day, uncompressed. "
    "Good for a demo and for tests, not for a plant."
)
_KEPT_FOR_A_TIME: Final = ("sample", "sample_list")


class Storage(StrEnum):
    """Also the variant of a migration file: `0004_sample.plain.sql`."""

    TIMESCALE = "timescale"
    PLAIN = "plain"


class Wanted(StrEnum):
    """What the user asked for; auto takes TimescaleDB where the server offers it."""

    AUTO = "auto"
    TIMESCALE = "timescale"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Policy:
    """How long samples, arrays too, stay as they are. None: never compressed, never deleted."""

    compress_after: timedelta | None = timedelta(days=7)
    keep_samples: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """What matters of a server; `offered` None: the extension is not installed there."""

    version: int
    offered: tuple[int, ...] | None
    licence: str | None


def look_at(connection: Connection) -> Server:
    """Ask the server. Does not change it."""
    version = connection.info.server_version // 10_000
    row = connection.execute(
        "select coalesce(installed_version, default_version) from pg_available_extensions"
        " where name = 'timescaledb'"
    ).fetchone()
    offered = None if row is None else version_of(str(row[0]))
    licence = connection.execute("select current_setting('timescaledb.license', true)").fetchone()
    return Server(version, offered, None if licence is None else licence[0])


def decide(server: Server, wanted: Wanted) -> Storage:
    """ConfigError: this server cannot hold what was asked for; names the version needed."""
    if server.version < POSTGRES_MIN:
        raise _refused(
            f"PostgreSQL {server.version}", "too old", f"Use PostgreSQL {POSTGRES_MIN} or later."
        )
    if wanted is Wanted.PLAIN or (wanted is Wanted.AUTO and server.offered is None):
        return Storage.PLAIN
    if server.offered is None:
        raise _refused(
            "timescale",
            "the server has no extension timescaledb",
            f"Install TimescaleDB {_dotted(TIMESCALE_MIN)} or later, or set storage to plain.",
        )
    _check_columnstore(server.offered, server.licence)
    return Storage.TIMESCALE


def version_of(text: str) -> tuple[int, ...]:
    """`2.23.0-dev` is (2, 23, 0)."""
    return tuple(int(part) for part in text.split("-", maxsplit=1)[0].split(".") if part.isdigit())


def partition_name(day: date) -> str:
    return f"sample_{day:%Y%m%d}"


def partition_statements(day: date) -> tuple[str, str]:
    """Make, then attach: attaching lets readers and writers of the other days go on."""
    name, following = partition_name(day), day + timedelta(days=1)
    bounds = f"from ('{day} 00:00:00+00') to ('{following} 00:00:00+00')"
    return (
        f"create table {name} (like sample including defaults)",
        f"alter table sample attach partition {name} for values {bounds}",
    )


def apply_policy(connection: Connection, storage: Storage, policy: Policy, now: datetime) -> None:
    """Set what was asked for, whatever was set before."""
    if storage is Storage.PLAIN:
        _drop_before(connection, policy.keep_samples, now)
        return
    _remember(connection, _horizon(connection))
    connection.execute("call remove_columnstore_policy('sample', if_exists => true)")
    if policy.compress_after is not None:
        connection.execute(
            "call add_columnstore_policy('sample', after => %s::interval)", [policy.compress_after]
        )
    for table in _KEPT_FOR_A_TIME:
        connection.execute("select remove_retention_policy(%s, if_exists => true)", [table])
        if policy.keep_samples is not None:
            connection.execute(
                "select add_retention_policy(%s, %s::interval)", [table, policy.keep_samples]
            )


def kept_from(connection: Connection) -> datetime | None:
    """Samples before are deleted, or will be at any moment. None: all that came are kept."""
    row = connection.execute("select samples_from from store").fetchone()
    said = None if row is None else row[0]
    known = [moment for moment in (said, _horizon(connection)) if moment is not None]
    return max(known, default=None)


def _check_columnstore(version: tuple[int, ...], licence: str | None) -> None:
    if version < TIMESCALE_MIN:
        raise _refused(
            f"TimescaleDB {_dotted(version)}",
            "has no columnstore",
            f"Use TimescaleDB {_dotted(TIMESCALE_MIN)} or later, or set storage to plain.",
        )
    if licence == "apache":
        raise _refused(
            "timescaledb.license = apache",
            "the columnstore is not in the Apache-licensed build",
            f"Use the community edition of TimescaleDB {_dotted(TIMESCALE_MIN)} or later"
            " (timescaledb.license = timescale), or set storage to plain.",
        )


def _drop_before(connection: Connection, keep: timedelta | None, now: datetime) -> None:
    if keep is None:
        return
    day = (now - keep).astimezone(UTC).date()
    rows = connection.execute(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'sample'::regclass and c.relname ~ '^sample_[0-9]{8}$'"
        " and c.relname < %s",
        [partition_name(day)],
    ).fetchall()
    moment = datetime.combine(day, time.min, UTC)
    _remember(connection, moment)  # first: stopped between two drops, nothing is called missing
    for (name,) in rows:
        connection.execute(f"drop table {name}")
    connection.execute("delete from sample_past where time < %s", [moment])
    connection.execute("delete from sample_list where time < %s", [moment])


def _remember(connection: Connection, moment: datetime | None) -> None:
    connection.execute("update store set samples_from = greatest(samples_from, %s)", [moment])


def _horizon(connection: Connection) -> datetime | None:
    """The end of the newest day that the policy recorded now may have dropped."""
    known = connection.execute("select to_regclass('timescaledb_information.jobs')").fetchone()
    if known == (None,):
        return None
    row = connection.execute(_HORIZON, [list(_KEPT_FOR_A_TIME)]).fetchone()
    return None if row is None else row[0]


# A chunk is dropped when all of its day is too old.
_HORIZON: Final = """
    select max(date_trunc('day', now() - (config->>'drop_after')::interval, 'UTC'))
    from timescaledb_information.jobs
    where proc_name = 'policy_retention' and hypertable_schema = current_schema()
    and hypertable_name = any(%s::text[])
"""


def _refused(value: str, why: str, remedy: str) -> ConfigError:
    return ConfigError([Problem("database", value, why, remedy)])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
