"""Shifts: local times of a site, on ordinary days and on those when clocks change."""

from datetime import UTC, datetime, time, timedelta

import pytest

from cloud.projection.shifts import NO_SHIFT, Calendar, shift_of

THREE = Calendar("Europe/Berlin", (("early", time(6)), ("late", time(14)), ("night", time(22))))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("at", "name", "hours"),
    [
        ("2026-03-02T05:59:59+01:00", "night", 8),
        ("2026-03-02T06:00:00+01:00", "early", 8),
        ("2026-03-02T23:00:00+01:00", "night", 8),
        ("2026-03-29T01:00:00+01:00", "night", 7),
        ("2026-10-25T01:00:00+02:00", "night", 9),
    ],
)
def test_a_shift_begins_at_its_local_time(at: str, name: str, hours: int) -> None:
    shift = shift_of({"werk1": [THREE]}, "werk1", instant(at))
    assert shift.name == name
    assert shift.from_at <= instant(at) < shift.to_at
    assert shift.to_at - shift.from_at == timedelta(hours=hours)


def test_without_a_calendar_a_shift_is_a_day_of_utc() -> None:
    shift = shift_of({}, "werk1", instant("2026-03-02T23:30:00+00:00"))
    assert (shift.name, shift.from_at) == ("day", instant("2026-03-02T00:00:00+00:00"))


def test_a_calendar_holds_from_its_day_on() -> None:
    calendars = {"werk1": [Calendar(valid_from=instant("2026-01-01T00:00:00+00:00")), THREE]}
    assert shift_of(calendars, "werk1", instant("2025-12-31T12:00:00+00:00")).name == "early"
    assert shift_of(calendars, "werk1", instant("2026-06-01T12:00:00+00:00")).name == "day"


@pytest.mark.parametrize("year", [1, 9999])
def test_a_clock_beside_all_reason_has_no_shift(year: int) -> None:
    assert shift_of({}, "x", datetime(year, 1, 1, tzinfo=UTC)) == NO_SHIFT
