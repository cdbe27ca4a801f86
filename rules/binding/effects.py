"""What a cycle causes beside its pass: components that go into the item, moves, names.

A cause that cannot be read has no effect: it is named in `missing`, and the pass still stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.events import (
    Event,
    HolderRef,
    MoveEvent,
    NameEvent,
    NameRef,
    Outcome,
    PassRef,
    Purpose,
    Quantity,
    Ref,
    from_us,
)
from protocols.samples import DataType
from rules.binding.counting import Count
from rules.binding.evidence import Evidence, decimal
from rules.binding.identity import Claim, Identity, judge
from rules.binding.names import Named, read_name
from rules.binding.plan import BirthPlan, MovePlan, NamePlan, RefPlan, ScanFeed, Source
from rules.binding.record import quantity_of
from rules.binding.telling import Cycle, Teller

_SKEW_MAX_US: Final = 86_400_000_000  # a PLC's time further away is no time


@dataclass(frozen=True, slots=True)
class Cause:
    """The cycle that causes."""

    teller: Teller
    count: Count
    cycle: Cycle
    evidence: Evidence
    purpose: Purpose


@dataclass(slots=True)
class Effects:
    events: list[Event] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    born: Identity | None = None


def effects_of(cause: Cause, scanned: Sequence[tuple[ScanFeed, Claim]]) -> Effects:
    effects = Effects()
    for ordinal, (scan, claim) in enumerate(scanned):
        _assemble(effects, cause, (scan, claim), ordinal)
    for ordinal, emit in enumerate(cause.teller.plan.emits):
        if isinstance(emit, MovePlan):
            _move(effects, cause, emit, ordinal)
        else:
            _bear(effects, cause, emit, ordinal)
    return effects


def _assemble(
    effects: Effects, cause: Cause, scanned: tuple[ScanFeed, Claim], ordinal: int
) -> None:
    """A component goes into whatever item the pass was of, be it named later."""
    scan, claim = scanned
    if claim.named.ref is None:
        effects.missing.append(f"{claim.source}: {claim.named.outcome}")
        return
    of = cause.teller.pass_id(cause.count)
    effects.events.append(
        MoveEvent(
            **cause.teller.envelope(of, "scan", ordinal, cause.cycle),
            what=claim.named.ref,
            qty=quantity_of(scan.quantity, scan.unit),
            material=claim.named.material or scan.material,
            to=PassRef(pass_id=of),
            place=scan.place,
            pass_=of,
        )
    )


def _move(effects: Effects, cause: Cause, plan: MovePlan, ordinal: int) -> None:
    named = _named(plan.what, cause.evidence)
    what, from_, to = (_ref(one, cause.evidence) for one in (plan.what, plan.from_, plan.to))
    lacking = [
        name
        for name, wanted, found in (
            ("what", plan.what, what),
            ("from", plan.from_, from_),
            ("to", plan.to, to),
        )
        if wanted is not None and found is None
    ]
    if what is None or lacking:
        effects.missing.append(f"move {ordinal}: no {', '.join(lacking)}")
        return
    of = cause.teller.pass_id(cause.count)
    envelope = cause.teller.envelope(of, "move", ordinal, cause.cycle)
    at_us = _time_of(plan, cause)
    if at_us is not None:
        zone = cause.teller.offset_of(at_us)
        envelope |= {"at": from_us(at_us), "zone_offset": zone}
    effects.events.append(
        MoveEvent(
            **envelope,
            what=what,
            qty=_quantity(plan, cause.evidence),
            material=cause.evidence.text(plan.material) or (named.material if named else None),
            from_=from_,
            to=to,
            place=plan.place,
            pass_=of,
        )
    )


def _bear(effects: Effects, cause: Cause, plan: BirthPlan, ordinal: int) -> None:
    claims = [_claim(one, cause) for one in plan.names]
    names = tuple(claim.named.ref for claim in claims if claim.named.ref)
    if effects.born is None:
        effects.born = judge(claims[:1])
    if not names:
        effects.missing.append(f"name {ordinal}: {claims[0].named.outcome}")
        return
    effects.missing += [f"name {ordinal}: {c.source}" for c in claims if c.named.ref is None]
    of = cause.teller.pass_id(cause.count)
    evidence, named = cause.evidence, claims[0].named
    effects.events.append(
        NameEvent(
            **cause.teller.envelope(of, "birth", ordinal, cause.cycle),
            item=_ref(plan.item, evidence),
            names=names,
            material=evidence.text(plan.material) or named.material,
            revision=evidence.text(plan.revision) or named.revision,
            order=evidence.text(plan.order),
            purpose=cause.purpose,
        )
    )


def _claim(plan: NamePlan, cause: Cause) -> Claim:
    row = next(
        (cause.evidence.usable(piece) for piece in plan.value if isinstance(piece, Source)), None
    )
    source = "".join(piece if isinstance(piece, str) else piece.path for piece in plan.value)
    at_us = row.time_us if row else cause.cycle.ended_us
    named = _named(plan, cause.evidence) or Named(Outcome.NO_READ)
    return Claim(source, row.value if row else None, at_us, named)


def _named(plan: RefPlan, evidence: Evidence) -> Named | None:
    """What a name turned out to be. None: a holder, which has no name."""
    if not isinstance(plan, NamePlan):
        return None
    if len(plan.value) == 1 and isinstance(plan.value[0], Source):
        row = evidence.usable(plan.value[0])
        named = read_name(row.value if row else None, plan.reader)
    else:
        named = read_name(evidence.text(plan.value), plan.reader)
    issuer = evidence.text(plan.issuer)
    if named.ref is None or issuer is None:
        return named
    ref = named.ref.model_copy(update={"issuer": issuer})
    return Named(named.outcome, ref, named.material, named.revision)


def _ref(plan: RefPlan | None, evidence: Evidence) -> Ref | None:
    if plan is None:
        return None
    if isinstance(plan, NamePlan):
        named = _named(plan, evidence)
        ref: NameRef | None = named.ref if named else None
        return ref
    holder = evidence.text(plan)
    return HolderRef(holder=holder) if holder else None


def _quantity(plan: MovePlan, evidence: Evidence) -> Quantity | None:
    if not isinstance(plan.quantity, Source):
        return quantity_of(plan.quantity, plan.unit)
    row = evidence.usable(plan.quantity)
    if row is None or row.value != row.value or abs(row.value) == float("inf"):
        return None
    return Quantity(value=decimal(row.value, _element(plan.quantity)), uom=plan.unit)


def _element(source: Source) -> DataType:
    return source.type.element if source.element is not None else source.type


def _time_of(plan: MovePlan, cause: Cause) -> int | None:
    """The PLC's own time of the move, as read. None: there is none to be believed."""
    row = cause.evidence.usable(plan.at) if plan.at else None
    if row is None or row.value != row.value:
        return None
    at_us = int(row.value * plan.at_unit_ns) // 1_000
    return at_us if abs(at_us - cause.cycle.seen_us) <= _SKEW_MAX_US else None
