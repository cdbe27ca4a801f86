"""Cycles counted = passes + gaps: the counts of one station, pure."""

from datetime import datetime
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.verify.counter import Counter, CounterCount, against, counted_by, merged
from cloud.verify.station import count_series
from protocols.events import GapEvent, PassEvent, PassKey, from_us, pass_id

T0 = 1_790_000_000_000_000
AT = from_us(T0)
STATION = "L1/ST010"


def passed(count: int, *, nest: str = "", series: int = 7, modulus: int | None = 100) -> PassEvent:
    return PassEvent(
        id=uuid4(), site="berlin", at=AT, station=STATION, nest=nest,
        pass_id=pass_id("berlin", STATION, nest, series, count),
        key=PassKey(series=series, count=count, modulus=modulus),
    )  # fmt: skip


def gap(first: int, last: int, *, nest: str = "") -> GapEvent:
    return GapEvent(
        id=uuid4(), site="berlin", at=AT, station=STATION, nest=nest, series=7,
        from_count=first, to_count=last,
    )  # fmt: skip


def test_passes_and_gaps_make_up_what_was_counted() -> None:
    (found,) = count_series([passed(1), passed(2), gap(3, 5), passed(6)])
    assert (found.counted, found.passes, found.gaps, found.missing) == (6, 3, 3, 0)
    assert found.holds
    assert found.proven


def test_a_count_without_either_is_missing_and_named() -> None:
    (found,) = count_series([passed(1), passed(4)])
    assert (found.counted, found.missing, found.missing_counts) == (4, 2, (2, 3))
    assert not found.holds


def test_a_gap_counts_only_counts_without_a_pass() -> None:
    (found,) = count_series([passed(1), gap(1, 4), gap(3, 4), passed(3)])
    assert (found.counted, found.passes, found.gaps, found.missing) == (4, 2, 2, 0)


def test_two_passes_of_one_count_are_doubled() -> None:
    twin = passed(1).model_copy(update={"pass_id": UUID(int=1)})
    (found,) = count_series([passed(1), twin, passed(2)])
    assert (found.passes, found.doubled, found.holds) == (2, 1, False)


def test_open_and_closed_are_one_pass() -> None:
    (found,) = count_series([passed(1), passed(1)])
    assert (found.passes, found.doubled) == (1, 0)


def test_nests_and_series_are_counted_apart() -> None:
    found = count_series([passed(1, nest="a"), passed(9, nest="b"), passed(5, series=8)])
    assert [(one.nest, one.series[-1], one.counted) for one in found] == [
        ("", "8", 1), ("a", "7", 1), ("b", "7", 1),
    ]  # fmt: skip


def test_without_a_counter_of_the_plc_nothing_is_proven() -> None:
    (found,) = count_series([passed(1, modulus=None)])
    assert not found.proven


@settings(max_examples=30)
@given(st.sets(st.integers(0, 60), min_size=1), st.lists(st.tuples(st.integers(0, 60),
       st.integers(0, 9)), max_size=6))  # fmt: skip
def test_it_agrees_with_counting_on_fingers(
    passes: set[int], stretches: list[tuple[int, int]]
) -> None:
    gaps = [(low, low + more) for low, more in stretches]
    (found,) = count_series([*map(passed, passes), *(gap(*one) for one in gaps)])
    in_gap = {count for low, high in gaps for count in range(low, high + 1)}
    everything = range(min(passes | in_gap), max(passes | in_gap) + 1)
    lost = [count for count in everything if count not in passes | in_gap]
    assert found.counted == len(everything)
    assert found.gaps == len(in_gap - passes)
    assert found.missing == len(lost)
    assert list(found.missing_counts) == lost[:20]


@pytest.mark.parametrize(
    ("values", "counted"),
    [([5], 0), ([5, 5, 6, 9], 4), ([98, 99, 0, 1], 3), ([0, 99], 99)],
)
def test_a_counter_wraps_at_its_modulus(values: list[int], counted: int) -> None:
    assert counted_by(values, 100) == counted


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_merged_stretches_hold_the_same_counts_and_do_not_touch(
    stretches: list[tuple[int, int]],
) -> None:
    found = merged(stretches)

    def counts(of: list[tuple[int, int]]) -> set[int]:
        return {n for one in of for n in range(min(one), max(one) + 1)}

    assert counts(found) == counts(stretches)
    assert all(b[0] > a[1] + 1 for a, b in pairwise(found))


# --- a counter's samples against them ---------------------------------------------------------

MINUTE_US = 60_000_000
COUNTER = Counter("st010.count", 100)


def seen(*values: int, first: int = 0) -> list[tuple[datetime, int]]:
    """A value a minute; the cycle of count n is told in the same minute."""
    return [(from_us(T0 + (first + n) * MINUTE_US), value) for n, value in enumerate(values)]


def told(*counts: int, series: int = 7) -> list[PassEvent | GapEvent]:
    return [
        passed(n, series=series).model_copy(update={"at": from_us(T0 + n * MINUTE_US + 1)})
        for n in counts
    ]


def late(minutes: float) -> datetime:
    return from_us(T0 + int(minutes * MINUTE_US))


def test_counted_and_told_are_matched_by_the_count() -> None:
    found = against(COUNTER, seen(0, 1, 2, 3), told(1, 2, 3), late(60))
    assert found == CounterCount("st010.count", 4, 3, 3)
    assert against(COUNTER, seen(98, 99, 0, 1, 2), told(99, 100, 101, 102), late(200)).holds


@pytest.mark.parametrize("missed", [1, 2, 3])
def test_a_cycle_that_nobody_told_of_is_seen_wherever_it_is(missed: int) -> None:
    found = against(COUNTER, seen(0, 1, 2, 3), told(*({1, 2, 3} - {missed})), late(60))
    assert (found.counted, found.told, found.holds) == (3, 2, False)


def test_what_was_counted_a_moment_before_the_end_may_be_told_after_it() -> None:
    found = against(COUNTER, seen(0, 1, 2, 3), told(1, 2), late(3.5))
    assert (found.counted, found.told, found.settling, found.holds) == (2, 2, 1, True)
    assert not against(COUNTER, seen(0, 1, 2, 3), told(1, 2), late(4.5)).holds
    assert not against(COUNTER, seen(0, 1, 2, 3), told(2), late(3.5)).holds


def test_what_was_told_a_moment_before_the_end_may_be_counted_after_it() -> None:
    assert against(COUNTER, seen(0, 1, 2), told(1, 2, 3), late(3.5)).holds
    found = against(COUNTER, seen(0, 1, 2), told(1, 2, 3), late(60))
    assert (found.counted, found.told, found.holds) == (2, 3, False)


def test_a_period_begins_with_the_value_that_was_there() -> None:
    assert against(COUNTER, seen(2, 3, 4, first=2), told(1, 2, 3, 4), late(60)).holds
    assert not against(COUNTER, seen(2, 3, 4, first=2), told(1, 2, 4), late(60)).holds


def test_a_station_that_tells_nothing_is_not_excused() -> None:
    found = against(COUNTER, seen(0, 1, 2, 3), [], late(60))
    assert (found.counted, found.told) == (3, 0)
    assert not found.holds


def test_gaps_and_a_series_before_are_told_too() -> None:
    lost = gap(3, 4).model_copy(update={"at": from_us(T0 + 4 * MINUTE_US)})
    before = told(1, 2, series=6)
    assert against(COUNTER, seen(0, 1, 2, 3, 4, 5), [*before, lost, *told(5)], late(60)).holds
