"""What may be taken, decided without a database: any bytes have an answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.admission import (
    WINDOW_FRAMES,
    Accepted,
    Agent,
    Conduct,
    Later,
    Postponed,
    Reason,
    Refused,
    Statement,
    days_of,
    decide,
)
from cloud.scope import checked, covers
from cloud.source import Record
from protocols.errors import ConfigError
from protocols.events import from_us
from protocols.frames import Frame, Kind
from protocols.notices import Hello, LaneState, Status
from protocols.samples import DataType, from_samples
from tests.support.frames import AgentVoice, changed, sample

T0 = 1_790_000_000_000_000
NOW = from_us(T0 + 60_000_000)
AGENT = Agent(1, 1, "berlin.press1", ("L1/**",))
DAY_US = 86_400_000_000


def record(data: bytes, channel: str = "live", agent: str = "berlin.press1") -> Record:
    return Record(agent, channel, data, None)


def one(**fields: Any) -> Frame:
    return changed(AgentVoice().samples([sample("d.x", DataType.INT32, T0, 1)]), **fields)


def test_a_good_frame_is_accepted_with_its_contents() -> None:
    decision = decide(record(one().sealed), AGENT, NOW)
    assert isinstance(decision, Accepted)
    assert decision.contents.samples is not None
    assert len(decision.contents.samples) == 1


@settings(max_examples=40)
@given(st.binary(max_size=300), st.sampled_from(["live", "events", "hello", "nonsense"]))
def test_any_bytes_have_an_answer(data: bytes, channel: str) -> None:
    assert isinstance(decide(record(data, channel), AGENT, NOW), Refused | Postponed)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_never_accepted(at: int, mask: int) -> None:
    data = bytearray(one().sealed)
    data[at % len(data)] ^= mask
    decision = decide(record(bytes(data)), AGENT, NOW)
    assert isinstance(decision, Refused | Postponed)


@settings(max_examples=40)
@given(st.binary(max_size=400))
def test_any_payload_under_a_good_header_is_rejected_or_taken(payload: bytes) -> None:
    frame = changed(one(), payload=payload, raw_len=len(payload), compressed=False)
    decision = decide(record(frame.sealed), AGENT, NOW)
    assert isinstance(decision, Refused)
    assert decision.reason is Reason.REJECTED
    assert decision.header is not None


@pytest.mark.parametrize("kind", [Kind.EVENTS, Kind.ALARMS, Kind.TAGS, Kind.OUTAGE, Kind.DROP])
@settings(max_examples=40)
@given(payload=st.binary(max_size=200))
def test_any_lines_are_rejected_or_taken(kind: Kind, payload: bytes) -> None:
    voice = AgentVoice()
    lane = voice.alarms([]).header.lane
    channel = "events"
    if kind not in (Kind.EVENTS, Kind.ALARMS):
        lane, channel = voice.notices(kind, []).header.lane, "control"
    frame = changed(
        one(), payload=payload, raw_len=len(payload), compressed=False, kind=kind, lane=lane,
        rows=payload.count(b"\n") + 1,
    )  # fmt: skip
    decision = decide(record(frame.sealed, channel), AGENT, NOW)
    assert isinstance(decision, Refused)
    assert decision.reason is Reason.REJECTED


def test_an_unknown_agent_waits_whatever_its_payload_is() -> None:
    bad = changed(one(), payload=b"x", raw_len=1, compressed=False)
    decision = decide(record(bad.sealed), None, NOW)
    assert isinstance(decision, Postponed)
    assert decision.why is Later.UNKNOWN_AGENT


def test_a_set_aside_agent_waits() -> None:
    decision = decide(record(one().sealed), replace(AGENT, is_set_aside=True), NOW)
    assert isinstance(decision, Postponed)
    assert decision.why is Later.SET_ASIDE


def test_an_agents_clock_five_minutes_ahead_is_still_borne() -> None:
    edge = (T0 + 60_000_000) + 300_000_000
    assert isinstance(decide(record(one(t_max=edge).sealed), AGENT, NOW), Accepted)
    assert isinstance(decide(record(one(t_max=edge + 1).sealed), AGENT, NOW), Refused)


def test_hello_speaks_only_for_its_topic() -> None:
    voice = AgentVoice()
    hello = Hello(agent=voice.agent, epoch=1, at=NOW)
    assert isinstance(decide(record(voice.hello(hello).sealed, "hello"), AGENT, NOW), Statement)
    other = decide(record(voice.hello(hello).sealed, "hello", "turin.oven"), AGENT, NOW)
    assert isinstance(other, Refused)
    foreign = voice.hello(hello.model_copy(update={"agent": "turin.oven"}))
    assert isinstance(decide(record(foreign.sealed, "hello"), AGENT, NOW), Refused)


@pytest.mark.parametrize("number", [-1, 2**63])
def test_numbers_that_no_column_holds_are_refused(number: int) -> None:
    voice = AgentVoice()
    lane = LaneState(epoch=1, lane=2, floor=1, head=1, rows=0).model_copy(update={"head": number})
    hello = Hello(agent=voice.agent, epoch=1, at=NOW, lanes=(lane,))
    assert isinstance(decide(record(voice.hello(hello).sealed, "hello"), AGENT, NOW), Refused)
    status = Status(agent=voice.agent, epoch=1, at=NOW).model_copy(update={"read": number})
    assert isinstance(decide(record(voice.status(status).sealed, "hello"), AGENT, NOW), Refused)


def test_conduct_looks_at_the_last_hundred_frames_only() -> None:
    conduct = Conduct()
    for _ in range(WINDOW_FRAMES // 2):
        conduct.note(rejected=True)
    judged = [conduct.is_intolerable]
    conduct.note(rejected=True)
    judged.append(conduct.is_intolerable)
    for _ in range(WINDOW_FRAMES):
        conduct.note(rejected=False)
    judged.append(conduct.is_intolerable)
    assert judged == [False, True, False]


def test_days_are_those_of_the_rows() -> None:
    rows = [sample("d.x", DataType.INT32, T0 + n * DAY_US, 1) for n in (0, 0, 3, -2)]
    first = T0 // DAY_US
    assert list(days_of(from_samples(rows))) == [first - 2, first, first + 3]
    assert list(days_of(from_samples(rows[:2]))) == [first]
    before = from_samples([sample("d.x", DataType.INT32, -1, 1)])
    assert list(days_of(before)) == [-1]
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days_of(before)[0])
    assert day == datetime(1969, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "station", "covered"),
    [
        ("L1/**", "L1/ST010", True),
        ("L1/**", "L1/a/b", True),
        ("L1/**", "L1", False),
        ("L1/**", "L10/ST010", False),
        ("L1/*", "L1/ST010", True),
        ("L1/*", "L1/a/b", False),
        ("L*/ST0?0", "L1/ST0?0", True),
        ("L*/ST0?0", "L1/ST010", False),
        ("**", "anything/at\nall", True),
        ("L1/ST010", "L1/ST010x", False),
        ("L.", "L1", False),
    ],
)
def test_scope(pattern: str, station: str, covered: bool) -> None:  # noqa: FBT001 - a table
    assert covers([pattern], station) is covered
    assert covers(["nothing", pattern], station) is covered


@pytest.mark.parametrize("bad", ["", "L1/ ST", "/L1", "L1/", "L1//x", "a\x00", "x" * 256])
def test_a_pattern_that_can_match_nothing_is_a_mistake(bad: str) -> None:
    with pytest.raises(ConfigError, match="--scope"):
        checked(["L1/**", bad])


def test_no_pattern_at_all_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="no pattern is given"):
        checked([])
    assert checked(["L1/**", "L1/**"]) == ("L1/**",)
