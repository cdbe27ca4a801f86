"""Which clock gives a row's time, and when the device's clock is not to be trusted. Pure.

A source time may be old with reason: a value that stands still keeps the time of its last change.
So a clock is judged wrong only by what it says about now: the time in the response's header, a
source time in the future, or a value that changed since the last read and is stamped long before.
"""

from dataclasses import dataclass

import numpy as np

from protocols.driver import TimeSource
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.reading import Sheet
from protocols.samples import NO_TIME, SEVERITY_MASK, Code, Column, Quality, ValueClass


@dataclass(frozen=True, slots=True)
class Moment:
    """When a response came: our clock, the server's (NO_TIME: unknown), ours at the last read."""

    arrival_us: int
    server_us: int
    last_us: int


def set_times(
    sheet: Sheet, cells: Column, sources: Column, before: Column, now: Moment, how: OpcuaConnection
) -> None:
    """Times of cells that one response carried; `before`: their source times at the last read."""
    sheet.time[cells] = now.arrival_us
    known = sources != NO_TIME
    skew_us = round(how.max_skew_s * 1e6)
    wrong = _wrong(sources, known, before, now, skew_us)
    kept = wrong | known if how.keep_source_time else wrong
    if how.time_source is TimeSource.SOURCE:
        near = known & ~wrong & (sources >= now.arrival_us - skew_us)
        _use_source(sheet, cells, sources, near)
        kept = kept | (known & ~near)
    if kept.any():
        said = np.where(known, sources, now.server_us)
        sheet.device_time()[cells[kept]] = said[kept]
        _mark(sheet, cells[wrong])


def _wrong(sources: Column, known: Column, before: Column, now: Moment, skew_us: int) -> Column:
    if now.server_us != NO_TIME and abs(now.server_us - now.arrival_us) > skew_us:
        return np.ones(len(sources), np.bool_)
    ahead = known & (sources > now.arrival_us + skew_us)
    if now.last_us == NO_TIME:
        return ahead
    moved = known & (before != NO_TIME) & (sources != before)
    stale: Column = moved & (sources < now.last_us - skew_us)
    return ahead | stale


def _use_source(sheet: Sheet, cells: Column, sources: Column, usable: Column) -> None:
    own = cells[usable]
    sheet.agent_time()[own] = sheet.time[own]
    sheet.time[own] = sources[usable]


def _mark(sheet: Sheet, cells: Column) -> None:
    """A good value becomes uncertain; what is worse already stays as the server said."""
    good = (sheet.quality[cells] & np.uint32(SEVERITY_MASK)) == 0
    sheet.quality[cells[good]] = Quality.UNCERTAIN
    sheet.code[cells[sheet.kind[cells] != ValueClass.NONE]] = Code.CLOCK_SKEW
