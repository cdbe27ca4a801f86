"""Cycles that nobody saw are a gap, soon and once; one that runs or is told after all is not."""

from protocols.events import Verdict
from tests.support.presses import gaps
from tests.support.stations import PRESS, clamped, cycle, dmc, idle_bench, press, pressed


def test_cycles_that_nobody_saw_are_a_gap_soon() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    cycle(made, 102, skip=("p20",))
    cycle(made, 103, skip=("p20",))
    made.poll(3)
    assert gaps(made) == []  # the next start may be about to show
    made.wait(2)
    assert gaps(made) == [(102, 103)]
    made.idle(30)
    press(made, "a", 104, dmc(4))
    assert made.counts(PRESS) == [101, 104]
    assert gaps(made) == [(102, 103)]


def test_what_is_told_early_is_not_told_again_with_the_rest() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    cycle(made, 102, skip=("p20",))
    made.wait(3)
    press(made, "a", 105, dmc(5))
    assert gaps(made) == [(102, 102), (103, 104)]
    assert len({event.id for event in made.of_kind("gap")}) == 2


def test_a_gap_is_told_once_whoever_restarts() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    cycle(made, 102, skip=("p20",))
    made.wait(3)
    made.restart(60.0)
    made.wait(5)
    press(made, "a", 103, dmc(3))
    assert gaps(made) == [(102, 102)]
    assert made.counts(PRESS) == [101, 103]


def test_a_reset_after_an_early_gap_begins_anew() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    cycle(made, 102, skip=("p20",))
    made.wait(3)
    press(made, "a", 1, dmc(2))
    press(made, "a", 4, dmc(3))
    assert made.counts(PRESS) == [101, 1, 4]
    assert gaps(made) == [(102, 102), (2, 3)]


def test_a_cycle_that_runs_after_the_silence_is_not_in_the_gap() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    clamped(made, "a", 103)
    made.wait(3, skip=["p20"])
    made.wait(4)
    assert gaps(made) == []
    pressed(made, "a")
    made.wait(1)
    assert made.counts(PRESS) == [101, 103]
    assert gaps(made) == [(102, 102)]


def test_a_start_that_shows_after_its_count_is_not_in_the_gap() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    made.set({"p20.a.cycle_no": 102})
    made.wait(3, skip=["p20"])
    made.wait(1)
    cycle(made, 102)
    assert made.counts(PRESS) == [101, 102]
    assert gaps(made) == []


def test_a_pass_that_comes_after_all_is_told() -> None:
    """The start was a pulse: nothing shows that a cycle runs."""
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    clamped(made, "a", 102)
    made.set({"p20.a.clamped": False})
    made.wait(3, skip=["p20"])
    made.wait(4)
    assert gaps(made) == [(102, 102)]
    pressed(made, "a", result=2)
    made.wait(1)
    first, second = made.passes(PRESS)
    assert (first.key.count, second.key.count) == (101, 102)
    assert (second.started, second.items[0].verdict) == (None, Verdict.FAIL)


def test_a_station_that_was_heard_all_the_time_waits_for_the_next_pass() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    made.set({"p20.a.cycle_no": 103})
    made.wait(5)
    assert gaps(made) == []
    press(made, "a", 104, dmc(4))
    assert gaps(made) == [(102, 103)]
