"""Events: what was said comes back, ids and hashes depend on nothing but what happened."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import events
from protocols.errors import Rejected
from tests.support import wire1

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "events-1.json"


@pytest.mark.parametrize("event", wire1.all_events(), ids=lambda event: event.kind)
def test_an_event_comes_back(event: events.Event) -> None:
    assert events.decode_event(events.encode_line(event)) == event


def test_the_published_schema_is_the_types() -> None:
    assert json.loads(SCHEMA.read_text()) == events.json_schema(), "run: make schemas"


def test_a_pass_id_is_its_definition() -> None:
    """Fixed for ever: another implementation must come to the same bytes."""
    assert events.pass_id("plant1", "L1/ST010", "a", 255, 65537) == UUID(
        "96147831-8057-5e16-b968-e874ab9a81f6"
    )


def test_a_hash_ignores_when_it_was_said() -> None:
    event = wire1.all_events()[0]
    later = event.model_copy(update={"seen": None, "said_at": datetime(2030, 1, 1, tzinfo=UTC)})
    other = event.model_copy(update={"reason": "else"})
    assert events.event_hash(event) == events.event_hash(later) != events.event_hash(other)


def test_a_hash_is_the_same_for_every_spelling_of_a_time() -> None:
    event = wire1.all_events()[0]
    there = event.at.astimezone(timezone(timedelta(hours=5)))
    assert events.event_hash(event.model_copy(update={"at": there})) == events.event_hash(event)


@given(st.integers(events.to_us(datetime(1, 1, 2, tzinfo=UTC)), 253_402_300_799_999_999))
def test_times_are_exact_to_the_microsecond(time_us: int) -> None:
    text = events.rfc3339(events.from_us(time_us))
    assert events.to_us(datetime.fromisoformat(text)) == time_us


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_anything_else_is_rejected(line: bytes | str) -> None:
    with pytest.raises(Rejected):
        events.decode_event(line)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site", ""),
        ("site", "a\x00b"),
        ("at", "2026-11-22T09:30:00"),
        ("zone_offset", "CET"),
        ("v", 2),
        ("id", "7"),
        ("kind", "birth"),
        ("key", {"series": "x", "count": "1"}),
        ("key", {"series": "01", "count": str(2**64)}),
        ("values", [{"name": "x" * 3000}]),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    said = json.loads(events.encode_line(wire1.all_events()[1])) | {field: value}
    with pytest.raises(Rejected, match=field):
        events.decode_event(json.dumps(said))


def test_a_void_names_what_it_takes_back() -> None:
    said = json.loads(events.encode_line(wire1.all_events()[6])) | {"replaces": []}
    with pytest.raises(Rejected, match="replaces"):
        events.decode_event(json.dumps(said))


def test_big_numbers_survive_json() -> None:
    (turns,) = [one for one in wire1.all_events()[1].values if one.name == "turns"]  # type: ignore[union-attr]
    assert json.loads(turns.model_dump_json(by_alias=True))["int"] == str(2**63 - 1)
