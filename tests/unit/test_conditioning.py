"""Conditioning against a slow oracle, row by row; a split batch is the whole batch."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocols.errors import Rejected
from protocols.samples import DataType, Sample, SampleBatch, concat, from_samples
from rules.conditioning import Conditioner, Report

GOOD = 0
BAD = 0x80050000
SECOND_US = 1_000_000


def sample(
    path: str, time_us: int, value: object, kind: DataType = DataType.FLOAT64, quality: int = GOOD
) -> Sample:
    return Sample(path, kind, time_us, value, quality, None, time_us, None)  # type: ignore[arg-type]  # any value of the type


class Oracle:
    """The module's rules, one row at a time, in plain Python numbers."""

    def __init__(self, reports: dict[str, Report]) -> None:
        self.reports = reports
        self.last: dict[str, Sample] = {}

    def passes(self, row: Sample) -> bool:
        report = self.reports.get(row.path)
        if report is None or report.on == "received":
            return True
        if report.on == "off":
            return False
        last = self.last.get(row.path)
        said = last is None or self.reports_against(report, last, row)
        if said:
            self.last[row.path] = row
        return said

    def reports_against(self, report: Report, last: Sample, row: Sample) -> bool:
        if (last.quality, last.code, last.type) != (row.quality, row.code, row.type):
            return True
        if (last.value is None) != (row.value is None):
            return True
        elapsed = row.time_us - last.time_us
        if report.max_time and (elapsed < 0 or elapsed >= report.max_time.total_seconds() * 1e6):
            return True
        waits = report.min_time is not None and (
            0 <= elapsed < report.min_time.total_seconds() * 1e6
        )
        return report.on != "period" and not waits and self.moved(report, last.value, row.value)

    def moved(self, report: Report, old: object, new: object) -> bool:
        if isinstance(new, float) and isinstance(old, float):
            if math.isnan(new) or math.isnan(old):
                return math.isnan(new) != math.isnan(old)
            return new != old and abs(new - old) > self.deadband(report)
        if isinstance(new, int) and isinstance(old, int) and not isinstance(new, bool):
            return abs(new - old) > self.deadband(report)
        return list(new) != list(old) if isinstance(new, list) else new != old  # type: ignore[call-overload]  # old is a list too

    def deadband(self, report: Report) -> float:
        return report.deadband.absolute if report.deadband else 0.0

    def apply(self, rows: Iterable[Sample]) -> list[Sample]:
        return [row for row in rows if self.passes(row)]


def said(rows: Sequence[Sample]) -> list[str]:
    return [repr(row) for row in rows]  # NaN equals itself as text


TYPES = {
    "d.f": (
        DataType.FLOAT64,
        st.sampled_from([0.0, 0.05, 0.1, 0.2, -0.0, math.nan, math.inf, -math.inf, 5.0]),
    ),
    "d.i": (DataType.INT64, st.sampled_from([0, 1, 2, 3, 2**63 - 1, -(2**63)])),
    "d.u": (DataType.UINT64, st.sampled_from([0, 1, 2, 2**64 - 1, 2**63])),
    "d.b": (DataType.BOOL, st.booleans()),
    "d.t": (DataType.TEXT, st.sampled_from(["", "a", "b"])),
    "d.l": (DataType.FLOAT64S, st.sampled_from([[1.0], [1.0, 2.0], []])),
    "d.free": (DataType.INT32, st.integers(0, 1)),
}
REPORTS = st.fixed_dictionaries(
    {},
    optional={
        path: st.sampled_from(
            [
                Report.model_validate(one)
                for one in (
                    {},
                    {"on": "received"},
                    {"on": "off"},
                    {"on": "period", "max_time": "2s"},
                    {"on": "change", "max_time": "3s"},
                    {"on": "change_or_period", "max_time": "3s", "min_time": "1s"},
                    {"min_time": "2s"},
                    *(
                        ({"deadband": {"absolute": 0.1}}, {"deadband": {"absolute": 1.5}})
                        if path in ("d.f", "d.i", "d.u")
                        else ()
                    ),
                )
            ]
        )
        for path in TYPES
        if path != "d.free"
    },
)


