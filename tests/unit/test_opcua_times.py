"""Whose clock: arrival by default, the source's on request, and a wrong clock found out."""

import numpy as np
import pytest

from protocols.driver import Mode, TagSpec, TimeSource
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.drivers.opcua.planner import make_plan
from protocols.drivers.opcua.times import Moment, set_times
from protocols.reading import Sheet
from protocols.samples import NO_TIME, Code, DataType, Quality, Sample

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000
YEAR_1990, YEAR_2099 = 631_152_000_000_000, 4_070_908_800_000_000


def row(
    source: int,
    *,
    before: int = NO_TIME,
    server: int = NOW,
    last: int = NOW - 100_000,
    how: TimeSource = TimeSource.ARRIVAL,
    keep: bool = False,
) -> Sample:
    connection = OpcuaConnection(
        url="opc.tcp://plc", time_source=how, keep_source_time=keep, max_skew_s=3_600
    )
    plan = make_plan(connection, [TagSpec("d.t", "i=1", DataType.INT16)], Mode.CYCLIC)
    sheet = Sheet(plan.rows)
    cells = np.array([0])
    moment = Moment(NOW, server, last)
    sheet.column(DataType.INT16.value_class)[0] = 5
    set_times(sheet, cells, np.array([source]), np.array([before]), moment, connection)
    return sheet.batch().row(0)


def test_arrival_is_the_time_and_the_source_is_not_kept() -> None:
    found = row(NOW - 5)
    assert (found.time_us, found.agent_time_us, found.device_time_us) == (NOW, NOW, None)
    assert (found.quality, found.code) == (Quality.GOOD, None)


def test_the_source_time_is_kept_when_asked_for() -> None:
    assert row(NOW - 5, keep=True).device_time_us == NOW - 5
    assert row(NO_TIME, keep=True).device_time_us is None


def test_the_source_time_is_the_time_when_asked_for() -> None:
    found = row(NOW - 5, how=TimeSource.SOURCE)
    assert (found.time_us, found.agent_time_us, found.device_time_us) == (NOW - 5, NOW, None)
    assert row(NO_TIME, how=TimeSource.SOURCE).time_us == NOW


def test_a_source_time_too_old_to_be_the_time_is_kept_beside() -> None:
    found = row(YEAR_1990, how=TimeSource.SOURCE)
    assert (found.time_us, found.device_time_us) == (NOW, YEAR_1990)
    assert (found.quality, found.code) == (Quality.GOOD, None)


def test_an_old_time_of_a_value_that_stands_still_is_no_wrong_clock() -> None:
    assert row(NOW - 30 * DAY, before=NOW - 30 * DAY).quality == Quality.GOOD
    assert row(NOW - 30 * DAY).quality == Quality.GOOD


@pytest.mark.parametrize("how", list(TimeSource))
@pytest.mark.parametrize(
    ("source", "before", "server"),
    [
        (YEAR_2099, NO_TIME, NOW),  # ahead of us
        (YEAR_1990 + 5, YEAR_1990, NOW),  # it changed just now and says 1990
        (YEAR_1990, YEAR_1990, YEAR_1990),  # the server itself says 1990
        (NOW, NO_TIME, YEAR_2099),
    ],
)
def test_a_wrong_clock_is_replaced_and_kept(
    how: TimeSource, source: int, before: int, server: int
) -> None:
    found = row(source, before=before, server=server, how=how)
    assert (found.time_us, found.agent_time_us, found.device_time_us) == (NOW, NOW, source)
    assert (found.quality, found.code, found.value) == (Quality.UNCERTAIN, Code.CLOCK_SKEW, 5)


def test_without_a_source_time_the_servers_is_kept() -> None:
    assert row(NO_TIME, server=YEAR_1990).device_time_us == YEAR_1990


def test_a_long_pause_between_reads_is_no_wrong_clock() -> None:
    """The value changed 20 hours ago; we looked last 30 hours ago."""
    day = row(NOW - 20 * DAY // 24, before=NOW - 3 * DAY, last=NOW - 30 * DAY // 24)
    assert day.quality == Quality.GOOD
