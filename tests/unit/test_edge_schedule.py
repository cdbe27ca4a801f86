"""The grid never drifts, never bursts, and accounts for every slot."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.schedule import GroupSchedule, Histogram, phase_s


def test_ten_million_slots_do_not_drift() -> None:
    schedule = GroupSchedule(0.1, 0.0123, 1000.0)
    schedule.stay_away(1000.0 + 0.0123 + 0.1 * 10_000_000 - 0.05)
    assert schedule.counters.down == 10_000_000
    assert schedule.due_s == pytest.approx(1000.0 + 0.0123 + 1_000_000.0, abs=1e-6)


def test_a_late_start_counts_what_it_missed_and_keeps_the_grid() -> None:
    schedule = GroupSchedule(0.1, 0.0, 0.0)
    schedule.start(0.0)
    schedule.finish(0.25)
    schedule.start(0.25)
    assert schedule.counters.overruns == 1, "the slot at 0.1 was missed, that of 0.2 is late"
    assert schedule.due_s == pytest.approx(0.3), "the next slot stands where it always stood"


def test_a_slot_cannot_start_early() -> None:
    with pytest.raises(ValueError, match="before it is due"):
        GroupSchedule(0.1, 0.05, 0.0).start(0.01)


def test_age_and_duration_follow_the_answers() -> None:
    schedule = GroupSchedule(0.1, 0.0, 0.0)
    assert schedule.age_s(5.0) is None
    schedule.start(0.0)
    schedule.finish(0.02)
    assert schedule.age_s(0.05) == pytest.approx(0.03)
    assert schedule.duration.percentile_s(50) == pytest.approx(0.02, rel=0.25)


@settings(deadline=None)
@given(
    st.floats(0.1, 3600),
    st.floats(0, 1),
    st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=40),
)
def test_every_slot_is_started_missed_or_down(
    interval_s: float, phase: float, steps: list[tuple[bool, float]]
) -> None:
    schedule = GroupSchedule(interval_s, phase * interval_s, 100.0)
    now_s = 100.0
    for down, intervals in steps:
        now_s = max(now_s, schedule.due_s) + intervals * interval_s
        before = schedule.due_s
        if down:
            schedule.stay_away(now_s)
        else:
            schedule.start(now_s)
        counted = schedule.counters
        assert counted.scheduled == counted.started + counted.overruns + counted.down
        assert schedule.due_s > before
        assert schedule.due_s > now_s - interval_s * 1e-5, "no slot is left to be made up"
        assert schedule.due_s <= now_s + interval_s * (1 + 1e-5)
    slots = (schedule.due_s - 100.0 - phase * interval_s) / interval_s
    assert schedule.counters.scheduled == round(slots)


@given(st.text(max_size=20), st.text(max_size=20), st.floats(0.1, 100))
def test_the_phase_is_inside_the_interval_and_stays(
    device: str, group: str, interval_s: float
) -> None:
    phase = phase_s(device, group, interval_s)
    assert 0 <= phase < interval_s
    assert phase == phase_s(device, group, interval_s)


def test_i13_devices_spread_over_the_interval() -> None:
    phases = [phase_s(f"st{n:03}", "fast", 0.1) for n in range(100)]
    assert max(phases) - min(phases) > 0.08
    assert len({round(phase, 3) for phase in phases}) > 50


@given(st.lists(st.floats(1e-5, 300), min_size=1, max_size=200), st.sampled_from([50, 99, 100]))
def test_a_percentile_is_within_its_bucket(durations: list[float], percent: int) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = sorted(durations)[math.ceil(len(durations) * percent / 100) - 1]
    assert exact * 0.99 <= histogram.percentile_s(percent) <= exact * 1.26


def test_without_durations_there_is_no_percentile() -> None:
    assert Histogram().percentile_s(99) == 0.0
