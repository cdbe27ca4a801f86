"""A dead letter tried again: through the checks and the ledger, as if its frame came just now.

Rule 1: nothing is made easier for it: its topic, its identity and the ledger decide as they did.
Rule 2: nobody is answered: the agent has put the frame aside long ago.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cloud.admission import (
    Accepted,
    Agent,
    Decision,
    Postponed,
    Reason,
    Refused,
    Statement,
    decide,
)
from cloud.agents import read_agents
from cloud.clock import Clock
from cloud.db import BadData, translated
from cloud.dead_letters import settle_as_stored
from cloud.ledger import Outcome
from cloud.sessions import Session, open_session
from cloud.source import Record
from cloud.storing import Stored, Work, build, prepare, store
from protocols.frames import Lane
from protocols.topics import HELLO


class Fate(StrEnum):
    """What became of a letter that was tried again."""

    STORED = "stored"
    THERE = "stored before"
    REFUSED = "refused again"
    LATER = "later"
    GONE = "its bytes are gone"
    UNKNOWN = "no such dead letter"


@dataclass(frozen=True, slots=True)
class Retried:
    dead_letter_id: int
    fate: Fate
    detail: str = ""

    @property
    def is_stored(self) -> bool:
        return self.fate in (Fate.STORED, Fate.THERE)


async def retry(dsn: str, numbers: Iterable[int], clock: Clock) -> AsyncIterator[Retried]:
    """One after the other, each in its own transaction. StoreTrouble: the rest was not tried."""
    session = await open_session(dsn)
    try:
        with translated():
            agents = await read_agents(session.preparing)
        for number in numbers:
            yield await _Retry(session, number, clock).run(agents)
    finally:
        await session.close()


class _Retry:
    """Of one letter."""

    def __init__(self, session: Session, number: int, clock: Clock) -> None:
        self._session = session
        self._number = number
        self._clock = clock

    async def run(self, agents: Mapping[str, Agent]) -> Retried:
        with translated():
            cursor = await self._session.preparing.execute(_READ, [self._number])
            row = await cursor.fetchone()
        if row is None:
            return self._said(Fate.UNKNOWN)
        agent, channel, lane, data = row
        if not data:
            return self._said(Fate.GONE, "somebody dropped them")
        record = Record(agent, channel or _channel(lane), bytes(data), self._number)
        return await self._take(decide(record, agents.get(agent), self._clock.now()))

    async def _take(self, decision: Decision) -> Retried:
        match decision:
            case Postponed():
                return self._said(Fate.LATER, f"{decision.why} {decision.detail}".rstrip())
            case Refused():
                await self._store(Work(refused=(decision,)))
                return self._said(Fate.REFUSED, f"{decision.reason}: {decision.detail}")
            case Statement():
                await self._store(Work(statements=(decision,)))
                return await self._settled(Fate.STORED)
            case Accepted():
                return await self._admit(decision)

    async def _admit(self, accepted: Accepted) -> Retried:
        try:
            stored = await self._store(Work(accepted=(accepted,)))
        except BadData as bad:
            header = accepted.frame.header
            return await self._take(Refused(accepted.record, Reason.REJECTED, bad.reason, header))
        match stored.outcomes[0]:
            case Outcome.ADMITTED:
                return await self._settled(Fate.STORED)
            case Outcome.REPEAT:
                return await self._settled(Fate.THERE)
            case Outcome.FORKED:
                return self._said(Fate.REFUSED, "forked: another frame of this identity is stored")
            case Outcome.COMPACTED:
                return self._said(Fate.REFUSED, "compacted: a frame of this seq was taken long ago")

    async def _store(self, work: Work) -> Stored:
        session, now = self._session, self._clock.now()
        prepared = await prepare(session.preparing, session.books, work, now)
        return await store(session.storing, session.books, build(prepared, session.books), now)

    async def _settled(self, fate: Fate) -> Retried:
        with translated():
            await settle_as_stored(self._session.storing, self._number)
        return self._said(fate)

    def _said(self, fate: Fate, detail: str = "") -> Retried:
        return Retried(self._number, fate, detail)


_READ: Final = "select agent, channel, lane, data from dead_letter where dead_letter_id = %s"


def _channel(lane: int | None) -> str:
    """Of a letter that was kept before its channel was: the lane that its header says."""
    return HELLO if not lane else Lane(lane).name.lower()
