"""The small pure parts of the binding, each against an oracle or by its law."""

import json
import math
import re
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from protocols.events import NAME_BYTES_MAX, NameRef, Outcome
from protocols.samples import DataType, Quality, Sample, Tag, from_samples
from rules.binding.aggregates import begin, extend, result
from rules.binding.clocks import PLAUSIBLE_US, ClockState, learn
from rules.binding.counting import Step, count_on, forked
from rules.binding.evidence import decimal
from rules.binding.expand import fill, pieces, place_name, places
from rules.binding.names import Reader, read_name, shown, text_of
from rules.binding.plan import KeyPlan, Source, ValuePlan
from rules.binding.rows import Interest, Past, Reading, element_of
from rules.binding.stored import Stored
from rules.binding.texts import READS_MAX, TextState, take_stamp, take_text
from rules.dictionaries import DICTIONARIES_MAX, PerDictionary

SECOND = 1_000_000
SOURCE = Source("a.b", DataType.UINT16, "a")


class TestNames:
    DMC = Reader(
        "serial",
        re.compile(
            r"P(?P<material>\w+)#S(?P<serial>[A-Z0-9]{3})(#V(?P<issuer>\w+))?(@(?P<revision>\w))?"
        ),
        frozenset({"NOREAD"}),
    )
    FREE = Reader("label", None, frozenset())

    def test_groups(self) -> None:
        named = read_name("PX1#S007#VY@B", self.DMC)
        assert named.ref == NameRef(scheme="serial", issuer="Y", value="007")
        assert (named.material, named.revision) == ("X1", "B")

    @pytest.mark.parametrize(
        ("pattern", "value"),
        [("(?P<serial>a)(?P<lot>b)", "b"), ("(?P<value>a)(?P<serial>b)", "a"), ("a(b)", "ab")],
    )
    def test_the_group_of_the_scheme_is_the_name(self, pattern: str, value: str) -> None:
        named = read_name("ab", Reader("lot", re.compile(pattern), frozenset()))
        assert named.ref == NameRef(scheme="lot", value=value)

    def test_an_empty_group_is_no_name(self) -> None:
        reader = Reader("lot", re.compile("x(?P<lot>y?)"), frozenset())
        assert read_name("x", reader).outcome is Outcome.BAD_FORMAT

    def test_without_a_pattern_the_text_is_the_name(self) -> None:
        assert read_name('a "b"/c\n', self.FREE).ref == NameRef(scheme="label", value='a "b"/c')
        assert read_name(4711, self.FREE).ref == NameRef(scheme="label", value="4711")
        assert read_name(None, self.FREE).outcome is Outcome.NO_READ
        assert read_name("\ud800" * 900, self.FREE).outcome is Outcome.BAD_FORMAT

    @given(
        st.none() | st.text(max_size=1200) | st.binary(max_size=300) | st.integers() | st.booleans()
    )
    def test_any_text_is_judged_and_what_is_bound_can_be_stored(self, raw: Any) -> None:
        for reader in (self.DMC, self.FREE):
            named = read_name(raw, reader)
            assert (named.ref is None) == (named.outcome is not Outcome.BOUND)
            if named.ref is not None:
                assert "\x00" not in named.ref.value
                assert len(named.ref.value.encode()) <= NAME_BYTES_MAX
        assert "\x00" not in shown(raw)
        shown(raw).encode()

    @given(st.from_regex(r"P\w{1,5}#S[A-Z0-9]{3}", fullmatch=True))
    def test_what_stands_around_a_code_is_no_part_of_it(self, code: str) -> None:
        plain = read_name(code, self.DMC)
        for raw in (f"]d2{code}", f"{code}\x00\x00", f" {code}\r\n", code.encode() + b"\x00"):
            assert read_name(raw, self.DMC) == plain
        assert text_of(f"\x1d{code}\x04") == code


