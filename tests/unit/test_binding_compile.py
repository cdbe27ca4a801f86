"""Compiling: the four stations compile as they stand; every mistake is told, all at once."""

from typing import Any

import pytest
from pydantic import ValidationError

from protocols.driver import Mode
from protocols.errors import ConfigError
from protocols.samples import DataType
from rules.binding.compile import compile_binding
from rules.binding.config import BindingConfig
from rules.binding.plan import EdgesPlan, MailboxPlan, MovePlan
from tests.support.binding import SITE, compiled, facts, plant_tags, read_yaml, stations


def test_the_four_stations_compile() -> None:
    plan = compiled()
    assert [nest.id for nest in plan.nests] == [
        "L1/ST010",
        "L1/PRESS20/a",
        "L1/PRESS20/b",
        "L1/F07-LOAD",
        "L1/ST000",
    ]


def test_a_mailbox_reads_its_key_alone_and_all_else_of_its_device_in_one() -> None:
    plan = compiled()
    screwing = plan.nests[0].cycle
    assert isinstance(screwing, MailboxPlan)
    assert plan.read_sets[screwing.key_set] == ("st010.cycle_no",)
    block = plan.read_sets[screwing.block_set]
    assert {"st010.result.torque", "st010.result.cx[6]", "st010.dmc", "st010.t_end"} < set(block)
    assert "st010.ready" not in block
    assert len(set(block)) == len(block)


def test_places_are_expanded_to_elements_of_the_array_from_its_lower_bound() -> None:
    values = compiled().nests[0].values
    assert [value.label for value in values[:6]] == [f"torque[{screw}]" for screw in range(1, 7)]
    first, last = values[0].source, values[5].source
    assert first
    assert last
    assert (first.path, first.element) == ("st010.result.torque", 0)
    assert (last.path, last.element) == ("st010.result.torque", 5)


def test_a_configured_tag_with_brackets_is_itself_not_an_element() -> None:
    curve = compiled().nests[0].curves[2]
    assert (curve.x.path, curve.x.element) == ("st010.result.cx[3]", None)
    assert curve.n is not None
    assert (curve.n.path, curve.n.element) == ("st010.result.cn", 2)


def test_nests_have_their_own_tags_and_share_what_has_no_nest() -> None:
    a, b = compiled().nests[1:3]
    assert isinstance(a.cycle, EdgesPlan)
    assert isinstance(b.cycle, EdgesPlan)
    assert a.cycle.start.source.path == "p20.a.clamped"
    assert b.cycle.start.source.path == "p20.b.clamped"
    assert a.values[1].source == b.values[1].source
    assert a.devices == ("p20", "scanner20")


def test_a_curve_is_read_between_two_reads_of_the_counter() -> None:
    plan = compiled()
    press = plan.nests[1].cycle
    assert isinstance(press, EdgesPlan)
    assert press.key_set
    assert plan.read_sets[press.key_set] == ("p20.a.cycle_no",)
    assert plan.read_sets[press.read_sets[0]] == (
        "p20.a.curve.way",
        "p20.a.curve.force",
        "p20.a.curve.n",
    )


def test_a_text_is_a_tag_where_it_names_one() -> None:
    load = compiled().nests[3].emits[0]
    assert isinstance(load, MovePlan)
    assert load.to == ("feeder/F07",)
    recipe = compiled().nests[0].context.recipe
    assert recipe
    assert not isinstance(recipe[0], str)
    assert compiled().nests[0].context.seats["tool"] == ("seat/ST010-SPINDLE",)


def test_tags_know_their_station_and_nest() -> None:
    of = compiled().stations
    assert of["p20.a.clamped"] == ("L1/PRESS20", "a")
    assert of["p20.oil_temp"] == ("L1/PRESS20", "")
    assert of["st010.taken"] == ("L1/ST010", "")


def test_counters_are_named_so_that_conditioning_leaves_them_alone() -> None:
    counters = {"st010.cycle_no", "p20.a.cycle_no", "p20.b.cycle_no", "f07.scan_no", "st000.count"}
    assert compiled().counters == counters


def test_the_revision_is_of_what_is_written_and_nothing_else() -> None:
    before = compiled()
    assert compiled().nests[0].rev == before.nests[0].rev
    other = read_yaml(stations().model_dump_json(by_alias=True))
    assert compiled(BindingConfig.model_validate(other)).nests[0].rev == before.nests[0].rev
    other["stations"][0]["operation"] = "screw"
    changed = compiled(BindingConfig.model_validate(other))
    assert changed.nests[0].rev != before.nests[0].rev
    assert changed.nests[1].rev == before.nests[1].rev


