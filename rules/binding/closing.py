"""From a cycle that ended to its pass: which count it has, what polling and reading say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from protocols.events import ClockInfo, EndedBy, Event, NameEvent, NameRef, PassEvent
from rules.binding.counting import Count
from rules.binding.cycling import Closing, EdgesState, Open, Unnamed, extend_values
from rules.binding.effects import Cause, effects_of
from rules.binding.evidence import Evidence
from rules.binding.identity import Claim, Identity, judge
from rules.binding.plan import KeyPlan, ScanFeed, Source, WitnessPlan
from rules.binding.readers import (
    Freshness,
    claim_of,
    fresh_claims,
    freshness,
    holder_claim,
    name_key,
    read_claim,
    refuse_reuse,
)
from rules.binding.record import Record, broken_record, make_record, purpose_of
from rules.binding.rows import Past, Reading
from rules.binding.telling import Cycle, Teller
from rules.binding.texts import Read, TextState, forget_until

_START_UNKNOWN_US: Final = 3_600_000_000  # without a start, a window goes back at most so far
_END_SEEN: Final = frozenset({EndedBy.END, EndedBy.TIMEOUT})


@dataclass(frozen=True, slots=True)
class Ended:
    """A cycle whose facts have come. `read`: rows of the tags that are read at the end."""

    teller: Teller
    state: EdgesState
    closing: Closing
    pasts: dict[str, Past]
    read: Mapping[str, Reading]

    def tell(self, count: Count, since_us: int | None) -> tuple[list[Event], Record]:
        """The pass and what it caused; remembered as the last one. `since_us`: the last end."""
        closing, plan = self.closing, self.teller.plan
        extend_values(closing.cycle, plan, self.pasts, closing.ended_us)
        evidence, cycle = self._evidence(), self.cycle()
        fresh = self._fresh(since_us)
        late = self._late_name(fresh)
        identity = self._identity(evidence, fresh)
        cause = Cause(self.teller, count, cycle, evidence, purpose_of(plan.context, evidence))
        effects = effects_of(cause, self._scanned(evidence, fresh))
        identity = identity or effects.born
        record = self._record(count, evidence)
        event = self.teller.tell_pass(count, cycle, record, identity)
        event = event.model_copy(update={"missing": (*event.missing, *effects.missing)})
        self._remember(event, identity, fresh)
        return [*late, event, *effects.events], record

    def _fresh(self, since_us: int | None) -> Freshness:
        """A read after the start of a cycle whose end was not seen may be the next one's."""
        closing = self.closing
        started_us = closing.cycle.started_us
        fresh = freshness(self.teller.plan.items, since_us, started_us, closing.ended_us)
        if closing.ended_by in _END_SEEN or started_us is None:
            return fresh
        return replace(fresh, until_us=started_us)

    def _record(self, count: Count, evidence: Evidence) -> Record:
        plan, closing = self.teller.plan, self.closing
        if closing.ended_by is EndedBy.END:
            return make_record(plan, self.teller.pass_id(count), evidence, closing.ended_us)
        return broken_record(plan, evidence, closing.ended_us)

    def _evidence(self) -> Evidence:
        plan, closing = self.teller.plan, self.closing
        at_end = {
            value.label: row
            for value in plan.values
            if value.how == "at_end" and value.source and not value.source.read
            for row in [self._past(value.source).after(closing.ended_us)]
            if row is not None
        }
        return Evidence(
            self._polled, self.read, closing.cycle.aggregates, {**closing.cycle.triggered, **at_end}
        )

    def _polled(self, source: Source) -> Reading | None:
        """What the end's own group tells is read at or after the end; of others, what held then."""
        past, ended_us = self._past(source), self.closing.ended_us
        seen_end = self.closing.ended_by is EndedBy.END
        after = past.after(ended_us) if source.with_end and seen_end else None
        return after or past.before(ended_us)

    def _past(self, source: Source) -> Past:
        return self.pasts.get(source.path) or Past()

    def cycle(self) -> Cycle:
        closing, last_us = self.closing, self.state.last_end_us
        ended_us, started_us = closing.ended_us, closing.cycle.started_us
        recent = last_us is not None and ended_us - _START_UNKNOWN_US <= last_us <= ended_us
        begun_us = last_us if recent and last_us is not None else ended_us
        return Cycle(
            started_us=started_us,
            ended_us=ended_us,
            from_us=begun_us if started_us is None else started_us,
            to_us=ended_us,
            seen_us=ended_us,
            ended_by=closing.ended_by,
            clock=ClockInfo(error_us=max(closing.error_us, closing.cycle.error_us)),
            opened=closing.cycle.opened,
        )

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
        if witness.read is not None and witness.read.read:
            return [read_claim(witness, evidence, fresh.until_us, None)]
        return fresh_claims(witness, self._text(witness), fresh)

    def _scanned(self, evidence: Evidence, fresh: Freshness) -> list[tuple[ScanFeed, Claim]]:
        return [
            (scan, claim)
            for scan in self.teller.plan.scans
            for claim in self._claims(scan.witness, evidence, fresh)[:1]
        ]

    def _late_name(self, fresh: Freshness) -> list[NameEvent]:
        """Two reads since an unnamed pass and before this start: the first was for that one."""
        unnamed, self.state.unnamed = self.state.unnamed, None
        reads = late_reads(self.teller, self.state, unnamed, fresh.start_us) if unnamed else []
        if unnamed is None or len({ref.value for _, ref in reads}) < 2:  # noqa: PLR2004 - one for each
            return []
        read, ref = reads[0]
        if read.at_us > unnamed.until_us:
            return []
        return [name_late(self.teller, self.state, unnamed, (read, ref))]

    def _text(self, witness: WitnessPlan) -> TextState:
        return self.state.texts.setdefault(witness.source, TextState())

    def _remember(self, event: PassEvent, identity: Identity | None, fresh: Freshness) -> None:
        """Reads of this cycle are used up, and so are those that may be its own or the next's."""
        state, items, ended_us = self.state, self.teller.plan.items, self.closing.ended_us
        named = identity is not None and identity.ref is not None
        for text in state.texts.values():
            forget_until(text, fresh.until_us if named else ended_us)
        state.name = name_key(identity.name if identity else None)
        nameless = identity is not None and identity.ref is None
        if items and items.bind_later and items.after_us and nameless:
            state.unnamed = Unnamed(event.pass_id, ended_us, ended_us + items.after_us)


