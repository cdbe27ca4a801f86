"""Hand-shakes: each result told once, taken written only then, whatever goes wrong in between."""

from typing import Any

import pytest

from protocols.events import (
    ClockKind,
    GapEvent,
    MoveEvent,
    NameEvent,
    NameRef,
    Outcome,
    PassRef,
    Purpose,
    Verdict,
    pass_id,
    to_us,
)
from protocols.samples import SEVERITY_MASK
from rules.binding.config import BindingConfig
from tests.support.binding import SITE, compiled, written_stations
from tests.support.plc import Bench
from tests.support.stations import bench, dmc, loaded, marked, screwed

STATION = "L1/ST010"


def ready_bench(**options: Any) -> Bench:
    made = bench(devices=frozenset({"st010", "f07", "st000"}), **options)
    made.poll(3)
    return made


def test_a_result_becomes_a_pass_with_everything_in_it() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1))
    made.poll()
    (told,) = made.passes(STATION)
    assert told.pass_id == pass_id(SITE, STATION, "", 1, 42)
    assert (told.key.count, told.key.raw, told.key.modulus) == (42, 42, 65536)
    assert told.operation == "screw-cover"
    assert told.items[0].ref == NameRef(scheme="serial", issuer="TLD", value="000000000001")
    assert (told.items[0].how, told.items[0].verdict) == (Outcome.BOUND, Verdict.PASS)
    assert [one.source for one in told.items[0].witnesses] == ["st010.dmc", "carrier/{st010.rfid}"]
    assert [value.place for value in told.values if value.name == "torque"] == list("123456")
    assert all(value.ok for value in told.values if value.name == "torque")
    assert told.values[0].low == 8.0
    assert [curve.n for curve in told.curves] == [3] * 6
    assert [curve.place for curve in made.curves] == list("123456")
    assert told.recipe is not None
    assert told.recipe.name == "17"
    assert told.seats == {"tool": "seat/ST010-SPINDLE", "operator": "seat/ST010-OPERATOR"}
    assert told.feeds[0].holder == "feeder/ST010-M6"
    assert told.feeds[0].qty is not None
    assert told.feeds[0].qty.value == "6"
    assert told.missing == ()
    assert not made.alarms


def test_a_component_moves_into_whatever_item_the_pass_was_of() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1))
    made.poll()
    (move,) = made.of_kind("move")
    assert isinstance(move, MoveEvent)
    assert move.what == NameRef(scheme="serial", issuer="TLD", value="000000010042")
    assert move.to == PassRef(pass_id=made.passes()[0].pass_id)
    assert move.pass_ == made.passes()[0].pass_id
    assert move.material == "COV"


def test_taken_is_written_after_the_pass_was_committed_and_not_before() -> None:
    made = ready_bench(auto_commit=False)
    screwed(made, 42, dmc(1))
    made.poll(5)
    assert made.counts() == [42]
    assert made.writes == []
    (request,) = made.pending_writes
    assert request.after_commit
    made.commit(made.pending_writes.pop())
    assert made.writes == [("st010.taken", True)]


def test_results_follow_each_other() -> None:
    made = ready_bench()
    for number in range(42, 50):
        screwed(made, number, dmc(number))
        made.poll(3)
    assert made.counts() == list(range(42, 50))
    assert len({event.id for event in made.events}) == len(made.events)


def test_the_next_result_is_read_although_ready_was_never_seen_down() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(42))
    made.poll()
    screwed(made, 43, dmc(43))  # between two polls the PLC lowered and raised ready
    made.wait(3)
    assert made.counts() == [42, 43]
    first, second = (event.seen for event in made.passes())
    assert first is not None
    assert second is not None
    assert second > first


def test_a_mailbox_of_many_entries_is_drained_without_waiting() -> None:

    written = written_stations()
    written["stations"][0]["cycle"]["mailbox"]["entries"] = 5
    made = ready_bench(plan=compiled(BindingConfig.model_validate(written)))
    waiting = list(range(42, 47))

    def pop(on: Bench, *_: Any) -> None:
        on.memory["st010.taken"] = False
        on.memory["st010.ready"] = bool(waiting)
        if waiting:
            screwed(on, waiting.pop(0), dmc(1))

    made.on_write = pop
    screwed(made, waiting.pop(0), dmc(1))
    made.poll(6)
    assert made.counts() == list(range(42, 47))
    assert len(made.writes) == 5