class TestCounting:
    KEY = KeyPlan(SOURCE, 1000, 100)

    @given(st.integers(0, 999), st.lists(st.integers(0, 100), max_size=40))
    def test_counted_is_passes_and_gaps(self, first: int, steps: list[int]) -> None:
        """Through any wraps, with any cycles unseen: nothing is lost, nothing is twice."""
        draw = count(1).__next__
        counted = count_on(None, first, self.KEY, draw)
        seen, raw = [counted.count.count], first
        for step in steps:
            raw = (raw + step) % 1000
            before, counted = counted, count_on(counted.count, raw, self.KEY, draw)
            if counted.step is Step.SAME:
                assert counted.count == before.count
                continue
            seen += range(*_missed(counted.missed))
            seen.append(counted.count.count)
        assert counted.count.series == 1
        assert seen == list(range(first, first + sum(steps) + 1))

    def test_a_step_back_is_a_reset(self) -> None:
        draw = count(1).__next__
        first = count_on(None, 800, self.KEY, draw).count
        back = count_on(first, 3, self.KEY, draw)
        assert (back.step, back.count.series, back.count.count) == (Step.RESET, 2, 3)
        assert back.missed is None

    def test_a_negative_reading_is_the_same_bits(self) -> None:
        key = KeyPlan(SOURCE, 65536, 100)
        first = count_on(None, 32767, key, count(1).__next__)
        assert count_on(first.count, -32768, key, count(9).__next__).count.count == 32768

    def test_nothing_is_forked_of_nothing(self) -> None:
        assert forked(None, count(1).__next__) is None


def _missed(missed: tuple[int, int] | None) -> tuple[int, int]:
    return (missed[0], missed[1] + 1) if missed else (0, 0)


class TestClocks:
    @given(
        st.integers(-(10**9), 10**9),
        st.lists(st.tuples(st.integers(0, 100_000), st.booleans()), min_size=1, max_size=20),
    )
    def test_the_true_offset_is_within_the_error(
        self, offset_us: int, polls: list[tuple[int, bool]]
    ) -> None:
        state = ClockState()
        known = None
        for at, (late_us, seen_before) in enumerate(polls):
            plc_us = 10**15 + at * 3 * SECOND
            seen_us = plc_us + offset_us + late_us
            known = learn(state, plc_us, seen_us, seen_us - 100_000 if seen_before else None)
            assert known is not None
            assert abs(known.offset_us - offset_us) <= max(known.error_us, 100_000)
            assert plc_us + known.offset_us <= seen_us
        assert len(state.bounds) <= 8
        assert known is not None

    def test_clocks_in_step_are_left_alone(self) -> None:
        known = learn(ClockState(), 10**15, 10**15 + 30_000, 10**15 - 70_000)
        assert known is not None
        assert known.offset_us == 0

    def test_a_clock_that_is_set_back_by_years_is_learnt_anew(self) -> None:
        state = ClockState()
        learn(state, 10**15, 10**15 + 10, 10**15 - 10)
        known = learn(state, 10**12, 10**15 + SECOND, 10**15)
        assert known is not None
        assert 10**12 + known.offset_us >= 10**15
        assert len(state.bounds) == 1

    def test_a_time_that_cannot_be_is_not_believed(self) -> None:
        assert learn(ClockState(), 10**15, 10**15 + 2 * PLAUSIBLE_US, None) is None


class TestStored:
    ADAPTER: TypeAdapter[list[Any]] = TypeAdapter(list[Stored])

    @given(
        st.lists(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**64 - 1)
            | st.floats(allow_nan=False)
            | st.text(st.characters())
            | st.binary()
            | st.lists(st.integers(0, 9) | st.text(max_size=3))
        )
    )
    def test_what_is_stored_comes_back(self, values: list[Any]) -> None:
        back = self.ADAPTER.validate_json(self.ADAPTER.dump_json(values))
        assert back == values
        assert [type(one) for one in back] == [type(one) for one in values]

    def test_nan_comes_back(self) -> None:
        (back,) = self.ADAPTER.validate_json(self.ADAPTER.dump_json([math.nan]))
        assert math.isnan(back)

    def test_arrays_come_back_as_lists(self) -> None:
        assert self.ADAPTER.validate_json(self.ADAPTER.dump_json([np.array([1.5, 2.0])])) == [
            [1.5, 2.0]
        ]

    def test_an_unknown_form_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no stored value"):
            self.ADAPTER.validate_json(json.dumps([{"pickle": "x"}]))


