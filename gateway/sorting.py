"""What becomes of one message: a record of its lane, or a dead letter with its reason. Pure.

Rule 1: only the label of a frame is read, never its payload; header and payload go on verbatim.
Rule 2: what a newer agent may have meant is carried: ingest answers `later`. What claims to be
another's, or lies about its payload, is a dead letter.
"""

from enum import StrEnum
from typing import Final

from gateway.ports import Message, Record
from protocols.errors import Rejected
from protocols.frames import (
    HEADER_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    Kind,
    Label,
    Lane,
    check_payload,
    read_label,
)
from protocols.topics import DEAD_TOPIC, FRAME_HEADER, HELLO, KAFKA_TOPICS, LANES

MESSAGE_BYTES_MAX: Final = HEADER_BYTES_MAX + PAYLOAD_BYTES_MAX
LETTER_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + 4096
DETAIL_CHARS_MAX: Final = 300


class Reason(StrEnum):
    """Kinds of dead letters; the word is in the record's header `reason`."""

    UNREADABLE = "unreadable"
    FOREIGN_IDENTITY = "foreign_identity"
    REJECTED = "rejected"
    TOO_LARGE = "too_large"


def sort(message: Message) -> Record | None:
    """None: of no agent's topic, there is nothing to carry. Never raises, whatever the bytes."""
    if not message.agent:
        return None
    if len(message.data) > MESSAGE_BYTES_MAX:
        detail = f"{len(message.data)} bytes, at most {MESSAGE_BYTES_MAX}"
        return dead_letter(message, Reason.TOO_LARGE, detail, None)
    try:
        label = read_label(message.data)
    except Rejected as error:
        return dead_letter(message, Reason.UNREADABLE, error.reason, None)
    if label.agent not in (message.agent, None):
        detail = f"frame of {label.agent!r} on the topic of {message.agent!r}"
        return dead_letter(message, Reason.FOREIGN_IDENTITY, detail, label)
    payload = memoryview(message.data)[label.header_len :]
    try:
        _check_lane(label, message.channel)
        check_payload(label, payload)
    except Rejected as error:
        return dead_letter(message, Reason.REJECTED, error.reason, label)
    return _carried(message, label, payload)


def outcome_of(record: Record) -> str:
    """`carried`, or the reason of a dead letter."""
    return "carried" if record.label is not None else record.headers[0][1].decode()


def dead_letter(message: Message, reason: Reason, detail: str, label: Label | None) -> Record:
    """The message whole; cut at the limit, with its true size beside it."""
    size = len(message.data)
    headers = [
        ("reason", reason.value.encode()),
        ("detail", detail[:DETAIL_CHARS_MAX].encode()),
        ("lane", message.channel.encode()),
    ]
    if label is not None:
        headers.append(("frame_len", b"%d" % label.header_len))
    if size > LETTER_BYTES_MAX:
        headers.append(("size", b"%d" % size))
    value = memoryview(message.data)[:LETTER_BYTES_MAX]
    return Record(DEAD_TOPIC, message.agent.encode(), value, headers, message, None)


def _carried(message: Message, label: Label, payload: memoryview) -> Record:
    key = message.agent.encode()
    headers = [
        (FRAME_HEADER, bytes(message.data[: label.header_len])),
        ("agent", key),
        ("lane", _CHANNEL_BYTES[message.channel]),
        ("seq", b"%d" % label.seq),
        ("kind", b"%d" % label.kind),
    ]
    return Record(KAFKA_TOPICS[message.channel], key, payload, headers, message, label)


def _check_lane(label: Label, channel: str) -> None:
    """A lane that only a newer agent knows is for ingest to judge."""
    if label.agent is None or label.lane not in _LANES_KNOWN or label.kind not in _KINDS_KNOWN:
        return
    if label.lane != _LANE_OF[channel]:
        raise Rejected(f"lane {Lane(label.lane).name.lower()} on the topic {channel!r}")
    if channel == HELLO and label.kind not in _NOTICES:
        raise Rejected(f"{Kind(label.kind).name} on the topic {HELLO!r}")


_LANE_OF: Final = {channel: int(lane) for channel, lane in LANES.items()} | {HELLO: int(Lane.NONE)}
_CHANNEL_BYTES: Final = {channel: channel.encode() for channel in _LANE_OF}
_LANES_KNOWN: Final = frozenset(int(lane) for lane in Lane)
_KINDS_KNOWN: Final = frozenset(int(kind) for kind in Kind)
_NOTICES: Final = frozenset({int(Kind.HELLO), int(Kind.STATUS)})