def late_reads(
    teller: Teller, state: EdgesState, unnamed: Unnamed, until_us: int
) -> list[tuple[Read, NameRef]]:
    """Good reads since the end of an unnamed pass, of its most trusted reader."""
    trust = teller.plan.items.trust if teller.plan.items else ()
    witness = next((one for one in trust if one.read and not one.read.read), None)
    text = state.texts.get(witness.source) if witness else None
    if witness is None or text is None:
        return []
    reads = [read for read in text.reads if unnamed.ended_us < read.at_us <= until_us]
    named = [(read, claim_of(witness, read).named.ref) for read in reads]
    return [(read, ref) for read, ref in named if ref is not None]


def name_late(
    teller: Teller, state: EdgesState, unnamed: Unnamed, read: tuple[Read, NameRef]
) -> NameEvent:
    """The read is used up."""
    at_us = read[0].at_us
    for text in state.texts.values():
        forget_until(text, at_us)
    return teller.tell_late_name(unnamed.pass_id, read[1], at_us)


def raw_of(closing: Closing, last: Count | None, key: KeyPlan, past: Past) -> int | None:
    """The counter's value of this cycle, whether the PLC counts at the start or at the end.

    During the cycle the counter shows it already (counted at the start) or still shows the last
    one's (counted at the end): then the first row after the end has it. None: nothing tells.
    """
    last_raw = None if last is None else last.raw
    after = _raw(past.after(closing.ended_us), key)
    if closing.across_silence and after is not None:
        return after
    during = _during(closing, key, past, last_raw)
    if last_raw is not None and during not in (None, last_raw):
        return during
    if last_raw is None and during is not None and counts_at_start(closing.cycle, None):
        return during
    return None if closing.ended_by is EndedBy.TIMEOUT else after


def expected_raw(closing: Closing, last: Count | None, key: KeyPlan) -> int | None:
    """What the counter must show if nothing but this cycle ended. None: unknown."""
    raw = closing.cycle.raw
    if last is None or last.raw is None:
        return None if raw is None else raw % key.modulus
    if raw is not None and raw % key.modulus != last.raw:
        return raw % key.modulus
    return (last.raw + 1) % key.modulus


def lost_part(closing: Closing) -> Closing:
    """The cycle that ran when reading stopped: seen until then, its end unseen."""
    by = EndedBy.RESTART if closing.cycle.restarted else EndedBy.NEXT_START
    seen_us = max(closing.cycle.begun_us, closing.ended_us - closing.error_us)
    return replace(closing, ended_us=seen_us, ended_by=by, error_us=0, across_silence=False)


def _during(closing: Closing, key: KeyPlan, past: Past, last_raw: int | None) -> int | None:
    """What the counter showed in the cycle: at its start, or if that was the last one's, later."""
    raw = closing.cycle.raw
    if raw is not None and raw % key.modulus != last_raw:
        return raw % key.modulus
    strictly = closing.ended_by is not EndedBy.END  # the next start may have counted on
    row = past.before(closing.ended_us - int(strictly))
    started_us = closing.cycle.started_us
    if row is None or (started_us is not None and row.time_us < started_us):
        return None if raw is None else raw % key.modulus
    return _raw(row, key)


def counts_at_start(cycle: Open, last_raw: int | None) -> bool:
    """Whether the counter showed this cycle's number since its start, as far as one can tell."""
    if cycle.raw is None or cycle.started_us is None:
        return False
    return cycle.raw != (cycle.before_raw if last_raw is None else last_raw)


def _raw(row: Reading | None, key: KeyPlan) -> int | None:
    return None if row is None else int(row.value) % key.modulus
