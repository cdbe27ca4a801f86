"""Cycles seen by edges: each one a pass or a gap, and never another cycle's values or name."""

from typing import Any

import pytest

from protocols.events import EndedBy, Outcome, Verdict, to_us
from protocols.samples import SEVERITY_MASK
from tests.support.binding import compiled, without_counter
from tests.support.plc import Bench
from tests.support.presses import gaps
from tests.support.stations import (
    PRESS,
    bench,
    clamped,
    counted_at_end,
    dmc,
    idle_bench,
    press,
    pressed,
    scanned,
    serial,
    unclamped,
)


def test_a_cycle_becomes_a_pass_with_everything_in_it() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    (told,) = made.passes(PRESS)
    assert (told.nest, told.key.count, told.ended_by) == ("a", 101, EndedBy.END)
    assert told.items[0].ref == serial(1)
    assert (told.items[0].how, told.items[0].verdict) == (Outcome.BOUND, Verdict.PASS)
    force, oil = told.values
    assert (force.name, force.num, force.ok) == ("force_max", 11.0, True)
    assert (oil.num, oil.quality) == (46.0, 0)
    assert [(curve.name, curve.n) for curve in told.curves] == [("force_way", 5)]
    assert list(made.curves[0].data[1]) == [1.0, 5.0, 11.0, 7.0, 20.0]
    assert told.recipe is not None
    assert told.recipe.name == "8"
    assert told.seats == {"tool": "seat/P20-a-PUNCH"}
    assert told.feeds[0].holder == "magazine/P20-a"
    assert told.started is not None
    assert told.ended is not None
    assert 900_000 <= to_us(told.ended) - to_us(told.started) <= 1_100_000
    assert {window.device for window in told.windows} == {"p20", "scanner20"}
    assert told.missing == ()
    assert not made.alarms


def test_nests_work_beside_each_other() -> None:
    made = idle_bench()
    scanned(made, "a", dmc(1))
    made.wait(0.3)
    clamped(made, "a", 101)
    made.wait(0.5)
    scanned(made, "b", dmc(2))
    made.wait(0.3)
    clamped(made, "b", 101)
    made.wait(0.5)
    pressed(made, "a")
    made.wait(0.5)
    pressed(made, "b", result=2)
    made.wait(0.5)
    a, b = made.passes(PRESS, "a")[0], made.passes(PRESS, "b")[0]
    assert (a.items[0].ref, b.items[0].ref) == (serial(1), serial(2))
    assert (a.items[0].verdict, b.items[0].verdict) == (Verdict.PASS, Verdict.FAIL)
    assert b.items[0].defects[0].code == "77"
    assert a.pass_id != b.pass_id


def test_cycles_follow_each_other_through_a_wrap() -> None:
    made = idle_bench()
    made.set({"p20.a.cycle_no": 32765})
    made.poll(2)
    for at, raw in enumerate((32766, 32767, 0, 1)):
        press(made, "a", raw, dmc(at))
    assert made.counts(PRESS) == [32766, 32767, 32768, 32769]
    assert gaps(made) == []


def test_the_mean_is_weighted_by_time() -> None:
    made = idle_bench()
    made.set({"p20.oil_temp": 10.0})
    made.poll(2)
    clamped(made, "a", 101)
    made.wait(0.8)
    made.set({"p20.oil_temp": 20.0})
    made.wait(0.2)
    pressed(made, "a")
    made.wait(0.5)
    started_us, ended_us = (to_us(one) for one in _span(made))
    oil = made.passes(PRESS)[0].values[1]
    assert oil.num is not None
    assert ended_us - started_us == 1_001_000 or ended_us - started_us == 1_000_000
    assert oil.num == pytest.approx(12.0, abs=0.2)


def _span(made: Bench) -> tuple[Any, Any]:
    told = made.passes(PRESS)[0]
    return told.started, told.ended


def test_a_bad_row_makes_an_aggregate_uncertain() -> None:
    made = idle_bench()
    clamped(made, "a", 101)
    made.wait(0.5)
    made.bad.add("p20.oil_temp")
    made.poll(1)
    made.bad.clear()
    made.wait(0.4)
    pressed(made, "a")
    made.wait(0.5)
    oil = made.passes(PRESS)[0].values[1]
    assert oil.num == 46.0
    assert oil.quality & SEVERITY_MASK
    assert "oil_temp" in made.passes(PRESS)[0].missing