def test_a_lost_taken_is_written_again_and_nothing_is_told_twice() -> None:
    made = ready_bench()
    made.on_write = lambda on, path, _value: on.memory.update({path: False})  # the PLC missed it
    screwed(made, 42, dmc(1))
    made.wait(5)
    assert made.counts() == [42]
    assert len(made.writes) >= 2
    times = made.reads
    made.wait(2)
    assert made.reads - times <= 2  # looked at every retry_s, not at every poll


def test_a_refused_taken_is_tried_again() -> None:
    made = ready_bench(auto_commit=False)
    screwed(made, 42, dmc(1))
    made.poll()
    request = made.pending_writes.pop()
    made.take(made.binder.on_write_failed(request.token, "refused", made.now_us))
    made.poll(5)
    assert made.pending_writes == []
    made.auto_commit = True
    made.wait(2.5)
    assert ("st010.taken", True) in made.writes
    first, *again = [event for event in made.events if event.kind == "pass"]
    assert all(event == first for event in again)  # perhaps not kept: told again, the same event


def test_a_read_that_fails_is_tried_again() -> None:
    made = ready_bench(auto_read=False)
    screwed(made, 42, dmc(1))
    made.poll()
    (request,) = made.pending_reads
    made.pending_reads.clear()
    made.take(made.binder.on_read_failed(request.token, "gone", made.now_us))
    made.poll(5)
    assert made.pending_reads == []
    made.auto_read = True
    made.wait(2)
    assert made.counts() == [42]


def test_a_torn_reading_is_read_again() -> None:
    made = ready_bench()
    torn = [2]

    def overwrite(on: Bench, name: str) -> None:
        if name.endswith("block") and torn[0]:
            torn[0] -= 1
            on.memory["st010.cycle_no"] += 1
            on.memory["st010.dmc"] = dmc(on.memory["st010.cycle_no"])

    made.before_read = overwrite
    screwed(made, 42, dmc(42))
    made.poll(3)
    assert made.counts() == [44]
    (named,) = made.passes()
    assert named.items[0].ref == NameRef(scheme="serial", issuer="TLD", value="000000000044")


def test_a_mailbox_that_never_holds_still_is_a_gap_and_is_taken() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(42))
    made.poll(2)

    def overwrite(on: Bench, name: str) -> None:
        if name.endswith("block"):
            on.memory["st010.cycle_no"] += 1

    made.before_read = overwrite
    screwed(made, 43, dmc(43))
    made.poll(3)
    (gap,) = made.of_kind("gap")
    assert isinstance(gap, GapEvent)
    assert (gap.from_count, gap.to_count) == (43, 48)
    assert made.counts() == [42]
    assert len(made.writes) == 2
    assert [alarm.key for alarm in made.alarms] == ["L1/ST010 torn"]
    made.before_read = None
    screwed(made, 49, dmc(49))
    made.poll(3)
    assert made.counts() == [42, 49]
    assert len(made.of_kind("gap")) == 1
    assert [alarm.state for alarm in made.alarms] == ["raised", "cleared"]


def test_a_jump_of_the_counter_is_a_gap_with_the_id_of_its_first_count() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(42))
    made.poll(3)
    screwed(made, 46, dmc(46))
    made.poll(3)
    (gap,) = made.of_kind("gap")
    assert isinstance(gap, GapEvent)
    assert (gap.from_count, gap.to_count) == (43, 45)
    assert made.events.index(gap) < made.events.index(made.passes()[1])
    assert gap.from_at is not None
    assert gap.from_at < (gap.to_at or gap.from_at)


def test_the_counter_wraps() -> None:
    made = ready_bench()
    for raw in (65534, 65535, 0, 1):
        screwed(made, raw, dmc(raw))
        made.poll(3)
    assert made.counts() == [65534, 65535, 65536, 65537]
    assert [event.key.raw for event in made.passes()] == [65534, 65535, 0, 1]
    assert len({event.key.series for event in made.passes()}) == 1
    assert not made.of_kind("gap")


