"""After a backup was brought back into this database: say so, to agents and to what runs.

Rule 1: the store gets an identity that it never had, whatever counter the backup brought along.
Rule 2: who learned ids through a connection before must learn them anew: those connections end.
"""

from dataclasses import dataclass
from typing import Final

from cloud.db import Connection, translated
from cloud.sessions import STORE_ID


@dataclass(frozen=True, slots=True)
class Restored:
    """The store's names, and how many connections were ended."""

    before: str
    after: str
    ended: int


def note_restored(connection: Connection) -> Restored:
    """Raise the counter. Agents hear of it with the next receipt, at the latest after a minute."""
    with translated():
        before = _one(connection, STORE_ID)
        connection.execute(_RAISE)
        ended = connection.execute(_END).fetchall()
        return Restored(before, _one(connection, STORE_ID), len(ended))


def _one(connection: Connection, query: str) -> str:
    row = connection.execute(query).fetchone()
    return "" if row is None else str(row[0])


# By the clock, and at least by one: a counter alone would repeat itself.
_RAISE: Final = """
    update store set
        restored = greatest(restored + 1, (extract(epoch from clock_timestamp()) * 1000000)::int8)
"""

_END: Final = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name like 'threadline ingest%'
    and pid <> pg_backend_pid()
"""