@st.composite
def rows(draw: st.DrawFn) -> Sample:
    path = draw(st.sampled_from(sorted(TYPES)))
    kind, values = TYPES[path]
    quality = draw(st.sampled_from([GOOD, GOOD, GOOD, BAD, 0x40000000]))
    value = None if quality == BAD and draw(st.booleans()) else draw(values)
    step = draw(st.integers(0, 12))
    return sample(path, step * SECOND_US // 2, value, kind, quality)


@given(REPORTS, st.lists(rows(), max_size=40))
def test_equals_the_oracle(reports: dict[str, Report], given_rows: list[Sample]) -> None:
    staged = Conditioner(reports).apply(from_samples(given_rows))
    expected = Oracle(reports).apply(given_rows)
    assert said(staged.batch.rows()) == said(expected)
    assert staged.filtered == len(given_rows) - len(expected)


@given(REPORTS, st.lists(rows(), max_size=30), st.lists(st.integers(0, 30), max_size=5))
def test_a_split_batch_is_the_whole(
    reports: dict[str, Report], given_rows: list[Sample], cuts: list[int]
) -> None:
    whole = Conditioner(reports).apply(from_samples(given_rows))
    parts = Conditioner(reports)
    edges = sorted({0, len(given_rows), *(min(cut, len(given_rows)) for cut in cuts)})
    batches = [from_samples(given_rows[start:end]) for start, end in pairwise(edges)]
    staged = [parts.apply(batch) for batch in batches]
    assert said([row for one in staged for row in one.batch.rows()]) == said(whole.batch.rows())
    assert sum(one.filtered for one in staged) == whole.filtered


def apply_all(stage: Conditioner, *batches: SampleBatch) -> list[float]:
    return [row.time_us / SECOND_US for batch in batches for row in stage.apply(batch).batch.rows()]


def series(values: Sequence[object], step_s: float = 1.0) -> list[SampleBatch]:
    return [
        from_samples([sample("a.x", int(at * step_s * SECOND_US), value)])
        for at, value in enumerate(values)
    ]


def test_the_deadband_is_around_what_was_reported_not_what_was_seen() -> None:
    stage = Conditioner({"a.x": Report.model_validate({"deadband": {"absolute": 1.0}})})
    assert apply_all(stage, *series([0.0, 0.6, 1.0, 1.2, 0.6, 0.19])) == [0, 3, 5]


def test_the_heartbeat_is_measured_on_the_rows_own_time() -> None:
    stage = Conditioner({"a.x": Report.model_validate({"max_time": "3s"})})
    assert apply_all(stage, *series([1.0] * 8)) == [0, 3, 6]


def test_a_clock_set_back_does_not_silence_the_heartbeat() -> None:
    stage = Conditioner({"a.x": Report.model_validate({"max_time": "3s"})})
    late = from_samples([sample("a.x", 3600 * SECOND_US, 1.0)])
    assert apply_all(stage, late, *series([1.0] * 5)) == [3600, 0, 3]


def test_bad_and_good_again_are_reported_at_once() -> None:
    stage = Conditioner({"a.x": Report.model_validate({"min_time": "1h"})})
    states = [(1.0, GOOD), (None, BAD), (None, BAD), (1.0, GOOD), (2.0, GOOD)]
    batches = [
        from_samples([sample("a.x", at * SECOND_US, value, quality=quality)])
        for at, (value, quality) in enumerate(states)
    ]
    assert apply_all(stage, *batches) == [0, 1, 3]


def test_another_type_is_another_tag_version() -> None:
    stage = Conditioner({"a.x": Report()})
    first = from_samples([sample("a.x", 0, 1, DataType.INT16)])
    second = from_samples([sample("a.x", 1 * SECOND_US, 1, DataType.INT32)])
    assert apply_all(stage, first, second, second, first) == [0, 1, 0]


def test_report_all_lets_each_tag_through_once_more() -> None:
    stage = Conditioner({"a.x": Report()})
    batches = series([1.0] * 4)
    assert apply_all(stage, *batches[:2]) == [0]
    stage.report_all()
    assert apply_all(stage, *batches[2:]) == [2]


def test_elements_take_the_report_of_their_array() -> None:
    stage = Conditioner({"a.x": Report(), "a.x[1]": Report.model_validate({"on": "received"})})
    batch = from_samples([sample("a.x[0]", 0, 1.0), sample("a.x[1]", 0, 1.0)])
    assert len(stage.apply(batch).batch) == 2
    assert [row.path for row in stage.apply(batch).batch.rows()] == ["a.x[1]"]


def test_a_batch_that_passes_whole_is_not_copied() -> None:
    batch = concat(series([1.0, 2.0]))
    assert Conditioner({}).apply(batch).batch is batch


def test_nothing_is_carried_across_a_restart() -> None:
    before, after = Conditioner({"a.x": Report()}), Conditioner({"a.x": Report()})
    apply_all(before, *series([1.0]))
    after.restore(before.snapshot())
    assert apply_all(after, *series([1.0, 1.0])) == [0]


@pytest.mark.parametrize("state", [b"", b"{}", b'{"conditioning":2}', b"\xff"])
def test_a_state_of_another_revision_is_rejected(state: bytes) -> None:
    with pytest.raises(Rejected):
        Conditioner({}).restore(state)


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": "period"},
        {"on": "change_or_period"},
        {"on": "received", "max_time": "1s"},
        {"on": "off", "deadband": {"absolute": 1}},
        {"on": "period", "max_time": "1s", "min_time": "100ms"},
        {"max_time": "1s", "min_time": "2s"},
        {"deadband": {"absolute": -1}},
        {"deadband": {"absolute": math.nan}},
        {"deadband": {"percent": 1}},
        {"on": "sometimes"},
        {"max_time": 30},
        {"after": "1s"},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Report.model_validate(wrong)


def test_a_deadband_suits_numbers_only() -> None:
    report = Report.model_validate({"deadband": {"absolute": 1}})
    assert [report.suits(kind) for kind in (DataType.INT16, DataType.FLOAT32S)] == [True, True]
    assert [report.suits(kind) for kind in (DataType.TEXT, DataType.BOOL)] == [False, False]


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        ({"on": "received"}, {"on": "received"}),
        ({"max_time": "1m"}, {"max_time": "1m"}),
        ({"on": "off"}, {}),
        ({"on": "period", "max_time": "1m"}, {"max_time": "1m"}),
        ({"deadband": {"absolute": 2}, "max_time": "1m"}, {"max_time": "1m"}),
        ({"min_time": "1s"}, {}),
    ],
)
def test_no_change_of_a_counter_is_held_back(
    written: dict[str, object], exact: dict[str, object]
) -> None:
    assert Report.model_validate(written).of_a_counter() == Report.model_validate(exact)


def test_a_tag_once_a_batch_is_decided_in_one_turn() -> None:
    stage = Conditioner({f"a.x{at}": Report() for at in range(500)})
    batch = from_samples([sample(f"a.x{at}", 0, 1.0) for at in range(500)])
    stage.apply(batch)
    assert len(stage._turns(np.arange(500))) == 1
    assert stage.apply(batch).filtered == 500
