"""What is decided of Kafka's records and places without Kafka: pure parts of ingest."""

from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.kafka_desk import Desk
from cloud.kafka_places import loss_of_record, plan_of
from cloud.kafka_records import record_of, topics_of
from cloud.positions import Known, Step, step_of
from cloud.source import (
    CHANNELS,
    Appetite,
    LossKind,
    Mark,
    Move,
    Part,
    Place,
    Record,
    Refusal,
    moves_of,
    stamp_of,
)
from tests.support.frames import AgentVoice
from tests.support.many_frames import some_frames

LIVE = Part("tl.live", 3)
TURN = object()
PLENTY = Appetite(1000, 10**9)


@dataclass
class Read:
    """A record as a consumer gives it."""

    offset: int = 7
    timestamp: int = 1_790_000_000_000
    key: bytes | None = b"berlin.press1"
    value: bytes | None = b""
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def read_of(number: int = 0, **fields: object) -> Read:
    frame = some_frames(AgentVoice(), number + 1)[number]
    headers = [("frame", frame.head), ("lane", b"live")]
    return replace(Read(value=frame.payload, headers=headers), **fields)  # type: ignore[arg-type] # any field


def record_at(offset: int, after: int, turn: object = None, part: Part = LIVE) -> Record:
    return record_of(read_of(offset=offset), part.topic, part, after, turn)


def test_a_record_is_the_frame_that_the_gateway_took_apart() -> None:
    frame = some_frames(AgentVoice(), 1)[0]
    record = record_of(read_of(), "tl.live", LIVE, 5, TURN)
    assert (record.agent, record.channel, record.data) == ("berlin.press1", "live", frame.sealed)
    assert record.place == Place(LIVE, 7, 5, 1_790_000_000_000, frame.head)
    assert record.token is TURN


@pytest.mark.parametrize(
    ("topic", "lane", "channel"),
    [
        ("tl.control", b"hello", "hello"),
        ("tl.control", b"control", "control"),
        ("tl.control", b"live", "control"),
        ("tl.live", b"hello", "live"),
        ("tl.backlog", b"", "backlog"),
    ],
)
def test_the_lane_is_the_topics_but_for_hello(topic: str, lane: bytes, channel: str) -> None:
    read = read_of()
    read.headers = [read.headers[0], ("lane", lane)]
    assert record_of(read, topic, Part(topic, 0), 0, None).channel == channel


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe", b"Berlin", b"x" * 64, b"a b"])
def test_a_key_that_is_no_agent_is_nobody(key: bytes | None) -> None:
    assert record_of(read_of(key=key), "tl.live", LIVE, 0, None).agent == ""


@given(
    st.none() | st.binary(max_size=100),
    st.none() | st.binary(max_size=100),
    st.lists(st.tuples(st.sampled_from(["frame", "lane", "reason", "x"]), st.binary(max_size=50))),
    st.sampled_from(["tl.live", "tl.control", "tl.dead"]),
)
def test_whatever_lies_in_a_topic_becomes_a_record(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], topic: str
) -> None:
    read = Read(key=key, value=value, headers=headers)
    record = record_of(read, topic, Part(topic, 0), 0, None)
    assert record.channel in CHANNELS
    frames = sum(name == "frame" for name, _ in headers)
    is_whole = topic != "tl.dead" and frames == 1 and value is not None
    assert (record.refusal is None) == is_whole


def test_what_the_gateway_refused_carries_its_words() -> None:
    headers = [("reason", b"too_large"), ("detail", b"more than 2 MiB"), ("size", b"3000000")]
    record = record_of(Read(value=b"TLF", headers=headers), "tl.dead", LIVE, 0, None)
    assert record.refusal == Refusal("too_large", "more than 2 MiB (3000000 bytes, cut)")
    assert (record.channel, record.data) == ("dead", b"TLF")


def test_topics_come_by_urgency_and_once() -> None:
    assert topics_of(CHANNELS) == ("tl.control", "tl.events", "tl.live", "tl.dead", "tl.backlog")
    assert topics_of(("backlog",)) == ("tl.backlog",)


def test_moves_begin_where_the_first_record_says_and_end_after_the_last() -> None:
    other = Part("tl.events", 0)
    first, last = record_at(7, 5), record_at(12, 8)
    records = [first, record_at(3, 3, part=other), record_at(8, 8), last]
    assert last.place is not None
    found = moves_of(records)
    assert found[1] == Move(LIVE, 5, 13, stamp_of("berlin.press1", last.place))
    assert (found[0].part, found[0].expected, found[0].next_offset) == (other, 3, 4)
    assert moves_of([replace(first, place=None)]) == ()


