"""A unit's story in few lines, as it stands under the demo's table."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cloud.story import Complete, Curve, Item, Linked, Name, Pass, Story, Value
from threadline.demo.story import short_story, story_lines

AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def named(scheme: str, value: str) -> Item:
    return Item(
        id=UUID(int=1),
        kind="unit",
        material="EDU4711A",
        revision=None,
        order=None,
        qty=None,
        uom=None,
        purpose="production",
        born_at=AT,
        ended_at=None,
        stub=False,
        names=[Name(scheme=scheme, issuer="", value=value, valid_from=AT, valid_to=None)],
    )


def passed(station: str, nest: str = "", **changed: Any) -> Pass:
    told: dict[str, Any] = {
        "pass_id": UUID(int=2),
        "site": "plant1",
        "station": station,
        "nest": nest,
        "operation": "op",
        "count": 7,
        "attempt": 1,
        "at": AT,
        "started": AT + timedelta(minutes=1),
        "ended": AT,
        "ended_by": "end",
        "recipe": None,
        "purpose": "production",
        "role": "work",
        "place": "",
        "verdict": "pass",
        "how": "bound",
        "certainty": "exact",
        "defects": [],
        "missing": [],
        "values": [],
        "curves": [],
        "states": [],
    }
    return Pass.model_validate(told | changed)


def value(name: str, shown: Any) -> Value:
    return Value(
        name=name,
        place="1",
        value=shown,
        unit="N.m",
        low=None,
        high=None,
        ok=None,
        critical=False,
        quality=0,
        method="measured",
    )


def linked(item: Item | None, holder: str | None) -> Linked:
    return Linked(
        relation="part",
        item=item,
        holder=holder,
        place="",
        qty=None,
        uom=None,
        since=AT,
        until=None,
        certainty="exact",
        pass_id=None,
        beyond=[],
    )


def story(*passes: Pass, components: tuple[Linked, ...] = ()) -> Story:
    return Story(
        item=named("serial", "S1"),
        passes=list(passes),
        components=list(components),
        parents=[],
        states=[],
        alarms=[],
        complete=Complete(agents=[], curves_missing=0, gaps=[], events_behind=0),
    )


CURVE = Curve(name="c", place="", axis="angle", units=[], n=5, sha256="", arrived=True)


def test_a_line_a_pass_with_its_first_values() -> None:
    screwed = passed(
        "L1/ST010",
        values=[value("torque", 10.123456), value("turns", 3), *[value("more", 1.0)] * 4],
        curves=[CURVE],
    )
    told = story(screwed, passed("L1/PRESS20", "a", verdict="fail"))
    lines = [line.plain for line in story_lines(told)]
    started = (AT + timedelta(minutes=1)).astimezone()
    assert lines[0] == "finished last S1  EDU4711A  2 passes"
    assert lines[1] == (
        f"  {started:%H:%M:%S} ST010     pass       #7      torque[1] 10.12 N.m, turns[1] 3 N.m,"
        " more[1] 1 N.m, 3 more values, 1 curve"
    )
    assert lines[2].rstrip() == f"  {started:%H:%M:%S} PRESS20 a fail       #7"


def test_the_short_one_has_three_lines_whatever_happened() -> None:
    parts = (linked(named("rotor", "S1"), None), linked(named("cover", "S1"), None))
    unknown = (linked(None, "feeder/F07"), linked(None, None))
    told = story(
        *[passed("L1/A")] * 11,
        passed("L1/B", verdict="fail"),
        components=(*unknown, *parts, parts[0]),
    )
    head, way, within = (line.plain for line in short_story(told))
    assert head == "finished last S1  EDU4711A  12 passes"
    assert way == "  " + ", ".join([*["A"] * 11, "B fail"])
    assert within == ("  in it: rotor S1, cover S1, something from feeder/F07, something unknown")


def test_a_unit_without_a_name_is_told_by_its_id() -> None:
    nameless = story().model_copy(
        update={"item": named("serial", "S1").model_copy(update={"names": []})}
    )
    assert story_lines(nameless)[0].plain.startswith(f"finished last unnamed {UUID(int=1)}")
