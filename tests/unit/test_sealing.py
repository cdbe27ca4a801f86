"""Cuts become frames: bounds, order, numbers that never have a hole, what a frame cannot hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.sealing import (
    RAW_BYTES_TARGET,
    ROWS_MAX,
    VALUE_BYTES_MAX,
    Moment,
    Sealed,
    Sealer,
    bare,
    bounded,
    fork,
    seal_again,
    seal_cut,
    seal_notices,
    split_rows,
)
from protocols import codec
from protocols.events import decode_event, from_us
from protocols.frames import NO_WATERMARK, Frame, Kind, Lane, Totals, split
from protocols.notices import Drop, Outage, TagLine, decode_notice
from protocols.samples import Code, DataType, Quality, Sample, SampleBatch, concat, from_samples
from tests.support import cuts

NOW_US = cuts.START_US + 10_000_000
MOMENT = Moment(NOW_US, samples_lane=Lane.LIVE)
SEALER = Sealer("plant1.a", 7)
FEW = settings(max_examples=40, deadline=None)


def text_rows(*texts: str | bytes) -> SampleBatch:
    return from_samples(
        Sample("p.text", DataType.TEXT, NOW_US + row, text, 0, None, NOW_US + row, None)
        for row, text in enumerate(texts)
    )


def samples_of(frames: tuple[Frame, ...]) -> SampleBatch:
    return concat(
        [
            codec.decode_samples(codec.payload_of(frame))
            for frame in frames
            if frame.header.kind is Kind.SAMPLES
        ]
    )


def test_a_cut_becomes_one_frame_of_each_kind_tags_first() -> None:
    cut = replace(
        cuts.cut(1, events=2),
        alarms=(cuts.alarm(1),),
        curves=(cuts.curve(1),),
        tags=(cuts.tag(1),),
        outages=(Outage(from_time=from_us(1), to_time=from_us(2), reason="start"),),
    )
    frames = seal_cut(SEALER, cut, MOMENT).frames
    assert [(frame.header.kind, frame.header.lane, frame.header.seq) for frame in frames] == [
        (Kind.TAGS, Lane.CONTROL, 1),
        (Kind.OUTAGE, Lane.CONTROL, 2),
        (Kind.EVENTS, Lane.EVENTS, 1),
        (Kind.ALARMS, Lane.EVENTS, 2),
        (Kind.SAMPLES, Lane.LIVE, 1),
        (Kind.CURVE, Lane.LIVE, 2),
    ]
    assert all(split(frame.sealed) == frame for frame in frames)
    assert [frame.header.rows for frame in frames] == [1, 1, 2, 1, 3, 0]
    tags, _, events, *_ = frames
    assert decode_notice(TagLine, codec.payload_of(tags)) == cuts.tag(1)
    assert [decode_event(line) for line in codec.decode_lines(codec.payload_of(events))] == list(
        cut.events
    )


def test_an_empty_cut_becomes_no_frame_and_counts_all_the_same() -> None:
    cut = replace(cuts.cut(1, cuts.rows(1, 0)), totals=Totals(read=5, filtered=5))
    sealed = seal_cut(SEALER, cut, MOMENT)
    assert sealed.frames == ()
    assert sealed.sealer.totals == Totals(read=5, filtered=5)


@FEW
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.booleans()), max_size=12))
def test_numbers_rows_and_totals_go_on_without_a_hole(
    steps: list[tuple[int, int, bool]],
) -> None:
    sealer = SEALER
    frames: list[Frame] = []
    read = 0
    for number, (count, events, live) in enumerate(steps):
        lane = Lane.LIVE if live else Lane.BACKLOG
        cut = cuts.cut(number, cuts.rows(number, count), events=events)
        sealed = seal_cut(sealer, cut, Moment(NOW_US, samples_lane=lane))
        sealer = sealed.sealer
        read += count
        assert all(frame.header.totals == Totals(read=read) for frame in sealed.frames)
        frames += sealed.frames
    for lane in Lane:
        headers = [frame.header for frame in frames if frame.header.lane is lane]
        assert [header.seq for header in headers] == list(range(1, len(headers) + 1))
        rows = 0
        for header in headers:
            assert header.rows_before == rows
            rows += header.rows
        assert sealer.count(lane).rows == rows


@FEW
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_no_later_frame_is_earlier_than_a_promised_watermark(counts: list[int]) -> None:
    sealer = SEALER
    frames: list[Frame] = []
    for number, count in enumerate(counts):
        cut = cuts.cut(number, cuts.rows(number, count), events=1)
        sealed = seal_cut(sealer, cut, MOMENT)
        sealer, frames = sealed.sealer, [*frames, *sealed.frames]
    for at, frame in enumerate(frames):
        later = [one.header for one in frames[at + 1 :] if one.header.lane is frame.header.lane]
        assert all(header.t_min >= frame.header.watermark for header in later)


def test_within_a_cut_only_the_last_frame_of_a_lane_has_its_watermark() -> None:
    first = seal_cut(SEALER, cuts.cut(0), MOMENT)
    cut = cuts.cut(1, cuts.rows(1, 3 * ROWS_MAX))
    marks = [frame.header.watermark for frame in seal_cut(first.sealer, cut, MOMENT).frames]
    assert marks[:-1] == [cuts.cut(0).watermark_us] * (len(marks) - 1)
    assert marks[-1] == cut.watermark_us


def test_without_a_promise_the_watermark_stays() -> None:
    sealed = seal_cut(SEALER, cuts.cut(1), replace(MOMENT, promise=False))
    assert [frame.header.watermark for frame in sealed.frames] == [NO_WATERMARK]
    assert sealed.sealer.watermark_us == NO_WATERMARK


def test_a_frame_states_the_floor_of_its_lane() -> None:
    moment = replace(MOMENT, floors={Lane.LIVE: 1})
    sealer = seal_cut(SEALER, cuts.cut(0), MOMENT).sealer
    (held,) = seal_cut(sealer, cuts.cut(1), moment).frames
    (alone,) = seal_cut(sealer, cuts.cut(1), MOMENT).frames
    assert (held.header.floor, alone.header.floor) == (1, 2)


@FEW
@given(st.integers(1, 3 * ROWS_MAX), st.integers(1, 2000))
def test_samples_are_split_at_the_rows_of_a_frame(count: int, paths: int) -> None:
    batch = cuts.rows(0, count, paths)
    parts = split_rows(batch)
    assert all(0 < len(part) <= ROWS_MAX for part in parts)
    assert np.array_equal(np.concatenate([part.time for part in parts]), batch.time)
    assert len(parts) <= -(-count // ROWS_MAX) + 3, "and not into crumbs"


@FEW
@given(st.lists(st.integers(0, VALUE_BYTES_MAX), min_size=1, max_size=12))
def test_samples_are_split_at_the_bytes_of_a_frame(lengths: list[int]) -> None:
    parts = split_rows(text_rows(*("x" * length for length in lengths)))
    assert [len(row.value) for part in parts for row in part.rows()] == lengths  # type: ignore[arg-type]  # all text
    for part in parts:
        assert len(part) == 1 or len(codec.encode_samples(part)) < RAW_BYTES_TARGET + 4096


def test_a_dictionary_larger_than_a_frame_still_ends() -> None:
    batch = from_samples(
        Sample(f"p.{tag:0240}", DataType.INT8, NOW_US, 1, 0, None, NOW_US, None)
        for tag in range(5000)
    )
    parts = split_rows(batch)
    assert sum(len(part) for part in parts) == 5000
    assert all(len(codec.encode_samples(part)) < 2 * RAW_BYTES_TARGET for part in parts)
    assert len(parts) < 16


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x" * (VALUE_BYTES_MAX + 1), DataType.TEXT),
        ("ä" * (VALUE_BYTES_MAX // 2 + 1), DataType.TEXT),
        (b"\x00" * (VALUE_BYTES_MAX + 1), DataType.BYTES),
        (np.zeros(VALUE_BYTES_MAX // 8 + 1), DataType.FLOAT64S),
        (["x" * 1000] * 300, DataType.TEXTS),
    ],
    ids=["text", "two-byte text", "bytes", "array", "texts"],
)
def test_a_value_that_no_frame_holds_goes_bad_and_the_rest_goes_on(
    value: str | bytes | list[str], kind: DataType
) -> None:
    large = Sample("p.large", kind, NOW_US, value, 0, None, NOW_US, None)
    small = Sample("p.small", DataType.INT32, NOW_US, 5, 0, None, NOW_US, None)
    batch = from_samples([small, large, small])
    cut = cuts.cut(1, bounded(batch))
    first, gone, last = samples_of(seal_cut(SEALER, cut, MOMENT).frames).rows()
    assert first == last == small
    assert (gone.value, gone.quality, gone.code) == (None, Quality.BAD, Code.TOO_LARGE)


def test_what_fits_is_not_copied() -> None:
    batch = cuts.rows(1)
    assert bounded(batch) is batch


def test_a_cut_without_room_keeps_all_but_samples_and_curves() -> None:
    cut = replace(cuts.cut(1, events=2), curves=(cuts.curve(1),))
    sealed = seal_cut(SEALER, bare(cut), MOMENT)
    assert [frame.header.kind for frame in sealed.frames] == [Kind.EVENTS]
    assert sealed.sealer.totals == Totals(read=3, discarded=3)


def test_what_no_frame_can_hold_is_handed_back() -> None:
    rng = np.random.default_rng(1)
    noise = tuple(rng.normal(size=200_000) for _ in range(2))
    large = replace(cuts.curve(1), data=noise)
    cut = replace(cuts.cut(1), curves=(large, cuts.curve(2)))
    sealed = seal_cut(SEALER, cut, MOMENT)
    assert [frame.header.kind for frame in sealed.frames] == [Kind.SAMPLES, Kind.CURVE]
    assert [frame.header.seq for frame in sealed.frames] == [1, 2]
    (one,) = sealed.unsealable
    assert (one.kind, one.raw) == (Kind.CURVE, codec.encode_curve(large))


def test_an_event_that_a_reader_would_refuse_stands_alone() -> None:
    cut = cuts.bare(1, events=0)
    huge = cuts.event(2).model_copy(update={"reason": "x" * 1_100_000})
    cut = replace(cut, events=(cuts.event(1), huge, cuts.event(3)))
    assert [frame.header.rows for frame in seal_cut(SEALER, cut, MOMENT).frames] == [1, 1, 1]


def test_many_events_are_split_at_the_bytes_of_a_frame() -> None:
    cut = replace(
        cuts.bare(1, events=0), events=tuple(cuts.event(n, "x" * 60_000) for n in range(10))
    )
    frames = seal_cut(SEALER, cut, MOMENT).frames
    assert sum(frame.header.rows for frame in frames) == 10
    assert all(frame.header.raw_len <= RAW_BYTES_TARGET for frame in frames)


def forked() -> tuple[Sealed, Sealed]:
    cut = cuts.cut(1, events=1)
    old = seal_cut(SEALER, cut, MOMENT)
    return old, seal_again(fork(old.sealer, 8), old.frames, MOMENT)


def test_forked_frames_come_again_with_the_same_payload_in_the_new_epoch() -> None:
    old, new = forked()
    for before, after in zip(old.frames, new.frames, strict=True):
        assert after.payload == before.payload
        assert after.header.epoch == 8
        assert (after.header.kind, after.header.rows) == (before.header.kind, before.header.rows)
        assert split(after.sealed) == after
    assert [frame.header.seq for frame in new.frames] == [1, 1]


def test_forked_samples_count_as_read_in_the_new_epoch() -> None:
    _, new = forked()
    assert new.sealer.totals == Totals(read=3)
    assert all(frame.header.totals == Totals(read=3) for frame in new.frames)


def test_a_notice_is_sealed_into_the_control_lane_and_promises_nothing() -> None:
    sealer = seal_cut(SEALER, cuts.cut(1), MOMENT).sealer
    drop = Drop(lane=3, from_time=from_us(0), to_time=from_us(1), reason="spool full", rows=9)
    (frame,) = seal_notices(sealer, Kind.DROP, [drop], MOMENT).frames
    assert (frame.header.kind, frame.header.lane) == (Kind.DROP, Lane.CONTROL)
    assert frame.header.watermark == NO_WATERMARK
    assert decode_notice(Drop, codec.payload_of(frame)) == drop
