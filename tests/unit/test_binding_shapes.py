"""Stations of other shapes than the golden four: each key does what it says."""

from typing import Any

import pytest

from protocols.driver import Mode
from protocols.errors import ConfigError
from protocols.events import (
    EndedBy,
    HolderRef,
    MoveEvent,
    NameEvent,
    NameRef,
    Outcome,
    Verdict,
)
from protocols.samples import DataType, from_samples
from rules.binding.compile import compile_binding
from rules.binding.config import BindingConfig
from rules.binding.plan import TagFacts
from tests.support.binding import SITE, facts, one_station
from tests.support.plc import Bench

BIT, WORD, REAL, TEXT = DataType.BOOL, DataType.UINT16, DataType.FLOAT32, DataType.TEXT
TAGS: dict[str, TagFacts] = {
    "m.running": facts(BIT, "m"),
    "m.no": facts(WORD, "m"),
    "m.temp": facts(REAL, "m"),
    "m.code": facts(TEXT, "m"),
    "m.feeder": facts(TEXT, "m"),
    "m.late.serial": facts(TEXT, "m", Mode.ON_DEMAND),
    "m.late.y": facts(REAL, "m", Mode.ON_DEMAND, (0, 4)),
    "m.late.x": facts(REAL, "m", Mode.ON_DEMAND, (0, 4)),
    "m.sub": facts(BIT, "m", Mode.SUBSCRIBE),
    "m.sub_end": facts(BIT, "m", Mode.SUBSCRIBE),
    "m.array": facts(REAL, "m", extent=(1, 3)),
    "box.ready": facts(BIT, "box"),
    "box.taken": facts(WORD, "box", Mode.ON_DEMAND),
    "box.no": facts(WORD, "box"),
    "box.r.text": facts(TEXT, "box", Mode.MAILBOX),
    "box.r.number": facts(REAL, "box", Mode.MAILBOX),
    "box.r.to": facts(TEXT, "box", Mode.MAILBOX),
    "box.r.when": facts(DataType.FLOAT64, "box", Mode.MAILBOX),
    "scan.text": facts(TEXT, "scan"),
    "scan.no": facts(WORD, "scan"),
    "far.demand": facts(REAL, "far", Mode.ON_DEMAND),
}
WINDER = """
station: L1/WIND
cycle: {start: {edge: m.running, to: true}, end: {edge: m.running, to: false}, max_s: 20}
items: {trust: [scan.text]}
verdict: {tag: m.code, map: {OK: pass}}
values:
- {name: temp, tag: m.temp}
"""
COUNTED = WINDER.replace("max_s: 20", "key: {count: m.no, modulus: 65536}")
BOX = """
station: L1/BOX
cycle:
  mailbox: {ready: box.ready, block: box.r.*, taken: box.taken}
  key: {count: box.no, modulus: 65536}
"""


def bench(text: str, **patterns: str) -> Bench:
    plan = compile_binding(one_station(text, **patterns), TAGS, SITE)
    made = Bench(plan, TAGS, devices=frozenset({"m", "scan", "box"}))
    made.set({"m.running": False, "m.no": 7, "m.temp": 20.0, "m.code": "", "scan.text": ""})
    made.set({"box.ready": False, "box.no": 0, "m.sub": False, "m.sub_end": False})
    made.on_write = lambda on, *_: on.memory.update({"box.ready": False})
    made.poll(3)
    return made


def wind(made: Bench, serial: str, number: int = 7) -> None:
    made.set({"scan.text": serial})
    made.poll(2)
    made.set({"m.running": True, "m.no": number})
    made.poll(5)
    made.set({"m.running": False, "m.code": "OK\x00"})
    made.poll(5)
    made.set({"scan.text": ""})
    made.poll(2)


def hand_over(made: Bench, count: int, **values: Any) -> None:
    made.set({f"box.r.{name}": value for name, value in values.items()})
    made.set({"box.no": count, "box.ready": True})
    made.poll(2)


def serial(value: str) -> NameRef:
    return NameRef(scheme="serial", value=value)


class TestOneBit:
    def test_one_bit_is_both_edges_and_a_text_is_a_verdict(self) -> None:
        made = bench(COUNTED)
        for number in (8, 9):
            wind(made, f"S{number}", number)
        assert made.counts() == [8, 9]
        assert [event.items[0].verdict for event in made.passes()] == [Verdict.PASS] * 2
        assert [event.items[0].ref for event in made.passes()] == [serial("S8"), serial("S9")]

    def test_bits_and_words_of_one_poll_may_come_at_two_times(self) -> None:
        """Modbus reads them by two requests: what the PLC did in between must not be torn."""
        made = bench(COUNTED)

        def torn(batch: Any) -> list[Any]:
            bits = [row for row in batch.rows() if row.path == "m.running"]
            words = [row for row in batch.rows() if row.path != "m.running"]
            early = [
                one._replace(time_us=one.time_us - 30_000, agent_time_us=one.time_us - 30_000)
                for one in words
            ]
            return [from_samples(early), from_samples(bits)]

        made.split = torn
        for number in (8, 9, 10):
            wind(made, f"S{number}", number)
        assert made.counts() == [8, 9, 10]
        assert not made.of_kind("gap")
        assert [event.items[0].verdict for event in made.passes()] == [Verdict.PASS] * 3


