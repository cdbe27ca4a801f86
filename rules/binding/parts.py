"""Compiles the parts of a station that are the same for every kind of cycle."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

from protocols.events import Purpose
from protocols.samples import ValueClass
from rules.binding.config import (
    ContextConfig,
    CurveConfig,
    EdgeConfig,
    FeedConfig,
    FreshConfig,
    ItemsConfig,
    PurposeConfig,
    ValueConfig,
    VerdictConfig,
    WitnessConfig,
)
from rules.binding.expand import place_name, places
from rules.binding.plan import (
    ContextPlan,
    CurvePlan,
    EdgePlan,
    HolderFeed,
    ItemsPlan,
    ScanFeed,
    Source,
    ValuePlan,
    VerdictPlan,
    WitnessPlan,
)
from rules.binding.resolve import BIT, INTEGER, NUMBERS, NUMERIC, READABLE, SCALAR, Scope

_SECOND_US: Final = 1_000_000
_STAMPS: Final = NUMERIC | {ValueClass.TEXT}
_BRIEF: Final = ("min", "max", "at_start", "at_end", "at_trigger")
Labelled = TypeVar("Labelled", ValuePlan, CurvePlan)


def compile_edge(scope: Scope, edge: EdgeConfig) -> EdgePlan | None:
    source = scope.at("edge").source(edge.edge, BIT)
    return EdgePlan(source, edge.to) if source else None


def compile_items(scope: Scope, items: ItemsConfig) -> ItemsPlan:
    witnesses = [_witness(scope.at("trust", at), one, items) for at, one in enumerate(items.trust)]
    fresh = items.fresh if isinstance(items.fresh, FreshConfig) else None
    return ItemsPlan(
        trust=tuple(one for one in witnesses if one),
        before_us=int(fresh.before_s * _SECOND_US) if fresh else None,
        after_us=int(fresh.after_s * _SECOND_US) if fresh else 0,
        reuse_refused=items.same_again == "reused",
        bind_later=items.missing == "bind_later",
    )


def _witness(scope: Scope, one: WitnessConfig, items: ItemsConfig) -> WitnessPlan | None:
    parse = one.parse if one.parse is not None else items.parse if one.read else None
    reader = scope.reader(one.scheme or items.scheme, parse, items.no_read)
    stamp = scope.at("stamp").source(one.stamp, _STAMPS) if one.stamp else None
    if one.holder is not None:
        holder = scope.holder(one.holder)
        written = scope.filled(one.holder)
        return (
            WitnessPlan(written, reader, stamp=stamp, holder=holder) if reader and holder else None
        )
    read = scope.source(one.read or "", READABLE)
    return WitnessPlan(read.path, reader, read=read, stamp=stamp) if reader and read else None


def compile_feeds(
    scope: Scope, feeds: Sequence[FeedConfig]
) -> tuple[tuple[HolderFeed, ...], tuple[ScanFeed, ...]]:
    holders: list[HolderFeed] = []
    scans: list[ScanFeed] = []
    for at, feed in enumerate(feeds):
        here = scope.at(at)
        if feed.discipline:
            here.at("discipline").note(
                feed.discipline,
                "does nothing at the edge: lots are resolved where the holder's moves are known",
                "Give it to the holder's master too.",
            )
        if feed.from_ is not None:
            holder = here.at("from").holder(feed.from_)
            if holder:
                holders.append(HolderFeed(holder, feed.material, feed.quantity, feed.unit))
        else:
            scan = _scan(here, feed)
            scans += [scan] if scan else []
    return tuple(holders), tuple(scans)


def _scan(scope: Scope, feed: FeedConfig) -> ScanFeed | None:
    reader = scope.reader(feed.scheme, feed.parse, feed.no_read)
    read = scope.at("scan").source(feed.scan or "", READABLE)
    stamp = scope.at("stamp").source(feed.stamp, _STAMPS) if feed.stamp else None
    if not (reader and read):
        return None
    witness = WitnessPlan(read.path, reader, read=read, stamp=stamp)
    return ScanFeed(witness, scope.filled(feed.place), feed.material, feed.quantity, feed.unit)


def compile_curves(scope: Scope, curves: Sequence[CurveConfig]) -> tuple[CurvePlan, ...]:
    plans = [
        _curve(here, curve, place)
        for at, curve in enumerate(curves)
        for here, place in _places(scope.at(at), curve.each)
    ]
    for at, curve in enumerate(curves):
        if curve.envelope:
            scope.at(at, "envelope").note(
                curve.envelope,
                "is kept for the recipe's own limits; curves are not yet judged",
                "Judge by `values` with `from` and `window`.",
            )
    return _unique(scope, [plan for plan in plans if plan])


def _curve(scope: Scope, curve: CurveConfig, place: str) -> CurvePlan | None:
    x = scope.at("x").source(curve.x, NUMBERS)
    y = scope.at("y").source(curve.y, NUMBERS)
    n = scope.at("n").source(curve.n, INTEGER) if curve.n else None
    if not (x and y) or (curve.n and not n):
        return None
    return CurvePlan(curve.name, place, x, y, n, curve.axis or "x", (curve.x_unit, curve.y_unit))


def compile_values(
    scope: Scope, values: Sequence[ValueConfig], curves: Sequence[CurvePlan]
) -> tuple[ValuePlan, ...]:
    known = {(curve.name, curve.place) for curve in curves}
    plans = [
        _value(here, value, place, known)
        for at, value in enumerate(values)
        for here, place in _places(scope.at(at), value.each)
    ]
    return _unique(scope, [plan for plan in plans if plan])


def _value(
    scope: Scope, value: ValueConfig, place: str, curves: set[tuple[str, str]]
) -> ValuePlan | None:
    limited = value.low is not None or value.high is not None
    numeric = limited or value.how in ("min", "max", "mean")
    source = (
        scope.at("tag").source(value.tag, NUMERIC if numeric else SCALAR) if value.tag else None
    )
    curve = _curve_of(scope, value, place, curves) if value.from_ else None
    trigger = compile_edge(scope.at("trigger"), value.trigger) if value.trigger else None
    low, high = _limit(scope.at("low"), value.low), _limit(scope.at("high"), value.high)
    if source is None and curve is None:
        return None
    _too_slow(scope, value)
    return ValuePlan(
        name=value.name,
        place=place,
        source=source,
        curve=curve,
        how=value.how,
        trigger=trigger,
        window=value.window.x if value.window else None,
        unit=value.unit,
        low=low,
        high=high,
        critical=value.critical,
    )


def _curve_of(
    scope: Scope, value: ValueConfig, place: str, curves: set[tuple[str, str]]
) -> tuple[str, str] | None:
    wanted = (value.from_ or "", place)
    if wanted in curves:
        return wanted
    shown = f"{value.from_} at {place}" if place else value.from_ or ""
    scope.at("from").problem(shown, "is not a curve of this station", "Add it to `curves`.")
    return None


def _limit(scope: Scope, limit: float | str | None) -> float | Source | None:
    return scope.source(limit, NUMERIC) if isinstance(limit, str) else limit


def _too_slow(scope: Scope, value: ValueConfig) -> None:
    if not value.tag or not value.effect_s or value.how not in _BRIEF:
        return
    found = scope.tag(value.tag, SCALAR)
    interval_us = found.facts.interval_us if found else None
    if interval_us is not None and interval_us > value.effect_s * _SECOND_US:
        scope.at("tag").note(
            scope.filled(value.tag),
            f"is read every {interval_us / _SECOND_US:g} s, the effect lasts {value.effect_s:g} s:"
            f" {value.how} can miss it",
            "Read it faster, or let the PLC keep the value.",
        )


def compile_verdict(scope: Scope, verdict: VerdictConfig) -> VerdictPlan | None:
    source = scope.at("tag").source(verdict.tag)
    defect = scope.at("defect").source(verdict.defect) if verdict.defect else None
    return VerdictPlan(source, verdict.map, defect) if source else None


def compile_context(scope: Scope, context: ContextConfig, purpose: PurposeConfig) -> ContextPlan:
    here = scope.at("context")
    seats = {
        name: here.at(name).text(text)
        for name, text in (("tool", context.tool), ("operator", context.operator))
        if text is not None
    }
    purposes = [
        (Purpose(name), scope.at("purpose", name).source(path, BIT))
        for name, path in purpose
        if path is not None
    ]
    return ContextPlan(
        recipe=here.at("recipe").text(context.recipe) if context.recipe else None,
        revision=here.at("revision").text(context.revision) if context.revision else None,
        seats={name: seat for name, seat in seats.items() if seat},
        purposes=tuple((kind, source) for kind, source in purposes if source),
    )


def _places(
    scope: Scope, each: Mapping[str, str | Sequence[int | str]]
) -> Iterator[tuple[Scope, str]]:
    try:
        for variables in places(each):
            yield scope.filling(variables), place_name(variables)
    except ValueError as error:
        scope.at("each").problem(str(dict(each)), str(error), "Write a range like 1..6 or a list.")


def _unique(scope: Scope, plans: Sequence[Labelled]) -> tuple[Labelled, ...]:
    seen: set[str] = set()
    for plan in plans:
        if plan.label in seen:
            scope.problem(plan.label, "stands twice", "Give each its own name or place.")
        seen.add(plan.label)
    return tuple(plans)