class TestExpand:
    def test_fill_leaves_what_it_does_not_know(self) -> None:
        assert fill("a.{nest}.{b.c}", {"nest": "x"}) == "a.x.{b.c}"
        assert list(pieces("a/{b.c}-d")) == [("a/", False), ("b.c", True), ("-d", False)]
        assert list(pieces("{b}")) == [("b", True)]

    def test_places_are_every_combination(self) -> None:
        made = places({"a": "1..2", "b": ["x", 7]})
        assert [place_name(one) for one in made] == ["1/x", "1/7", "2/x", "2/7"]
        assert places({}) == [{}]

    @pytest.mark.parametrize("each", [{"a": "x"}, {"a": []}, {"a": "2..1"}, {"a": "1..9999"}])
    def test_what_is_no_range(self, each: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"range|empty|places"):
            places(each)

    def test_too_many(self) -> None:
        with pytest.raises(ValueError, match="10000 places"):
            places({"a": "1..100", "b": "1..100"})


def plan(how: str) -> ValuePlan:
    return ValuePlan("v", "", SOURCE, None, how, None, None, "", None, None, critical=False)


class TestAggregates:
    @given(
        st.lists(st.tuples(st.integers(1, 400), st.floats(-1e6, 1e6)), min_size=2, max_size=20),
        st.integers(0, 1000),
        st.integers(1, 3000),
    )
    def test_against_the_integral(
        self, steps: list[tuple[int, float]], start: int, lasts: int
    ) -> None:
        """Each row holds until the next: the oracle samples the steps at every tick."""
        past, at = Past(), 0
        for step, value in steps:
            at += step
            past.add(Reading(at, value, 0))
        aggregate = begin(start, past, 0)
        for until in range(start, start + lasts, 97):
            extend(aggregate, past, until, 0)
        extend(aggregate, past, start + lasts, 0)
        held = [_held(past, tick) for tick in range(start, start + lasts)]
        ticks = [value for value in held if value is not None]
        end = start + lasts
        mean = result(aggregate, plan("mean"), end)
        if not ticks:
            return
        assert mean is not None
        assert mean.value == pytest.approx(sum(ticks) / len(ticks), rel=1e-6, abs=1e-3)
        most, least = result(aggregate, plan("max"), end), result(aggregate, plan("min"), end)
        inside = [*ticks, *(row.value for row in past.rows if row.time_us == end)]
        assert most is not None
        assert least is not None
        assert (most.value, least.value) == (max(inside), min(inside))

    def test_without_a_row_there_is_no_value(self) -> None:
        assert result(begin(0, Past(), 0), plan("mean"), 10) is None

    def test_one_row_at_the_end_is_its_value(self) -> None:
        past = Past([Reading(10, 5, 0)])
        aggregate = begin(0, past, 0)
        extend(aggregate, past, 10, 0)
        mean = result(aggregate, plan("mean"), 10)
        assert mean is not None
        assert mean.value == 5.0

    @pytest.mark.parametrize(
        "rows",
        [
            [Reading(1, 1.0, 0), Reading(2, None, int(Quality.BAD)), Reading(3, 1.0, 0)],
            [Reading(1, 1.0, 0), Reading(2, 1.0, int(Quality.UNCERTAIN))],
            [Reading(1, 1.0, 0), Reading(2, math.nan, 0), Reading(3, 1.0, 0)],
            [Reading(1, 1.0, 0), Reading(500, 1.0, 0)],
        ],
    )
    def test_bad_rows_and_silence_make_it_uncertain(self, rows: list[Reading]) -> None:
        past = Past(rows)
        aggregate = begin(1, past, 100)
        extend(aggregate, past, 600, 100)
        most = result(aggregate, plan("max"), 600)
        assert most is not None
        assert (most.value, most.quality) == (1.0, int(Quality.UNCERTAIN))


def _held(past: Past, time_us: int) -> float | None:
    row = past.before(time_us)
    return row.value if row else None