def test_a_counter_that_is_reset_begins_a_new_series() -> None:
    made = ready_bench()
    for raw in (500, 501, 0, 501):
        screwed(made, raw, dmc(raw))
        made.poll(3)
    series = [event.key.series for event in made.passes()]
    assert series[0] == series[1] != series[2] == series[3]
    assert len({event.pass_id for event in made.passes()}) == 4


def test_a_fork_begins_a_new_series_with_the_next_pass() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(42))
    made.poll(3)
    made.binder.on_fork()
    screwed(made, 43, dmc(43))
    made.poll(3)
    first, second = made.passes()
    assert first.key.series != second.key.series
    assert second.key.count == 43
    assert not made.of_kind("gap")


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("NOREAD", Outcome.NO_READ),
        ("?", Outcome.NO_READ),
        ("", Outcome.NO_READ),
        ("\x00\x00\x00", Outcome.NO_READ),
        ("PEDU#S1#VTLD", Outcome.BAD_FORMAT),
        ("x" * 10_000, Outcome.BAD_FORMAT),
        (b"\xff\xfe\x00", Outcome.BAD_FORMAT),
        ("PEDU#S00000000\x00001#VTLD", Outcome.BAD_FORMAT),
        ("'; drop table item; --\n", Outcome.BAD_FORMAT),
    ],
)
def test_what_is_no_serial_never_becomes_a_name(text: Any, how: Outcome) -> None:
    made = ready_bench()
    screwed(made, 42, text, st010__rfid="")
    made.poll(3)
    (item,) = made.passes()[0].items
    assert (item.ref, item.how) == (None, how)
    assert item.verdict is Verdict.PASS
    assert "\x00" not in item.witnesses[0].raw
    assert [alarm.key for alarm in made.alarms] == ["L1/ST010 unnamed"]


@pytest.mark.parametrize(
    "text",
    [
        "]d2PEDU#S000000000001#VTLD",
        "PEDU#S000000000001#VTLD\x00\x00\x00",
        "PEDU#S000000000001\x1d#VTLD\x04\r\n",
        b"PEDU#S000000000001#VTLD\x00",
    ],
)
def test_prefix_separators_and_padding_are_no_part_of_a_name(text: Any) -> None:
    made = ready_bench()
    screwed(made, 42, text)
    made.poll(3)
    ref = made.passes()[0].items[0].ref
    assert ref == NameRef(scheme="serial", issuer="TLD", value="000000000001")


def test_without_a_scan_the_carrier_names_the_item() -> None:
    made = ready_bench()
    screwed(made, 42, "NOREAD")
    made.poll(3)
    (item,) = made.passes()[0].items
    assert item.model_dump()["ref"] == {"holder": "carrier/C0042", "at": None}
    assert [one.outcome for one in item.witnesses] == [Outcome.NO_READ, Outcome.BOUND]
    assert not made.alarms


def test_the_same_serial_in_a_new_cycle_is_the_next_attempt() -> None:
    made = ready_bench()
    for count in (42, 43):
        screwed(made, count, dmc(7))
        made.poll(3)
    first, second = made.passes()
    assert first.items[0].ref == second.items[0].ref
    assert first.pass_id != second.pass_id


def test_a_component_that_stands_still_is_not_in_two_items() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1), st010__cover_dmc=dmc(99, "COV"))
    made.poll(3)
    screwed(made, 43, dmc(2), st010__cover_dmc=dmc(99, "COV"))
    made.poll(3)
    assert len(made.of_kind("move")) == 1
    assert made.passes()[1].missing == ("st010.cover_dmc: stale",)
    assert [alarm.key for alarm in made.alarms] == ["L1/ST010 incomplete"]


def test_master_and_setup_parts_are_no_production() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1), st010__master_on=True)
    made.poll(3)
    screwed(made, 43, dmc(2), st010__master_on=False, st010__setup_on=True)
    made.poll(3)
    screwed(made, 44, dmc(3), st010__setup_on=False)
    made.poll(3)
    purposes = [event.purpose for event in made.passes()]
    assert purposes == [Purpose.MASTER, Purpose.SETUP, Purpose.PRODUCTION]


