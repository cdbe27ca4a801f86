"""One frame of every kind and every type, as wire 1 first wrote them.

`python -m tests.support.wire1 NAME …` writes new golden files; existing ones are never rewritten.
"""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np

from protocols import codec, events, notices
from protocols.frames import Frame, Header, Kind, Lane, Totals, seal
from protocols.receipts import Receipt, Run, Said, encode_receipt
from protocols.samples import DataType, Quality, Sample, SampleBatch, Value, from_samples

FOLDER = Path(__file__).parent.parent / "golden" / "wire1"
AT = datetime(2026, 11, 22, 9, 30, 0, 123456, UTC)
AT_US = events.to_us(AT)
PASS = events.pass_id("plant1", "L1/ST010", "", 0xFEEDFACECAFEBEEF, 65537)
SERIAL = events.NameRef(scheme="serial", issuer="4711", value="A1B2C3D4E5F6")

VALUES: dict[DataType, Value] = {
    DataType.BOOL: True,
    DataType.INT8: -128,
    DataType.INT16: -32768,
    DataType.INT32: -(2**31),
    DataType.INT64: -(2**63),
    DataType.UINT8: 255,
    DataType.UINT16: 65535,
    DataType.UINT32: 2**32 - 1,
    DataType.UINT64: 2**64 - 1,
    DataType.FLOAT32: 0.10000000149011612,
    DataType.FLOAT64: -0.0,
    DataType.TEXT: "Größe \U0001f9f5 'quoted'\n",
    DataType.BYTES: b"\x00\xff",
    DataType.DATETIME: AT_US * 1000 + 1,
    DataType.DATE: 1_795_305_600_000_000_000,
    DataType.TIME: 86_399_999_999_999,
    DataType.DURATION: -1,
    DataType.BOOLS: [True, False],
    DataType.INT8S: [-128, 127],
    DataType.INT16S: [-32768, 32767],
    DataType.INT32S: [-(2**31), 2**31 - 1],
    DataType.INT64S: [-(2**63), 2**63 - 1],
    DataType.UINT8S: [0, 255],
    DataType.UINT16S: [0, 65535],
    DataType.UINT32S: [0, 2**32 - 1],
    DataType.UINT64S: [0, 2**64 - 1],
    DataType.FLOAT32S: [0.5, -0.25],
    DataType.FLOAT64S: [1e300, 5e-324],
    DataType.TEXTS: ["", "ü"],
}


def samples() -> SampleBatch:
    rows = [
        Sample(f"st010.{kind.value}", kind, AT_US + at, value, Quality.GOOD, None, AT_US + at, None)
        for at, (kind, value) in enumerate(VALUES.items())
    ]
    nan, bad = float("nan"), Quality.BAD_NO_COMMUNICATION
    rows += [
        Sample("st010.nan", DataType.FLOAT64, AT_US, nan, Quality.UNCERTAIN, 0xFFFF0008, AT_US, 77),
        Sample("st010.bad", DataType.INT16, AT_US, None, bad, 0xFFFF0002, AT_US + 5, None),
        Sample("st010.raw[3]", DataType.TEXT, AT_US, b"a\x00b", Quality.GOOD, 11, AT_US, None),
    ]
    return from_samples(rows)


def curve() -> codec.Curve:
    way = np.array([0.0, 0.5, 1.0])
    force = np.array([0.0, float("nan"), 8.25])
    return codec.Curve(
        PASS, "force_way", "a", "way", ("way", "force"), ("mm", "kN"), (way, force)
    )  # fmt: skip


def _envelope(what: str) -> dict[str, object]:
    return {
        "id": events.event_id(PASS, what, 0),
        "site": "plant1",
        "at": AT,
        "zone_offset": "+01:00",
        "clock": events.ClockInfo(source=events.ClockKind.PLC, offset_us=-1500, error_us=250),
        "seen": AT,
        "by": "plant1.line1",
    }


