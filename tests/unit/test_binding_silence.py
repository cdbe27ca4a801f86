"""Nobody looked for a while: what came and went is a gap, and no name, value or end is another's.

Each test but the first ones is a counter-example that a search over random shifts found.
"""

from typing import Any

import pytest

from protocols.events import (
    EndedBy,
    NameEvent,
    Outcome,
    PassRef,
    Verdict,
)
from rules.binding.config import BindingConfig
from tests.support.binding import compiled, one_station, without_counter, written_stations
from tests.support.plc import Bench
from tests.support.presses import gaps
from tests.support.stations import (
    PRESS,
    bench,
    clamped,
    counted_at_end,
    cycle,
    dmc,
    idle_bench,
    press,
    pressed,
    refs,
    scanned,
    screwed,
    serial,
    unclamped,
)


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

    def bench(self, fresh: str = "cycle") -> Bench:
        written = self.STATION.replace("parse: dmc}", f"parse: dmc, fresh: {fresh}}}")
        plan = compiled(one_station(written, dmc=self.DMC))
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
        made = self.bench(fresh)
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
    written = written_stations()
    written["stations"][1]["items"]["fresh"] = {"before_s": seconds, "after_s": 5}
    return BindingConfig.model_validate(written)
