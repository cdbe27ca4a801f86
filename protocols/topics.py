"""Names on the way: MQTT topics, Kafka topics, the headers of a Kafka record. Wire 1.

Rule 1: no path of the plant in a topic; moving a machine changes no access rule and no key.
Rule 2: the agent of a topic or key is what the transport proved; a header only claims it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocols.errors import Rejected
from protocols.frames import HEADER_BYTES_MAX, Lane

HELLO: Final = "hello"
LANES: Final[Mapping[str, Lane]] = {
    "control": Lane.CONTROL,
    "events": Lane.EVENTS,
    "live": Lane.LIVE,
    "backlog": Lane.BACKLOG,
}
CHANNELS: Final = (*LANES, HELLO)

# An agent's hello and status travel with its control lane: both say what becomes of the others.
KAFKA_TOPICS: Final[Mapping[str, str]] = {
    **{channel: f"tl.{channel}" for channel in LANES},
    HELLO: "tl.control",
}
RECEIPTS_TOPIC: Final = "tl.receipts"
DEAD_TOPIC: Final = "tl.dead"
FRAME_HEADER: Final = (
    "frame"  # binary: the frame's header verbatim; the record's value is its payload
)

_MQTT: Final = re.compile(r"tl/1/(?P<agent>[a-z0-9.-]{1,63})/(?P<channel>[a-z]+)")


@dataclass(frozen=True, slots=True)
class Address:
    """Whose topic, and which: one of CHANNELS."""

    agent: str
    channel: str


def mqtt_topic(agent: str, channel: str) -> str:
    return f"tl/1/{agent}/{channel}"


def receipts_topic(agent: str) -> str:
    return mqtt_topic(agent, "receipts")


def read_mqtt_topic(topic: str) -> Address | None:
    """None: not a topic that agents send to."""
    match = _MQTT.fullmatch(topic)
    if match is None or match["channel"] not in CHANNELS:
        return None
    return Address(match["agent"], match["channel"])


def subscriptions(prefix: str = "") -> tuple[str, ...]:
    """All that agents send, most urgent first. `prefix`: `$share/<group>/` for a shared one."""
    return tuple(f"{prefix}{mqtt_topic('+', channel)}" for channel in CHANNELS)


def sealed_of(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> bytes:
    """Header ‖ payload again, out of a Kafka record. Rejected: not exactly one frame header."""
    found = [body for name, body in headers if name == FRAME_HEADER]
    if len(found) != 1 or value is None:
        raise Rejected(f"record with {len(found)} frame headers, one is needed, and a value")
    if len(found[0]) > HEADER_BYTES_MAX:
        raise Rejected(f"frame header of {len(found[0])} bytes, at most {HEADER_BYTES_MAX}")
    return found[0] + value