def test_a_master_part_without_a_cover_is_no_alarm_and_ends_none() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1), st010__cover_dmc="")
    made.poll(3)
    for count in (43, 44):
        screwed(made, count, "", st010__cover_dmc="", st010__rfid="", st010__master_on=True)
        made.poll(3)
    assert all(event.missing for event in made.passes())
    assert [(alarm.key, alarm.state) for alarm in made.alarms] == [
        ("L1/ST010 incomplete", "raised")
    ]
    screwed(made, 45, dmc(2), st010__master_on=False)
    made.poll(3)
    assert [(alarm.key, alarm.state) for alarm in made.alarms[1:]] == [
        ("L1/ST010 incomplete", "cleared")
    ]


def test_a_failure_has_its_defect_and_an_unknown_code_is_unknown() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1), st010__result__code=2, st010__result__nok_code=112)
    made.poll(3)
    screwed(made, 43, dmc(1), st010__result__code=9)
    made.poll(3)
    fail, unknown = (event.items[0] for event in made.passes())
    assert (fail.verdict, fail.defects[0].code) == (Verdict.FAIL, "112")
    assert unknown.verdict is Verdict.UNKNOWN
    assert "verdict" in made.passes()[1].missing


def test_a_bad_value_travels_bad_and_is_not_judged() -> None:
    made = ready_bench()
    made.bad.add("st010.result.torque")
    screwed(made, 42, dmc(1))
    made.poll(3)
    torque = [value for value in made.passes()[0].values if value.name == "torque"]
    assert len(torque) == 6
    assert all(value.quality & SEVERITY_MASK and value.num is None for value in torque)
    assert all(value.ok is None for value in torque)


def test_a_limit_that_is_not_there_judges_nothing() -> None:
    made = ready_bench()
    made.bad.add("st010.result.t_low")
    screwed(made, 42, dmc(1), st010__result__torque=[99.0] * 6)
    made.poll(3)
    told = made.passes()[0]
    assert told.values[0].ok is None
    assert "torque[1].low" in told.missing


def test_no_number_is_null_with_quality() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1), st010__result__angle=[float("nan"), float("inf"), 1.0, 2.0, 3.0, 4.0])
    made.poll(3)
    angles = [value for value in made.passes()[0].values if value.name == "angle"]
    assert [value.num for value in angles[:3]] == [None, None, 1.0]
    assert all(value.quality & SEVERITY_MASK for value in angles[:2])


@pytest.mark.parametrize(("n", "points"), [(0, None), (-1, None), (2, 2), (99, 4)])
def test_a_curve_has_as_many_points_as_are_valid(n: int, points: int | None) -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1), st010__result__cn=[n] + [3] * 5)
    made.poll(3)
    told = made.passes()[0]
    first = next((curve for curve in told.curves if curve.place == "1"), None)
    assert (first.n if first else None) == points
    assert ("torque_angle[1]" in told.missing) == (points is None)


class TestTime:
    def test_a_plc_clock_that_is_off_is_mapped_and_says_so(self) -> None:
        made = ready_bench()
        off_us = -350_000
        for count in range(42, 46):
            ended_us = made.now_us + 20_000
            screwed(
                made,
                count,
                dmc(1),
                st010__t_end=(ended_us + off_us) * 1_000,
                st010__t_start=(ended_us + off_us - 2_000_000) * 1_000,
            )
            made.poll(3)
            told = made.passes()[-1]
            assert told.ended is not None
            assert told.started is not None
            assert abs(to_us(told.ended) - ended_us) <= told.clock.error_us <= 100_000
            assert to_us(told.ended) - to_us(told.started) == 2_000_000
            assert told.clock.source is ClockKind.PLC
            assert to_us(told.at) - told.clock.offset_us == ended_us + off_us

    def test_a_clock_in_step_is_left_alone(self) -> None:
        made = ready_bench()
        screwed(made, 42, dmc(1))
        ended_us = made.memory["st010.t_end"] // 1_000
        made.poll(3)
        assert to_us(made.passes()[0].at) == ended_us
        assert made.passes()[0].clock.offset_us == 0

    @pytest.mark.parametrize("year_us", [631_152_000_000_000, 4_070_908_800_000_000])
    def test_a_clock_of_another_age_still_says_how_long_it_took(self, year_us: int) -> None:
        made = ready_bench()
        screwed(
            made, 42, dmc(1), st010__t_end=year_us * 1_000, st010__t_start=(year_us - 5) * 1_000
        )
        seen_us = made.now_us + 100_000
        made.poll(3)
        told = made.passes()[0]
        assert told.started is not None
        assert abs(to_us(told.at) - seen_us) <= 100_000
        assert to_us(told.at) - to_us(told.started) == 5

    def test_without_a_plc_time_the_agent_says_when_ready_was_seen(self) -> None:
        made = ready_bench()
        made.bad |= {"st010.t_end", "st010.t_start"}
        screwed(made, 42, dmc(1))
        made.poll(3)
        told = made.passes()[0]
        assert told.clock.source is ClockKind.AGENT
        assert told.clock.error_us == 100_000
        assert told.started is None


