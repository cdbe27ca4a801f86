"""Cuts become sealed frames. Pure: the sealer is a value, sealing gives frames and the next one.

Rule 1: a sealer advances only with the transaction that keeps its frames; a cut that was not kept
leaves no hole in any lane.
Rule 2: one cut gives at most one frame of a kind and lane, unless it is larger than a frame.
Rule 3: what a single frame cannot hold never stops the rest: a value goes BAD, the rest is named.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from edge.cut import Cut
from protocols import codec
from protocols.events import EVENT_BYTES_MAX, Alarm, Event, encode_line, to_us
from protocols.frames import (
    NO_WATERMARK,
    PAYLOAD_BYTES_MAX,
    RAW_BYTES_MAX,
    Frame,
    Header,
    Kind,
    Lane,
    Totals,
    seal,
)
from protocols.notices import Outage, Stretch, TagLine, encode_notice
from protocols.samples import Code, Column, Quality, SampleBatch, ValueClass

ROWS_MAX: Final = 8192
RAW_BYTES_TARGET: Final = 256 * 1024
VALUE_BYTES_MAX: Final = RAW_BYTES_TARGET - 1024  # the frame's own columns and one path beside it
_ROW_BYTES: Final = 32
_ELEMENT_BYTES: Final = 8
_SCALARS: Final = (ValueClass.F64, ValueClass.I64, ValueClass.U64, ValueClass.BOOL)


@dataclass(frozen=True, slots=True)
class LaneCount:
    """`seq`: the last one given. `rows`: of the lane since the epoch began."""

    seq: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Sealer:
    """Where one epoch stands. `watermark_us`: the last one promised."""

    agent: str
    epoch: int
    lanes: Mapping[Lane, LaneCount] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    watermark_us: int = NO_WATERMARK

    def count(self, lane: Lane) -> LaneCount:
        return self.lanes.get(lane, LaneCount())


@dataclass(frozen=True, slots=True)
class Moment:
    """What sealing must know of the world.

    Attributes:
        now_us: time of sealing.
        floors: lowest seq in the spool per lane of this epoch; absent: nothing is there.
        samples_lane: live or backlog, for samples and curves.
        promise: the cut's watermark may be given.
    """

    now_us: int
    floors: Mapping[Lane, int] = field(default_factory=dict)
    samples_lane: Lane = Lane.BACKLOG
    promise: bool = True


@dataclass(frozen=True, slots=True)
class Unsealable:
    """Something that no frame can hold: what it is, and its bytes."""

    what: str
    kind: Kind
    lane: Lane
    raw: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    sealer: Sealer
    frames: tuple[Frame, ...]
    unsealable: tuple[Unsealable, ...] = ()


def seal_cut(sealer: Sealer, cut: Cut, moment: Moment) -> Sealed:
    """Frames in the order in which they should travel: tags before what uses them."""
    totals = _plus(sealer.totals, cut.totals)
    bench = _Bench(replace(sealer, totals=totals), moment)
    bench.lines(Kind.TAGS, Lane.CONTROL, [_line_of_tag(tag) for tag in cut.tags])
    bench.lines(Kind.OUTAGE, Lane.CONTROL, [_line_of_stretch(one) for one in cut.outages])
    bench.lines(Kind.EVENTS, Lane.EVENTS, [_line_of_event(event) for event in cut.events])
    bench.lines(Kind.ALARMS, Lane.EVENTS, [_line_of_alarm(alarm) for alarm in cut.alarms])
    for part in split_rows(bounded(cut.samples)):
        times = part.agent_times
        span = int(times.min()), int(times.max())
        bench.add(Kind.SAMPLES, moment.samples_lane, codec.encode_samples(part), len(part), span)
    for curve in cut.curves:
        bench.add(Kind.CURVE, moment.samples_lane, codec.encode_curve(curve), 0)
    return bench.sealed(promise=cut.watermark_us if moment.promise else None)


def bare(cut: Cut) -> Cut:
    """The cut without samples and curves, for which there is no room: they count as discarded."""
    totals = replace(cut.totals, discarded=cut.totals.discarded + len(cut.samples))
    return replace(cut, samples=_NO_ROWS, curves=(), totals=totals)


def seal_notices(sealer: Sealer, kind: Kind, notices: Sequence[Stretch], moment: Moment) -> Sealed:
    """Drops, releases and outages of the spool's own, into the control lane."""
    bench = _Bench(sealer, moment)
    bench.lines(kind, Lane.CONTROL, [_line_of_stretch(notice) for notice in notices])
    return bench.sealed(promise=None)


