"""Whose a press's cycle is: which read counts for it, and what happens when none or two do."""

from protocols.events import NameEvent, Outcome, PassRef
from rules.binding.config import BindingConfig
from tests.support.binding import compiled, written_stations
from tests.support.plc import Bench
from tests.support.stations import (
    PRESS,
    bench,
    clamped,
    cycle,
    dmc,
    idle_bench,
    press,
    pressed,
    refs,
    scanned,
    serial,
)


def test_a_text_that_stands_still_is_stale() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    scanned(made, "a", dmc(1))
    made.poll(3)
    made.idle(30)
    press(made, "a", 102, None)
    (item,) = made.passes(PRESS)[1].items
    assert (item.ref, item.how) == (None, Outcome.STALE)
    assert item.witnesses[0].raw == dmc(1)
    assert made.alarms[-1].key == "L1/PRESS20/a unnamed"


def test_what_stood_there_when_the_agent_started_is_stale() -> None:
    made = bench()
    scanned(made, "a", dmc(1))
    made.poll(3)
    press(made, "a", 101, None)
    assert made.passes(PRESS)[0].items[0].how is Outcome.STALE


def test_the_same_serial_read_again_is_the_next_attempt() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    press(made, "a", 102, dmc(1))
    first, second = made.passes(PRESS)
    assert first.items[0].ref == second.items[0].ref == serial(1)


def test_a_stamp_tells_a_second_read_from_a_text_that_stands_still() -> None:
    written = written_stations()
    trust = {"read": "scanner20.{nest}", "stamp": "scanner20.{nest}_no"}
    written["stations"][1]["items"]["trust"] = [trust]
    made = idle_bench(plan=compiled(BindingConfig.model_validate(written)))
    made.set({"scanner20.a": dmc(1), "scanner20.a_no": 1})
    made.poll(3)
    cycle(made, 101)
    made.set({"scanner20.a_no": 2})  # read again: the same text
    made.poll(3)
    cycle(made, 102)
    cycle(made, 103)
    hows = [event.items[0].how for event in made.passes(PRESS)]
    assert hows == [Outcome.BOUND, Outcome.BOUND, Outcome.STALE]


def test_no_read_is_no_read_however_long_it_stands() -> None:
    made = idle_bench()
    scanned(made, "a", "NOREAD")
    made.poll(3)
    cycle(made, 101)
    cycle(made, 102)
    assert [event.items[0].how for event in made.passes(PRESS)] == [Outcome.NO_READ] * 2


def test_a_second_try_after_a_no_read_names_the_item() -> None:
    made = idle_bench()
    scanned(made, "a", "NOREAD")
    made.poll(3)
    press(made, "a", 101, dmc(1))
    (item,) = made.passes(PRESS)[0].items
    assert (item.ref, item.how) == (serial(1), Outcome.BOUND)
    assert [one.outcome for one in item.witnesses] == [Outcome.BOUND, Outcome.NO_READ]


def test_two_serials_in_one_cycle_are_a_conflict_and_both_are_kept() -> None:
    made = idle_bench()
    scanned(made, "a", dmc(1))
    made.poll(3)
    clamped(made, "a", 101)
    made.wait(0.4)
    scanned(made, "a", dmc(2))
    made.wait(0.4)
    pressed(made, "a")
    made.wait(0.5)
    (item,) = made.passes(PRESS)[0].items
    assert (item.ref, item.how) == (serial(1), Outcome.CONFLICT)
    assert [one.ref for one in item.witnesses] == [serial(1), serial(2)]
    assert [one.outcome for one in item.witnesses] == [Outcome.BOUND, Outcome.CONFLICT]
    assert "L1/PRESS20/a conflict" in [alarm.key for alarm in made.alarms]


