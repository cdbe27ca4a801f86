"""Least, largest and mean of a tag over a cycle, taken row by row; the mean is weighted by time."""

from dataclasses import dataclass
from typing import Final

from protocols.samples import SEVERITY_MASK, Quality
from rules.binding.plan import ValuePlan
from rules.binding.rows import Past, Reading
from rules.binding.stored import Stored

AGGREGATED: Final = frozenset({"min", "max", "mean"})


@dataclass(slots=True)
class Aggregate:
    """A value in the making. `broken`: rows are missing or bad, so it is uncertain."""

    until_us: int
    broken: bool = False
    least: Stored = None
    largest: Stored = None
    area: Stored = 0.0
    weight_us: int = 0
    held: Stored = None
    held_at_us: int = 0


def begin(start_us: int, past: Past, silence_us: int) -> Aggregate:
    """From the last row at or before the start; without one it begins at the first row after."""
    aggregate = Aggregate(until_us=start_us)
    row = past.before(start_us)
    if row is not None:
        aggregate.broken = bool(silence_us) and start_us - row.time_us > silence_us
        _take(aggregate, Reading(start_us, row.value, row.quality))
    return aggregate


def extend(aggregate: Aggregate, past: Past, until_us: int, silence_us: int) -> None:
    """Take the rows up to a time. `silence_us`: longest time between two rows; 0: any."""
    for row in past.between(aggregate.until_us, until_us):
        silent = bool(silence_us) and row.time_us - aggregate.until_us > silence_us
        aggregate.broken = aggregate.broken or silent
        _take(aggregate, row)
        aggregate.until_us = row.time_us


def result(aggregate: Aggregate, plan: ValuePlan, end_us: int) -> Reading | None:
    """The value at the end of the cycle. None: there was no usable row at all."""
    if aggregate.held is None:
        return None
    quality = int(Quality.UNCERTAIN if aggregate.broken else Quality.GOOD)
    values = {"min": aggregate.least, "max": aggregate.largest, "mean": _mean(aggregate, end_us)}
    return Reading(end_us, values[plan.how], quality)


def _take(aggregate: Aggregate, row: Reading) -> None:
    aggregate.broken = aggregate.broken or bool(row.quality & SEVERITY_MASK) or row.value is None
    if not row.usable:
        return
    if row.value != row.value:
        aggregate.broken = True
        return
    if aggregate.held is not None:
        span_us = row.time_us - aggregate.held_at_us
        aggregate.area += float(aggregate.held) * span_us
        aggregate.weight_us += span_us
    aggregate.held, aggregate.held_at_us = row.value, row.time_us
    aggregate.least = row.value if aggregate.least is None else min(aggregate.least, row.value)
    aggregate.largest = (
        row.value if aggregate.largest is None else max(aggregate.largest, row.value)
    )


def _mean(aggregate: Aggregate, end_us: int) -> float:
    span_us = max(0, end_us - aggregate.held_at_us)
    weight_us = aggregate.weight_us + span_us
    if weight_us == 0:
        return float(aggregate.held)
    return float((aggregate.area + float(aggregate.held) * span_us) / weight_us)
