"""Durations: what is written is what is meant, and a bare number is refused."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rules.durations import Duration, format_duration, parse_duration, to_us

DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("100ms", 100_000),
        ("1s", 1_000_000),
        ("30m", 1_800_000_000),
        ("1h30m", 5_400_000_000),
        ("0.5s", 500_000),
        ("250us", 250),
        ("2d", 172_800_000_000),
        (" 1s ", 1_000_000),
    ],
)
def test_reads(text: str, us: int) -> None:
    assert to_us(parse_duration(text)) == us


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "1 s", "1x", "1s!", "1e3s", "36501d", "9" * 50 + "d", "\u0661s"]
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|century"):
        parse_duration(text)


@given(st.timedeltas(timedelta(), timedelta(days=36_000)))
def test_what_is_formatted_reads_back(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


def test_a_number_needs_its_unit() -> None:
    with pytest.raises(ValidationError, match="needs its unit"):
        DURATION.validate_python(30)


def test_the_type_dumps_what_it_reads() -> None:
    assert DURATION.dump_python(DURATION.validate_python("90s"), mode="json") == "1m30s"
    assert DURATION.json_schema()["type"] == "string"