class TestWithoutCounter:
    def test_a_restart_in_mid_cycle_closes_it_and_its_end_is_no_second_pass(self) -> None:
        made = bench(WINDER)
        made.set({"scan.text": "S1"})
        made.poll(2)
        made.set({"m.running": True})
        made.poll(3)
        made.restart(2.0, epoch=8)
        made.poll(3)
        made.set({"m.running": False})
        made.poll(5)
        (told,) = made.passes()
        assert (told.ended_by, told.key.series) == (EndedBy.RESTART, 7)
        wind(made, "S2")
        assert [event.key.series for event in made.passes()] == [7, 8]
        assert made.passes()[1].items[0].ref == serial("S2")

    def test_a_fork_draws_a_series(self) -> None:
        made = bench(WINDER)
        wind(made, "S1")
        made.binder.on_fork()
        wind(made, "S2")
        wind(made, "S3")
        assert [event.key.series for event in made.passes()] == [7, 1, 1]
        assert len({event.pass_id for event in made.passes()}) == 3

    def test_after_a_silence_a_name_is_not_believed(self) -> None:
        made = bench(WINDER)
        wind(made, "S1")
        made.set({"scan.text": "S2"})
        made.poll(2)
        made.wait(3, skip=["m"])  # S2 may have been wound meanwhile
        wind(made, "S2")
        assert made.passes()[-1].items[0].how is Outcome.STALE

    def test_a_forked_counter_goes_on_in_a_new_series(self) -> None:
        made = bench(COUNTED)
        wind(made, "S8", 8)
        made.binder.on_fork()
        wind(made, "S9", 9)
        first, second = made.passes()
        assert first.key.series != second.key.series
        assert (second.key.count, len(made.of_kind("gap"))) == (9, 0)


class TestSubscribed:
    STATION = """
station: L1/SUB
cycle: {start: {edge: m.sub}, end: {edge: m.sub_end}}
"""

    def test_bits_that_come_only_when_they_change(self) -> None:
        made = bench(self.STATION)
        for path, value in (("m.sub", True), ("m.sub_end", True), ("m.sub", False)):
            made.now_us += 5_000_000
            made.set({path: value})
            made.take(made.binder.on_batch(made.batch([path]), made.now_us))
        made.take(made.binder.on_tick(made.now_us + 5_000_000))
        (told,) = made.passes()
        assert told.started is not None
        assert told.ended is not None
        assert (told.ended - told.started).total_seconds() == 5


class TestReadAtEnd:
    STATION = """
station: L1/LATE
cycle: {start: {edge: m.running}, end: {edge: m.running, to: false}}
items: {trust: [m.late.serial]}
read_at_end: [m.late.serial, "m.late.*"]
feeds: [{from: "feeder/{m.feeder}", material: WIRE}]
curves: [{name: c, x: m.late.x, y: m.late.y}]
values:
- {name: first, from: c, how: min}
- {name: mean, from: c, how: mean}
- {name: last, from: c}
- {name: text, tag: m.code, how: at_end}
"""

    def test_serial_and_curve_come_together(self) -> None:
        made = bench(self.STATION)
        made.set({"m.late.serial": "S1", "m.feeder": "F07"})
        made.set({"m.late.x": [0.0, 1.0, 2.0, 3.0], "m.late.y": [4.0, 1.0, 2.0, 3.0]})
        wind(made, "")
        (told,) = made.passes()
        assert told.items[0].ref == serial("S1")
        assert {value.name: value.num for value in told.values[:3]} == {
            "first": 1.0,
            "mean": 2.5,
            "last": 3.0,
        }
        assert told.values[3].text == "OK\\x00"
        assert told.feeds[0].holder == "feeder/F07"

    def test_what_is_not_there_is_missing(self) -> None:
        made = bench(self.STATION)
        made.bad.add("m.feeder")
        made.set({"m.late.x": [1.0], "m.late.y": []})
        wind(made, "")
        assert {"c", "first", "mean", "last", "feed WIRE"} <= set(made.passes()[0].missing)

    def test_a_strange_answer_changes_nothing(self) -> None:
        made = bench(self.STATION)
        made.take(made.binder.on_read(99, (), made.now_us))
        made.take(made.binder.on_read_failed(99, "gone", made.now_us))
        made.take(made.binder.on_written(99, made.now_us))
        made.take(made.binder.on_write_failed(99, "gone", made.now_us))
        assert made.events == []


