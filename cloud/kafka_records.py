"""Records of Kafka as ingest takes them. Pure.

Rule 1: whatever lies in a topic becomes a record, if only to be kept as a dead letter.
Rule 2: the key is the agent; what a header says of it is never asked.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from cloud.source import CHANNELS, DEAD, Part, Place, Record, Refusal
from protocols.errors import Rejected
from protocols.frames import AGENT_PATTERN
from protocols.topics import DEAD_TOPIC, FRAME_HEADER, HELLO, KAFKA_TOPICS, sealed_of

LANE_HEADER: Final = "lane"
STAMPED_BYTES_MAX: Final = 4096  # of a record without a frame's header

_TOPICS: Final[Mapping[str, str]] = {**KAFKA_TOPICS, DEAD: DEAD_TOPIC}


class Read(Protocol):
    """As much of a consumer's record as is asked for here."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def topics_of(channels: Sequence[str]) -> tuple[str, ...]:
    """Each once, most urgent first."""
    return tuple(dict.fromkeys(_TOPICS[name] for name in CHANNELS if name in channels))


def record_of(read: Read, topic: str, part: Part, after: int, turn: object) -> Record:
    """`topic`: without the prefix that `part` may have. `after`, `turn`: for place and token."""
    agent = _agent_of(read.key)
    named = {name: body for name, body in read.headers if name != FRAME_HEADER}
    head = next((body for name, body in read.headers if name == FRAME_HEADER), None)
    value = read.value or b""
    stamped = head or value[:STAMPED_BYTES_MAX]
    place = Place(part, read.offset, after, read.timestamp, stamped)
    if topic == DEAD_TOPIC:
        return Record(agent, DEAD, value, turn, place, _refusal_of(named))
    try:
        data = sealed_of(read.headers, read.value)
    except Rejected as error:
        refusal = Refusal("unreadable", error.reason)
        return Record(agent, DEAD, (head or b"") + value, turn, place, refusal)
    return Record(agent, _channel_of(topic, named), data, turn, place)


def _agent_of(key: bytes | None) -> str:
    """Empty where no agent can be meant: then there is nobody to answer."""
    text = (key or b"").decode("ascii", "replace")
    return text if AGENT_PATTERN.fullmatch(text) else ""


def _channel_of(topic: str, named: Mapping[str, bytes]) -> str:
    """The control lane shares its topic with hello and status, and only there the header counts."""
    if topic == KAFKA_TOPICS[HELLO] and named.get(LANE_HEADER) == HELLO.encode():
        return HELLO
    return topic.rpartition(".")[2]


def _refusal_of(named: Mapping[str, bytes]) -> Refusal:
    reason = named.get("reason", b"unreadable").decode("utf-8", "replace")
    detail = named.get("detail", b"").decode("utf-8", "replace")
    size = named.get("size")
    if size is not None:
        detail += f" ({size.decode('utf-8', 'replace')[:20]} bytes, cut)"
    return Refusal(reason, detail)
