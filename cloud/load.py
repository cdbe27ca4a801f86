"""Masters and events said by people, files and other systems: each line taken or refused by itself.

Rule 1: taking a line again changes nothing: an event is known by its id, a master by its key.
Rule 2: one bad line never keeps another out; its answer names every field that is wrong.
Rule 3: an event without an id gets one made of what it says, so that the same file is the same.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from cloud.db import AsyncConnection, BadData, translated
from cloud.master_records import KINDS, MASTER, Master
from cloud.masters import Kept, keep
from cloud.recording import Said, record_events
from protocols.errors import Rejected
from protocols.events import EVENT, NAMESPACE, SEPARATOR, Event, event_hash

LINES_MAX: Final = 500  # of one transaction
PROBLEMS_MAX: Final = 20
AHEAD_MAX: Final = timedelta(minutes=5)  # an event further in the future is a wrong clock
EVENT_KINDS: Final = frozenset({"name", "pass", "move", "make", "state", "gap", "void"})
_NOBODY: Final = UUID(int=0)


class Status(StrEnum):
    """OK: new. REPEAT: was there. CHANGED: a master's record is replaced. REFUSED: not taken."""

    OK = "ok"
    REPEAT = "repeat"
    CHANGED = "changed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong. `field`: dotted path in the line, '' for the whole."""

    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Line:
    """What was said, as parsed; `number` is the caller's. `fault`: it could not even be parsed."""

    number: int
    said: Any
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a line. `id`: of the event; of a master, its key."""

    number: int
    status: Status
    kind: str
    id: str
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says the lines. `sites` None: may speak for all."""

    by: str = ""
    sites: Sequence[str] | None = None
    may_say_masters: bool = True


async def take(
    connection: AsyncConnection, lines: Sequence[Line], speaker: Speaker, now: datetime
) -> list[Answer]:
    """Take lines in, in one transaction, and answer each. StoreTrouble: nothing was taken."""
    judged = [_judge(line, speaker, now) for line in lines]
    answers = {one.number: one for one in judged if isinstance(one, Answer)}
    masters = [one for one in judged if isinstance(one, _GoodMaster)]
    events = [one for one in judged if isinstance(one, _GoodEvent)]
    with translated():
        async with connection.transaction():
            for master in masters:
                answers[master.number] = await _keep(connection, master)
            answers |= await _record(connection, events)
    return [answers[line.number] for line in lines]


@dataclass(frozen=True, slots=True)
class _GoodMaster:
    number: int
    record: Master

    def answer(self, status: Status, *faults: Fault) -> Answer:
        key = [str(getattr(self.record, name)) for name in self.record.KEY]
        text = "/".join([*key, self.record.valid_from.isoformat()])
        return Answer(self.number, status, self.record.kind, text, faults)


@dataclass(frozen=True, slots=True)
class _GoodEvent:
    """`signed`: the author is the speaker, the line named none."""

    number: int
    event: Event
    signed: bool

    def answer(self, status: Status, *faults: Fault) -> Answer:
        return Answer(self.number, status, self.event.kind, str(self.event.id), faults)


def _judge(line: Line, speaker: Speaker, now: datetime) -> _GoodMaster | _GoodEvent | Answer:
    fault = _unreadable(line)
    if fault is not None:
        return _refused(line, fault)
    kind = line.said["kind"]
    try:
        if kind in KINDS:
            return _judge_master(line, speaker)
        return _judge_event(line, speaker, now)
    except ValidationError as error:
        return _refused(line, *_faults(error))
    except Rejected as rejected:  # a number that no JSON can hold
        return _refused(line, Fault("", rejected.reason))


def _unreadable(line: Line) -> Fault | None:
    if line.fault is not None:
        return Fault("", line.fault)
    if not isinstance(line.said, dict):
        return Fault("", "is not an object with a `kind`")
    kind = line.said.get("kind")
    if isinstance(kind, str) and kind in KINDS | EVENT_KINDS:
        return None
    known = ", ".join(sorted(EVENT_KINDS) + sorted(KINDS))
    return Fault("kind", f"is none of {known}")


