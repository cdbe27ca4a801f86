"""Cycles seen by edges: each one a pass or a gap, and never another cycle's values or name."""

from typing import Any

import pytest

from protocols.events import (
    EndedBy,
    HolderRef,
    NameEvent,
    NameRef,
    Outcome,
    PassRef,
    Verdict,
    to_us,
)
from protocols.samples import SEVERITY_MASK
from rules.binding.config import BindingConfig
from tests.support.binding import compiled, one_station, stations, without_counter
from tests.support.plc import Bench
from tests.support.presses import gaps
from tests.support.stations import (
    bench,
    clamped,
    dmc,
    press,
    pressed,
    scanned,
    unclamped,
)

PRESS = "L1/PRESS20"
DEVICES = frozenset({"p20", "scanner20"})


def serial(number: int) -> NameRef:
    return NameRef(scheme="serial", issuer="TLD", value=f"{number:012}")


def idle_bench(**options: Any) -> Bench:
    made = bench(devices=DEVICES, **options)
    made.poll(3)
    return made


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
            clamped(made, "a", count - 1)
            made.wait(0.5)
            pressed(made, "a")
            made.set({"p20.a.cycle_no": count})
            made.wait(0.5)
            unclamped(made, "a")
            made.wait(0.3)
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


class TestNames:
    def test_a_text_that_stands_still_is_stale(self) -> None:
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

    def test_what_stood_there_when_the_agent_started_is_stale(self) -> None:
        made = bench()
        scanned(made, "a", dmc(1))
        made.poll(3)
        press(made, "a", 101, None)
        assert made.passes(PRESS)[0].items[0].how is Outcome.STALE

    def test_the_same_serial_read_again_is_the_next_attempt(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        press(made, "a", 102, dmc(1))
        first, second = made.passes(PRESS)
        assert first.items[0].ref == second.items[0].ref == serial(1)

    def test_a_stamp_tells_a_second_read_from_a_text_that_stands_still(self) -> None:
        written = stations().model_dump(mode="json", by_alias=True, exclude_defaults=True)
        trust = {"read": "scanner20.{nest}", "stamp": "scanner20.{nest}_no"}
        written["stations"][1]["items"]["trust"] = [trust]
        made = idle_bench(plan=compiled(BindingConfig.model_validate(written)))
        made.set({"scanner20.a": dmc(1), "scanner20.a_no": 1})
        made.poll(3)
        press_without_scan(made, 101)
        made.set({"scanner20.a_no": 2})  # read again: the same text
        made.poll(3)
        press_without_scan(made, 102)
        press_without_scan(made, 103)
        hows = [event.items[0].how for event in made.passes(PRESS)]
        assert hows == [Outcome.BOUND, Outcome.BOUND, Outcome.STALE]

    def test_no_read_is_no_read_however_long_it_stands(self) -> None:
        made = idle_bench()
        scanned(made, "a", "NOREAD")
        made.poll(3)
        press_without_scan(made, 101)
        press_without_scan(made, 102)
        assert [event.items[0].how for event in made.passes(PRESS)] == [Outcome.NO_READ] * 2

    def test_a_second_try_after_a_no_read_names_the_item(self) -> None:
        made = idle_bench()
        scanned(made, "a", "NOREAD")
        made.poll(3)
        press(made, "a", 101, dmc(1))
        (item,) = made.passes(PRESS)[0].items
        assert (item.ref, item.how) == (serial(1), Outcome.BOUND)
        assert [one.outcome for one in item.witnesses] == [Outcome.BOUND, Outcome.NO_READ]

    def test_two_serials_in_one_cycle_are_a_conflict_and_both_are_kept(self) -> None:
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

    def test_two_scans_of_one_serial_in_one_cycle_are_one(self) -> None:
        made = idle_bench()
        scanned(made, "a", dmc(1))
        made.poll(2)
        scanned(made, "a", "")
        made.poll(2)
        press(made, "a", 101, dmc(1))
        (item,) = made.passes(PRESS)[0].items
        assert (item.ref, item.how) == (serial(1), Outcome.BOUND)

    def test_a_read_long_before_the_start_does_not_count(self) -> None:
        made = idle_bench()
        scanned(made, "a", dmc(1))
        made.idle(25)
        press_without_scan(made, 101)
        assert made.passes(PRESS)[0].items[0].how is Outcome.STALE

    def test_a_read_after_the_end_names_the_item_of_the_pass(self) -> None:
        made = idle_bench()
        press_without_scan(made, 101)
        assert made.passes(PRESS)[0].items[0].ref is None
        made.poll(10)
        scanned(made, "a", dmc(1))
        made.wait(28)
        (named,) = made.of_kind("name")
        assert isinstance(named, NameEvent)
        assert named.item == PassRef(pass_id=made.passes(PRESS)[0].pass_id)
        assert named.names == (serial(1),)

    def test_a_read_after_the_end_names_nothing_if_a_cycle_may_have_been_missed(self) -> None:
        made = idle_bench()
        press_without_scan(made, 101)
        scanned(made, "a", dmc(1))
        made.wait(1)
        made.wait(3, skip=["p20"])
        made.wait(28)
        assert made.of_kind("name") == []

    def test_a_read_too_late_names_nothing(self) -> None:
        made = idle_bench()
        press_without_scan(made, 101)
        made.wait(6)
        scanned(made, "a", dmc(1))
        made.idle(30)
        assert made.of_kind("name") == []

    def test_one_read_between_two_cycles_is_the_next_ones(self) -> None:
        """A no-read must not shift every name after it by one."""
        made = idle_bench()
        press_without_scan(made, 101)
        for count in (102, 103, 104):
            press(made, "a", count, dmc(count))
        made.idle(30)
        named = [event.items[0].ref for event in made.passes(PRESS)]
        assert named == [None, serial(102), serial(103), serial(104)]
        assert made.of_kind("name") == []

    def test_two_reads_between_two_cycles_are_one_for_each(self) -> None:
        made = idle_bench()
        press_without_scan(made, 101)
        scanned(made, "a", dmc(101))
        made.wait(1)
        press(made, "a", 102, dmc(102))
        (named,) = made.of_kind("name")
        assert isinstance(named, NameEvent)
        assert named.names == (serial(101),)
        assert made.passes(PRESS)[1].items[0].ref == serial(102)
        assert made.passes(PRESS)[1].items[0].how is Outcome.BOUND

    def test_a_refused_reuse_is_not_bound(self) -> None:
        written = stations().model_dump(mode="json", by_alias=True, exclude_defaults=True)
        written["stations"][1]["items"]["same_again"] = "reused"
        made = idle_bench(plan=compiled(BindingConfig.model_validate(written)))
        press(made, "a", 101, dmc(1))
        press(made, "a", 102, dmc(1))
        (item,) = made.passes(PRESS)[1].items
        assert (item.ref, item.how) == (None, Outcome.REUSED)


def press_without_scan(made: Bench, count: int) -> None:
    clamped(made, "a", count)
    made.wait(0.6)
    pressed(made, "a")
    made.wait(0.4)
    made.set({"p20.a.clamped": False})
    made.wait(0.4)


class TestValues:
    STATION = """
station: L1/X
cycle:
  start: {edge: p20.a.clamped}
  end: {edge: p20.a.done}
  key: {count: p20.a.cycle_no, modulus: 32768}
items: {trust: ["carrier/{st010.rfid}"]}
values:
- {name: first, tag: p20.oil_temp, how: at_start}
- {name: last, tag: p20.oil_temp}
- {name: most, tag: p20.oil_temp, how: max}
- {name: least, tag: p20.oil_temp, how: min, low: 5}
- {name: when, tag: p20.oil_temp, how: at_trigger, trigger: {edge: p20.b.done}}
- {name: result, tag: p20.a.result}
- {name: text, tag: st010.dmc}
- {name: bit, tag: p20.b.done}
"""

    def test_of_every_kind(self) -> None:
        made = idle_bench(plan=compiled(one_station(self.STATION)))
        made.devices |= {"st010"}
        made.set({"st010.dmc": "free text", "st010.rfid": "C7"})
        clamped(made, "a", 101)
        for temp in (10.0, 30.0, 4.0):
            made.set({"p20.oil_temp": temp, "p20.b.done": temp == 30.0})
            made.wait(0.3)
        made.set({"p20.oil_temp": 20.0, "p20.a.result": 3})
        made.poll(1)
        pressed(made, "a", result=2)
        made.wait(0.5)
        (told,) = made.passes()
        values = {value.name: value for value in told.values}
        numbers = {name: one.num for name, one in values.items() if one.num is not None}
        assert numbers == {"first": 10.0, "last": 20.0, "most": 30.0, "least": 4.0, "when": 30.0}
        assert values["least"].ok is False
        assert values["result"].int_ == 2
        assert values["text"].text == "free text"
        assert values["bit"].bool_ is False
        assert told.items[0].ref == HolderRef(holder="carrier/C7")
        assert told.items[0].verdict is Verdict.NOT_JUDGED
        assert told.missing == ()

    def test_a_trigger_that_did_not_come_leaves_its_value_out(self) -> None:
        made = idle_bench(plan=compiled(one_station(self.STATION)))
        made.devices |= {"st010"}
        press(made, "a", 101, None)
        assert "when" in made.passes()[0].missing

    def test_a_running_cycle_is_told_where_it_is_asked_for(self) -> None:
        config = one_station(self.STATION + "open: true\n")
        made = idle_bench(plan=compiled(config))
        made.devices |= {"st010"}
        press(made, "a", 101, None)
        clamped(made, "a", 102)
        made.wait(0.5)
        opened = made.passes()[-1]
        assert (opened.key.count, opened.ended) == (102, None)
        pressed(made, "a")
        made.wait(0.5)
        closed = made.passes()[-1]
        assert closed.replaces == (opened.id,)
        assert closed.pass_id == opened.pass_id
        assert made.counts() == [101, 101, 102, 102]


def test_a_clock_set_back_does_not_stop_the_station() -> None:
    made = idle_bench()
    press(made, "a", 101, dmc(1))
    made.now_us -= 3_600_000_000
    for count in (102, 103):
        press(made, "a", count, dmc(count))
    made.idle(15)
    assert made.counts(PRESS) == [101, 102, 103]
