"""From a cycle that ended to its pass: which count it has, what polling and reading say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from protocols.events import ClockInfo, EndedBy, Event, NameEvent, NameRef, PassEvent
from rules.binding.counting import UNKNOWN_MANY, Count
from rules.binding.cycling import Closing, EdgesState, Unnamed, extend_values, use_reads
from rules.binding.effects import Cause, effects_of
from rules.binding.evidence import Evidence
from rules.binding.identity import Claim, Identity, judge
from rules.binding.numbering import heard_from
from rules.binding.plan import (
    EdgesPlan,
    ScanFeed,
    Source,
    WitnessPlan,
)
from rules.binding.readers import (
    Freshness,
    claim_of,
    fresh_claims,
    freshness,
    holder_claim,
    made_us,
    name_key,
    not_later,
    read_claim,
    refuse_reuse,
    sure_since,
)
from rules.binding.record import Record, broken_record, make_record, purpose_of
from rules.binding.rows import Past, Reading
from rules.binding.telling import Cycle, Teller
from rules.binding.texts import Read, TextState

_START_UNKNOWN_US: Final = 3_600_000_000  # without a start, a window goes back at most so far


@dataclass(frozen=True, slots=True)
class Ended:
    """A cycle whose facts have come. `read`: rows of the tags that are read at the end."""

    teller: Teller
    state: EdgesState
    closing: Closing
    pasts: dict[str, Past]
    read: Mapping[str, Reading]

    def tell(self, count: Count, missed: int) -> tuple[list[Event], Record]:
        """The pass and what it caused; remembered as the last one. `missed`: cycles just before."""
        closing, plan = self.closing, self.teller.plan
        extend_values(closing.cycle, plan, self.pasts, closing.ended_us)
        evidence, cycle = self._evidence(), self.cycle()
        fresh = self._fresh(missed)
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

    def _fresh(self, missed: int) -> Freshness:
        """Without a start, what was read before anything was seen may be an earlier cycle's."""
        cycle, state = self.closing.cycle, self.state
        until_us, used_us = self.closing.sure_us, state.reads_to_us
        fresh = freshness(self.teller.plan.items, state.last_end_us, cycle.started_us, until_us)
        if cycle.started_us is None:
            begun_us = max(cycle.begun_us, fresh.after_us or cycle.begun_us)
            return replace(fresh, after_us=begun_us, last_us=begun_us)
        named = state.name is not None
        fresh = replace(fresh, last_us=not_later(used_us, until_us), last_named=named)
        if self._may_be_two():
            return replace(fresh, missed=UNKNOWN_MANY)
        return replace(fresh, missed=missed, heard_us=cycle.heard_us)

    def _may_be_two(self) -> bool:
        """Nothing counts, and after a silence the end may be a later cycle's than the start."""
        return self.closing.across_silence and self.teller.plan.cycle.key is None

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
        cycle = self.teller.plan.cycle
        told = (unnamed.ended_us, fresh.start_us)
        heard = isinstance(cycle, EdgesPlan) and heard_from(self.state, cycle, *told)
        if read.at_us > unnamed.until_us or fresh.missed or not heard:
            return []
        return [name_late(self.teller, self.state, unnamed, (read, ref))]

    def _text(self, witness: WitnessPlan) -> TextState:
        return self.state.texts.setdefault(witness.source, TextState())

    def _remember(self, event: PassEvent, identity: Identity | None, fresh: Freshness) -> None:
        """Reads of this cycle are used up, and so are those that may be its own or the next's."""
        state, items, ended_us = self.state, self.teller.plan.items, self.closing.ended_us
        named = identity is not None and identity.ref is not None
        use_reads(state, fresh.until_us if named else ended_us)
        state.name = name_key(identity.name if identity else None)
        nameless = identity is not None and identity.ref is None
        if items and items.bind_later and items.after_us and nameless:
            until_us = ended_us + items.after_us
            state.unnamed = Unnamed(event.pass_id, ended_us, until_us, sure_since(fresh, ended_us))


def late_reads(
    teller: Teller, state: EdgesState, unnamed: Unnamed, until_us: int
) -> list[tuple[Read, NameRef]]:
    """Good reads since the end of an unnamed pass, of its most trusted reader."""
    trust = teller.plan.items.trust if teller.plan.items else ()
    witness = next((one for one in trust if one.read and not one.read.read), None)
    text = state.texts.get(witness.source) if witness else None
    if witness is None or text is None:
        return []
    after_us = unnamed.ended_us if unnamed.after_us is None else unnamed.after_us
    reads = [
        read
        for read in text.reads
        if unnamed.ended_us < read.at_us <= until_us and made_us(read) >= after_us
    ]
    named = [(read, claim_of(witness, read).named.ref) for read in reads]
    return [(read, ref) for read, ref in named if ref is not None]


def name_late(
    teller: Teller, state: EdgesState, unnamed: Unnamed, read: tuple[Read, NameRef]
) -> NameEvent:
    """The read is used up."""
    at_us = read[0].at_us
    use_reads(state, at_us)
    return teller.tell_late_name(unnamed.pass_id, read[1], at_us)


def lost_part(closing: Closing) -> Closing:
    """The cycle that ran when reading stopped: seen until then, its end unseen."""
    by = EndedBy.RESTART if closing.cycle.restarted else EndedBy.NEXT_START
    seen_us = max(closing.cycle.begun_us, closing.ended_us - closing.error_us)
    return replace(
        closing,
        ended_us=seen_us,
        ended_by=by,
        error_us=0,
        across_silence=False,
        sure_us=closing.cycle.begun_us,
    )