def test_a_stamp_tells_time_agent_and_header_apart() -> None:
    place = Place(LIVE, 7, 5, 1_000, b"header")
    stamps = {
        stamp_of("a", place),
        stamp_of("b", place),
        stamp_of("a", replace(place, time_ms=1_001)),
        stamp_of("a", replace(place, head=b"Header")),
    }
    assert len(stamps) == 4
    assert stamp_of("a", replace(place, offset=8, after=1)) == stamp_of("a", place)


TAKEN = Mark(50, b"stamp")


@pytest.mark.parametrize(
    ("mark", "ends", "kind", "doubtful"),
    [
        (Mark(), (0, 100), None, 0),
        (Mark(), (30, 100), None, 0),
        (TAKEN, (0, 100), None, 1),
        (TAKEN, (0, 50), None, 1),
        (TAKEN, (49, 50), None, 1),
        (TAKEN, (50, 50), None, 0),
        (TAKEN, (50, 80), None, 0),
        (TAKEN, (51, 80), LossKind.EXPIRED, 0),
        (TAKEN, (0, 49), LossKind.CUT, 0),
        (TAKEN, (0, 0), LossKind.CUT, 0),
    ],
)
def test_what_the_ends_of_a_log_say(
    mark: Mark, ends: tuple[int, int], kind: LossKind | None, doubtful: int
) -> None:
    plan = plan_of({LIVE: mark}, {LIVE: ends})
    assert [loss.kind for loss in plan.losses] == ([] if kind is None else [kind])
    assert len(plan.doubtful) == doubtful
    assert plan.starts[LIVE] == ends[0]


def test_only_the_same_record_at_the_same_offset_is_the_last_one_taken() -> None:
    record = record_at(49, 0)
    assert record.place is not None
    mark = Mark(50, stamp_of(record.agent, record.place))
    assert loss_of_record(record, mark) is None
    for other in (record_at(48, 0), record_at(50, 0), replace(record, agent="turin.oven")):
        loss = loss_of_record(other, mark)
        assert loss is not None
        assert loss.kind is LossKind.OTHER_RECORD


def test_an_id_of_a_topic_never_comes_back() -> None:
    first, second, third = uuid4(), uuid4(), uuid4()
    known = Known()
    known.add(first, is_replaced=True)
    known.add(second, is_replaced=False)
    assert step_of(None, first) is Step.LEARN
    assert step_of(known, second) is Step.NOTHING
    assert step_of(known, None) is Step.NOTHING
    assert step_of(known, third) is Step.REPLACE
    assert step_of(known, first) is Step.STALE
    assert step_of(Known(), first) is Step.NAME


def test_the_desk_forgets_what_was_read_in_a_turn_that_is_over() -> None:
    desk = Desk([LIVE.topic])
    desk.begin(LIVE, 5)
    before = desk.turn
    for offset in (5, 6, 9):
        desk.put(record_at(offset, desk.after(LIVE), before), LIVE, offset)
    assert desk.after(LIVE) == 10
    taken = desk.pop(Appetite(2, 10**9))
    assert [one.place.offset for one in taken if one.place] == [5, 6]
    assert not desk.is_quiet
    assert desk.holds(taken)
    desk.renew()
    assert (desk.is_empty, desk.is_quiet, desk.holds(taken)) == (True, True, False)
    desk.acknowledge(taken)
    assert desk.newly_taken() == {}
    assert desk.bytes_under_way == 0


def test_the_desk_counts_what_is_under_way() -> None:
    desk = Desk([LIVE.topic])
    desk.begin(LIVE, 0)
    for offset in range(4):
        desk.put(record_at(offset, offset, desk.turn), LIVE, offset)
    size = len(record_at(0, 0).data)
    assert len(desk.pop(Appetite(10, size // 2))) == 1, "one is always given"
    taken = desk.pop(Appetite(10, 2 * size))
    assert len(taken) == 2
    assert desk.bytes_under_way == 3 * size
    desk.acknowledge(taken)
    assert desk.bytes_under_way == size
    assert desk.newly_taken() == {LIVE: 3}
    assert desk.newly_taken() == {}
    assert len(desk.pop(PLENTY)) == 1


def test_the_desk_gives_the_more_urgent_first_whichever_came_first() -> None:
    urgent = Part("events", 0)
    desk = Desk([urgent.topic, LIVE.topic])
    for part, offset in ((LIVE, 0), (LIVE, 1), (urgent, 0), (LIVE, 2), (urgent, 1)):
        desk.put(replace(record_at(offset, offset), agent=part.topic), part, offset)
    assert [desk.waiting(topic) for topic in (urgent.topic, LIVE.topic)] == [2, 3]
    taken = desk.pop(Appetite(3, 10**9))
    assert [one.agent for one in taken] == [urgent.topic, urgent.topic, LIVE.topic]
    assert [one.place.offset for one in desk.pop(PLENTY) if one.place] == [1, 2]
