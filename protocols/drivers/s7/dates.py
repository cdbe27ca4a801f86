"""The dates and times of an S7 as whole nanoseconds, columns at a time, and back. Pure.

A point in time counts from 1970 in the zone of the PLC's clock, a time of day from midnight. What
is no date (month 0 of a DTL never set) is out of range; digits above 9 are undecodable.
"""

import datetime as dt
from typing import Final

import numpy as np

from protocols.addressing import Unfit
from protocols.samples import NO_CODE, Code, Column

DAY_NS: Final = 86_400_000_000_000
_DAYS_1990: Final = 7_305  # from 1970
_DAYS_MAX: Final = 106_750  # whole days that i64 ns hold: until 2262-04-10
_S5_BASES_NS: Final = np.array([10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000], np.int64)
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # the PLC's own zone
_MS_NS: Final = 1_000_000
_YEAR_OF_TWO_DIGITS: Final = 90  # 90 to 99 are 1990 to 1999 (DATE_AND_TIME)

Decoded = tuple[Column, Column | None]


def decode_s5time(raw: Column) -> Decoded:
    digits, wrong = _bcd(raw & np.array([0x0F, 0xFF], np.uint8))
    base = _S5_BASES_NS[(raw[:, 0] >> 4) & 3]
    return (digits[:, 0] * 100 + digits[:, 1]) * base, _codes(wrong, Code.UNDECODABLE)


def decode_time(raw: Column) -> Decoded:
    return _integers(raw, ">i4") * _MS_NS, None


def decode_ltime(raw: Column) -> Decoded:
    return _integers(raw, ">i8"), None


def decode_date(raw: Column) -> Decoded:
    return (_integers(raw, ">u2") + _DAYS_1990) * DAY_NS, None


def decode_tod(raw: Column) -> Decoded:
    return _within_day(_integers(raw, ">u4") * _MS_NS)


def decode_ltod(raw: Column) -> Decoded:
    return _within_day(_integers(raw, ">i8"))


def decode_ldt(raw: Column) -> Decoded:
    ns = _integers(raw, ">i8")
    return ns, _codes(ns < 0, Code.OUT_OF_RANGE)


def decode_dt(raw: Column) -> Decoded:
    """DATE_AND_TIME: eight bytes of BCD digits, the last nibble a weekday."""
    digits, wrong = _bcd(raw & np.array([0xFF] * 7 + [0xF0], np.uint8))
    year = digits[:, 0] + np.where(digits[:, 0] >= _YEAR_OF_TWO_DIGITS, 1900, 2000)
    days, no_date = _days(year, digits[:, 1], digits[:, 2])
    milliseconds = digits[:, 6] * 10 + digits[:, 7] // 10
    ns, no_time = _clock(digits[:, 3], digits[:, 4], digits[:, 5], milliseconds * _MS_NS)
    codes = _codes(no_date | no_time, Code.OUT_OF_RANGE)
    codes[wrong] = Code.UNDECODABLE
    return days * DAY_NS + ns, codes


def decode_dtl(raw: Column) -> Decoded:
    """Year, month, day, weekday, hour, minute, second, nanosecond in binary."""
    year = raw[:, 0].astype(np.int64) * 256 + raw[:, 1]
    month, day, hour, minute, second = (raw[:, i].astype(np.int64) for i in (2, 3, 5, 6, 7))
    part = _integers(np.ascontiguousarray(raw[:, 8:12]), ">u4")
    days, no_date = _days(year, month, day)
    ns, no_time = _clock(hour, minute, second, part)
    return days * DAY_NS + ns, _codes(no_date | no_time, Code.OUT_OF_RANGE)


def encode_dtl(value_ns: int) -> bytes:
    moment, rest_ns = _moment(value_ns)
    fields = (moment.month, moment.day, moment.isoweekday() % 7 + 1)
    clock = (moment.hour, moment.minute, moment.second)
    return moment.year.to_bytes(2, "big") + bytes((*fields, *clock)) + rest_ns.to_bytes(4, "big")


def encode_dt(value_ns: int) -> bytes:
    """Unfit: years outside 1990 to 2089."""
    moment, rest_ns = _moment(value_ns)
    if not 1990 <= moment.year <= 2089:  # noqa: PLR2004  # two digits
        raise Unfit(f"year {moment.year} does not fit into DT")
    fields = (moment.year % 100, moment.month, moment.day, moment.hour, moment.minute)
    milliseconds = rest_ns // _MS_NS
    last = milliseconds % 10 << 4 | moment.isoweekday() % 7 + 1
    digits = [_two_digits(n) for n in (*fields, moment.second, milliseconds // 10)]
    return bytes((*digits, last))


def encode_date(value_ns: int) -> int:
    return value_ns // DAY_NS - _DAYS_1990


def encode_s5time(value_ns: int) -> bytes:
    """The finest base that holds it. Unfit: above 9990 s, or negative."""
    for number, base in enumerate(_S5_BASES_NS.tolist()):
        count = value_ns // base
        if 0 <= count <= 999:  # noqa: PLR2004  # three digits
            return bytes((number << 4 | count // 100, _two_digits(count % 100)))
    raise Unfit(f"{value_ns} ns do not fit into S5TIME")


def _moment(value_ns: int) -> tuple[dt.datetime, int]:
    """Whole seconds, and the nanoseconds beyond."""
    seconds, rest_ns = divmod(value_ns, 1_000_000_000)
    try:
        return _EPOCH + dt.timedelta(seconds=seconds), rest_ns
    except OverflowError as error:
        raise Unfit(f"{value_ns} ns is no date") from error


def _two_digits(number: int) -> int:
    return number // 10 << 4 | number % 10


def _integers(raw: Column, form: str) -> Column:
    return raw.view(form)[:, 0].astype(np.int64)


def _bcd(raw: Column) -> tuple[Column, Column]:
    """Two digits a byte, and which rows have a digit above nine."""
    high, low = raw >> 4, raw & 15
    wrong = ((high > 9) | (low > 9)).any(axis=1)  # noqa: PLR2004  # decimal
    return high.astype(np.int64) * 10 + low, np.asarray(wrong)


def _days(year: Column, month: Column, day: Column) -> tuple[Column, Column]:
    """Days from 1970, and where these three are no date that i64 ns can hold."""
    months = (np.clip(year, 1970, 2262) - 1970) * 12 + np.clip(month, 1, 12) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]")
    date = first + np.clip(day, 1, 31) - 1
    days = date.astype(np.int64)
    same_month = date.astype("datetime64[M]").astype(np.int64) == months
    wrong = (year < 1970) | (month < 1) | (month > 12) | (day < 1) | ~same_month  # noqa: PLR2004  # a calendar
    wrong = wrong | (year > 2262) | (days > _DAYS_MAX)  # noqa: PLR2004  # the same
    return days, np.asarray(wrong)


def _clock(hour: Column, minute: Column, second: Column, part: Column) -> tuple[Column, Column]:
    wrong = (hour > 23) | (minute > 59) | (second > 59) | (part > 999_999_999)  # noqa: PLR2004  # a clock
    return ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + part, wrong


def _within_day(ns: Column) -> Decoded:
    return ns, _codes((ns < 0) | (ns >= DAY_NS), Code.OUT_OF_RANGE)


def _codes(wrong: Column, code: Code) -> Column:
    return np.where(wrong, np.int64(code), np.int64(NO_CODE))