class TestMailboxes:
    def test_a_number_is_taken_by_its_number(self) -> None:
        made = bench(BOX)
        hand_over(made, 17, text="x")
        assert made.writes == [("box.taken", 17)]
        assert made.passes()[0].items == ()

    def test_a_scanner_of_another_device_counts_if_it_read_since_the_last_cycle(self) -> None:
        text = BOX + "items: {trust: [{read: scan.text, stamp: scan.no}], same_again: reused}\n"
        made = bench(text)
        made.set({"scan.text": "S1", "scan.no": 1})
        made.poll(1)
        made.set({"scan.text": "S1", "scan.no": 2})
        made.poll(2)
        hand_over(made, 1, text="x")
        made.poll(2)
        hand_over(made, 2, text="x")
        made.set({"scan.no": 3})
        made.poll(2)
        hand_over(made, 3, text="x")
        hows = [event.items[0].how for event in made.passes()]
        assert hows == [Outcome.BOUND, Outcome.STALE, Outcome.BOUND]

    def test_a_stamp_read_with_the_result_tells_a_stale_text(self) -> None:
        made = bench(BOX + "items: {trust: [{read: box.r.text, stamp: box.r.number}]}\n")
        for number, stamp in ((1, 1.0), (2, 1.0), (3, 2.0)):
            hand_over(made, number, text="S1", number=stamp)
            made.poll(2)
        hows = [event.items[0].how for event in made.passes()]
        assert hows == [Outcome.BOUND, Outcome.STALE, Outcome.BOUND]

    def test_a_refused_reuse(self) -> None:
        made = bench(BOX + "items: {trust: [box.r.text], same_again: reused}\n")
        for number, text in ((1, "S1"), (2, "S1"), (3, "S2")):
            hand_over(made, number, text=text)
            made.poll(2)
        hows = [event.items[0].how for event in made.passes()]
        assert hows == [Outcome.BOUND, Outcome.REUSED, Outcome.BOUND]

    def test_two_witnesses_that_differ(self) -> None:
        made = bench(BOX + "items: {trust: [box.r.text, box.r.to]}\n")
        hand_over(made, 1, text="S1", to="S2")
        (item,) = made.passes()[0].items
        assert (item.ref, item.how) == (serial("S1"), Outcome.CONFLICT)
        assert [one.outcome for one in item.witnesses] == [Outcome.BOUND, Outcome.CONFLICT]

    def test_limits_of_one_side_and_texts_without(self) -> None:
        made = bench(
            BOX
            + "values:\n"
            + "- {name: low, tag: box.r.number, low: 5}\n"
            + "- {name: high, tag: box.r.number, high: 5}\n"
            + "- {name: text, tag: box.r.text}\n"
        )
        hand_over(made, 1, text="free", number=7.0)
        low, high, text = made.passes()[0].values
        assert (low.ok, high.ok, text.ok, text.text) == (True, False, None, "free")

    def test_a_device_that_cannot_say_its_key_is_asked_again(self) -> None:
        made = bench(BOX)
        made.bad.add("box.no")
        hand_over(made, 1, text="x")
        made.wait(1)
        assert made.events == []
        made.bad.clear()
        made.wait(2)
        assert made.counts() == [1]

    def test_a_key_that_cannot_be_looked_at_is_looked_at_again(self) -> None:
        made = bench(BOX)
        made.on_write = None  # the PLC does not answer
        hand_over(made, 1, text="x")
        made.bad.add("box.no")
        made.wait(3)
        assert len(made.writes) == 1
        made.bad.clear()
        made.wait(3)
        assert len(made.writes) >= 2
        assert made.counts() == [1]

    def test_a_result_that_is_withdrawn_is_told_and_not_taken(self) -> None:
        made = bench(BOX)
        made.auto_read = False
        hand_over(made, 1, text="x")
        made.set({"box.ready": False})
        made.poll(1)
        made.auto_read = True
        made.answer(made.pending_reads.pop())
        assert made.counts() == [1]
        assert made.writes == []


