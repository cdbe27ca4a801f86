"""From one whole reading of a mailbox to the pass it tells of: when, whose, what it caused."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from protocols.events import ClockInfo, ClockKind, EndedBy, Event, Outcome
from rules.binding.clocks import ClockState, Offset, learn
from rules.binding.counting import Count, left_out
from rules.binding.effects import Cause, Effects, effects_of
from rules.binding.evidence import Evidence
from rules.binding.identity import Claim, Identity, judge
from rules.binding.plan import MailboxPlan, ScanFeed, Source, WitnessPlan
from rules.binding.readers import (
    Freshness,
    NameKey,
    fresh_claims,
    freshness,
    holder_claim,
    judged,
    name_key,
    not_later,
    read_claim,
    refuse_reuse,
)
from rules.binding.record import Record, make_record, purpose_of
from rules.binding.rows import Past, Reading
from rules.binding.stored import Stored
from rules.binding.telling import Cycle, Teller
from rules.binding.texts import TextState, forget_until

_START_UNKNOWN_US: Final = 3_600_000_000  # without a start, a window goes back at most so far
_LONGEST_US: Final = 86_400_000_000


@dataclass(slots=True)
class LastText:
    """What a reader said in the last cycle, and for which item."""

    raw: Stored = None
    stamp: Stored = None
    item: NameKey | None = None


@dataclass(slots=True)
class MailboxState:
    """What was told, and what was seen of `ready`: last without, first with a result."""

    last: Count | None = None
    forked: bool = False
    last_to_us: int | None = None
    unseen_us: int | None = None
    seen_us: int | None = None
    clock: ClockState = field(default_factory=ClockState)
    last_texts: dict[str, LastText] = field(default_factory=dict)
    texts: dict[str, TextState] = field(default_factory=dict)
    name: NameKey | None = None
    raised: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The pass and what it caused, ready to be told."""

    events: tuple[Event, ...]
    record: Record
    cycle: Cycle