class TestCounting:
    def test_missed_cycles_are_a_gap(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        press(made, "a", 104, dmc(4))
        assert made.counts(PRESS) == [101, 104]
        assert gaps(made) == [(102, 103)]

    def test_a_plc_that_counts_at_the_end_is_understood(self) -> None:
        made = idle_bench()
        for count in (101, 102, 103):
            counted_at_end(made, count)
        assert made.counts(PRESS) == [101, 102, 103]
        assert gaps(made) == []

    def test_a_counter_that_stands_still_tells_nothing_twice(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        press(made, "a", 101, dmc(2))
        assert made.counts(PRESS) == [101]
        assert [alarm.key for alarm in made.alarms] == ["L1/PRESS20/a counter"]
        press(made, "a", 102, dmc(3))
        assert made.counts(PRESS) == [101, 102]
        assert made.alarms[-1].state == "cleared"

    def test_a_bouncing_end_is_one_pass(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        made.wait(0.5)
        for done in (True, False, True, False, True):
            made.set({"p20.a.done": done})
            made.poll(1)
        made.wait(1)
        assert made.counts(PRESS) == [101]

    def test_a_count_read_late_in_the_same_poll_is_waited_for(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        made.bad.add("p20.a.cycle_no")
        made.wait(0.5)
        pressed(made, "a")
        made.poll(1)
        assert made.passes(PRESS) == []
        made.bad.clear()
        made.poll(2)
        assert made.counts(PRESS) == [101]

    def test_a_reset_begins_a_new_series(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        press(made, "a", 1, dmc(2))
        first, second = made.passes(PRESS)
        assert first.key.series != second.key.series
        assert second.key.count == 1
        assert gaps(made) == []

    def test_without_a_counter_the_agent_counts_from_its_epoch(self) -> None:
        made = idle_bench(plan=compiled(without_counter()), epoch=77)
        for number in (1, 2, 3):
            press(made, "a", 0, dmc(number))
        assert made.counts(PRESS) == [1, 2, 3]
        assert {event.key.series for event in made.passes(PRESS)} == {77}
        assert made.passes(PRESS)[0].key.modulus is None
        made.restart(1.0, epoch=78)
        press(made, "a", 0, dmc(4))
        assert made.counts(PRESS) == [1, 2, 3, 1]
        assert len({event.pass_id for event in made.passes(PRESS)}) == 4


class TestMissedEnds:
    def test_the_next_start_ends_it(self) -> None:
        made = idle_bench()
        scanned(made, "a", dmc(1))
        made.poll(2)
        clamped(made, "a", 101)
        made.wait(0.5)
        made.set({"p20.a.clamped": False})
        made.wait(0.3)
        scanned(made, "a", dmc(2))
        made.poll(2)
        clamped(made, "a", 102)
        made.wait(0.5)
        pressed(made, "a")
        made.wait(0.5)
        lost, good = made.passes(PRESS)
        assert (lost.key.count, lost.ended_by) == (101, EndedBy.NEXT_START)
        assert lost.items[0].verdict is Verdict.UNKNOWN
        assert lost.curves == ()
        assert "force_way" in lost.missing
        assert lost.items[0].ref == serial(1)
        assert (good.key.count, good.ended_by, good.items[0].ref) == (102, EndedBy.END, serial(2))
        assert [alarm.state for alarm in made.alarms if "missed end" in alarm.key] == [
            "raised",
            "cleared",
        ]

    def test_time_ends_it_and_the_late_end_is_no_second_pass(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        made.poll(3)
        made.idle(45)
        (told,) = made.passes(PRESS)
        assert told.ended_by is EndedBy.TIMEOUT
        started, ended = _span(made)
        assert to_us(ended) - to_us(started) == 40_000_000
        pressed(made, "a")
        made.wait(1)
        unclamped(made, "a")
        press(made, "a", 102, dmc(2))
        assert made.counts(PRESS) == [101, 102]
        assert gaps(made) == []

    def test_without_a_counter_neither(self) -> None:
        made = idle_bench(plan=compiled(without_counter()))
        clamped(made, "a", 0)
        made.idle(45)
        pressed(made, "a")
        made.wait(1)
        assert [event.ended_by for event in made.passes(PRESS)] == [EndedBy.TIMEOUT]

    def test_an_end_whose_start_was_not_seen_is_a_pass(self) -> None:
        made = bench()
        clamped(made, "a", 101)
        made.poll(5)  # the agent starts in mid-cycle
        pressed(made, "a")
        made.wait(0.5)
        (told,) = made.passes(PRESS)
        assert (told.started, told.key.count) == (None, 101)
        assert "oil_temp" in told.missing

    def test_end_and_next_start_between_two_polls(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        made.wait(0.5)
        pressed(made, "a")
        made.set({"p20.a.clamped": False})
        made.poll(1)
        made.set({"p20.a.done": False, "p20.a.clamped": True, "p20.a.cycle_no": 102})
        made.wait(0.5)
        pressed(made, "a")
        made.wait(0.5)
        assert made.counts(PRESS) == [101, 102]
        assert [event.ended_by for event in made.passes(PRESS)] == [EndedBy.END] * 2

    def test_start_and_end_between_two_polls_is_a_pass(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        pressed(made, "a")
        made.wait(0.5)
        assert made.counts(PRESS) == [101]


class TestSilence:
    def test_a_device_that_is_away_in_mid_cycle_and_the_same_count_after(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        made.wait(0.5)
        made.wait(5, skip=["p20"])
        made.wait(0.5)
        pressed(made, "a")
        made.wait(0.5)
        (told,) = made.passes(PRESS)
        assert (told.key.count, told.ended_by) == (101, EndedBy.END)
        assert told.values[1].quality & SEVERITY_MASK
        assert "oil_temp" in told.missing

    def test_the_end_was_in_the_silence_and_nothing_else(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        made.wait(0.5)
        pressed(made, "a")
        made.wait(5, skip=["p20"])
        made.wait(0.5)
        (told,) = made.passes(PRESS)
        assert (told.key.count, told.ended_by) == (101, EndedBy.END)
        assert told.items[0].verdict is Verdict.PASS

    def test_another_cycle_ended_in_the_silence(self) -> None:
        """The end that is seen is not the end of the cycle that was running."""
        made = idle_bench()
        scanned(made, "a", dmc(1))
        made.poll(3)
        clamped(made, "a", 101)
        made.wait(0.5)
        made.set({"p20.a.cycle_no": 103, "p20.oil_temp": 99.0})
        pressed(made, "a", result=2)
        made.wait(10, skip=["p20"])
        made.wait(1)
        lost, other = made.passes(PRESS)
        assert (lost.key.count, lost.ended_by) == (101, EndedBy.NEXT_START)
        assert (lost.items[0].ref, lost.items[0].verdict) == (serial(1), Verdict.UNKNOWN)
        assert (other.key.count, other.started) == (103, None)
        assert other.items[0].verdict is Verdict.FAIL
        assert other.items[0].ref is None
        assert gaps(made) == [(102, 102)]

    def test_another_cycle_runs_after_the_silence(self) -> None:
        made = idle_bench()
        scanned(made, "a", dmc(1))
        made.poll(3)
        clamped(made, "a", 101)
        made.wait(0.5)
        clamped(made, "a", 103)
        scanned(made, "a", dmc(3))
        made.wait(10, skip=["p20", "scanner20"])
        made.wait(0.5)
        pressed(made, "a")
        made.wait(0.5)
        lost, other = made.passes(PRESS)
        assert (lost.key.count, lost.ended_by, lost.items[0].ref) == (
            101,
            EndedBy.NEXT_START,
            serial(1),
        )
        assert (other.key.count, other.started) == (103, None)
        assert other.items[0].ref != serial(1)
        assert gaps(made) == [(102, 102)]


class TestCurves:
    def test_a_curve_that_is_overwritten_is_missing_not_wrong(self) -> None:
        made = idle_bench()
        made.before_read = lambda on, name: (
            on.memory.update({"p20.a.cycle_no": 102}) if name.endswith("end") else None
        )
        press(made, "a", 101, dmc(1))
        (told,) = made.passes(PRESS)
        assert told.key.count == 101
        assert told.curves == ()
        assert {"force_way", "force_max"} <= set(told.missing)

    def test_a_read_that_fails_is_tried_again_and_then_given_up(self) -> None:
        made = idle_bench(auto_read=False)
        clamped(made, "a", 101)
        made.wait(0.5)
        pressed(made, "a")
        asked = 0
        for _ in range(30):
            made.poll(1)
            for request in made.pending_reads:
                asked += 1
                made.take(made.binder.on_read_failed(request.token, "busy", made.now_us))
            made.pending_reads.clear()
        assert asked == 3
        assert "force_way" in made.passes(PRESS)[0].missing

    def test_a_read_that_is_never_answered_does_not_hold_the_pass_for_ever(self) -> None:
        made = idle_bench(auto_read=False)
        clamped(made, "a", 101)
        made.wait(0.5)
        pressed(made, "a")
        made.wait(9)
        assert made.passes(PRESS) == []
        made.wait(3)
        assert "force_way" in made.passes(PRESS)[0].missing

    def test_the_next_cycle_may_run_while_the_curve_is_read(self) -> None:
        made = idle_bench(auto_read=False)
        clamped(made, "a", 101)
        made.wait(0.5)
        pressed(made, "a")
        made.wait(0.2)
        made.auto_read = True
        made.answer(made.pending_reads.pop(0))
        assert made.counts(PRESS) == [101]
        press(made, "a", 102, dmc(2))
        assert made.counts(PRESS) == [101, 102]

    def test_one_curve_of_an_ill_value_window_is_missing(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        made.wait(0.5)
        pressed(made, "a")
        made.set({"p20.a.curve.way": [0.0] * 8})
        made.wait(0.5)
        assert "force_max" in made.passes(PRESS)[0].missing
        assert made.passes(PRESS)[0].curves[0].n == 5
