"""The binder of this agent's stations, from the compiled binding. Builds, decides nothing."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

from protocols.events import from_us
from rules.binding.binder import StationBinder
from rules.binding.plan import Compiled
from rules.ports import Binder


def make_binder(compiled: Compiled, zone: str, epoch: int, draw_64: Callable[[], int]) -> Binder:
    """`epoch`: of this process, the series of cycles that the agent itself counts."""
    return StationBinder(
        compiled, epoch=epoch, draw_series=draw_64, offset_of=offset_of(ZoneInfo(zone))
    )


def offset_of(zone: ZoneInfo) -> Callable[[int], str]:
    """A time's offset from UTC in that zone, as events carry it: `+01:00`."""

    def offset(time_us: int) -> str:
        text = from_us(time_us).astimezone(zone).strftime("%z")  # +0100, or +010236 long ago
        return f"{text[:3]}:{text[3:5]}"

    return offset
