"""Cuts made of little, for tests of the outbox; every value tells which cut it came from."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID, uuid5

import numpy as np

from edge.cut import Cut
from protocols.codec import Curve
from protocols.events import NAMESPACE, Alarm, AlarmState, Event, NameEvent, Severity, from_us
from protocols.frames import Totals
from protocols.notices import TagLine
from protocols.samples import NO_CODE, DataType, SampleBatch, Tag, ValueClass, empty

START_US = 1_800_000_000_000_000
STEP_US = 250_000


def rows(number: int, count: int = 3, paths: int = 2) -> SampleBatch:
    """`count` float rows of cut `number`, a microsecond apart, spread over `paths` tags."""
    row = np.arange(count, dtype=np.int64)
    used = max(1, min(count, paths))
    return SampleBatch(
        tuple(Tag(f"p.t{path}", DataType.FLOAT64) for path in range(used)),
        (row % used).astype(np.int32),
        row + START_US + number * STEP_US,
        np.full(count, ValueClass.F64, np.uint8),
        {ValueClass.F64: row.astype(np.float64) + number * 10_000},
        np.zeros(count, np.uint32),
        np.full(count, NO_CODE, np.int64),
    )


def event(number: int, text: str = "") -> Event:
    return NameEvent(
        id=uuid5(NAMESPACE, f"event {number}"),
        site="plant1",
        at=from_us(START_US + number * STEP_US),
        reason=text or f"cut {number}",
    )


def alarm(number: int) -> Alarm:
    return Alarm(
        id=uuid5(NAMESPACE, f"alarm {number}"),
        key="test",
        state=AlarmState.RAISED,
        severity=Severity.INFO,
        at=from_us(START_US + number * STEP_US),
        text=f"cut {number}",
        source="test",
    )


def curve(number: int, points: int = 10) -> Curve:
    way = np.arange(points, dtype=np.float64)
    return Curve(
        UUID(int=number),
        "force_way",
        "",
        "way",
        ("way", "force"),
        ("mm", "kN"),
        (way, way * number),
    )


def tag(number: int) -> TagLine:
    return TagLine(
        path=f"p.t{number}", since=from_us(START_US + number * STEP_US), type=DataType.FLOAT64
    )


def cut(
    number: int,
    samples: SampleBatch | None = None,
    *,
    events: int = 0,
    state: Mapping[str, bytes] | None = None,
) -> Cut:
    """Cut `number`: its rows are later than all of the cut before; its state names it."""
    batch = rows(number) if samples is None else samples
    return Cut(
        batch,
        tuple(event(number * 100 + one) for one in range(events)),
        (),
        (),
        (),
        (),
        {"binder": b"after %d" % number} if state is None else state,
        START_US + (number + 1) * STEP_US,
        Totals(read=len(batch)),
    )


def bare(number: int, events: int = 1) -> Cut:
    """A cut of events alone."""
    return replace(cut(number, empty(), events=events), totals=Totals())