def seal_again(sealer: Sealer, frames: Iterable[Frame], moment: Moment) -> Sealed:
    """The same payloads under this sealer's epoch; their samples count as read in it."""
    bench = _Bench(sealer, moment)
    for frame in frames:
        bench.again(frame)
    return bench.sealed(promise=None)


def fork(sealer: Sealer, epoch: int) -> Sealer:
    """A new epoch that has said nothing yet."""
    return Sealer(sealer.agent, epoch)


def bounded(batch: SampleBatch) -> SampleBatch:
    """Values that no frame can hold become BAD with code `too_large`; everything else unchanged."""
    too_large = _value_bytes(batch) > VALUE_BYTES_MAX
    if not too_large.any():
        return batch
    return replace(
        batch,
        kind=np.where(too_large, np.uint8(ValueClass.NONE), batch.kind),
        quality=np.where(too_large, np.uint32(Quality.BAD), batch.quality),
        code=np.where(too_large, np.int64(Code.TOO_LARGE), batch.code),
    )


def split_rows(batch: SampleBatch) -> list[SampleBatch]:
    """Parts in order, none above the rows or the raw bytes of a frame; none of an empty batch."""
    if len(batch) == 0:
        return []
    cost = _value_bytes(batch) + _ROW_BYTES
    parts = max(-(-len(batch) // ROWS_MAX), -(-_raw_bytes(batch, cost) // RAW_BYTES_TARGET))
    if parts == 1 or len(batch) == 1:
        return [batch]
    pieces = np.array_split(np.arange(len(batch)), min(parts, len(batch)))
    return [whole for piece in pieces for whole in split_rows(batch.take(piece))]


class _Line:
    """One JSON line and the agent time it is about."""

    __slots__ = ("raw", "span", "what")

    def __init__(self, what: str, raw: bytes, from_us: int, to_us: int) -> None:
        self.what = what
        self.raw = raw
        self.span = from_us, to_us


class _Bench:
    """Frames in the making; only the last one of a lane may carry the cut's watermark."""

    def __init__(self, sealer: Sealer, moment: Moment) -> None:
        self._sealer = sealer
        self._moment = moment
        self._lanes = dict(sealer.lanes)
        self._parts: list[tuple[Header, bytes]] = []
        self._unsealable: list[Unsealable] = []
        self._again = 0

    def lines(self, kind: Kind, lane: Lane, lines: Sequence[_Line]) -> None:
        # What is said of an event is agent time: it was seen after all that was promised before.
        least = self._sealer.watermark_us if lane is Lane.EVENTS else NO_WATERMARK
        for part in _split_lines(lines):
            raw = codec.encode_lines([line.raw for line in part])
            from_us = max(least, min(line.span[0] for line in part))
            span = from_us, max(from_us, *(line.span[1] for line in part))
            self.add(kind, lane, raw, len(part), span)

    def add(
        self,
        kind: Kind,
        lane: Lane,
        raw: bytes,
        rows: int,
        span: tuple[int, int] | None = None,
    ) -> None:
        packed = codec.compress(raw) if len(raw) <= RAW_BYTES_MAX else raw
        payload = min(packed, raw, key=len)
        if len(payload) > PAYLOAD_BYTES_MAX or len(raw) > RAW_BYTES_MAX:
            what = f"{kind.name.lower()} of {len(raw)} bytes, {len(payload)} compressed"
            self._unsealable.append(Unsealable(what, kind, lane, raw))
            return
        from_us, to_us = span or (self._moment.now_us, self._moment.now_us)
        header = self._header(kind, lane, rows, (from_us, to_us))
        self._parts.append(
            (replace(header, raw_len=len(raw), compressed=payload is not raw), payload)
        )

    def again(self, frame: Frame) -> None:
        old = frame.header
        if old.kind is Kind.SAMPLES:
            self._again += old.rows
        header = self._header(old.kind, old.lane, old.rows, (old.t_min, old.t_max))
        self._parts.append(
            (replace(header, raw_len=old.raw_len, compressed=old.compressed), frame.payload)
        )

    def sealed(self, promise: int | None) -> Sealed:
        totals = self._sealer.totals
        totals = replace(totals, read=totals.read + self._again)
        before = self._sealer.watermark_us
        last = {header.lane: header.seq for header, _ in self._parts}
        frames = []
        for header, payload in self._parts:
            ends = promise is not None and header.seq == last[header.lane]
            mark = promise if promise is not None and ends else before
            if header.lane is Lane.CONTROL:  # a notice may name any time long past
                mark = NO_WATERMARK
            frames.append(seal(replace(header, totals=totals, watermark=mark), payload))
        sealer = replace(
            self._sealer,
            lanes=self._lanes,
            totals=totals,
            watermark_us=before if promise is None else promise,
        )
        return Sealed(sealer, tuple(frames), tuple(self._unsealable))

    def _header(self, kind: Kind, lane: Lane, rows: int, span: tuple[int, int]) -> Header:
        count = self._lanes.get(lane, LaneCount())
        seq = count.seq + 1
        self._lanes[lane] = LaneCount(seq, count.rows + rows)
        first = self._sealer.count(lane).seq + 1
        return Header(
            kind,
            lane,
            self._sealer.agent,
            self._sealer.epoch,
            seq,
            floor=self._moment.floors.get(lane, first),
            rows=rows,
            rows_before=count.rows,
            sealed_at=self._moment.now_us,
            t_min=span[0],
            t_max=span[1],
        )


_NO_ROWS: Final = SampleBatch(
    (),
    np.zeros(0, np.int32),
    np.zeros(0, np.int64),
    np.zeros(0, np.uint8),
    {},
    np.zeros(0, np.uint32),
    np.zeros(0, np.int64),
)


def _split_lines(lines: Sequence[_Line]) -> list[list[_Line]]:
    """Parts in order. A line that a reader would refuse stands alone, so it takes none with it."""
    parts: list[list[_Line]] = []
    size = 0
    for line in lines:
        alone = len(line.raw) > EVENT_BYTES_MAX
        if (
            not parts
            or alone
            or size + len(line.raw) > RAW_BYTES_TARGET
            or len(parts[-1]) >= ROWS_MAX
        ):
            parts.append([])
            size = 0
        parts[-1].append(line)
        size += RAW_BYTES_TARGET if alone else len(line.raw) + 1
    return parts


def _line_of_tag(tag: TagLine) -> _Line:
    at_us = to_us(tag.since)
    return _Line(tag.path, encode_notice(tag), at_us, at_us)


def _line_of_stretch(notice: Stretch | Outage) -> _Line:
    from_us, until_us = to_us(notice.from_time), to_us(notice.to_time)
    return _Line(notice.reason, encode_notice(notice), from_us, until_us)


def _line_of_event(event: Event) -> _Line:
    at_us = to_us(event.seen or event.at)
    return _Line(str(event.id), encode_line(event), at_us, at_us)


def _line_of_alarm(alarm: Alarm) -> _Line:
    at_us = to_us(alarm.at)
    return _Line(alarm.key, encode_line(alarm), at_us, at_us)


def _plus(one: Totals, other: Totals) -> Totals:
    return Totals(
        one.read + other.read,
        one.derived + other.derived,
        one.filtered + other.filtered,
        one.discarded + other.discarded,
    )


def _raw_bytes(batch: SampleBatch, cost: Column) -> int:
    paths = "".join([batch.tags[index].path for index in np.unique(batch.tag).tolist()])
    return int(cost.sum()) + len(paths.encode())


def _value_bytes(batch: SampleBatch) -> Column:
    """Per row, beyond the fixed columns: only text, bytes and lists have any."""
    size = np.zeros(len(batch), np.int64)
    for kind, column in batch.values.items():
        if kind in _SCALARS:
            continue
        for row in np.flatnonzero(batch.kind == kind):
            size[row] = _long(column[row])
    return size


def _long(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    return sum(_ELEMENT_BYTES + (_long(one) if isinstance(one, str) else 0) for one in value)
