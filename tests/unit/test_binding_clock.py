"""The clock was set back: the station goes on, and no name, value or end is another's."""

import pytest

from protocols.events import EndedBy, Verdict
from tests.support.stations import (
    PRESS,
    clamped,
    counted_at_end,
    cycle,
    dmc,
    idle_bench,
    press,
    pressed,
    refs,
    scanned,
    serial,
    unclamped,
)


def test_a_clock_set_back_does_not_stop_the_station() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    made.now_us -= 3_600_000_000
    for count in (102, 103):
        press(made, "a", count, dmc(count))
    made.idle(15)
    assert made.counts(PRESS) == [101, 102, 103]


def test_a_clock_set_back_costs_no_names() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(101))
    made.now_us -= 3_600_000_000
    for count in (102, 103, 104):
        press(made, "a", count, dmc(count))
    assert {count: refs(made)[count] for count in (103, 104)} == {
        103: serial(103),
        104: serial(104),
    }


@pytest.mark.parametrize("step_us", [-60_000_000, -1_500_000])
def test_a_reader_that_was_silent_while_the_clock_was_set_back(step_us: int) -> None:
    """Its text is the last cycle's; the times of its rows look as if it was read just now."""
    made = idle_bench()
    press(made, "a", 101, dmc(101))
    scanned(made, "a", "NOREAD")
    made.wait(0.5)
    scanned(made, "a", dmc(102))
    made.now_us += step_us
    cycle(made, 102, skip=("scanner20",))
    made.wait(1)
    cycle(made, 103)
    made.wait(28)
    assert refs(made) == {101: serial(101), 102: None, 103: None}
    assert made.of_kind("name") == []


def test_what_waits_when_the_clock_is_set_back_is_told_with_its_own_rows() -> None:
    """The next cycle's rows would look as if they were read with its end."""
    made = idle_bench()
    press(made, "a", 101, dmc(101))
    clamped(made, "a", 102)
    made.wait(0.5)
    pressed(made, "a", result=2, force=9.0)
    made.wait(0.3, skip=["scanner20"])  # its last row may still come
    assert made.counts(PRESS) == [101]
    clamped(made, "a", 103)
    made.now_us -= 1_000_000
    made.wait(0.5, skip=["scanner20"])
    pressed(made, "a", result=1, force=10.0)
    made.wait(3)
    _, second, third = made.passes(PRESS)
    assert (second.key.count, second.items[0].verdict) == (102, Verdict.FAIL)
    assert (third.key.count, third.items[0].verdict) == (103, Verdict.PASS)


def test_a_cycle_that_runs_while_the_clock_is_set_back_is_still_told_from_the_next() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(101))
    scanned(made, "a", dmc(102))
    made.poll(3)
    clamped(made, "a", 102)
    made.wait(0.5)
    made.now_us -= 60_000_000
    clamped(made, "a", 103)
    made.wait(0.5)
    pressed(made, "a", result=2)
    made.wait(1)
    assert [(one.key.count, one.ended_by, one.started) for one in made.passes(PRESS)[1:]] == [
        (102, EndedBy.NEXT_START, None),
        (103, EndedBy.END, None),
    ]
    assert [one.items[0].ref for one in made.passes(PRESS)[1:]] == [None, None]


def test_a_clock_set_back_while_the_agent_was_down() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(101))
    scanned(made, "a", dmc(102))
    made.poll(3)
    clamped(made, "a", 102)
    made.wait(0.5)
    made.restart(-60.0)
    clamped(made, "a", 103)
    made.wait(0.5)
    pressed(made, "a", result=2)
    made.wait(1)
    unclamped(made, "a")
    made.wait(1)
    press(made, "a", 104, dmc(104))
    told = {one.key.count: (one.ended_by, one.items[0].ref) for one in made.passes(PRESS)}
    assert told == {
        101: (EndedBy.END, serial(101)),
        102: (EndedBy.RESTART, None),
        103: (EndedBy.END, None),
        104: (EndedBy.END, serial(104)),
    }


def test_a_silence_that_a_clock_set_back_hides() -> None:
    made = idle_bench()
    for count in (101, 102):
        counted_at_end(made, count)
    scanned(made, "a", dmc(103))
    made.wait(0.3)
    clamped(made, "a", 102)
    made.wait(0.5)
    pressed(made, "a")
    made.set({"p20.a.cycle_no": 103})
    made.wait(2, skip=["p20"])
    clamped(made, "a", 103)
    made.wait(1, skip=["p20"])
    made.now_us -= 3_000_000
    made.wait(0.5)
    pressed(made, "a", result=2)
    made.set({"p20.a.cycle_no": 104})
    made.wait(1)
    *_, lost, other = made.passes(PRESS)
    assert (lost.key.count, lost.ended_by) == (103, EndedBy.NEXT_START)
    assert (other.key.count, other.started) == (104, None)
    assert [one.items[0].ref for one in (lost, other)] == [None, None]


def test_a_read_from_before_a_clock_was_set_back_names_nothing_an_hour_later() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(101))
    scanned(made, "a", dmc(102))
    made.poll(3)
    made.now_us -= 3_600_000_000
    scanned(made, "a", "NOREAD")
    cycle(made, 102)
    made.idle(3_590)
    cycle(made, 103)
    assert refs(made) == {101: serial(101), 102: None, 103: None}
