"""Ingest on a real PostgreSQL: what is stored, what is answered, what is refused."""

import math
from typing import Any

import numpy as np
import pytest

from cloud.ledger import signed
from protocols.frames import Lane
from protocols.receipts import Said
from protocols.samples import Code, DataType, Quality, Sample, Value
from tests.support.frames import AgentVoice, sample
from tests.support.plant_store import Bench

pytestmark = pytest.mark.integration

T0 = 1_790_000_000_000_000

EVERY: list[tuple[DataType, Value]] = [
    (DataType.BOOL, True),
    (DataType.BOOL, False),
    (DataType.INT8, -(2**7)),
    (DataType.INT16, -(2**15)),
    (DataType.INT32, 2**31 - 1),
    (DataType.INT64, -(2**63)),
    (DataType.INT64, 2**63 - 1),
    (DataType.UINT8, 255),
    (DataType.UINT16, 65_535),
    (DataType.UINT32, 2**32 - 1),
    (DataType.UINT64, 2**64 - 1),
    (DataType.UINT64, 2**63),
    (DataType.FLOAT32, 1.5),
    (DataType.FLOAT64, math.pi),
    (DataType.FLOAT64, math.inf),
    (DataType.FLOAT64, -0.0),
    (DataType.TEXT, "Grüße\n\"'\\/ €"),
    (DataType.TEXT, ""),
    (DataType.TEXT, "x" * 10_000),
    (DataType.BYTES, b"\x00\xff\x00"),
    (DataType.DATETIME, 1_790_000_000_123_456_789),
    (DataType.DATE, 1_789_948_800_000_000_000),
    (DataType.TIME, 86_399_999_999_999),
    (DataType.DURATION, -1),
    (DataType.FLOAT32, None),
]
LISTS: list[tuple[DataType, list[Any], str]] = [
    (DataType.FLOAT64S, [1.5, -2.25], "f64s"),
    (DataType.FLOAT32S, [], "f64s"),
    (DataType.INT16S, [-1, 2], "i64s"),
    (DataType.UINT64S, [2**64 - 1, 1], "i64s"),
    (DataType.BOOLS, [True, False, True], "bools"),
    (DataType.TEXTS, ["a", "", "ü\n"], "texts"),
]


async def test_every_type_comes_back_exactly(bench: Bench) -> None:
    voice = AgentVoice()
    rows = [sample(f"d.t{at}", code, T0 + at, value) for at, (code, value) in enumerate(EVERY)]
    await bench.send(voice.samples(rows))
    found = bench.rows(
        "select t.type, s.f64, s.i64, s.text, s.bytes from sample s join tag t using (tag)"
        " order by s.time"
    )
    for (code, value), (type_, f64, i64, text, raw) in zip(EVERY, found, strict=True):
        assert type_ == code.value
        stored = next((one for one in (f64, i64, text, raw) if one is not None), None)
        if isinstance(value, bool | int):
            assert stored == signed(int(value))
        elif isinstance(value, float):
            assert stored is not None
            assert (stored, math.copysign(1, stored)) == (value, math.copysign(1, value))
        else:
            assert stored == value


async def test_nan_is_a_value(bench: Bench) -> None:
    await bench.send(AgentVoice().samples([sample("d.x", DataType.FLOAT64, T0, math.nan)]))
    assert math.isnan(bench.one("select f64 from sample"))


async def test_lists_come_back_exactly(bench: Bench) -> None:
    rows = [sample(f"d.l{at}", code, T0 + at, value) for at, (code, value, _) in enumerate(LISTS)]
    rows.append(sample("d.l0", DataType.FLOAT64S, T0 + 99, None, Quality.BAD))
    await bench.send(AgentVoice().samples(rows))
    found = bench.rows("select f64s, i64s, bools, texts, quality from sample_list order by time")
    names = ("f64s", "i64s", "bools", "texts")
    for (_, value, column), row in zip(LISTS, found, strict=False):
        wanted = [signed(one) if column == "i64s" else one for one in value]
        assert row[names.index(column)] == wanted
        assert sum(one is not None for one in row[:4]) == 1
    assert found[-1] == (None, None, None, None, Quality.BAD)
    assert bench.one("select count(*) from sample") == 0


