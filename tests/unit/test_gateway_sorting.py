"""Message to record or dead letter: verbatim what is carried, a reason for what is not."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import Message, Record
from gateway.sorting import LETTER_BYTES_MAX, MESSAGE_BYTES_MAX, outcome_of, sort
from protocols.frames import (
    HEADER_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    Header,
    Kind,
    Lane,
    Newer,
    read_header,
    seal,
    split,
)
from protocols.topics import LANES, sealed_of
from tests.support.gateway_fakes import AGENT, frame

CONTROL_KINDS = (Kind.TAGS, Kind.OUTAGE, Kind.RELEASE, Kind.DROP)


def sorted_as(data: bytes, channel: str = "live", agent: str = AGENT) -> Record:
    found = sort(Message(agent, channel, data, None))
    assert found is not None
    return found


def texts(record: Record) -> dict[str, bytes]:
    return dict(record.headers)


def relabelled(data: bytes, *, major: int | None = None, kind: int | None = None) -> bytes:
    """The same header with another major or kind, and a crc that fits."""
    changed = bytearray(data)
    if major is not None:
        changed[3] = major
    if kind is not None:
        changed[4] = kind
    (length,) = struct.unpack_from("<H", changed, 8)
    struct.pack_into("<I", changed, length - 4, zlib.crc32(changed[: length - 4]))
    return bytes(changed)


@pytest.mark.parametrize(("channel", "lane"), list(LANES.items()))
def test_a_frame_goes_verbatim_to_the_topic_of_its_lane(channel: str, lane: Lane) -> None:
    sent = frame(5, b"payload" * 9, lane=lane)
    record = sorted_as(sent.sealed, channel)
    assert record.topic == f"tl.{channel}"
    assert record.key == AGENT.encode()
    assert [name for name, _ in record.headers] == ["frame", "agent", "lane", "seq", "kind"]
    assert texts(record) == {
        "frame": sent.head,
        "agent": AGENT.encode(),
        "lane": channel.encode(),
        "seq": b"5",
        "kind": b"1",
    }
    assert sealed_of(record.headers, bytes(record.value)) == sent.sealed
    assert outcome_of(record) == "carried"


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.STATUS])
def test_hello_and_status_travel_with_the_control_lane(kind: Kind) -> None:
    sent = seal(Header(kind, Lane.NONE, AGENT, 7, 0), b"{}")
    record = sorted_as(sent.sealed, "hello")
    assert record.topic == "tl.control"
    assert texts(record)["lane"] == b"hello"
    assert sealed_of(record.headers, bytes(record.value)) == sent.sealed


def test_an_empty_payload_is_empty_and_not_missing() -> None:
    record = sorted_as(frame(1, b"").sealed)
    assert bytes(record.value) == b""
    assert record.value is not None


@pytest.mark.parametrize("size", [0, 1, 39, 40, 43])
def test_unreadable_bytes_are_a_dead_letter(size: int) -> None:
    record = sorted_as(b"?" * size)
    assert record.topic == "tl.dead"
    assert record.key == AGENT.encode()
    assert outcome_of(record) == "unreadable"
    assert bytes(record.value) == b"?" * size
    assert "frame_len" not in texts(record)


@pytest.mark.parametrize("at", [0, 3, 8, 30, 45, 80])
def test_a_forged_header_is_unreadable(at: int) -> None:
    data = bytearray(frame(1).sealed)
    data[at] ^= 0xFF
    if at == 3:  # another major: then only the 40 bytes are ours to judge
        data[12] ^= 1
    assert outcome_of(sorted_as(bytes(data))) in ("unreadable", "rejected")


def test_another_agents_identity_is_named() -> None:
    record = sorted_as(frame(1, agent="plant1.b").sealed)
    assert outcome_of(record) == "foreign_identity"
    assert texts(record)["detail"] == b"frame of 'plant1.b' on the topic of 'plant1.a'"
    assert record.key == AGENT.encode()
    assert int(texts(record)["frame_len"]) == len(frame(1, agent="plant1.b").head)


def test_another_agents_identity_is_named_for_kinds_we_do_not_know_too() -> None:
    data = relabelled(frame(1, agent="plant1.b").sealed, kind=99)
    assert outcome_of(sorted_as(data)) == "foreign_identity"


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (frame(1, b"abc").sealed[:-1], b"payload has 2 bytes, header says 3"),
        (frame(1, b"abc").sealed + b"!", b"payload has 4 bytes, header says 3"),
        (frame(1, b"abc").sealed[:-1] + b"?", b"payload does not match the header's digest"),
    ],
)
def test_a_payload_that_lies_is_rejected(data: bytes, detail: bytes) -> None:
    record = sorted_as(data)
    assert outcome_of(record) == "rejected"
    assert texts(record)["detail"] == detail
    assert bytes(record.value) == data


@pytest.mark.parametrize(
    ("lane", "kind", "channel"),
    [
        (Lane.LIVE, Kind.SAMPLES, "backlog"),
        (Lane.LIVE, Kind.SAMPLES, "hello"),
        (Lane.NONE, Kind.HELLO, "live"),
        (Lane.NONE, Kind.SAMPLES, "hello"),
        (Lane.EVENTS, Kind.EVENTS, "control"),
    ],
)
def test_a_lane_on_anothers_topic_is_rejected(lane: Lane, kind: Kind, channel: str) -> None:
    sent = seal(Header(kind, lane, AGENT, 7, 1), b"x")
    record = sorted_as(sent.sealed, channel)
    assert outcome_of(record) == "rejected"
    assert texts(record)["lane"] == channel.encode()


@pytest.mark.parametrize("major", [2, 200])
def test_a_newer_major_is_carried_whatever_else_it_says(major: int) -> None:
    data = bytearray(frame(3, agent="plant1.b", lane=Lane.EVENTS).sealed)
    data[3] = major
    record = sorted_as(bytes(data), "live")
    assert record.topic == "tl.live"
    assert sealed_of(record.headers, bytes(record.value)) == data
    assert isinstance(split(bytes(data)), Newer)


def test_a_newer_kind_is_carried() -> None:
    data = relabelled(frame(3).sealed, kind=99)
    record = sorted_as(data)
    assert outcome_of(record) == "carried"
    assert texts(record)["kind"] == b"99"


def test_the_largest_frame_is_carried_and_one_byte_more_is_a_dead_letter() -> None:
    largest = frame(1, bytes(PAYLOAD_BYTES_MAX))
    assert outcome_of(sorted_as(largest.sealed)) == "carried"
    record = sorted_as(largest.head + bytes(MESSAGE_BYTES_MAX - len(largest.head) + 1))
    assert outcome_of(record) == "too_large"


def test_a_dead_letter_is_cut_and_tells_its_true_size() -> None:
    record = sorted_as(bytes(LETTER_BYTES_MAX + 10))
    assert len(record.value) == LETTER_BYTES_MAX
    assert texts(record)["size"] == b"%d" % (LETTER_BYTES_MAX + 10)


def test_a_detail_stays_short() -> None:
    record = sorted_as(b"TLF\x01" + bytes([255]) * 5000)
    assert len(texts(record)["detail"]) <= 400


def test_what_is_no_agents_topic_is_nothing_to_carry() -> None:
    assert sort(Message("", "", b"x", None)) is None


mutated = st.tuples(
    st.sampled_from([frame(1).sealed, frame(9, b"y" * 500).sealed]),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4),
)


@given(st.one_of(st.binary(max_size=300), mutated), st.sampled_from(["live", "hello", "control"]))
def test_whatever_comes_is_sorted_and_what_is_carried_is_a_frame(
    made: bytes | tuple[bytes, list[tuple[int, int]]], channel: str
) -> None:
    if isinstance(made, bytes):
        data = made
    else:
        changed = bytearray(made[0])
        for at, byte in made[1]:
            changed[at % len(changed)] = byte
        data = bytes(changed)
    record = sorted_as(data, channel)
    if outcome_of(record) == "carried":
        assert sealed_of(record.headers, bytes(record.value)) == data
        found = split(data)
        assert isinstance(found, Newer) or found.header.agent == AGENT
    else:
        assert bytes(record.value) == data[:LETTER_BYTES_MAX]


def test_headers_longer_than_allowed_are_unreadable() -> None:
    data = bytearray(frame(1, bytes(HEADER_BYTES_MAX)).sealed)
    struct.pack_into("<H", data, 8, HEADER_BYTES_MAX + 1)
    assert outcome_of(sorted_as(bytes(data))) == "unreadable"


def test_the_label_says_what_the_header_says() -> None:
    sent = frame(12, b"abc")
    record = sorted_as(sent.sealed)
    assert record.label is not None
    read = read_header(sent.sealed)
    assert not isinstance(read, Newer)
    header, length = read
    assert record.label == (
        1, header.kind, header.lane, length, 3, header.epoch, header.seq, header.digest,
        header.agent,
    )  # fmt: skip
