"""The broker's stream is cut alike however it arrives, and nothing in it is believed unchecked."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.packets import CHUNK_BYTES, LARGE_BYTES, Stream, puback
from gateway.wire import Wire
from protocols.errors import Rejected

LIMIT = 4 * 1024 * 1024
PINGRESP = b"\xd0\x00"
SUBACK = b"\x90\x04\x00\x01\x00\x01"


def length(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def publish(
    topic: bytes, payload: bytes, *, mid: int = 1, qos: int = 1, properties: bytes = b""
) -> bytes:
    body = struct.pack(">H", len(topic)) + topic
    body += struct.pack(">H", mid) if qos else b""
    body += length(len(properties)) + properties + payload
    return bytes([0x30 | qos << 1]) + length(len(body)) + body


def feed(stream: Stream, data: bytes, cuts: Sequence[int]) -> None:
    """In pieces as the socket may give them; `cuts` come round again."""
    at = turn = 0
    while at < len(data):
        piece = data[at : at + cuts[turn % len(cuts)]]
        room = stream.room()
        piece = piece[: len(room)]
        room[: len(piece)] = piece
        stream.filled(len(piece))
        at += len(piece)
        turn += 1


def test_a_message_comes_out_as_it_went_in() -> None:
    stream = Stream(LIMIT)
    feed(stream, publish(b"tl/1/a.b/live", b"payload", mid=513), [1000])
    (found,) = stream.messages
    assert (found.topic, found.mid, bytes(found.payload)) == (b"tl/1/a.b/live", 513, b"payload")
    assert not found.is_retained
    assert stream.rest == b""


def test_what_is_no_message_goes_on_untouched_and_in_order() -> None:
    stream = Stream(LIMIT)
    feed(stream, SUBACK + publish(b"t", b"1") + PINGRESP + publish(b"t", b"2") + puback(7), [3])
    assert stream.rest == SUBACK + PINGRESP + puback(7)
    assert [bytes(one.payload) for one in stream.messages] == [b"1", b"2"]


def test_qos_0_has_nothing_to_acknowledge() -> None:
    stream = Stream(LIMIT)
    feed(stream, publish(b"t", b"x", qos=0), [100])
    assert stream.messages[0].mid == 0
    assert bytes(stream.messages[0].payload) == b"x"


def test_properties_are_passed_over() -> None:
    stream = Stream(LIMIT)
    feed(stream, publish(b"t", b"x", properties=b"\x0b" * 200), [100])
    assert bytes(stream.messages[0].payload) == b"x"


def test_a_retained_message_says_so() -> None:
    packet = bytearray(publish(b"t", b"x"))
    packet[0] |= 1
    stream = Stream(LIMIT)
    feed(stream, bytes(packet), [100])
    assert stream.messages[0].is_retained


def test_payloads_outlive_the_next_read() -> None:
    stream = Stream(LIMIT)
    feed(stream, publish(b"t", b"a" * 10) + publish(b"t", b"b" * (LARGE_BYTES + 1)), [CHUNK_BYTES])
    kept = list(stream.messages)
    feed(stream, publish(b"t", b"c" * 100) * 3000, [CHUNK_BYTES])
    assert bytes(kept[0].payload) == b"a" * 10
    assert bytes(kept[1].payload) == b"b" * (LARGE_BYTES + 1)


sizes = st.one_of(
    st.integers(0, 300),
    st.sampled_from([LARGE_BYTES - 20, LARGE_BYTES, LARGE_BYTES + 1, CHUNK_BYTES, CHUNK_BYTES + 9]),
)
packets = st.lists(
    st.one_of(st.sampled_from([PINGRESP, SUBACK]), sizes.map(lambda n: publish(b"t/l", b"z" * n))),
    max_size=12,
)


@given(packets, st.lists(st.one_of(st.integers(1, 40), st.integers(1, CHUNK_BYTES)), min_size=1))
def test_however_it_is_cut_the_same_comes_out(whole: list[bytes], cuts: list[int]) -> None:
    large = any(len(packet) > 1000 for packet in whole)
    if large:
        cuts = [cut + 2000 for cut in cuts]
    stream = Stream(LIMIT)
    feed(stream, b"".join(whole), cuts)
    assert stream.rest == b"".join(packet for packet in whole if packet[0] & 0xF0 != 0x30)
    expected = [len(packet) for packet in whole if packet[0] & 0xF0 == 0x30]
    assert [len(publish(one.topic, bytes(one.payload))) for one in stream.messages] == expected


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_are_cut_or_rejected(data: bytes, cut: int) -> None:
    stream = Stream(1000)
    try:
        feed(stream, data, [cut])
    except Rejected:
        return
    kept = len(stream.rest) + sum(len(one.topic) + len(one.payload) for one in stream.messages)
    assert kept <= len(data)


def test_a_packet_above_the_limit_is_not_waited_for() -> None:
    stream = Stream(LIMIT)
    with pytest.raises(Rejected, match="packet of"):
        feed(stream, b"\x32" + length(LIMIT + 1), [100])


@pytest.mark.parametrize(
    "data",
    [
        b"\x32\xff\xff\xff\xff\x01",
        b"\x32\x02\x00\x09",  # a topic longer than the packet
        b"\x32\x03\x00\x01t",  # no number
        b"\x30\x03\x00\x01t",  # no properties
        b"\x30\x04\x00\x01t\x09",  # properties longer than the packet
        b"\x30\x04\x00\x01t\x80",  # a length without an end
    ],
)
def test_no_mqtt_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected):
        feed(Stream(LIMIT), data, [100])


class Full:
    """A socket that always has more."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def recv_into(self, room: memoryview) -> int:
        piece, self.left = self.left[: len(room)], self.left[len(room) :]
        room[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("size", [1_000, LARGE_BYTES * 3])
def test_of_a_full_socket_no_more_is_read_than_the_bound_and_a_chunk(size: int) -> None:
    wire = Wire(Full(publish(b"tl/1/a.b/live", bytes(size)) * (4_000_000 // size)), LIMIT)
    for bytes_max in (300_000, 1):
        found = wire.read(bytes_max)
        taken = sum(len(one.payload) for one in found)
        assert taken < bytes_max + CHUNK_BYTES + size


def test_an_acknowledgement_is_four_bytes() -> None:
    assert puback(0x1234) == b"\x40\x02\x12\x34"
