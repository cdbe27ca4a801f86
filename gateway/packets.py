"""Cuts the broker's stream of MQTT 5 bytes into messages and everything else. Pure.

The library decodes a message into some thirty objects; at thousands a second that is most of what
a gateway would do. Here a message costs one copy. All other packets go to the library untouched.

Rule 1: no packet is believed about its size beyond the limit that the broker was told.
Rule 2: a large packet is filled in place, so that its bytes are copied once.
"""

from typing import Final, NamedTuple

from protocols.errors import Rejected

CHUNK_BYTES: Final = 256 * 1024
LARGE_BYTES: Final = 32 * 1024  # a packet above it gets a place of its own
_PUBLISH: Final = 0x30
_TYPE: Final = 0xF0
_LENGTH_BYTES_MAX: Final = 4
_MORE: Final = 0x80  # in a byte of a length: another one follows


class Publish(NamedTuple):
    """A message as it came. `mid` 0: QoS 0, nothing to acknowledge."""

    topic: bytes
    mid: int
    is_retained: bool
    payload: bytes | memoryview


def puback(mid: int) -> bytes:
    """Received with success: MQTT 5 leaves reason and properties out then."""
    return b"\x40\x02" + mid.to_bytes(2, "big")


class Stream:
    """What comes in: fill `room()`, say how much by `filled`, then empty `messages` and `rest`.

    `rest`: packets that are no messages, as they came.
    """

    def __init__(self, packet_bytes_max: int) -> None:
        self.messages: list[Publish] = []
        self.rest = bytearray()
        self._packet_bytes_max = packet_bytes_max
        self._chunk = bytearray(CHUNK_BYTES)
        self._view = memoryview(self._chunk)
        self._end = 0
        self._large: bytearray | None = None
        self._large_end = 0

    def room(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        if self._large is not None:
            return memoryview(self._large)[self._large_end :]
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """Rejected: no MQTT, or a packet that is too large."""
        if self._large is not None:
            self._large_end += count
            if self._large_end == len(self._large):
                whole, self._large = self._large, None
                self._packet(memoryview(whole), is_shared=False)
            return
        self._end += count
        self._cut()

    def _cut(self) -> None:
        at = 0
        while (found := _extent(self._chunk, at, self._end)) is not None:
            size = found[1]
            if size > self._packet_bytes_max:
                raise Rejected(f"the broker sends a packet of {size} bytes")
            if at + size > self._end:
                break
            self._packet(self._view[at : at + size], is_shared=True)
            at += size
        self._keep(at, 0 if found is None else found[1])

    def _keep(self, at: int, size: int) -> None:
        """The beginning of a packet of `size` bytes goes to the front, or to its own place."""
        left = self._end - at
        if size > LARGE_BYTES:
            self._large = bytearray(size)
            self._large[:left] = self._view[at : self._end]
            self._large_end = left
            self._end = 0
        elif at:
            self._chunk[:left] = self._chunk[at : self._end]
            self._end = left

    def _packet(self, packet: memoryview, *, is_shared: bool) -> None:
        """`is_shared`: the bytes are the chunk's and will be overwritten."""
        if packet[0] & _TYPE == _PUBLISH:
            self.messages.append(_publish(packet, is_shared=is_shared))
        else:
            self.rest += packet


def _extent(data: bytearray, at: int, end: int) -> tuple[int, int] | None:
    """Bytes of the fixed header, and of the whole packet; None: not known yet."""
    length = 0
    for count in range(1, _LENGTH_BYTES_MAX + 1):
        if at + count >= end:
            return None
        byte = data[at + count]
        length |= (byte & 0x7F) << (7 * (count - 1))
        if byte < _MORE:
            return 1 + count, 1 + count + length
    raise Rejected("the broker sends no MQTT: a length of more than four bytes")


def _publish(packet: memoryview, *, is_shared: bool) -> Publish:
    first = packet[0]
    at = _after_length(packet, 1)
    topic_end = at + 2 + int.from_bytes(packet[at : at + 2], "big")
    topic = bytes(packet[at + 2 : topic_end])
    mid = 0
    if first & 0x06:
        mid = int.from_bytes(packet[topic_end : topic_end + 2], "big")
        topic_end += 2
    if topic_end >= len(packet):
        raise Rejected("the broker sends a message that is cut")
    payload_at = _after_properties(packet, topic_end)
    if payload_at > len(packet):
        raise Rejected("the broker sends a message that is cut")
    payload = packet[payload_at:]
    return Publish(topic, mid, bool(first & 0x01), bytes(payload) if is_shared else payload)


def _after_properties(packet: memoryview, at: int) -> int:
    if packet[at] == 0:
        return at + 1
    end = _after_length(packet, at)
    length = 0
    for place, byte in enumerate(packet[at:end]):
        length |= (byte & 0x7F) << (7 * place)
    return end + length


def _after_length(packet: memoryview, at: int) -> int:
    """Behind a length of up to four bytes."""
    for count in range(_LENGTH_BYTES_MAX):
        if at + count >= len(packet):
            break
        if packet[at + count] < _MORE:
            return at + count + 1
    raise Rejected("the broker sends no MQTT: a length of more than four bytes")