def test_notes_say_what_may_surprise() -> None:
    text = "\n".join(str(note) for note in compiled().notes)
    assert "stations[0].gate = st010.ask: gates are not asked" in text
    assert "stations[1].feeds[0].discipline = fifo" in text
    assert "stations[1].curves[0].envelope" in text


MAILBOX = {
    "station": "L1/X",
    "cycle": {
        "mailbox": {"ready": "st000.ready", "block": "st000.mark.*", "taken": "st000.taken"},
        "key": {"count": "st000.count", "modulus": 65536},
    },
}
EDGES = {
    "station": "L1/X",
    "cycle": {
        "start": {"edge": "p20.a.clamped"},
        "end": {"edge": "p20.a.done"},
        "key": {"count": "p20.a.cycle_no", "modulus": 32768},
    },
}


def changed(station: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**station, **keys}


def cycle(station: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**station, "cycle": {**station["cycle"], **keys}}


def problems_of(station: dict[str, Any], **patterns: str) -> list[str]:
    config = BindingConfig.model_validate({"patterns": patterns, "stations": [station]})
    with pytest.raises(ConfigError) as caught:
        compile_binding(config, plant_tags() | SLOW, SITE, where="agent.yaml: ")
    return [str(problem) for problem in caught.value.problems]


SLOW = {
    "p20.slow": facts(DataType.FLOAT32, "p20", interval_us=1_000_000),
    "p20.slow_count": facts(DataType.UINT16, "p20", interval_us=1_000_000),
    "other.demand": facts(DataType.FLOAT32, "other", Mode.ON_DEMAND),
    "p20.array": facts(DataType.FLOAT32, "p20", extent=(1, 3)),
}
VALUE = {"name": "v", "tag": "p20.oil_temp"}


@pytest.mark.parametrize(
    ("station", "expected"),
    [
        (
            {**MAILBOX, "cycle": {"mailbox": MAILBOX["cycle"]["mailbox"]}},  # type: ignore[index]  # a dict
            "stations[0].cycle.mailbox: a mailbox without a key",
        ),
        (
            cycle(EDGES, start={"edge": "p20.a.clampd"}),
            (
                "stations[0].cycle.start.edge = p20.a.clampd: is not a configured tag. "
                "Did you mean p20.a.clamped"
            ),
        ),
        (cycle(EDGES, start={"edge": "p20.a.result"}), "is int16, not a bit"),
        (cycle(EDGES, start={"edge": "st010.ready"}), "start and end are on two devices"),
        (
            cycle(EDGES, key={"count": "p20.slow_count", "modulus": 65536}),
            "is not read together with p20.a.done",
        ),
        (
            cycle(EDGES, key={"count": "p20.a.cycle_no", "modulus": 65537}),
            "stations[0].cycle.key.modulus = 65537: is more than int16 can count",
        ),
        (cycle(EDGES, key={"count": "p20.oil_temp", "modulus": 10}), "not a whole number"),
        (changed(EDGES, values=[{**VALUE, "tag": "p20.a.curve.n"}]), "add it to read_at_end"),
        (changed(EDGES, values=[VALUE, VALUE]), "stations[0].values = v: stands twice"),
        (changed(EDGES, values=[{**VALUE, "tag": "p20.{x}.temp"}]), "Nothing fills {x} here"),
        (
            changed(EDGES, values=[{**VALUE, "each": {"x": "3..1"}}]),
            "stations[0].values[0].each",
        ),
        (changed(EDGES, values=[{**VALUE, "tag": "p20.array[4]"}]), "goes from 1 to 3"),
        (changed(EDGES, values=[{**VALUE, "tag": "p20.array"}]), "is float32[], not"),
        (
            changed(EDGES, values=[{"name": "v", "from": "c", "how": "max"}]),
            "stations[0].values[0].from = c: is not a curve of this station",
        ),
        (changed(EDGES, values=[{**VALUE, "low": "scanner20.a"}]), "is text, not a number"),
        (
            changed(EDGES, curves=[{"name": "c", "x": "p20.array", "y": "p20.array"}]),
            "is polled element by element",
        ),
        (changed(EDGES, read_at_end=["p20.b.*"]), "p20.b.clamped: is polled already"),
        (changed(EDGES, read_at_end=["p20.c.*"]), "no configured tag is below it"),
        (
            changed(EDGES, items={"trust": ["scanner20.a"], "parse": "dmx"}),
            (
                "stations[0].items.trust[0].parse = dmx: is not a pattern that can be used. "
                "Did you mean dmc"
            ),
        ),
        (changed(EDGES, items={"trust": ["p20/{scanner20.c}"]}), "scanner20.c: is not a"),
        (changed(EDGES, feeds=[{"from": "magazine"}]), "is not a holder. Write `kind/name`"),
        (changed(MAILBOX, values=[{**VALUE, "how": "mean"}]), "only when it is over"),
        (changed(MAILBOX, values=[{**VALUE, "tag": "other.demand"}]), "on another device"),
        (changed(MAILBOX, read_at_end=["st000.mark.*"]), "reads everything while the PLC holds"),
        (changed(MAILBOX, open=True), "a hand-shake has no running cycle"),
        (
            changed(MAILBOX, emit=[{"move": {"what": "lot", "to": "feeder/F07"}}]),
            "stations[0].emit[0].move.what = lot: names no thing",
        ),
        (
            changed(MAILBOX, emit=[{"move": {"what": "lot/7", "to": "feeder/F07"}}]),
            "is the same for every cycle",
        ),
        (
            changed(MAILBOX, emit=[{"move": {"what": "lot/{st000.mark.dmc}"}}]),
            "stations[0].emit[0].move: goes nowhere",
        ),
        (changed(MAILBOX, context={"recipe": "st000.programme"}), "is not a configured tag"),
        (changed(EDGES, nests=["a", "a"]), "names a nest twice"),
    ],
)
def test_mistakes(station: dict[str, Any], expected: str) -> None:
    found = problems_of(station, dmc="(?P<serial>.+)")
    assert any(expected in one for one in found), found
    assert all(one.startswith("agent.yaml: stations") for one in found)


