"""Nobody looked for a while: what came and went is a gap, and no name, value or end is another's.

Each test but the first ones is a counter-example that a search over random shifts found.
"""

from typing import Any

import pytest

from protocols.events import EndedBy, NameEvent, NameRef, Outcome, PassRef, Verdict
from rules.binding.config import BindingConfig
from tests.support.binding import compiled, one_station, stations, without_counter
from tests.support.plc import Bench
from tests.support.presses import gaps
from tests.support.stations import bench, clamped, dmc, press, pressed, scanned, screwed, unclamped

PRESS = "L1/PRESS20"
DEVICES = frozenset({"p20", "scanner20"})


def serial(number: int) -> NameRef:
    return NameRef(scheme="serial", issuer="TLD", value=f"{number:012}")


def idle_bench(**options: Any) -> Bench:
    made = bench(devices=DEVICES, **options)
    made.poll(3)
    return made


def cycle(made: Bench, count: int, *, skip: tuple[str, ...] = ()) -> None:
    """Without a scan; `skip`: who is silent meanwhile."""
    clamped(made, "a", count)
    made.wait(1, skip)
    pressed(made, "a")
    made.wait(1, skip)
    made.set({"p20.a.clamped": False})
    made.wait(1, skip)


def counted_at_end(made: Bench, count: int) -> None:
    clamped(made, "a", count - 1)
    made.wait(0.5)
    pressed(made, "a")
    made.set({"p20.a.cycle_no": count})
    made.wait(0.5)
    unclamped(made, "a")
    made.wait(0.5)


def refs(made: Bench) -> dict[int, Any]:
    """What each pass says itself; late names are said by others."""
    return {event.key.count: event.items[0].ref for event in made.passes(PRESS, "a")}