@dataclass(frozen=True, slots=True)
class HandOver:
    """One reading: rows of the block by path, and what polling brought of other devices."""

    teller: Teller
    plan: MailboxPlan
    state: MailboxState
    block: Mapping[str, Reading]
    pasts: Mapping[str, Past]

    def tell(self, count: Count, missed: tuple[int, int] | None) -> HandedOver:
        """Tell the pass and remember it as the last one."""
        evidence = Evidence(self._polled, self.block)
        cycle = self._when(evidence)
        fresh = self._fresh(count, cycle.started_us)
        identity = self._identity(evidence, fresh)
        purpose = purpose_of(self.teller.plan.context, evidence)
        cause = Cause(self.teller, count, cycle, evidence, purpose)
        effects = effects_of(cause, self._scanned(evidence, fresh, identity))
        identity = identity or effects.born
        events, record = self._events(cause, effects, identity)
        gap = [self.teller.tell_gap(count, missed, cycle, self.state.last_to_us)] if missed else []
        self._remember(count, cycle, evidence, identity)
        return HandedOver((*gap, *events), record, cycle)

    def moment(self) -> Cycle:
        """The time of this reading, for what was not a pass."""
        return self._cycle(None, self.read_us, ClockInfo())

    def give_up(self, count: Count) -> None:
        """A result that could not be read is no pass; what was read for it is used up."""
        to_us = self.moment().to_us
        for reader in self.state.texts.values():
            forget_until(reader, to_us)
        self.state.last, self.state.last_to_us = count, to_us
        self.state.seen_us = self.state.unseen_us = None

    @property
    def read_us(self) -> int:
        return max(row.time_us for row in self.block.values())

    @property
    def _seen_us(self) -> int:
        """When ready was first seen; a further entry of the same mailbox: when it was read."""
        return self.read_us if self.state.seen_us is None else self.state.seen_us

    def _events(
        self, cause: Cause, effects: Effects, identity: Identity | None
    ) -> tuple[list[Event], Record]:
        of = self.teller.pass_id(cause.count)
        record = make_record(self.teller.plan, of, cause.evidence, cause.cycle.ended_us)
        event = self.teller.tell_pass(cause.count, cause.cycle, record, identity)
        missing = (*event.missing, *effects.missing)
        return [event.model_copy(update={"missing": missing}), *effects.events], record

    def _polled(self, source: Source) -> Reading | None:
        past = self.pasts.get(source.path)
        return past.before(self._seen_us) if past else None

    def _fresh(self, count: Count, started_us: int | None) -> Freshness:
        """A read may have been for a result that the PLC did not keep until it was taken."""
        last, last_us = self.state.last, self.state.last_to_us
        fresh = freshness(self.teller.plan.items, last_us, started_us, self._seen_us)
        missed = left_out(last, count) if last is not None else 0
        return replace(fresh, last_us=not_later(last_us, self._seen_us), missed=missed)

    def _identity(self, evidence: Evidence, fresh: Freshness) -> Identity | None:
        items = self.teller.plan.items
        if items is None:
            return None
        claims = [claim for one in items.trust for claim in self._claims(one, evidence, fresh)]
        if items.reuse_refused:
            claims = [refuse_reuse(claim, self.state.name) for claim in claims]
        return judge(claims)

    def _claims(self, witness: WitnessPlan, evidence: Evidence, fresh: Freshness) -> list[Claim]:
        if witness.holder is not None:
            return [holder_claim(witness, evidence, fresh.until_us)]
        if witness.read is not None and not witness.read.read:
            state = self.state.texts.setdefault(witness.source, TextState())
            return fresh_claims(witness, state, fresh)
        last = self.state.last_texts.get(witness.source, LastText())
        return [read_claim(witness, evidence, fresh.until_us, last.stamp)]

    def _scanned(
        self, evidence: Evidence, fresh: Freshness, identity: Identity | None
    ) -> list[tuple[ScanFeed, Claim]]:
        item = name_key(identity.name if identity else None)
        return [
            (scan, self._once(scan.witness, claim, item))
            for scan in self.teller.plan.scans
            for claim in self._claims(scan.witness, evidence, fresh)[:1]
        ]

    def _once(self, witness: WitnessPlan, claim: Claim, item: NameKey | None) -> Claim:
        """One component cannot be in two items: what stood there for another one is stale."""
        last = self.state.last_texts.get(witness.source)
        again = last is not None and last.raw == claim.raw and (last.item != item or item is None)
        if again and witness.stamp is None and claim.named.ref is not None:
            return judged(claim, Outcome.STALE)
        return claim

    def _remember(
        self, count: Count, cycle: Cycle, evidence: Evidence, identity: Identity | None
    ) -> None:
        state, plan = self.state, self.teller.plan
        item = name_key(identity.name if identity else None)
        trust = plan.items.trust if plan.items else ()
        for witness in (*trust, *(scan.witness for scan in plan.scans)):
            text = evidence.usable(witness.read) if witness.read else None
            stamp = evidence.usable(witness.stamp) if witness.stamp else None
            state.last_texts[witness.source] = LastText(
                text.value if text else None, stamp.value if stamp else None, item
            )
        for reader in state.texts.values():
            forget_until(reader, self._seen_us)
        state.last, state.last_to_us, state.name = count, cycle.to_us, item
        state.seen_us = state.unseen_us = None

    def _when(self, evidence: Evidence) -> Cycle:
        """PLC's times mapped to the agent's clock; without them, when ready was seen."""
        ended, started = _plc_us(evidence, self.plan.ended), _plc_us(evidence, self.plan.started)
        offset = None if ended is None else self._offset(ended)
        if ended is None or offset is None:
            known = self.state.seen_us is not None and self.state.unseen_us is not None
            error_us = self._seen_us - (self.state.unseen_us or 0) if known else 0
            return self._cycle(
                _start(self._seen_us, ended, started), self._seen_us, ClockInfo(error_us=error_us)
            )
        clock = ClockInfo(
            source=ClockKind.PLC, offset_us=offset.offset_us, error_us=offset.error_us
        )
        ended_us = ended + offset.offset_us
        return self._cycle(_start(ended_us, ended, started), ended_us, clock)

    def _offset(self, plc_us: int) -> Offset | None:
        unseen_us = None if self.state.seen_us is None else self.state.unseen_us
        return learn(self.state.clock, plc_us, self._seen_us, unseen_us)

    def _cycle(self, started_us: int | None, ended_us: int, clock: ClockInfo) -> Cycle:
        last_us = self.state.last_to_us
        recent = last_us is not None and ended_us - _START_UNKNOWN_US <= last_us <= ended_us
        begun_us = last_us if recent and last_us is not None else ended_us
        return Cycle(
            started_us=started_us,
            ended_us=ended_us,
            from_us=begun_us if started_us is None else started_us,
            to_us=max(ended_us, self.read_us),
            seen_us=self._seen_us,
            ended_by=EndedBy.END,
            clock=clock,
        )


def _plc_us(evidence: Evidence, source: Source | None) -> int | None:
    row = evidence.usable(source) if source else None
    return None if row is None else int(row.value) // 1_000


def _start(ended_us: int, plc_ended: int | None, plc_started: int | None) -> int | None:
    """Before the end by what the PLC says it took, whatever its clock shows."""
    if plc_ended is None or plc_started is None:
        return None
    lasted_us = plc_ended - plc_started
    return ended_us - lasted_us if 0 <= lasted_us <= _LONGEST_US else None
