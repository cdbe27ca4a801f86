"""Whose part it was: witnesses, each judged on its own, then weighed in order of trust.

Rule 1: only a read made for this cycle counts; the first good witness names the item.
Rule 2: two good witnesses of one scheme that differ are a conflict: the more trusted one names, the
    alarm is raised, both are kept.
Rule 3: without a good witness the item stays unnamed, and `how` says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.events import HolderRef, NameRef, Outcome, Witness, from_us
from rules.binding.names import Named, shown
from rules.binding.stored import Stored


@dataclass(frozen=True, slots=True)
class Claim:
    """One witness of one cycle; `named` says what its text is worth, freshness included."""

    source: str
    raw: Stored
    at_us: int
    named: Named
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """`ref` None: an unnamed item."""

    ref: NameRef | HolderRef | None
    how: Outcome
    witnesses: tuple[Witness, ...]
    material: str | None = None
    revision: str | None = None

    @property
    def name(self) -> NameRef | None:
        return self.ref if isinstance(self.ref, NameRef) else None


def judge(claims: Sequence[Claim]) -> Identity:
    """`claims`: most trusted first."""
    best = next((claim for claim in claims if claim.named.outcome is Outcome.BOUND), None)
    others = [claim for claim in claims if best is not None and _contradict(best, claim)]
    witnesses = tuple(_witness(claim, contradicts=claim in others) for claim in claims)
    if best is None:
        how = claims[0].named.outcome if claims else Outcome.UNNAMED
        return Identity(None, how, witnesses)
    how = Outcome.CONFLICT if others else Outcome.BOUND
    return Identity(_ref(best), how, witnesses, best.named.material, best.named.revision)


def same_name(one: NameRef, other: NameRef) -> bool:
    return (one.scheme, one.issuer, one.value) == (other.scheme, other.issuer, other.value)


def _contradict(best: Claim, claim: Claim) -> bool:
    """Two names of one scheme for one item. A holder's content is known elsewhere."""
    one, other = best.named.ref, claim.named.ref
    if one is None or other is None or claim.named.outcome is not Outcome.BOUND:
        return False
    return one.scheme == other.scheme and not same_name(one, other)


def _ref(claim: Claim) -> NameRef | HolderRef | None:
    return HolderRef(holder=claim.holder) if claim.holder else claim.named.ref


def _witness(claim: Claim, *, contradicts: bool) -> Witness:
    return Witness(
        source=claim.source,
        raw=shown(claim.raw),
        at=from_us(claim.at_us),
        outcome=Outcome.CONFLICT if contradicts else claim.named.outcome,
        ref=_ref(claim) if claim.named.outcome is Outcome.BOUND else None,
    )
