"""Frames as an agent seals them, for tests of whoever reads them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from protocols import codec
from protocols.events import encode_line
from protocols.frames import Frame, Header, Kind, Lane, Totals, seal
from protocols.notices import Hello, Notice, Status, encode_notice
from protocols.samples import DataType, Sample, SampleBatch, Value, from_samples


def sample(path: str, code: DataType, time_us: int, value: Value, quality: int = 0) -> Sample:
    return Sample(path, code, time_us, value, quality, None, time_us, None)


@dataclass
class AgentVoice:
    """One epoch of one agent: counts its lanes and totals as the sealer does."""

    agent: str = "berlin.press1"
    epoch: int = 0xFEDC_BA98_7654_3210
    now_us: int = 1_790_000_000_000_000
    seqs: dict[Lane, int] = field(default_factory=dict)
    rows: dict[Lane, int] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    floors: dict[Lane, int] = field(default_factory=dict)

    def samples(
        self,
        rows: Sequence[Sample] | SampleBatch,
        *,
        lane: Lane = Lane.LIVE,
        filtered: int = 0,
        discarded: int = 0,
    ) -> Frame:
        batch = rows if isinstance(rows, SampleBatch) else from_samples(rows)
        self.count(len(batch) + filtered + discarded, filtered, discarded)
        span = None
        if len(batch):
            span = int(batch.agent_times.min()), int(batch.agent_times.max())
        return self.sealed(Kind.SAMPLES, lane, codec.encode_samples(batch), len(batch), span)

    def curve(self, curve: codec.Curve, *, lane: Lane = Lane.LIVE) -> Frame:
        return self.sealed(Kind.CURVE, lane, codec.encode_curve(curve), 0)

    def events(self, events: Sequence[BaseModel]) -> Frame:
        raw = codec.encode_lines([encode_line(event) for event in events])
        return self.sealed(Kind.EVENTS, Lane.EVENTS, raw, len(events))

    def alarms(self, alarms: Sequence[BaseModel]) -> Frame:
        raw = codec.encode_lines([encode_line(alarm) for alarm in alarms])
        return self.sealed(Kind.ALARMS, Lane.EVENTS, raw, len(alarms))

    def notices(self, kind: Kind, notices: Sequence[Notice]) -> Frame:
        raw = codec.encode_lines([encode_notice(notice) for notice in notices])
        return self.sealed(kind, Lane.CONTROL, raw, len(notices))

    def hello(self, hello: Hello) -> Frame:
        return self._unsequenced(Kind.HELLO, encode_notice(hello))

    def status(self, status: Status) -> Frame:
        return self._unsequenced(Kind.STATUS, encode_notice(status))

    def count(self, read: int, filtered: int = 0, discarded: int = 0) -> None:
        """Rows that were read, whether or not they came into a frame."""
        t = self.totals
        self.totals = Totals(
            t.read + read, t.derived, t.filtered + filtered, t.discarded + discarded
        )

    def sealed(
        self,
        kind: Kind,
        lane: Lane,
        raw: bytes,
        rows: int,
        span: tuple[int, int] | None = None,
    ) -> Frame:
        seq = self.seqs[lane] = self.seqs.get(lane, 0) + 1
        before = self.rows.get(lane, 0)
        self.rows[lane] = before + rows
        t_min, t_max = span or (self.now_us, self.now_us)
        header = Header(
            kind,
            lane,
            self.agent,
            self.epoch,
            seq,
            floor=self.floors.get(lane, 1),
            rows=rows,
            rows_before=before,
            sealed_at=self.now_us,
            t_min=t_min,
            t_max=t_max,
            raw_len=len(raw),
            compressed=True,
            totals=self.totals,
        )
        return seal(header, codec.compress(raw))

    def _unsequenced(self, kind: Kind, raw: bytes) -> Frame:
        header = Header(kind, Lane.NONE, self.agent, self.epoch, 0, raw_len=len(raw), rows=1)
        return seal(header, raw)


def changed(frame: Frame, payload: bytes | None = None, **fields: Any) -> Frame:
    """The same frame with other header fields or payload, sealed again."""
    header = replace(frame.header, **fields)
    return seal(header, frame.payload if payload is None else payload)