class TestEmits:
    def test_a_reel_is_mounted(self) -> None:
        made = ready_bench()
        loaded(made, 7, "LOT-0815")
        made.poll(3)
        (move,) = made.of_kind("move")
        assert isinstance(move, MoveEvent)
        assert move.what == NameRef(scheme="lot", value="LOT-0815")
        assert move.model_dump()["to"] == {"holder": "feeder/F07", "at": None}
        assert move.qty is not None
        assert move.qty.value == "39.9"
        assert move.pass_ == made.passes("L1/F07-LOAD")[0].pass_id
        assert made.passes("L1/F07-LOAD")[0].items == ()

    def test_the_plc_says_when(self) -> None:

        written = written_stations()
        written["stations"][2]["emit"][0]["move"]["at"] = "f07.scan.at"
        made = ready_bench(plan=compiled(BindingConfig.model_validate(written)))
        loaded(made, 7, "LOT-0815")
        mounted_us = made.memory["f07.scan.at"] = made.now_us - 30_000_000
        made.poll(3)
        assert to_us(made.of_kind("move")[0].at) == mounted_us
        loaded(made, 8, "LOT-0816")
        made.memory["f07.scan.at"] = 0
        made.poll(3)
        assert made.of_kind("move")[1].at == made.passes("L1/F07-LOAD")[1].at

    def test_a_label_that_is_no_lot_moves_nothing_and_says_so(self) -> None:
        made = ready_bench()
        loaded(made, 7, "0815")
        made.poll(3)
        assert made.of_kind("move") == []
        assert made.passes("L1/F07-LOAD")[0].missing == ("move 0: no what",)

    def test_a_unit_is_born(self) -> None:
        made = ready_bench()
        marked(made, 1, dmc(1))
        made.poll(3)
        (born,) = made.of_kind("name")
        assert isinstance(born, NameEvent)
        ref = NameRef(scheme="serial", issuer="TLD", value="000000000001")
        assert born.names == (ref,)
        assert (born.material, born.order) == ("EDU4711A", "ORD-1")
        assert made.passes("L1/ST000")[0].items[0].ref == ref

    def test_a_mark_that_cannot_be_read_is_a_pass_of_an_unnamed_item(self) -> None:
        made = ready_bench()
        marked(made, 1, "laser off")
        made.poll(3)
        assert made.of_kind("name") == []
        (item,) = made.passes("L1/ST000")[0].items
        assert (item.ref, item.how) == (None, Outcome.BAD_FORMAT)
        assert item.witnesses[0].raw == "laser off"


def test_a_plc_that_leaves_taken_to_the_agent_gets_it_reset() -> None:
    made = ready_bench()
    made.on_write = lambda on, _path, value: (
        on.memory.update({"st010.ready": False}) if value else None
    )
    screwed(made, 42, dmc(1))
    made.poll(3)
    assert made.writes == [("st010.taken", True), ("st010.taken", False)]
    screwed(made, 43, dmc(2))
    made.poll(3)
    assert made.counts() == [42, 43]


def test_a_bad_ready_is_no_ready() -> None:
    made = ready_bench()
    screwed(made, 42, dmc(1))
    made.bad.add("st010.ready")
    made.poll(5)
    assert made.reads == 0
    made.bad.clear()
    made.poll(3)
    assert made.counts() == [42]
