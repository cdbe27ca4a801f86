"""What a dead letter says, as far as it can be read: header, then payload. Pure.

Rule 1: any bytes give an answer; what cannot be read is named, and the rest is shown.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, Final

from protocols import codec
from protocols.errors import Rejected
from protocols.events import from_us, rfc3339
from protocols.frames import NO_WATERMARK, Frame, Header, Kind, Newer, join, read_header
from protocols.samples import Sample

LINES_MAX: Final = 20
BYTES_MAX: Final = 64  # of what cannot be read
_TIMES: Final = ("sealed_at", "t_min", "t_max", "watermark")


@dataclass(frozen=True, slots=True)
class Unfolded:
    """`header` None: unreadable. `payload`: the first of `lines`. `trouble`: why it ends there."""

    header: dict[str, Any] | None
    payload: tuple[str, ...]
    lines: int
    trouble: str | None


def unfold(data: bytes) -> Unfolded:
    """As far as this program can read it."""
    try:
        found = read_header(data)
    except Rejected as error:
        return Unfolded(None, (_raw(data),), 1, error.reason)
    if isinstance(found, Newer):
        told = {one.name: getattr(found, one.name) for one in fields(found)}
        return Unfolded(told | _hex(found), (), 0, f"this program does not know {found.why}")
    header, length = found
    payload = data[length:]
    told = _told(header)
    try:
        lines = _lines(join(header, data[:length], payload))
    except Rejected as error:
        return Unfolded(told, (_raw(payload),), 1, error.reason)
    return Unfolded(told, tuple(lines[:LINES_MAX]), len(lines), None)


def _told(header: Header) -> dict[str, Any]:
    told: dict[str, Any] = {one.name: getattr(header, one.name) for one in fields(header)}
    told["kind"], told["lane"] = header.kind.name.lower(), header.lane.name.lower()
    told |= {name: _time(told[name]) for name in _TIMES}
    if header.totals is not None:
        told["totals"] = {
            one.name: getattr(header.totals, one.name) for one in fields(header.totals)
        }
    told["unknown_extensions"] = [kind for kind, _ in header.unknown_extensions]
    return told | _hex(header)


def _hex(frame: Header | Newer) -> dict[str, str]:
    return {"epoch": f"{frame.epoch:016x}", "digest": f"{frame.digest:016x}"}


def _time(time_us: int) -> str:
    if time_us == NO_WATERMARK:
        return "no promise"
    within = codec.TIME_US_MIN <= time_us <= codec.TIME_US_MAX
    return rfc3339(from_us(time_us)) if within else f"{time_us} µs"


def _lines(frame: Frame) -> list[str]:
    raw = codec.payload_of(frame)
    return list(_READ.get(frame.header.kind, _text)(raw))


def _text(raw: bytes) -> Iterator[str]:
    for line in codec.decode_lines(raw):
        yield line.decode("utf-8", "backslashreplace")


def _samples(raw: bytes) -> Iterable[str]:
    batch = codec.decode_samples(raw)
    shown = (_row(batch.row(at)) for at in range(min(len(batch), LINES_MAX)))
    return [*shown, *[""] * (len(batch) - LINES_MAX)]


def _row(row: Sample) -> str:
    code = "" if row.code is None else f" code 0x{row.code:08X}"
    return f"{_time(row.time_us)} {row.path} {row.type} = {row.value!r} 0x{row.quality:08X}{code}"


def _curve(raw: bytes) -> Iterator[str]:
    curve = codec.decode_curve(raw)
    yield f"{curve.name} at {curve.place} of pass {curve.pass_id}"
    for column, unit, data in zip(curve.columns, curve.units, curve.data, strict=True):
        points = ", ".join(f"{value:g}" for value in islice(data, 8))
        yield f"{column} [{unit}] {len(data)} points: {points}"


def _raw(data: bytes) -> str:
    more = f" and {len(data) - BYTES_MAX} bytes more" if len(data) > BYTES_MAX else ""
    return data[:BYTES_MAX].hex(" ") + more


_READ: Final[dict[Kind, Callable[[bytes], Iterable[str]]]] = {
    Kind.SAMPLES: _samples,
    Kind.CURVE: _curve,
}
