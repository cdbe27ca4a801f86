"""What could not be taken: kept whole, counted when it comes again, shown to people.

Rule 1: a dead letter is written in the transaction that decides, before its record is acknowledged.
Rule 2: open ones are bounded per agent, and for all strangers together; beyond, only a metric
counts, and the sender still has it.
Rule 3: a row is never deleted: the proof names what was rejected by it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from cloud.admission import Reason
from cloud.db import AsyncConnection, Connection, translated
from cloud.ledger import signed, unsigned
from protocols.codec import TIME_US_MAX, TIME_US_MIN
from protocols.errors import ConfigError, Problem
from protocols.events import from_us
from protocols.frames import Header, Kind, Lane

LETTERS_OF_AGENT_MAX: Final = 10_000
DETAIL_CHARS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One frame to keep. `agent`, `channel` of the topic; `header` None: unreadable."""

    agent: str
    reason: Reason
    detail: str
    data: bytes
    header: Header | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A dead letter as a person reads it; `epoch` in hex, `size` in bytes.

    `settled`: stored after all, or dropped; None: open.
    """

    dead_letter_id: int
    agent: str
    reason: str
    detail: str
    channel: str | None
    epoch: str | None
    lane: str | None
    seq: int | None
    kind: str | None
    rows: int | None
    size: int
    seen: int
    first_at: datetime
    last_at: datetime
    settled: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters. None: any; `settled`: also those that are not open any more."""

    agent: str | None = None
    reason: str | None = None
    since: datetime | None = None
    limit: int = 50
    settled: bool = False


def checked_reason(text: str) -> str:
    """ConfigError: no dead letter can have it."""
    if text not in set(Reason):
        known = ", ".join(Reason)
        raise ConfigError([Problem("--reason", repr(text), "is no reason", f"Known are: {known}.")])
    return text


async def keep(connection: AsyncConnection, letters: Iterable[DeadLetter]) -> int:
    """In the caller's transaction. How many found no room."""
    full = 0
    for letter in letters:
        cursor = await connection.execute(_KEEP, _values(letter))
        full += cursor.rowcount == 0
    return full


def letters(connection: Connection, wanted: Wanted) -> list[LetterRow]:
    """The newest first."""
    with translated():
        rows = connection.execute(_LIST, asdict(wanted)).fetchall()
    return [_row(row) for row in rows]


def letter(connection: Connection, dead_letter_id: int) -> tuple[LetterRow, bytes] | None:
    """One, with the message as it came."""
    with translated():
        row = connection.execute(_SHOW, [dead_letter_id]).fetchone()
    return None if row is None else (_row(row[:-1]), bytes(row[-1]))


def drop(connection: Connection, dead_letter_id: int) -> bool | None:
    """Forget the bytes. None: there is no such letter; False: they are gone already."""
    with translated(), connection.transaction():
        row = connection.execute(_SIZE, [dead_letter_id]).fetchone()
        if row is None or not row[0]:
            return None if row is None else False
        connection.execute(_DROP, [dead_letter_id])
    return True


async def settle_as_stored(connection: AsyncConnection, dead_letter_id: int) -> None:
    await connection.execute(_SETTLE, [dead_letter_id])


_KEEP: Final = """
    insert into dead_letter as d (
        agent, reason, detail, channel, epoch, lane, seq, digest, kind, rows, sealed_at, sha256,
        data
    )
    select v.* from (values (
        %(agent)s, %(reason)s, %(detail)s, %(channel)s, %(epoch)s::int8, %(lane)s::int2,
        %(seq)s::int8, %(digest)s::int8, %(kind)s::int2, %(rows)s::int8, %(sealed_at)s::timestamptz,
        %(sha256)s::bytea, %(data)s::bytea
    )) as v
    where %(max)s > case
        when exists (select from agent where name = %(agent)s)
        then (
            select count(*) from dead_letter where agent = %(agent)s and settled is null
        )
        else (
            select count(*) from dead_letter l
            where settled is null and not exists (select from agent where name = l.agent)
        )
    end
    or exists (
        select from dead_letter
        where agent = %(agent)s and reason = %(reason)s and sha256 = %(sha256)s
    )
    on conflict (agent, reason, sha256) do update set
        seen = d.seen + 1, last_at = now(), data = excluded.data, settled = null, settled_at = null
"""

_COLUMNS: Final = (
    "dead_letter_id, agent, reason, detail, channel, epoch, lane, seq, kind, rows, length(data),"
    " seen, first_at, last_at, settled"
)
_LIST: Final = (
    f"select {_COLUMNS} from dead_letter"  # noqa: S608 - our own column names
    " where (%(agent)s::text is null or agent = %(agent)s)"
    " and (%(reason)s::text is null or reason = %(reason)s)"
    " and (%(since)s::timestamptz is null or last_at >= %(since)s)"
    " and (%(settled)s or settled is null)"
    " order by last_at desc, dead_letter_id desc limit %(limit)s"
)
_SHOW: Final = f"select {_COLUMNS}, data from dead_letter where dead_letter_id = %s"  # noqa: S608 - as above

_SIZE: Final = "select length(data) from dead_letter where dead_letter_id = %s for update"
_DROP: Final = """
    update dead_letter set data = '', settled = coalesce(settled, 'dropped'),
        settled_at = coalesce(settled_at, now())
    where dead_letter_id = %s
"""
_SETTLE: Final = """
    update dead_letter set settled = 'stored', settled_at = now() where dead_letter_id = %s
"""


def _values(letter: DeadLetter) -> dict[str, Any]:
    return {
        "agent": letter.agent,
        "reason": letter.reason,
        "detail": letter.detail.replace("\x00", "\\0")[:DETAIL_CHARS_MAX],
        "sha256": hashlib.sha256(letter.data).digest(),
        "data": letter.data,
        "channel": letter.channel,
        "max": LETTERS_OF_AGENT_MAX,
        **_header_values(letter.header),
    }


def _header_values(header: Header | None) -> dict[str, Any]:
    if header is None:
        return dict.fromkeys(("epoch", "lane", "seq", "digest", "kind", "rows", "sealed_at"))
    is_time = TIME_US_MIN <= header.sealed_at <= TIME_US_MAX
    return {
        "epoch": signed(header.epoch),
        "lane": int(header.lane),
        "seq": signed(header.seq),
        "digest": signed(header.digest),
        "kind": int(header.kind),
        "rows": header.rows,
        "sealed_at": from_us(header.sealed_at) if is_time else None,
    }


def _row(row: tuple[Any, ...]) -> LetterRow:
    number, agent, reason, detail, channel, epoch, lane, seq, kind, *rest = row
    return LetterRow(
        number,
        agent,
        reason,
        detail,
        channel,
        None if epoch is None else f"{unsigned(epoch):016x}",
        None if lane is None else Lane(lane).name.lower(),
        None if seq is None else unsigned(seq),
        None if kind is None else Kind(kind).name.lower(),
        *rest,
    )
