"""The record of one pass: values with limits, curves, verdict, feeds, context.

What is not there is named in `missing`, never made up.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from protocols.codec import Curve, curve_sha256
from protocols.events import (
    CurveRef,
    Defect,
    Feed,
    PassValue,
    Purpose,
    Quantity,
    Recipe,
    Verdict,
)
from protocols.samples import SEVERITY_MASK, Quality
from rules.binding.aggregates import result
from rules.binding.config import plain_key
from rules.binding.evidence import Evidence, decimal
from rules.binding.names import shown, text_of
from rules.binding.plan import (
    ContextPlan,
    CurvePlan,
    HolderFeed,
    NestPlan,
    Source,
    ValuePlan,
    VerdictPlan,
)
from rules.binding.rows import Reading
from rules.binding.stored import Stored

VALUE_CHARACTERS_MAX: Final = 4_000
_NO_DEFECT: Final = frozenset({"", "0", "false"})
Curves = Mapping[tuple[str, str], Curve]


@dataclass(frozen=True, slots=True)
class Record:
    values: tuple[PassValue, ...] = ()
    curves: tuple[Curve, ...] = ()
    verdict: Verdict = Verdict.UNKNOWN
    defects: tuple[Defect, ...] = ()
    feeds: tuple[Feed, ...] = ()
    recipe: Recipe | None = None
    seats: Mapping[str, str] | None = None
    purpose: Purpose = Purpose.PRODUCTION
    missing: tuple[str, ...] = ()


def make_record(plan: NestPlan, pass_id: UUID, evidence: Evidence, end_us: int) -> Record:
    """The record of a cycle whose end was seen."""
    missing: list[str] = []
    curves = _curves(plan.curves, pass_id, evidence, missing)
    verdict = _verdict(plan.verdict, evidence, missing)
    return Record(
        values=_values(plan.values, curves, (evidence, end_us), missing),
        curves=tuple(curves.values()),
        verdict=verdict,
        defects=_defects(plan.verdict, verdict, evidence),
        feeds=_feeds(plan.feeds, evidence, missing),
        recipe=_recipe(plan.context, evidence),
        seats=_seats(plan.context, evidence),
        purpose=purpose_of(plan.context, evidence),
        missing=tuple(missing),
    )


def broken_record(plan: NestPlan, evidence: Evidence, end_us: int) -> Record:
    """The record of a cycle whose end was not seen: what polling saw of it, uncertain at best."""
    missing: list[str] = [curve.label for curve in plan.curves]
    over_time = [value for value in plan.values if _seen_before_the_end(value)]
    missing += [value.label for value in plan.values if not _seen_before_the_end(value)]
    values = _values(over_time, {}, (evidence, end_us), missing)
    return Record(
        values=tuple(_uncertain(value) for value in values),
        feeds=_feeds(plan.feeds, evidence, missing),
        recipe=_recipe(plan.context, evidence),
        seats=_seats(plan.context, evidence),
        purpose=purpose_of(plan.context, evidence),
        missing=tuple(missing),
    )


def curve_ref(curve: Curve) -> CurveRef:
    return CurveRef(
        name=curve.name,
        place=curve.place,
        sha256=curve_sha256(curve),
        n=len(curve.data[0]),
        axis=curve.axis,
        units=curve.units,
    )


def quantity_of(amount: float | None, unit: str) -> Quantity | None:
    return None if amount is None else Quantity(value=decimal(amount, None), uom=unit)


def purpose_of(context: ContextPlan, evidence: Evidence) -> Purpose:
    """The first that is true; production if none is."""
    for purpose, source in context.purposes:
        row = evidence.usable(source)
        if row is not None and row.value is True:
            return purpose
    return Purpose.PRODUCTION


def _seen_before_the_end(value: ValuePlan) -> bool:
    source = value.source
    return source is not None and not source.read and not source.with_end and value.how != "at_end"


def _uncertain(value: PassValue) -> PassValue:
    if value.quality & SEVERITY_MASK:
        return value
    return value.model_copy(update={"quality": int(Quality.UNCERTAIN), "ok": None})


def _values(
    plans: Sequence[ValuePlan], curves: Curves, given: tuple[Evidence, int], missing: list[str]
) -> tuple[PassValue, ...]:
    evidence, end_us = given
    values: list[PassValue] = []
    for plan in plans:
        row = _row_of(plan, curves, evidence, end_us)
        if row is None:
            missing.append(plan.label)
        else:
            values.append(_value(plan, row, evidence, missing))
            missing += [plan.label] if _is_incomplete(plan, evidence) else []
    return tuple(values)


def _is_incomplete(plan: ValuePlan, evidence: Evidence) -> bool:
    aggregate = evidence.aggregates.get(plan.label)
    return aggregate is not None and aggregate.broken


def _row_of(plan: ValuePlan, curves: Curves, evidence: Evidence, end_us: int) -> Reading | None:
    if plan.curve is not None:
        return _of_curve(plan, curves.get(plan.curve), end_us)
    if plan.label in evidence.aggregates:
        return result(evidence.aggregates[plan.label], plan, end_us)
    if plan.label in evidence.triggered:
        return evidence.triggered[plan.label]
    held_at_end = plan.how in ("last", "at_end")
    return evidence.row(plan.source) if plan.source and held_at_end else None


def _of_curve(plan: ValuePlan, curve: Curve | None, end_us: int) -> Reading | None:
    if curve is None:
        return None
    x, y = curve.data[0], curve.data[1]
    if plan.window is not None:
        y = y[(x >= plan.window[0]) & (x <= plan.window[1])]
    if not len(y):
        return None
    return Reading(end_us, _number_of(y, plan.how), int(Quality.GOOD))


def _number_of(points: NDArray[np.float64], how: str) -> float:
    match how:
        case "min":
            return float(points.min())
        case "max":
            return float(points.max())
        case "mean":
            return float(points.mean())
        case _:
            return float(points[-1])


def _value(plan: ValuePlan, row: Reading, evidence: Evidence, missing: list[str]) -> PassValue:
    low = _limit(plan.low, evidence, f"{plan.label}.low", missing)
    high = _limit(plan.high, evidence, f"{plan.label}.high", missing)
    typed, quality = _typed(row)
    value = PassValue(
        name=plan.name,
        place=plan.place,
        unit=plan.unit,
        low=low,
        high=high,
        critical=plan.critical,
        quality=quality,
        **typed,
    )
    known = (plan.low is None) == (low is None) and (plan.high is None) == (high is None)
    limited = low is not None or high is not None
    ok = _within(value, low, high) if known and limited and not quality & SEVERITY_MASK else None
    return value.model_copy(update={"ok": ok})


def _typed(row: Reading) -> tuple[dict[str, Any], int]:
    """The value in the field of its type, and its quality; no number is none, with quality."""
    value = row.value
    quality = row.quality
    if isinstance(value, float) and not math.isfinite(value):
        return {}, quality if quality & SEVERITY_MASK else int(Quality.UNCERTAIN)
    if isinstance(value, bool):
        return {"bool_": value}, quality
    if isinstance(value, int):
        return {"int_": value}, quality
    if isinstance(value, float):
        return {"num": value}, quality
    if isinstance(value, (str, bytes)):
        return {"text": shown(value)[:VALUE_CHARACTERS_MAX]}, quality
    return {}, quality


def _within(value: PassValue, low: float | None, high: float | None) -> bool | None:
    number = value.num if value.int_ is None else value.int_
    if number is None:
        return None
    return (low is None or number >= low) and (high is None or number <= high)


def _limit(
    limit: float | Source | None, evidence: Evidence, label: str, missing: list[str]
) -> float | None:
    if not isinstance(limit, Source):
        return limit
    number = evidence.number(limit)
    if number is None or not math.isfinite(number):
        missing.append(label)
        return None
    return number


def _curves(
    plans: Sequence[CurvePlan], pass_id: UUID, evidence: Evidence, missing: list[str]
) -> dict[tuple[str, str], Curve]:
    curves: dict[tuple[str, str], Curve] = {}
    for plan in plans:
        data = _points(plan, evidence)
        if data is None:
            missing.append(plan.label)
        else:
            curves[plan.name, plan.place] = Curve(
                pass_id, plan.name, plan.place, plan.axis, ("x", "y"), plan.units, data
            )
    return curves


def _points(
    plan: CurvePlan, evidence: Evidence
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    rows = evidence.usable(plan.x), evidence.usable(plan.y)
    count = evidence.number(plan.n) if plan.n else math.inf
    if rows[0] is None or rows[1] is None or count is None or not count >= 1:
        return None
    x, y = (np.asarray(row.value, np.float64) for row in rows if row)
    n = int(min(len(x), len(y), count))
    return (x[:n].copy(), y[:n].copy()) if n else None


def _verdict(plan: VerdictPlan | None, evidence: Evidence, missing: list[str]) -> Verdict:
    if plan is None:
        return Verdict.NOT_JUDGED
    row = evidence.usable(plan.source)
    verdict = plan.map.get(_key(row.value)) if row else None
    if verdict is None:
        missing.append("verdict")
    return verdict or Verdict.UNKNOWN


def _key(value: Stored) -> str:
    return (text_of(value) or "") if isinstance(value, (str, bytes)) else plain_key(value)


def _defects(plan: VerdictPlan | None, verdict: Verdict, evidence: Evidence) -> tuple[Defect, ...]:
    if plan is None or plan.defect is None or verdict is Verdict.PASS:
        return ()
    row = evidence.usable(plan.defect)
    code = shown(_key(row.value)) if row else ""
    return () if code in _NO_DEFECT else (Defect(code=code[:VALUE_CHARACTERS_MAX]),)


def _feeds(plans: Sequence[HolderFeed], evidence: Evidence, missing: list[str]) -> tuple[Feed, ...]:
    feeds: list[Feed] = []
    for plan in plans:
        holder = evidence.text(plan.holder)
        if holder is None:
            missing.append(f"feed {plan.material or ''}".strip())
        else:
            qty = quantity_of(plan.quantity, plan.unit)
            feeds.append(Feed(holder=holder, qty=qty, material=plan.material))
    return tuple(feeds)


def _recipe(context: ContextPlan, evidence: Evidence) -> Recipe | None:
    name = evidence.text(context.recipe)
    revision = evidence.text(context.revision)
    return None if name is None else Recipe(name=name, revision=revision or "")


def _seats(context: ContextPlan, evidence: Evidence) -> dict[str, str]:
    seats = {name: evidence.text(template) for name, template in context.seats.items()}
    return {name: seat for name, seat in seats.items() if seat}