class TestEmits:
    MOVE = BOX + (
        "emit:\n"
        "- {move: {what: {scheme: lot, value: 'L-{box.r.text}', issuer: me},"
        " from: {holder: rack/1},"
        " to: {scheme: serial, value: box.r.to}, quantity: box.r.number, unit: kg,"
        " material: '{box.r.text}', at: box.r.when, at_unit: s, place: left}}\n"
    )

    def test_everything_a_move_may_say(self) -> None:
        made = bench(self.MOVE)
        made.set({"box.r.when": float(made.now_us // 1_000_000 - 60)})
        hand_over(made, 1, text="7", to="S1", number=0.1)
        (move,) = made.of_kind("move")
        assert isinstance(move, MoveEvent)
        assert move.what == NameRef(scheme="lot", issuer="me", value="L-7")
        assert (move.from_, move.to) == (HolderRef(holder="rack/1"), serial("S1"))
        assert move.qty is not None
        assert (move.qty.value, move.qty.uom, move.material, move.place) == (
            "0.1",
            "kg",
            "7",
            "left",
        )
        assert move.at.microsecond == 0

    def test_no_number_is_no_quantity_and_no_time(self) -> None:
        made = bench(self.MOVE)
        hand_over(made, 1, text="7", to="S1", number=float("nan"), when=float("nan"))
        (move,) = made.of_kind("move")
        assert isinstance(move, MoveEvent)
        assert move.qty is None
        assert move.at == made.passes()[0].at

    def test_a_name_that_lacks_a_piece_moves_nothing(self) -> None:
        made = bench(self.MOVE)
        hand_over(made, 1, text="", to="S1", number=1.0)
        assert made.of_kind("move") == []
        assert made.passes()[0].missing == ("move 0: no what",)

    def test_a_thing_is_named_anew(self) -> None:
        made = bench(
            BOX
            + "emit:\n- {name: {item: 'serial/{box.r.text}', names:"
            + " [{scheme: label, value: box.r.to}, {scheme: lot, value: box.r.number, parse: lot}],"
            + " revision: B}}\n",
            lot="LOT.*",
        )
        hand_over(made, 1, text="S1", to="X9", number=4.0)
        (named,) = made.of_kind("name")
        assert isinstance(named, NameEvent)
        assert named.item == serial("S1")
        assert named.names == (NameRef(scheme="label", value="X9"),)
        assert named.revision == "B"
        assert made.passes()[0].missing == ("name 0: box.r.number",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOX.replace("box.no", "m.no"), "Count where the hand-shake is"),
        (BOX.replace("box.r.*", "box.no"), "is polled, so it can change in mid-read"),
        (BOX.replace("box.r.*", "m.late.*"), "is not on box, whose hand-shake it is"),
        (BOX.replace("box.r.*", "box.s.*"), "no configured tag is below it"),
        (BOX.replace("box.ready", "box.r.text"), "is text, not a bit"),
        (BOX.replace("box.ready", "box.x"), "is not a configured tag"),
        (BOX.replace("ready: box.ready", "ready: m.running"), "is not on m"),
        (BOX + "  started: box.r.when\n", "is float64, not a time"),
        (COUNTED.replace("m.no", "box.no"), "Put both into one group"),
        (COUNTED.replace("m.no", "m.gone"), "m.gone: is not a configured tag"),
        (WINDER + "read_at_end: [m.late.*, far.demand]\n", "are on several devices"),
        (WINDER + "read_at_end: [m.temp]\n", "is polled already"),
        (WINDER.replace("m.running, to: true", "far.demand"), "is float32, not a bit"),
        (WINDER + "curves: [{name: c, x: m.array, y: m.late.y}]\n", "element by element"),
        (BOX + "emit: [{move: {what: {holder: x}, to: rack/1}}]\n", "is not a holder"),
        (BOX + "emit: [{name: {names: [{scheme: a, value: gone.tag}]}}]\n", "is the same for"),
        (BOX + "items: {trust: [{read: m.temp, parse: none}]}\n", "Add it to `patterns`"),
        (BOX + "values: [{name: v, tag: 'm.array[9]'}]\n", "The array goes from 1 to 3"),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match="stations") as caught:
        compile_binding(one_station(text), TAGS, SITE)
    assert expected in str(caught.value)


def test_an_element_of_a_polled_array_is_a_tag_of_its_own() -> None:
    config = one_station(WINDER + "- {name: one, tag: 'm.array[2]'}\n")
    plan = compile_binding(config, TAGS, SITE)
    source = plan.nests[0].values[1].source
    assert source is not None
    assert (source.path, source.element, source.read) == ("m.array[2]", None, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"what": "a/b", "to": {"scheme": "x"}},
        {"what": "a/b", "to": {"value": "x"}},
        {"what": "a/b", "to": {"scheme": "x", "value": "y", "holder": "z"}},
    ],
)
def test_a_reference_is_one_thing(wrong: dict[str, Any]) -> None:
    station = {
        "station": "x",
        "cycle": {"mailbox": {"ready": "a", "block": "b", "taken": "c"}},
        "emit": [{"move": wrong}],
    }
    with pytest.raises(ValueError, match=r"scheme|holder"):
        BindingConfig.model_validate({"stations": [station]})


def test_keys_of_a_verdict_are_what_the_tag_says() -> None:
    text = WINDER.replace("{OK: pass}", "{true: pass, 2.0: fail, OK: aborted}")
    verdict = one_station(text).stations[0].verdict
    assert verdict is not None
    assert set(verdict.map) == {"true", "2", "OK"}