def all_events() -> list[events.Event]:
    item = events.PassItem(
        ref=SERIAL,
        how=events.Outcome.BOUND,
        verdict=events.Verdict.FAIL,
        defects=(events.Defect(code="17", place="2"),),
        witnesses=(
            events.Witness(
                source="st010.dmc",
                raw="P1#S2\\x00",
                at=AT,
                outcome=events.Outcome.BOUND,
                ref=SERIAL,
            ),
        ),
    )
    torque = events.PassValue(name="torque", place="1", num=8.25, unit="N.m", low=8.0, ok=True)
    count = events.PassValue(name="turns", int=2**63 - 1)
    form = codec.curve_sha256(curve())
    wave = events.CurveRef(name="force_way", place="a", sha256=form, n=3, axis="way", units=("mm",))
    return [
        events.NameEvent(
            **_envelope("name"), names=(SERIAL,), material="EDRIVE", order="4500017",
            qty=events.Quantity(value="1", uom="C62"), purpose=events.Purpose.MASTER,
        ),
        events.PassEvent(
            **_envelope("pass"), pass_id=PASS, station="L1/ST010", operation="screw-cover",
            key=events.PassKey(series=0xFEEDFACECAFEBEEF, count=65537, raw=1, modulus=65536),
            started=AT, ended=AT, ended_by=events.EndedBy.END,
            windows=(events.Window(device="st010", start=AT, end=AT),), items=(item,),
            feeds=(events.Feed(holder="feeder/F07", qty=events.Quantity(value="6")),),
            values=(torque, count), curves=(wave,), recipe=events.Recipe(name="7"),
            seats={"tool": "seat/ST010-SPINDLE"}, binding_rev="3f2a",
        ),
        events.MoveEvent(
            **_envelope("move"), what=events.NameRef(scheme="lot", value="L-77"),
            to=events.HolderRef(holder="feeder/F07"), qty=events.Quantity(value="0.10", uom="kg"),
        ),
        events.MakeEvent(
            **_envelope("make"), run="R1",
            inputs=(events.Portion(ref=events.NameRef(scheme="lot", value="L-77")),),
            outputs=(events.Portion(ref=SERIAL, segment=events.Segment(start=0, end=1.5)),),
        ),
        events.StateEvent(
            **_envelope("state"), items=(events.PassRef(pass_id=PASS, place="a"),),
            set=("scrapped",), unset=("released",), case="C-1",
        ),
        events.GapEvent(
            **_envelope("gap"), station="L1/PRESS20", nest="b", series=7, from_count=5, to_count=6,
            from_at=AT, reason="counter jumped",
        ),
        events.VoidEvent(**_envelope("void"), replaces=(UUID(int=1),), reason="scanned twice"),
    ]  # fmt: skip


def _frame(kind: Kind, lane: Lane, raw: bytes, rows: int, seq: int = 3) -> Frame:
    header = Header(
        kind, lane, "plant1.line1", 0x0123456789ABCDEF, seq, 1, rows, 40, AT_US + 9, AT_US,
        AT_US + 8, AT_US + 8, len(raw), compressed=kind is Kind.SAMPLES,
        totals=Totals(100, 1, 2, 3),
    )  # fmt: skip
    return seal(header, codec.compress(raw) if header.compressed else raw)


def _lines(kind: Kind, lane: Lane, lines: list[bytes], seq: int = 3) -> Frame:
    return _frame(kind, lane, codec.encode_lines(lines), len(lines), seq)


def _stretch() -> dict[str, object]:
    return {
        "lane": 2, "from_time": AT, "to_time": AT, "from_seq": 1, "to_seq": 9,
        "epoch": 1, "reason": "spool full", "rows": 90,
    }  # fmt: skip