def _judge_master(line: Line, speaker: Speaker) -> _GoodMaster | Answer:
    record = MASTER.validate_python(line.said)
    if not speaker.may_say_masters:
        return _refused(line, Fault("kind", "masters are not yours to say"))
    return _GoodMaster(line.number, record)


def _judge_event(line: Line, speaker: Speaker, now: datetime) -> _GoodEvent | Answer:
    event = EVENT.validate_python({"id": _NOBODY, **line.said}, extra="forbid")
    hashed = event_hash(event)
    filled: dict[str, Any] = {}
    if "id" not in line.said:  # of what is said; who said it and when is no part of that
        filled["id"] = uuid.uuid5(NAMESPACE, f"said{SEPARATOR}{hashed}")
    signed = not event.by and bool(speaker.by)
    if signed:
        filled["by"] = speaker.by
    if event.said_at is None:
        filled["said_at"] = now
    event = event.model_copy(update=filled)
    faults = list(_misplaced(event, speaker, now))
    return _refused(line, *faults) if faults else _GoodEvent(line.number, event, signed)


def _misplaced(event: Event, speaker: Speaker, now: datetime) -> Iterable[Fault]:
    if speaker.sites is not None and event.site not in speaker.sites:
        yield Fault("site", f"{event.site} is not yours to speak for")
    if event.at > now + AHEAD_MAX:
        yield Fault("at", "lies in the future")


async def _keep(connection: AsyncConnection, master: _GoodMaster) -> Answer:
    try:
        with translated():
            async with connection.transaction():
                kept = await keep(connection, master.record)
    except BadData as bad:
        return master.answer(Status.REFUSED, Fault("", bad.reason))
    return master.answer(_STATUS_OF[kept])


async def _record(connection: AsyncConnection, good: Sequence[_GoodEvent]) -> dict[int, Answer]:
    """All events at once; only if the database cannot hold one of them, each by itself."""
    if not good:
        return {}
    try:
        with translated():
            async with connection.transaction():
                return await _record_all(connection, good)
    except BadData as bad:
        if len(good) == 1:
            return {good[0].number: good[0].answer(Status.REFUSED, Fault("", bad.reason))}
    answers: dict[int, Answer] = {}
    for one in good:
        answers |= await _record(connection, [one])
    return answers


async def _record_all(connection: AsyncConnection, good: Sequence[_GoodEvent]) -> dict[int, Answer]:
    cursor = await connection.execute(_KNOWN, [[one.event.id for one in good]])
    known: dict[UUID, str] = dict(await cursor.fetchall())
    said = [_said(one, known) for one in good]
    recorded = await record_events(connection, said)
    conflicts = {id(one) for one in recorded.conflicts}
    answers: dict[int, Answer] = {}
    for one, told in zip(good, said, strict=True):
        if id(told) in conflicts:
            answers[one.number] = one.answer(Status.REFUSED, _CONFLICT)
        else:
            status = Status.REPEAT if one.event.id in known else Status.OK
            answers[one.number] = one.answer(status)
        known[one.event.id] = told.event.by
    return answers


def _said(good: _GoodEvent, known: Mapping[UUID, str]) -> Said:
    """The same said again by somebody else is still the same."""
    event = good.event
    if good.signed and event.id in known:
        event = event.model_copy(update={"by": known[event.id]})
    return Said(event, event_hash(event))


def _refused(line: Line, *faults: Fault) -> Answer:
    said = line.said if isinstance(line.said, dict) else {}
    kind, ident = said.get("kind"), said.get("id")
    return Answer(
        line.number,
        Status.REFUSED,
        kind if isinstance(kind, str) else "",
        str(ident)[:100] if ident is not None else "",
        faults,
    )


def _faults(error: ValidationError) -> list[Fault]:
    return [
        Fault(".".join(str(part) for part in one["loc"][1:]), one["msg"])
        for one in error.errors(include_url=False, include_input=False)[:PROBLEMS_MAX]
    ]


_STATUS_OF: Final = {
    Kept.NEW: Status.OK,
    Kept.CHANGED: Status.CHANGED,
    Kept.REPEAT: Status.REPEAT,
}
_CONFLICT: Final = Fault("id", "was given to an event that says something else")
_KNOWN: Final = "select id, by from event where id = any(%s)"
