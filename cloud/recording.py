"""Recording trace events and alarms: the only way into the tables `event` and `alarm`.

Rule 1: `recorded_seq` is drawn under one lock that is held to the commit, so a reader who sees n
has seen everything below n. Record last in a transaction.
Rule 2: an event's id met again with the same hash is a repeat and counts as recorded; with another
hash it is a conflict, and nothing of it is kept here.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cloud.db import AsyncConnection, LockKey
from protocols.events import NAMESPACE, SEPARATOR, Alarm, Event, Severity, body, rfc3339

CHANNEL: Final = "threadline_events"


@dataclass(frozen=True, slots=True)
class Origin:
    """The frame that brought an event. All numbers as the columns hold them."""

    agent_id: int
    epoch: int
    lane: int
    seq: int
    frame: int


@dataclass(frozen=True, slots=True)
class Said:
    """An event to record. `origin` None: by the API or from a file."""

    event: Event
    hash: str
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of the events given: new ones, repeats, and ids met with another hash."""

    new: int
    repeats: int
    conflicts: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm to record, and whose it is. `agent_id` None: raised here."""

    alarm: Alarm
    site_id: int | None = None
    agent_id: int | None = None
    frame: int | None = None


async def record_events(connection: AsyncConnection, said: Sequence[Said]) -> Recorded:
    """Inside the caller's transaction, as its last statements."""
    if not said:
        return Recorded(0, 0, ())
    unique, again = _unique(said)
    await connection.execute(_LOCK, [LockKey.EVENTS, CHANNEL])
    cursor = await connection.execute(_INSERT_EVENTS, [_events_json(unique)])
    new = {found for (found,) in await cursor.fetchall()}
    cursor = await connection.execute(_HASHES, [[one.event.id for one in unique]])
    return _sorted_out(unique, again, new, dict(await cursor.fetchall()))


async def record_alarms(connection: AsyncConnection, raised: Iterable[Raised]) -> None:
    """Each once by its id."""
    rows = [_alarm_row(one) for one in raised]
    if rows:
        await connection.execute(_INSERT_ALARMS, [json.dumps(rows)])


def alarm_of(
    key: str, text: str, *, at: datetime, source: str, what: str, severity: Severity
) -> Alarm:
    """An alarm raised here; `what` makes its id: the same fact is one alarm, however often seen."""
    return Alarm.model_validate(
        {
            "id": uuid.uuid5(NAMESPACE, SEPARATOR.join(("cloud", key, what))),
            "key": key,
            "state": "raised",
            "severity": severity,
            "at": at,
            "text": text,
            "source": source,
        }
    )


_LOCK: Final = "select pg_advisory_xact_lock(%s), pg_notify(%s, '')"

_INSERT_EVENTS: Final = """
    with given as (
        select r.* from jsonb_to_recordset(%s::jsonb) as r (
            id uuid, kind text, site text, at timestamptz, said_at timestamptz, by text,
            replaces uuid[], body jsonb, hash text,
            agent_id int4, epoch int8, lane int2, seq int8, frame int8
        )
    )
    insert into event (
        recorded_seq, id, kind, site, at, said_at, by, replaces, body, hash,
        agent_id, epoch, lane, seq, frame
    )
    select nextval('event_seq'), given.* from given
    on conflict (id) do nothing
    returning id
"""

_HASHES: Final = "select id, hash from event where id = any(%s)"

_INSERT_ALARMS: Final = """
    insert into alarm (id, key, state, severity, at, text, source, site_id, agent_id, frame)
    select r.* from jsonb_to_recordset(%s::jsonb) as r (
        id uuid, key text, state text, severity text, at timestamptz, text text, source text,
        site_id int4, agent_id int4, frame int8
    )
    on conflict (id) do nothing
"""


def _unique(said: Sequence[Said]) -> tuple[list[Said], list[Said]]:
    """The first of every id, and the others."""
    first: dict[uuid.UUID, Said] = {}
    again = [one for one in said if first.setdefault(one.event.id, one) is not one]
    return list(first.values()), again


def _sorted_out(
    unique: Sequence[Said],
    again: Sequence[Said],
    new: set[uuid.UUID],
    hashes: Mapping[uuid.UUID, str],
) -> Recorded:
    met = [one for one in unique if one.event.id not in new] + list(again)
    conflicts = tuple(one for one in met if hashes.get(one.event.id) != one.hash)
    return Recorded(len(new), len(met) - len(conflicts), conflicts)


def _events_json(said: Iterable[Said]) -> str:
    return json.dumps([_event_row(one) for one in said])


def _event_row(said: Said) -> dict[str, Any]:
    whole = body(said.event)
    row = {name: whole.get(name) for name in ("id", "kind", "site", "at", "said_at")}
    row |= {"by": said.event.by, "replaces": whole.get("replaces", [])}
    row |= {"body": whole, "hash": said.hash}
    if said.origin is not None:
        row |= {name: getattr(said.origin, name) for name in Origin.__slots__}
    return row


def _alarm_row(raised: Raised) -> dict[str, Any]:
    alarm = raised.alarm
    return {
        "id": str(alarm.id),
        "key": alarm.key,
        "state": alarm.state,
        "severity": alarm.severity,
        "at": rfc3339(alarm.at),
        "text": alarm.text,
        "source": alarm.source,
        "site_id": raised.site_id,
        "agent_id": raised.agent_id,
        "frame": raised.frame,
    }