def _notices() -> dict[Kind, tuple[Lane, list[notices.Notice]]]:
    tag = notices.TagLine(
        path="st010.torque[1]", since=AT, type=DataType.FLOAT32, unit="N.m", scale=0.1,
        address="DB1.DBD10:REAL", station="L1/ST010", was="st010.torque1",
    )  # fmt: skip
    lane = notices.LaneState(epoch=2**64 - 1, lane=2, floor=1, head=9, rows=90)
    hello = notices.Hello(agent="plant1.line1", epoch=7, at=AT, version="0.1.0", lanes=(lane,))
    group = notices.GroupStatus(device="st010", group="hs", scheduled=10, started=9, overruns=1)
    status = notices.Status(agent="plant1.line1", epoch=7, at=AT, read=9, groups=(group,))
    return {
        Kind.TAGS: (Lane.CONTROL, [tag]),
        Kind.OUTAGE: (Lane.CONTROL, [notices.Outage(**_stretch())]),
        Kind.RELEASE: (Lane.CONTROL, [notices.Release(**_stretch())]),
        Kind.DROP: (Lane.CONTROL, [notices.Drop(**_stretch())]),
        Kind.HELLO: (Lane.NONE, [hello]),
        Kind.STATUS: (Lane.NONE, [status]),
    }


def _alarm() -> events.Alarm:
    return events.Alarm(
        id=UUID(int=3), key="identity_conflict", state=events.AlarmState.RAISED,
        severity=events.Severity.ERROR, at=AT, text="two witnesses differ", source="L1/ST010",
    )  # fmt: skip


def _receipt() -> Receipt:
    run = Run(epoch=7, lane=2, kind=Said.STORED, first=3, digests=(1, 2**64 - 1))
    refused = Run(epoch=7, lane=1, kind=Said.REJECTED, first=1, digests=(5,), reason="not Arrow")
    return Receipt(agent="plant1.line1", store_id="7/1/0", log_gen=None, runs=(run, refused))


def frames() -> Iterator[tuple[str, Callable[[], Frame]]]:
    """Name → what seals the frame today."""
    batch = samples()
    yield (
        "samples",
        lambda: _frame(Kind.SAMPLES, Lane.LIVE, codec.encode_samples(batch), len(batch)),
    )
    yield "curve", lambda: _frame(Kind.CURVE, Lane.BACKLOG, codec.encode_curve(curve()), 0)
    lines = [events.encode_line(event) for event in all_events()]
    yield "events", lambda: _lines(Kind.EVENTS, Lane.EVENTS, lines)
    yield "alarms", lambda: _lines(Kind.ALARMS, Lane.EVENTS, [events.encode_line(_alarm())])
    for kind, (lane, said) in _notices().items():
        yield kind.name.lower(), _sealing(kind, lane, said)
    yield "receipt", lambda: _lines(Kind.RECEIPT, Lane.NONE, [encode_receipt(_receipt())], 0)


def _sealing(kind: Kind, lane: Lane, said: list[notices.Notice]) -> Callable[[], Frame]:
    seq = 0 if lane is Lane.NONE else 3
    return lambda: _lines(kind, lane, [notices.encode_notice(one) for one in said], seq)


def seen(frame: Frame) -> object:
    """What the frame says, as JSON with exact numbers: the expectation beside each golden file."""
    header = {
        name: (value if not isinstance(value, Totals) else [value.read, value.derived,
                                                             value.filtered, value.discarded])
        for name in Header.__dataclass_fields__
        if (value := getattr(frame.header, name)) is not None and name != "unknown_extensions"
    }  # fmt: skip
    return {"header": header, "payload": _payload(frame)}


def _payload(frame: Frame) -> object:
    raw = codec.payload_of(frame)
    if frame.header.kind is Kind.SAMPLES:
        return [repr(_plain(row)) for row in codec.decode_samples(raw).rows()]
    if frame.header.kind is Kind.CURVE:
        found = codec.decode_curve(raw)
        about = (
            str(found.pass_id),
            found.name,
            found.place,
            found.axis,
            found.columns,
            found.units,
        )
        return [repr(about), *(repr(column.tolist()) for column in found.data)]
    return [json.loads(line) for line in codec.decode_lines(raw)]


def _plain(row: Sample) -> tuple[object, ...]:
    value = row.value.tolist() if isinstance(row.value, np.ndarray) else row.value
    return (*row[:1], row.type.value, row.time_us, value, *row[4:])


def main() -> None:
    for name, make in frames():
        if name in sys.argv[1:] and not (FOLDER / f"{name}.frame").exists():
            frame = make()
            (FOLDER / f"{name}.frame").write_bytes(frame.sealed)
            text = json.dumps(seen(frame), indent=1, ensure_ascii=False)
            (FOLDER / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