class TestPast:
    ROWS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30)

    @given(ROWS, st.integers(0, 60), st.integers(0, 60))
    def test_forgetting_changes_no_answer_about_later(
        self, steps: list[tuple[int, bool]], before: int, asked: int
    ) -> None:
        past, at = Past(), 0
        for step, good in steps:
            at += step
            past.add(Reading(at, at if good else None, 0 if good else int(Quality.BAD)))
        rows = list(past.rows)
        past.forget(before)
        whole = Past(rows)
        time_us = max(before, asked)
        assert past.before(time_us) == whole.before(time_us)
        assert past.after(time_us) == whole.after(time_us)
        assert past.covers(time_us) == whole.covers(time_us)

    def test_it_is_bounded(self) -> None:
        past = Past()
        for at in range(10_000):
            past.add(Reading(at, at, 0))
        assert len(past.rows) <= 2_000
        assert past.newest_us == 9_999

    def test_a_clock_that_steps_back_voids_it(self) -> None:
        past = Past([Reading(100, 1, 0)])
        past.add(Reading(50, 2, 0))
        assert past.rows == [Reading(50, 2, 0)]


class TestTexts:
    def test_bounded(self) -> None:
        state = TextState()
        for at in range(100):
            take_text(state, Reading(at, f"t{at}", 0), stamped=False)
        assert len(state.reads) == READS_MAX
        assert state.reads[-1].raw == "t99"

    def test_the_text_of_a_stamp_may_come_after_it(self) -> None:
        state = TextState()
        take_text(state, Reading(1, "old", 0), stamped=True)
        take_stamp(state, Reading(1, 1, 0))
        take_stamp(state, Reading(5, 2, 0))
        assert state.reads == []
        take_text(state, Reading(6, "new", 0), stamped=True)
        assert [(read.at_us, read.raw) for read in state.reads] == [(5, "new")]

    def test_bad_rows_are_no_reads(self) -> None:
        state = TextState()
        for row in (Reading(1, "a", 0), Reading(2, None, int(Quality.BAD)), Reading(3, "a", 0)):
            take_text(state, row, stamped=False)
            take_stamp(state, Reading(row.time_us, None, int(Quality.BAD)))
        assert state.reads == []


class TestRows:
    def test_only_wanted_rows_are_looked_at(self) -> None:
        rows = [Sample(f"a.{at}", DataType.INT16, at, at, 0, None, at, None) for at in range(5)]
        batch = from_samples(rows)
        found = Interest(["a.1", "a.3", "b.1"]).rows(batch)
        assert [(path, row.value) for path, row in found] == [("a.1", 1), ("a.3", 3)]
        assert Interest([]).rows(batch) == []

    def test_elements(self) -> None:
        row = Reading(1, [1.5, 2.5], 0)
        assert element_of(row, 1) == Reading(1, 2.5, 0)
        assert element_of(row, 2) is None
        assert element_of(Reading(1, "text", 0), 0) is None
        assert element_of(Reading(1, None, 0), 0) == Reading(1, None, 0)

    def test_dictionaries_are_bounded_and_by_identity(self) -> None:
        learnt: list[int] = []

        def learn(tags: tuple[Tag, ...]) -> int:
            learnt.append(len(tags))
            return len(tags)

        known = PerDictionary(learn)
        row = Sample("a", DataType.INT16, 0, 1, 0, None, 0, None)
        batches = [from_samples([row]) for _ in range(DICTIONARIES_MAX + 1)]
        for _ in range(2):
            for batch in batches[:3]:
                assert known.of(batch.tags) == 1
        assert len(learnt) == 3
        for batch in batches:
            known.of(batch.tags)
        assert len(known._known) <= DICTIONARIES_MAX


@pytest.mark.parametrize(
    ("value", "of", "text"),
    [
        (6.0, None, "6"),
        (0.1, None, "0.1"),
        (0.10000000149011612, DataType.FLOAT32, "0.1"),
        (39.900001525878906, DataType.FLOAT32, "39.9"),
        (1e-7, None, "1e-07"),
        (7, DataType.INT16, "7"),
    ],
)
def test_decimals_are_as_short_as_they_were_meant(
    value: float, of: DataType | None, text: str
) -> None:
    assert decimal(value, of) == text
