"""Compiles what a station's cycles cause: moves and names."""

from collections.abc import Sequence
from typing import Final

from protocols.samples import DataType
from rules.binding.config import EmitConfig, MoveEmit, NamedConfig, NameEmit, RefConfig
from rules.binding.expand import fill
from rules.binding.plan import BirthPlan, EmitPlan, MovePlan, NamePlan, RefPlan, Source, Template
from rules.binding.resolve import NUMERIC, Scope

_UNIT_NS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def compile_emits(scope: Scope, emits: Sequence[EmitConfig]) -> tuple[EmitPlan, ...]:
    plans: list[EmitPlan | None] = []
    for at, emit in enumerate(emits):
        if emit.move:
            plans.append(_move(scope.at(at, "move"), emit.move))
        if emit.name:
            plans.append(_birth(scope.at(at, "name"), emit.name))
    return tuple(plan for plan in plans if plan)


def _move(scope: Scope, move: MoveEmit) -> MovePlan | None:
    what = _thing(scope.at("what"), move.what, move.parse)
    from_ = _holder(scope.at("from"), move.from_) if move.from_ else None
    to = _holder(scope.at("to"), move.to) if move.to else None
    if not (move.from_ or move.to):
        scope.problem("", "goes nowhere", "Give `from`, `to` or both.")
    if what is None:
        return None
    at = scope.at("at").source(move.at, NUMERIC) if move.at else None
    return MovePlan(
        what=what,
        from_=from_,
        to=to,
        quantity=_quantity(scope.at("quantity"), move.quantity),
        unit=move.unit,
        material=_text(scope.at("material"), move.material),
        place=scope.filled(move.place),
        at=at,
        at_unit_ns=1 if at and at.type is DataType.DATETIME else _UNIT_NS[move.at_unit],
    )


def _birth(scope: Scope, name: NameEmit) -> BirthPlan | None:
    names = [_named(scope.at("names", at), one) for at, one in enumerate(name.names)]
    known = tuple(one for one in names if one)
    if len(known) != len(names):
        return None
    return BirthPlan(
        names=known,
        item=_thing(scope.at("item"), name.item, None) if name.item else None,
        material=_text(scope.at("material"), name.material),
        revision=_text(scope.at("revision"), name.revision),
        order=_text(scope.at("order"), name.order),
    )


def _thing(scope: Scope, ref: str | RefConfig, parse: str | None) -> RefPlan | None:
    """A thing by name: `scheme/{tag}`."""
    if isinstance(ref, RefConfig):
        return _ref(scope, ref)
    scheme, slash, rest = fill(ref, scope.variables).partition("/")
    if not (scheme and slash and rest) or "{" in scheme:
        scope.problem(ref, "names no thing", "Write `scheme/{tag}`, like lot/{f07.scan.lot}.")
        return None
    return _name(scope, scheme, rest, parse, None)


def _holder(scope: Scope, ref: str | RefConfig) -> RefPlan | None:
    return _ref(scope, ref) if isinstance(ref, RefConfig) else scope.holder(ref)


def _ref(scope: Scope, ref: RefConfig) -> RefPlan | None:
    if ref.holder is not None:
        return scope.at("holder").holder(ref.holder)
    return _name(scope, ref.scheme or "", ref.value or "", ref.parse, ref.issuer)


def _named(scope: Scope, one: NamedConfig) -> NamePlan | None:
    return _name(scope, one.scheme, one.value, one.parse, one.issuer)


def _name(
    scope: Scope, scheme: str, value: str, parse: str | None, issuer: str | None
) -> NamePlan | None:
    reader = scope.reader(scheme, parse)
    template = _readable(scope, value)
    by = scope.at("issuer").text(issuer) if issuer is not None else None
    if reader is None or template is None or (issuer is not None and by is None):
        return None
    return NamePlan(reader, template, by)


def _readable(scope: Scope, value: str) -> Template | None:
    template = scope.text(value)
    if template and not any(isinstance(piece, Source) for piece in template):
        scope.problem(value, "is the same for every cycle", "Name a tag: `device.name` or `{tag}`.")
        return None
    return template


def _quantity(scope: Scope, quantity: float | str | None) -> float | Source | None:
    return scope.source(quantity, NUMERIC) if isinstance(quantity, str) else quantity


def _text(scope: Scope, text: str | None) -> Template | None:
    return scope.text(text) if text is not None else None
