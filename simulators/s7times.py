"""The date and time types of an S7 as bytes. Pure; values are whole nanoseconds.

A point in time counts from 1970 in the zone of the PLC's clock, a time of day from midnight. What a
type cannot say (milliseconds of DATE_AND_TIME, days of DATE) is cut, as the PLC cuts it.
"""

import datetime as dt
import struct

from simulators.tags import Kind

TIME_FORMS: dict[Kind, tuple[str, ...]] = {
    Kind.DATETIME: ("DTL", "DT", "LDT"),
    Kind.DATE: ("DATE",),
    Kind.TIME: ("TOD", "LTOD"),
    Kind.DURATION: ("TIME", "LTIME"),
}
_SIZES = {"DTL": 12, "DT": 8, "LDT": 8, "DATE": 2, "TOD": 4, "LTOD": 8, "TIME": 4, "LTIME": 8}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY_NS = 86_400_000_000_000
_DATE_ZERO_DAYS = (dt.date(1990, 1, 1) - dt.date(1970, 1, 1)).days
_MILLISECOND_NS = 1_000_000


def time_size(form: str) -> int:
    return _SIZES[form]


def time_to_bytes(form: str, value_ns: int) -> bytes:
    match form:
        case "DTL":
            return _to_dtl(value_ns)
        case "DT":
            return _to_bcd(value_ns)
        case "LDT" | "LTOD" | "LTIME":
            return struct.pack(">q", value_ns)
        case "DATE":
            return struct.pack(">H", max(value_ns // _DAY_NS - _DATE_ZERO_DAYS, 0))
        case "TOD":
            return struct.pack(">I", value_ns // _MILLISECOND_NS)
        case "TIME":
            return struct.pack(">i", value_ns // _MILLISECOND_NS)
        case _:
            raise ValueError(f"no S7 time type {form}")


def bytes_to_time(form: str, raw: bytes) -> int:
    match form:
        case "DTL":
            return _from_dtl(raw)
        case "DT":
            return _from_bcd(raw)
        case "LDT" | "LTOD" | "LTIME":
            return int.from_bytes(raw, "big", signed=True)
        case "DATE":
            return (int.from_bytes(raw, "big") + _DATE_ZERO_DAYS) * _DAY_NS
        case "TOD" | "TIME":
            return int.from_bytes(raw, "big", signed=form == "TIME") * _MILLISECOND_NS
        case _:
            raise ValueError(f"no S7 time type {form}")


def _moment(value_ns: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=value_ns // 1000)


def _nanoseconds(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000


def _weekday(moment: dt.datetime) -> int:
    """Siemens counts from Sunday = 1."""
    return moment.isoweekday() % 7 + 1


def _to_dtl(value_ns: int) -> bytes:
    if not value_ns:
        return bytes(_SIZES["DTL"])
    at = _moment(value_ns)
    fields = (at.year, at.month, at.day, _weekday(at), at.hour, at.minute, at.second)
    return struct.pack(">H6BI", *fields, value_ns % 1_000_000_000)


def _from_dtl(raw: bytes) -> int:
    year, month, day, _, hour, minute, second, rest_ns = struct.unpack(">H6BI", raw)
    if not year:
        return 0
    moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    return _nanoseconds(moment) + int(rest_ns)


def _to_bcd(value_ns: int) -> bytes:
    if not value_ns:
        return bytes(_SIZES["DT"])
    at = _moment(value_ns)
    head = (at.year % 100, at.month, at.day, at.hour, at.minute, at.second)
    digits = "".join(f"{field:02}" for field in head)
    return bytes.fromhex(f"{digits}{at.microsecond // 1000:03}{_weekday(at)}")


def _from_bcd(raw: bytes) -> int:
    if not any(raw):
        return 0
    digits = raw.hex()
    year, month, day, hour, minute, second = (int(digits[i : i + 2]) for i in range(0, 12, 2))
    century = 1900 if year >= 90 else 2000  # noqa: PLR2004  # DATE_AND_TIME runs from 1990 to 2089
    moment = dt.datetime(century + year, month, day, hour, minute, second, tzinfo=dt.UTC)
    return _nanoseconds(moment) + int(digits[12:15]) * _MILLISECOND_NS
