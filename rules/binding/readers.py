"""Witnesses of one cycle: from texts that polling brings, and from what was read with the cycle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from protocols.events import NameRef, Outcome
from rules.binding.evidence import Evidence
from rules.binding.identity import Claim, same_name
from rules.binding.names import Named, read_name
from rules.binding.plan import ItemsPlan, NestPlan, Source, WitnessPlan
from rules.binding.rows import Reading
from rules.binding.texts import Read, TextState, take_stamp, take_text

_UNSURE_US: Final = 2_000_000  # a read whose time is less sure than this must be wholly fresh
NameKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Freshness:
    """A read counts after the first and up to the last time; the one before `start_us` is best.

    `last_us`: reads up to it were used; a read must surely have been made after it, unless the last
    cycle has a name of its own (`last_named`): a read that came with its end is the next one's.
    `missed`: cycles that nobody saw since the last one; a read may have been for them, unless it
    was surely made after `heard_us`, since when nothing was overlooked.
    """

    after_us: int | None
    until_us: int
    start_us: int
    last_us: int | None = None
    missed: int = 0
    heard_us: int | None = None
    last_named: bool = False


def polled_witnesses(plan: NestPlan) -> list[WitnessPlan]:
    """Witnesses whose text is polled; the others are read with the cycle, or are holders."""
    items = plan.items.trust if plan.items else ()
    every = (*items, *(scan.witness for scan in plan.scans))
    return [witness for witness in every if witness.read is not None and not witness.read.read]


def take_row(
    states: dict[str, TextState], witnesses: Sequence[WitnessPlan], path: str, row: Reading
) -> None:
    """A row of a text or of its stamp."""
    for witness in witnesses:
        state = states.setdefault(witness.source, TextState())
        if witness.read is not None and witness.read.path == path:
            take_text(state, row, stamped=witness.stamp is not None)
        if witness.stamp is not None and witness.stamp.path == path:
            take_stamp(state, row)


def freshness(
    items: ItemsPlan | None, last_end_us: int | None, started_us: int | None, ended_us: int
) -> Freshness:
    """What `fresh` means for this cycle; without a start only the end is known."""
    start_us = ended_us if started_us is None else started_us
    if items is None or items.before_us is None:
        return Freshness(not_later(last_end_us, ended_us), ended_us, start_us)
    return Freshness(start_us - items.before_us - 1, ended_us, start_us)


def not_later(last_us: int | None, now_us: int) -> int | None:
    """None: the clock was set back since, so what is remembered bounds nothing."""
    return last_us if last_us is not None and last_us <= now_us else None


def fresh_claims(witness: WitnessPlan, state: TextState, fresh: Freshness) -> list[Claim]:
    """The reads made for this cycle, best first; else what stands there, as stale."""
    reads = [read for read in state.reads if _within(read, fresh)]
    if not reads:
        return _standing(witness, state)
    before = [read for read in reads if read.at_us <= fresh.start_us]
    later = [read for read in reads if read.at_us > fresh.start_us]
    best_first = [*reversed(before), *later]
    claims = [claim_of(witness, read) for read in best_first]
    return [
        claim if claim.named.ref is None or _is_sure(read, fresh) else judged(claim, Outcome.STALE)
        for read, claim in zip(best_first, claims, strict=True)
    ]


def made_us(read: Read) -> int:
    """Not earlier than this. Seen after is not made after: the reader may have been silent."""
    return read.at_us if read.since_us is None else min(read.since_us, read.at_us)


def sure_since(fresh: Freshness, ended_us: int) -> int:
    """What was read after it can only have been for this cycle or for later ones."""
    known_us = fresh.heard_us if fresh.missed else fresh.last_us
    if known_us is None or fresh.last_us is None:
        return ended_us
    return max(known_us, fresh.last_us)


def claim_of(witness: WitnessPlan, read: Read) -> Claim:
    return Claim(witness.source, read.raw, read.at_us, read_name(read.raw, witness.reader))


def read_claim(witness: WitnessPlan, evidence: Evidence, at_us: int, last_stamp: object) -> Claim:
    """A text read with the cycle is this cycle's, unless its stamp is the last cycle's."""
    row = evidence.usable(witness.read) if witness.read else None
    raw = row.value if row else None
    claim = Claim(
        witness.source, raw, row.time_us if row else at_us, read_name(raw, witness.reader)
    )
    stamp = evidence.usable(witness.stamp) if witness.stamp else None
    stands = stamp is not None and last_stamp is not None and last_stamp == stamp.value
    return judged(claim, Outcome.STALE) if stands and claim.named.ref else claim


def holder_claim(witness: WitnessPlan, evidence: Evidence, at_us: int) -> Claim:
    """What is in a holder at the time of the pass."""
    sources = [piece for piece in witness.holder or () if isinstance(piece, Source)]
    rows = [evidence.usable(source) for source in sources]
    raws = [row.value if row else None for row in rows]
    outcomes = [read_name(raw, witness.reader).outcome for raw in raws]
    holder = evidence.text(witness.holder)
    bad = next((one for one in outcomes if one is not Outcome.BOUND), None)
    raw = raws[0] if raws else holder
    if bad is not None or holder is None:
        return Claim(witness.source, raw, at_us, Named(bad or Outcome.NO_READ))
    return Claim(witness.source, raw, at_us, Named(Outcome.BOUND), holder)


def refuse_reuse(claim: Claim, last: NameKey | None) -> Claim:
    """The last cycle's name again, where that is said not to happen."""
    ref = claim.named.ref
    if ref is None or last is None:
        return claim
    again = same_name(ref, NameRef(scheme=last[0], issuer=last[1], value=last[2]))
    return judged(claim, Outcome.REUSED) if again else claim


def judged(claim: Claim, outcome: Outcome) -> Claim:
    """The same witness, not believed."""
    return replace(claim, named=Named(outcome))


def name_key(name: NameRef | None) -> NameKey | None:
    return (name.scheme, name.issuer, name.value) if name else None


def _is_sure(read: Read, fresh: Freshness) -> bool:
    if not fresh.missed:
        return True
    return fresh.heard_us is not None and made_us(read) >= fresh.heard_us


def _within(read: Read, fresh: Freshness) -> bool:
    after_us = fresh.after_us
    if read.at_us > fresh.until_us or (after_us is not None and read.at_us <= after_us):
        return False
    since_us = made_us(read)
    is_prompt = read.at_us - since_us <= _UNSURE_US
    if fresh.last_us is not None and since_us < fresh.last_us:
        return is_prompt and fresh.last_named
    return after_us is None or is_prompt or since_us >= after_us


def _standing(witness: WitnessPlan, state: TextState) -> list[Claim]:
    if not state.seen:
        return []
    named = read_name(state.raw, witness.reader)
    outcome = named.outcome if named.ref is None else Outcome.STALE
    return [Claim(witness.source, state.raw, state.raw_at_us, Named(outcome))]