def test_all_mistakes_are_told_at_once() -> None:
    station = {
        **cycle(EDGES, start={"edge": "a.b"}, end={"edge": "c.d"}),
        "verdict": {"tag": "e.f", "map": {1: "pass"}},
        "items": {"trust": ["g.h"], "parse": "i"},
    }
    found = problems_of(station, bad="(", slow="(a+)+")
    for wrong in ("a.b", "c.d", "e.f", "g.h", ".parse = i", "patterns.bad", "patterns.slow"):
        assert any(wrong in one for one in found), wrong


def test_two_stations_may_not_write_one_bit() -> None:
    other = {**MAILBOX, "station": "L1/Y"}
    config = BindingConfig.model_validate({"stations": [MAILBOX, other]})
    with pytest.raises(ConfigError, match="is written by L1/X and by L1/Y"):
        compile_binding(config, plant_tags(), SITE)


def test_a_slow_tag_for_a_short_effect_is_noted() -> None:
    value = {"name": "v", "tag": "p20.slow", "how": "max", "effect_s": 0.3}
    config = BindingConfig.model_validate({"stations": [changed(EDGES, values=[value])]})
    notes = compile_binding(config, plant_tags() | SLOW, SITE).notes
    assert "is read every 1 s, the effect lasts 0.3 s" in str(notes[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"station": "x", "cycle": {}},
        {"station": "x", "cycle": {"start": {"edge": "a"}}},
        {**MAILBOX, "cycle": {**MAILBOX["cycle"], "start": {"edge": "a"}, "end": {"edge": "b"}}},  # type: ignore[dict-item]  # a dict
        {**EDGES, "valves": []},
        {**EDGES, "values": [{"name": "v", "tag": "a", "from": "b"}]},
        {**EDGES, "values": [{"name": "v", "tag": "a", "how": "at_trigger"}]},
        {**EDGES, "values": [{"name": "v", "tag": "a", "window": {"x": [1, 2]}}]},
        {**EDGES, "values": [{"name": "v", "from": "c", "window": {"x": [2, 1]}}]},
        {**EDGES, "feeds": [{"from": "a/b", "scan": "c"}]},
        {**EDGES, "feeds": [{"from": "a/b", "parse": "c"}]},
        {**EDGES, "items": {"trust": []}},
        {**EDGES, "items": {"trust": [{"read": "a", "holder": "b/c"}]}},
        {**EDGES, "verdict": {"tag": "a", "map": {1: "good"}}},
        {**EDGES, "emit": [{}]},
        {**cycle(EDGES, max_s=-1)},
        {**cycle(EDGES, missed_end="pass")},
    ],
)
def test_what_cannot_be_meant_is_refused_when_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BindingConfig.model_validate({"stations": [wrong]})


def test_the_schema_is_published() -> None:
    schema = BindingConfig.model_json_schema(by_alias=True)
    assert set(schema["properties"]) == {"patterns", "stations"}
    assert schema["$defs"]["StationConfig"]["additionalProperties"] is False