def test_two_scans_of_one_serial_in_one_cycle_are_one() -> None:
    made = idle_bench()
    scanned(made, "a", dmc(1))
    made.poll(2)
    scanned(made, "a", "")
    made.poll(2)
    press(made, "a", 101, dmc(1))
    (item,) = made.passes(PRESS)[0].items
    assert (item.ref, item.how) == (serial(1), Outcome.BOUND)


def test_a_read_long_before_the_start_does_not_count() -> None:
    made = idle_bench()
    scanned(made, "a", dmc(1))
    made.idle(25)
    cycle(made, 101)
    assert made.passes(PRESS)[0].items[0].how is Outcome.STALE


def test_a_read_after_the_end_names_the_item_of_the_pass() -> None:
    made = idle_bench()
    cycle(made, 101)
    assert made.passes(PRESS)[0].items[0].ref is None
    made.poll(10)
    scanned(made, "a", dmc(1))
    made.wait(28)
    (named,) = made.of_kind("name")
    assert isinstance(named, NameEvent)
    assert named.item == PassRef(pass_id=made.passes(PRESS)[0].pass_id)
    assert named.names == (serial(1),)


def test_a_read_after_the_end_names_nothing_if_a_cycle_may_have_been_missed() -> None:
    made = idle_bench()
    cycle(made, 101)
    scanned(made, "a", dmc(1))
    made.wait(1)
    made.wait(3, skip=["p20"])
    made.wait(28)
    assert made.of_kind("name") == []


def test_a_read_too_late_names_nothing() -> None:
    made = idle_bench()
    cycle(made, 101)
    made.wait(6)
    scanned(made, "a", dmc(1))
    made.idle(30)
    assert made.of_kind("name") == []


def test_one_read_between_two_cycles_is_the_next_ones() -> None:
    """A no-read must not shift every name after it by one."""
    made = idle_bench()
    cycle(made, 101)
    for count in (102, 103, 104):
        press(made, "a", count, dmc(count))
    made.idle(30)
    named = [event.items[0].ref for event in made.passes(PRESS)]
    assert named == [None, serial(102), serial(103), serial(104)]
    assert made.of_kind("name") == []


def test_two_reads_between_two_cycles_are_one_for_each() -> None:
    made = idle_bench()
    cycle(made, 101)
    scanned(made, "a", dmc(101))
    made.wait(1)
    press(made, "a", 102, dmc(102))
    (named,) = made.of_kind("name")
    assert isinstance(named, NameEvent)
    assert named.names == (serial(101),)
    assert made.passes(PRESS)[1].items[0].ref == serial(102)
    assert made.passes(PRESS)[1].items[0].how is Outcome.BOUND


def test_a_refused_reuse_is_not_bound() -> None:
    written = written_stations()
    written["stations"][1]["items"]["same_again"] = "reused"
    made = idle_bench(plan=compiled(BindingConfig.model_validate(written)))
    press(made, "a", 101, dmc(1))
    press(made, "a", 102, dmc(1))
    (item,) = made.passes(PRESS)[1].items
    assert (item.ref, item.how) == (None, Outcome.REUSED)


def test_the_next_scan_seen_with_the_end_before_is_the_next_cycles() -> None:
    """Nobody was silent: between two polls one part left and the next was scanned."""
    made = idle_bench()
    scanned(made, "a", dmc(1))
    made.wait(0.4)
    two_with_a_scan_between(made, dmc(2))
    assert refs(made) == {101: serial(1), 102: serial(2)}


def test_after_a_nameless_pass_it_may_be_that_ones() -> None:
    made = idle_bench()
    two_with_a_scan_between(made, dmc(1))
    assert refs(made)[102] is None


def two_with_a_scan_between(made: Bench, code: str) -> None:
    clamped(made, "a", 101)
    made.wait(1)
    pressed(made, "a")
    scanned(made, "a", code)
    made.wait(0.1, ("scanner20",))
    made.set({"p20.a.clamped": False})
    made.wait(0.4)
    clamped(made, "a", 102)
    made.wait(1)
    pressed(made, "a")
    made.wait(7)