class TestOverlooked:
    def test_cycles_that_nobody_saw_are_a_gap_soon(self) -> None:
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

    def test_what_is_told_early_is_not_told_again_with_the_rest(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        cycle(made, 102, skip=("p20",))
        made.wait(3)
        press(made, "a", 105, dmc(5))
        assert gaps(made) == [(102, 102), (103, 104)]
        assert len({event.id for event in made.of_kind("gap")}) == 2

    def test_a_gap_is_told_once_whoever_restarts(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        cycle(made, 102, skip=("p20",))
        made.wait(3)
        made.restart(60.0)
        made.wait(5)
        press(made, "a", 103, dmc(3))
        assert gaps(made) == [(102, 102)]
        assert made.counts(PRESS) == [101, 103]

    def test_a_reset_after_an_early_gap_begins_anew(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        cycle(made, 102, skip=("p20",))
        made.wait(3)
        press(made, "a", 1, dmc(2))
        press(made, "a", 4, dmc(3))
        assert made.counts(PRESS) == [101, 1, 4]
        assert gaps(made) == [(102, 102), (2, 3)]

    def test_a_cycle_that_runs_after_the_silence_is_not_in_the_gap(self) -> None:
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

    def test_a_start_that_shows_after_its_count_is_not_in_the_gap(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        made.set({"p20.a.cycle_no": 102})
        made.wait(3, skip=["p20"])
        made.wait(1)
        cycle(made, 102)
        assert made.counts(PRESS) == [101, 102]
        assert gaps(made) == []

    def test_a_pass_that_comes_after_all_is_told(self) -> None:
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

    def test_a_station_that_was_heard_all_the_time_waits_for_the_next_pass(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(1))
        made.set({"p20.a.cycle_no": 103})
        made.wait(5)
        assert gaps(made) == []
        press(made, "a", 104, dmc(4))
        assert gaps(made) == [(102, 103)]


class TestNames:
    def test_seen_after_the_silence_is_not_made_after_it(self) -> None:
        """The reader was silent longer than the press, and shows the overlooked cycle's text."""
        made = idle_bench(plan=compiled(_before(60)))
        press(made, "a", 101, dmc(101))
        scanned(made, "a", dmc(102))
        cycle(made, 102, skip=("p20", "scanner20"))
        made.wait(1, skip=["scanner20"])
        made.wait(2)
        cycle(made, 103)
        assert refs(made) == {101: serial(101), 103: None}
        made.idle(90)
        assert made.of_kind("name") == []

    def test_a_read_of_a_cycle_that_ended_unseen_by_the_reader_is_not_the_next_ones(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(101))
        made.wait(0.5)
        scanned(made, "a", dmc(102))
        made.wait(0.2, skip=["scanner20"])
        clamped(made, "a", 102)
        made.wait(0.6, skip=["scanner20"])
        pressed(made, "a")
        made.wait(0.3, skip=["scanner20"])
        made.wait(0.4)
        made.set({"p20.a.clamped": False})
        made.wait(0.4)
        cycle(made, 103)
        assert refs(made) == {101: serial(101), 102: None, 103: None}

    def test_nor_is_it_the_late_name_of_a_later_cycle(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(101))
        made.wait(0.5)
        scanned(made, "a", dmc(102))
        cycle(made, 102, skip=("scanner20",))
        cycle(made, 103, skip=("scanner20",))
        made.wait(28)
        assert refs(made) == {101: serial(101), 102: None, 103: None}
        assert made.of_kind("name") == []

    def test_a_reader_that_was_silent_over_the_end_still_names_that_cycle_late(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(101))
        made.wait(0.5)
        scanned(made, "a", dmc(102))
        cycle(made, 102, skip=("scanner20",))
        made.wait(28)
        (named,) = made.of_kind("name")
        assert isinstance(named, NameEvent)
        last = made.passes(PRESS)[-1]
        assert (named.item, named.names) == (PassRef(pass_id=last.pass_id), (serial(102),))

    def test_a_read_for_a_cycle_between_two_polls_is_not_the_next_ones(self) -> None:
        """Nothing was silent: only the counter shows that there was a cycle."""
        made = idle_bench()
        press(made, "a", 101, dmc(101))
        scanned(made, "a", dmc(102))
        made.poll(3)
        made.set({"p20.a.cycle_no": 102})
        made.poll(5)
        scanned(made, "a", "NOREAD")
        made.poll(3)
        cycle(made, 103)
        assert gaps(made) == [(102, 102)]
        assert refs(made)[103] is None
        scanned(made, "a", dmc(104))
        made.poll(3)
        cycle(made, 104)
        assert refs(made)[104] == serial(104)

    def test_two_reads_for_one_overlooked_cycle_name_no_other(self) -> None:
        """The part was changed before the press closed."""
        made = idle_bench()
        press(made, "a", 101, dmc(101))
        for number in (1102, 102):
            scanned(made, "a", dmc(number))
            made.wait(1, skip=["p20"])
        cycle(made, 102, skip=("p20",))
        scanned(made, "a", "NOREAD")
        made.wait(1)
        cycle(made, 103)
        assert refs(made)[103] is None

    def test_the_overlooked_cycles_read_does_not_win_over_the_own_one(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(101))
        scanned(made, "a", dmc(102))
        cycle(made, 102, skip=("p20",))
        made.wait(1)
        clamped(made, "a", 103)
        made.wait(0.5)
        scanned(made, "a", dmc(103))
        made.wait(0.5)
        pressed(made, "a")
        made.wait(1)
        (item,) = made.passes(PRESS)[-1].items
        assert (item.ref, item.how) == (serial(103), Outcome.BOUND)

    def test_without_a_counter_an_end_after_a_silence_names_nothing(self) -> None:
        """The start was of one part, the end that is seen may be of the next."""
        made = idle_bench(plan=compiled(without_counter()))
        scanned(made, "a", dmc(1))
        made.poll(3)
        clamped(made, "a", 0)
        made.wait(0.5)
        scanned(made, "a", dmc(2))
        pressed(made, "a", result=2)
        made.wait(5, skip=["p20", "scanner20"])
        made.wait(1)
        (told,) = made.passes(PRESS)
        assert (told.items[0].ref, told.items[0].verdict) == (None, Verdict.FAIL)

    def test_without_a_counter_a_silence_in_a_cycle_may_hide_others(self) -> None:
        """The next start that is seen ends it; what was read between may be for those."""
        made = idle_bench(plan=compiled(without_counter()))
        scanned(made, "a", dmc(1))
        made.poll(3)
        clamped(made, "a", 0)
        made.wait(0.5)
        made.set({"p20.a.clamped": False})
        made.wait(1, skip=["p20"])
        scanned(made, "a", dmc(2))
        cycle(made, 0, skip=("p20",))
        made.set({"p20.a.done": False})
        made.wait(0.5)
        scanned(made, "a", "NOREAD")
        made.wait(0.5)
        cycle(made, 0)
        first, second = made.passes(PRESS)
        assert (first.ended_by, first.items[0].ref) == (EndedBy.NEXT_START, serial(1))
        assert (second.ended_by, second.items[0].ref) == (EndedBy.END, None)

    @pytest.mark.parametrize("ends", [True, False])
    def test_a_read_after_a_restart_is_not_the_next_cycles(self, ends: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """Nothing counts: the restart closed the cycle, but it ran on, and was read for."""
        made = idle_bench(plan=compiled(without_counter()))
        clamped(made, "a", 0)
        made.wait(0.5)
        made.restart(0.3)
        made.wait(0.5)
        scanned(made, "a", dmc(1))
        made.wait(0.5)
        if ends:
            pressed(made, "a")
        made.wait(0.5)
        made.set({"p20.a.clamped": False, "p20.a.done": False})
        made.wait(0.5)
        cycle(made, 0)
        first, second = made.passes(PRESS)
        assert (first.ended_by, second.ended_by) == (EndedBy.RESTART, EndedBy.END)
        assert second.items[0].ref is None

    def test_a_read_in_a_cycle_that_may_be_over_is_not_its_own(self) -> None:
        """Its end stood there already when the start was seen: it ended in the silence."""
        made = idle_bench()
        cycle(made, 101)
        clamped(made, "a", 102)
        made.wait(0.5, skip=["p20"])
        pressed(made, "a")
        made.wait(0.5, skip=["p20"])
        made.wait(0.5)
        made.set({"p20.a.clamped": False})
        scanned(made, "a", dmc(103))
        made.poll(450)
        _, told = made.passes(PRESS)
        assert (told.key.count, told.ended_by) == (102, EndedBy.TIMEOUT)
        assert told.items[0].ref is None

    def test_a_clock_set_back_costs_no_names(self) -> None:
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
    def test_a_reader_that_was_silent_while_the_clock_was_set_back(self, step_us: int) -> None:
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

    def test_what_waits_when_the_clock_is_set_back_is_told_with_its_own_rows(self) -> None:
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

    def test_a_cycle_that_runs_while_the_clock_is_set_back_is_still_told_from_the_next(
        self,
    ) -> None:
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

    def test_a_clock_set_back_while_the_agent_was_down(self) -> None:
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

    def test_a_silence_that_a_clock_set_back_hides(self) -> None:
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

    def test_a_read_from_before_a_clock_was_set_back_names_nothing_an_hour_later(self) -> None:
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


class TestEnds:
    def test_while_the_start_cannot_be_read_an_end_may_be_the_next_cycles(self) -> None:
        made = idle_bench()
        press(made, "a", 101, dmc(101))
        scanned(made, "a", dmc(102))
        made.poll(3)
        clamped(made, "a", 102)
        made.wait(0.5)
        made.bad.add("p20.a.clamped")
        clamped(made, "a", 103)
        made.wait(1)
        pressed(made, "a", result=2)
        made.wait(1)
        made.bad.clear()
        made.wait(1)
        _, lost, other = made.passes(PRESS)
        assert (lost.key.count, lost.ended_by, lost.items[0].verdict) == (
            102,
            EndedBy.NEXT_START,
            Verdict.UNKNOWN,
        )
        assert lost.items[0].ref == serial(102)
        assert (other.key.count, other.started) == (103, None)
        assert (other.items[0].ref, other.items[0].verdict) == (None, Verdict.FAIL)

    def test_a_count_with_the_start_is_not_believed_of_a_plc_that_counts_at_the_end(self) -> None:
        """A whole cycle and the next start lie between two polls."""
        made = idle_bench()
        for count in (101, 102):
            counted_at_end(made, count)
        clamped(made, "a", 103)  # counted already: the cycle before was never seen
        made.wait(0.5)
        pressed(made, "a")
        made.set({"p20.a.cycle_no": 104})
        made.wait(1)
        assert made.counts(PRESS) == [101, 102, 104]
        assert gaps(made) == [(103, 103)]

    def test_without_a_counter_nothing_is_read_at_the_end_after_a_restart(self) -> None:
        """The next cycle may have overwritten it."""
        made = idle_bench(plan=compiled(without_counter()), auto_read=False)
        clamped(made, "a", 0)
        made.wait(0.5)
        pressed(made, "a", force=11.0)
        made.poll(1)
        made.restart(1.0)
        made.auto_read = True
        pressed(made, "a", force=13.0)
        made.wait(12)
        (told,) = made.passes(PRESS)
        assert told.curves == ()
        assert "force_max" in told.missing

    def test_a_count_read_while_the_start_was_not_readable_is_not_from_before_it(self) -> None:
        made = idle_bench()
        made.bad.add("p20.a.clamped")
        clamped(made, "a", 101)
        made.wait(0.4)
        made.bad.clear()
        made.wait(0.5)
        made.wait(3, skip=["p20"])
        pressed(made, "a")
        made.wait(1)
        (told,) = made.passes(PRESS)
        assert (told.key.count, told.ended_by) == (101, EndedBy.END)

    def test_a_count_read_long_after_the_end_may_be_of_a_cycle_between_two_polls(self) -> None:
        made = idle_bench()
        for count in (101, 102):
            counted_at_end(made, count)
        clamped(made, "a", 102)
        made.wait(0.3)
        made.bad.add("p20.a.cycle_no")
        made.wait(0.3)
        pressed(made, "a", result=2)
        made.wait(1)
        made.set({"p20.a.cycle_no": 104})
        made.bad.clear()
        made.wait(3)
        assert made.counts(PRESS) == [101, 102]
        unclamped(made, "a")
        made.wait(0.5)
        counted_at_end(made, 105)
        assert made.counts(PRESS) == [101, 102, 105]
        assert gaps(made) == [(103, 104)]

    def test_a_count_read_long_after_the_end_is_its_own_if_only_one_was_counted(self) -> None:
        made = idle_bench()
        for count in (101, 102):
            counted_at_end(made, count)
        clamped(made, "a", 102)
        made.wait(0.3)
        made.bad.add("p20.a.cycle_no")
        pressed(made, "a", result=2)
        made.wait(1)
        made.set({"p20.a.cycle_no": 103})
        made.bad.clear()
        made.wait(3)
        assert made.counts(PRESS) == [101, 102, 103]


class TestHandShake:
    STATION = """
station: L1/ST010
cycle:
  mailbox: {ready: st010.ready, block: st010.result.*, taken: st010.taken}
  key: {count: st010.cycle_no, modulus: 65536}
items: {trust: [scanner20.a], parse: dmc}
"""
    DMC = r"P(?P<material>\w+)#S(?P<serial>[A-Z0-9]{12})#V(?P<issuer>\w+)"

    def bench(self) -> Bench:
        plan = compiled(one_station(self.STATION, dmc=self.DMC))
        made = bench(plan=plan, devices=frozenset({"st010", "scanner20"}))
        made.poll(3)
        return made

    def names(self, made: Bench) -> list[Any]:
        return [event.items[0].ref for event in made.passes("L1/ST010")]

    def test_a_read_for_a_result_the_plc_did_not_keep_is_not_the_next_ones(self) -> None:
        made = self.bench()
        scanned(made, "a", dmc(42))
        made.poll(3)
        screwed(made, 42, dmc(42))
        made.poll(5)
        scanned(made, "a", dmc(43))  # 43 is never shown
        made.poll(3)
        screwed(made, 44, dmc(44))
        made.poll(5)
        scanned(made, "a", dmc(45))
        made.poll(3)
        screwed(made, 45, dmc(45))
        made.poll(5)
        assert self.names(made) == [serial(42), None, serial(45)]
        assert gaps(made) == [(43, 43)]

    @pytest.mark.parametrize("fresh", ["cycle", "{before_s: 20}"])
    def test_a_read_for_a_torn_result_is_not_the_next_ones(self, fresh: str) -> None:
        written = self.STATION.replace("parse: dmc}", f"parse: dmc, fresh: {fresh}}}")
        plan = compiled(one_station(written, dmc=self.DMC))
        made = bench(plan=plan, devices=frozenset({"st010", "scanner20"}))
        made.poll(3)
        scanned(made, "a", dmc(42))
        made.poll(3)
        numbers = iter(range(42, 100))
        made.before_read = lambda on, _: on.memory.update({"st010.cycle_no": next(numbers)})
        screwed(made, 42, dmc(42))
        made.poll(5)
        made.before_read = None
        made.set({"st010.ready": False})
        made.poll(3)
        last = int(made.memory["st010.cycle_no"])
        assert made.passes("L1/ST010") == []
        screwed(made, last + 1, dmc(99))
        made.poll(5)
        assert self.names(made) == [None]


def _before(seconds: int) -> BindingConfig:
    written = stations().model_dump(mode="json", by_alias=True, exclude_defaults=True)
    written["stations"][1]["items"]["fresh"] = {"before_s": seconds, "after_s": 5}
    return BindingConfig.model_validate(written)


class TestPrompt:
    def test_the_next_scan_seen_with_the_end_before_is_the_next_cycles(self) -> None:
        """Nobody was silent: between two polls one part left and the next was scanned."""
        made = idle_bench()
        scanned(made, "a", dmc(1))
        made.wait(0.4)
        clamped(made, "a", 101)
        made.wait(1)
        pressed(made, "a")
        scanned(made, "a", dmc(2))
        made.wait(0.1, ("scanner20",))
        made.set({"p20.a.clamped": False})
        made.wait(0.4)
        clamped(made, "a", 102)
        made.wait(1)
        pressed(made, "a")
        made.wait(7)
        assert refs(made) == {101: serial(1), 102: serial(2)}

    def test_after_a_nameless_pass_it_may_be_that_ones(self) -> None:
        made = idle_bench()
        clamped(made, "a", 101)
        made.wait(1)
        pressed(made, "a")
        scanned(made, "a", dmc(1))
        made.wait(0.1, ("scanner20",))
        made.set({"p20.a.clamped": False})
        made.wait(0.4)
        clamped(made, "a", 102)
        made.wait(1)
        pressed(made, "a")
        made.wait(7)
        assert refs(made)[102] is None
