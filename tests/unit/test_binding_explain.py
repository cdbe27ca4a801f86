"""What happens when: every station answers every question, from its own configuration."""

from rules.binding.config import BindingConfig
from rules.binding.explain import explain
from tests.support.binding import compiled, one_station, written_stations

QUESTIONS = ("serial is missing", "serial is stale", "serial comes twice", "end is missed")


def test_every_station_answers() -> None:
    told = explain(compiled())
    assert list(told) == ["L1/ST010", "L1/PRESS20", "L1/F07-LOAD", "L1/ST000"]
    for station in ("L1/ST010", "L1/PRESS20"):
        for question in (*QUESTIONS, "restarts", "link is down"):
            assert any(question in case.when for case in told[station]), (station, question)
    assert all(case.then for cases in told.values() for case in cases)


def test_a_press_without_a_hand_shake_can_lose_a_curve() -> None:
    told = {case.when: case.then for case in explain(compiled())["L1/PRESS20"]}
    assert "force_way is lost" in told["the PLC overwrites a curve before it was read"]
    assert "40 s after the start" in told["the end is missed"]
    assert "up to 5 s after the end" in told["the serial is missing or is no serial"]
    assert "from 20 s before the start" in told["the serial is stale"]


def test_a_hand_shake_cannot_miss_its_end() -> None:
    told = {case.when: case.then for case in explain(compiled())["L1/ST010"]}
    assert "it cannot be" in told["the end is missed"]
    assert "carrier/{st010.rfid} is asked" in told["the serial is missing or is no serial"]
    assert "the PLC must clear it" in told["the serial is stale"]
    assert "2 s with ready still set" in told["taken gets lost"]


def test_answers_follow_the_configuration() -> None:
    written = written_stations()
    press = written["stations"][1]
    del press["cycle"]["key"], press["cycle"]["max_s"]
    press["items"] |= {
        "fresh": "cycle",
        "same_again": "reused",
        "trust": [{"read": "scanner20.{nest}", "stamp": "scanner20.{nest}_no"}],
    }
    screwing = written["stations"][0]
    screwing["items"]["trust"][0] = {"read": "st010.dmc", "stamp": "st010.cycle_no"}
    plan = explain(compiled(BindingConfig.model_validate(written)))
    told = {case.when: case.then for case in plan["L1/PRESS20"]}
    assert "nobody notices" in told["a cycle is not seen"]
    assert "may then be another cycle's" in told["the PLC overwrites a curve before it was read"]
    assert "its stamp changed" in told["the serial is stale"]
    assert "same_again: reused" in told["the serial comes twice"]
    assert told["the end is missed"].startswith("the next start closes")
    assert "its stamp changed" in dict(plan["L1/ST010"])["the serial is stale"]


def test_a_station_without_names() -> None:
    text = """
station: L1/X
cycle: {start: {edge: p20.a.clamped}, end: {edge: p20.a.done}}
"""
    (cases,) = explain(compiled(one_station(text))).values()
    assert dict(cases)["the name cannot be read"] == "the pass has no item"
    judged = text + "verdict: {tag: p20.a.result, map: {1: pass}}\n"
    (cases,) = explain(compiled(one_station(judged))).values()
    assert dict(cases)["the name cannot be read"] == "the pass is of an unnamed item"