async def test_quality_code_and_times_travel_with_the_value(bench: Bench) -> None:
    rows = [
        Sample("d.a", DataType.FLOAT32, T0, 1.0, 0, None, T0, None),
        Sample("d.a", DataType.FLOAT32, T0 + 1, 2.0, Quality.UNCERTAIN, None, T0 + 1, None),
        Sample("d.a", DataType.FLOAT32, T0 + 2, None, Quality.BAD_TIMEOUT, int(Code.TIMEOUT),
               T0 + 2, None),
        Sample("d.b", DataType.TEXT, T0 + 3, "x", 0x80350000, 7, T0 + 5, T0 - 10),
        Sample("d.c", DataType.INT16, T0 + 4, 3, 0, None, T0 + 5, None),
        Sample("d.d", DataType.BOOL, T0 + 6, bool(1), 0, None, T0 + 6, -5_000_000_000_000_000),
    ]  # fmt: skip
    await bench.send(AgentVoice().samples(rows))
    found = bench.rows(
        "select (extract(epoch from time) * 1000000)::int8, coalesce(f64, i64), text, quality,"
        " code, (extract(epoch from agent_time) * 1000000)::int8,"
        " (extract(epoch from device_time) * 1000000)::int8 from sample order by time"
    )
    assert found == [
        (T0, 1.0, None, None, None, None, None),
        (T0 + 1, 2.0, None, Quality.UNCERTAIN, None, None, None),
        (T0 + 2, None, None, Quality.BAD_TIMEOUT, Code.TIMEOUT, None, None),
        (T0 + 3, None, "x", 0x80350000, 7, T0 + 5, T0 - 10),
        (T0 + 4, 3.0, None, None, None, T0 + 5, None),
        (T0 + 6, 1.0, None, None, None, None, -5_000_000_000_000_000),
    ]


async def test_the_same_frame_twice_is_stored_once_and_answered_twice(bench: Bench) -> None:
    frame = AgentVoice().samples([sample("d.x", DataType.INT32, T0, 1)])
    await bench.send(frame)
    await bench.send(frame)
    await bench.send(frame, frame)
    assert bench.one("select count(*) from sample") == 1
    assert len(bench.said(frame)) >= 3
    assert set(bench.said(frame)) == {(Said.STORED, None)}
    assert bench.one("select count(*) from dead_letter") == 0


async def test_i1_the_same_identity_with_other_bytes_is_a_fork(bench: Bench) -> None:
    first = AgentVoice().samples([sample("d.x", DataType.INT32, T0, 1)])
    other = AgentVoice().samples([sample("d.x", DataType.INT32, T0, 2)])
    assert first.header.identity == other.header.identity
    await bench.send(first)
    await bench.send(other)
    assert bench.rows("select i64 from sample") == [(1,)]
    assert bench.said(other) == [(Said.FORKED, None)]
    assert bench.rows("select reason, data from dead_letter") == [("forked", other.sealed)]
    await bench.send(first)
    assert (Said.STORED, None) in bench.said(first)


async def test_a_fork_within_one_transaction_stores_one_of_the_two(bench: Bench) -> None:
    one = AgentVoice().samples([sample("d.x", DataType.INT32, T0, 1)])
    two = AgentVoice().samples([sample("d.x", DataType.INT32, T0, 2)])
    await bench.send(one, two)
    assert bench.one("select count(*) from sample") == 1
    assert sorted(kind for kind, _ in bench.said(one) + bench.said(two)) == ["forked", "stored"]


async def test_a_frame_of_many_rows_and_several_agents(bench: Bench) -> None:
    rng = np.random.default_rng(7)
    frames = []
    total = 0
    for name in ("berlin.press1", "berlin.press2", "turin.oven"):
        voice = AgentVoice(name, epoch=int(rng.integers(2**63)))
        for at in range(3):
            rows = [
                sample(f"d.t{n % 40}", DataType.FLOAT64, T0 + at * 1000 + n, float(value))
                for n, value in enumerate(rng.random(500))
            ]
            total += sum(one.value for one in rows)  # type: ignore[misc] # floats
            frames.append(voice.samples(rows, lane=Lane.BACKLOG if at else Lane.LIVE))
    await bench.send(*frames)
    assert bench.one("select count(*) from sample") == 4500
    assert bench.one("select sum(f64) from sample") == pytest.approx(total, rel=1e-12)
    # One path at one site is one tag, whoever sends it; another site has its own.
    assert bench.one("select count(*) from tag") == 80
    assert all(bench.said(frame) == [(Said.STORED, None)] for frame in frames)


async def test_the_ledger_holds_what_the_header_said(bench: Bench) -> None:
    voice = AgentVoice()
    voice.count(10, filtered=10)
    frame = voice.samples([sample("d.x", DataType.INT32, T0, 1)])
    await bench.send(frame)
    row = bench.rows(
        "select l.agent_id, l.epoch, l.lane, seq, digest, kind, rows, rows_before,"
        " (extract(epoch from sealed_at) * 1000000)::int8, floor, watermark, read, derived,"
        " filtered, discarded, time_min = time_max from ledger join lane l using (lane_id)"
    )[0]
    header = frame.header
    assert row[1:] == (
        signed(header.epoch), 2, 1, signed(header.digest), 1, 1, 0, header.sealed_at, 1, None,
        11, 0, 10, 0, True,
    )  # fmt: skip
