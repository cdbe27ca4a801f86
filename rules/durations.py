"""Durations as a person writes them: `100ms`, `1s`, `30m`, `1h30m`. Never a bare number."""

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS: Final = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_PART: Final = re.compile(rf"({_NUMBER})(us|ms|s|m|h|d)")
_WHOLE: Final = re.compile(rf"(?:{_NUMBER}(?:us|ms|s|m|h|d))+")
_CHARACTERS_MAX: Final = 40
_LONGEST: Final = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """ValueError: not a duration, or longer than a century; the message says how one is written."""
    written = text.strip()
    if len(written) > _CHARACTERS_MAX or not _WHOLE.fullmatch(written):
        raise ValueError("is not a duration: a number and one of us ms s m h d, like 100ms or 30m")
    parts = _PART.findall(written)
    days = sum(float(number) * (_UNITS[unit] / _UNITS["d"]) for number, unit in parts)
    if days > _LONGEST.days:
        raise ValueError("is longer than a century")
    return sum((float(number) * _UNITS[unit] for number, unit in parts), timedelta())


def format_duration(duration: timedelta) -> str:
    """The shortest exact form: `90s` is `1m30s`."""
    left = duration
    text = ""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, left = divmod(left, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def to_us(duration: timedelta) -> int:
    return duration // _UNITS["us"]


def _parsed(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError("a duration needs its unit: write it as text like 100ms, 1s, 30m")


Duration = Annotated[
    timedelta,
    BeforeValidator(_parsed),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^({_NUMBER}(us|ms|s|m|h|d))+$",
            "examples": ["100ms", "1s", "30m"],
        }
    ),
]
