"""Names on the way: what is written is read back, and nothing else is."""

import pytest

from protocols.errors import Rejected
from protocols.frames import Header, Kind, Lane, seal
from protocols.topics import (
    CHANNELS,
    FRAME_HEADER,
    KAFKA_TOPICS,
    Address,
    mqtt_topic,
    read_mqtt_topic,
    receipts_topic,
    sealed_of,
    subscriptions,
)


def test_a_topic_is_read_back() -> None:
    for channel in CHANNELS:
        assert read_mqtt_topic(mqtt_topic("plant1.line1", channel)) == Address(
            "plant1.line1", channel
        )


@pytest.mark.parametrize(
    "topic",
    [
        receipts_topic("plant1.line1"),
        "tl/2/plant1.line1/live",
        "tl/1/Plant1/live",
        "tl/1/plant1/live/x",
        "tl/1//live",
        "tl/1/plant1/live\n",
        "tl/1/" + "a" * 64 + "/live",
    ],
)
def test_any_other_topic_is_none_of_an_agents(topic: str) -> None:
    assert read_mqtt_topic(topic) is None


def test_a_shared_subscription_covers_every_channel_and_no_receipts() -> None:
    assert subscriptions("$share/gateways/") == tuple(
        f"$share/gateways/tl/1/+/{channel}" for channel in CHANNELS
    )
    assert set(KAFKA_TOPICS) == set(CHANNELS)


def test_a_record_gives_the_sealed_bytes_back() -> None:
    frame = seal(Header(Kind.EVENTS, Lane.EVENTS, "plant1.line1", 7, 1), b"payload")
    headers = [("agent", b"plant1.line1"), (FRAME_HEADER, frame.head)]
    assert sealed_of(headers, frame.payload) == frame.sealed


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], b"x"),
        ([(FRAME_HEADER, b"a"), (FRAME_HEADER, b"b")], b"x"),
        ([(FRAME_HEADER, b"a")], None),
        ([(FRAME_HEADER, b"a" * 4097)], b"x"),
    ],
)
def test_a_record_of_others_is_rejected(
    headers: list[tuple[str, bytes]], value: bytes | None
) -> None:
    with pytest.raises(Rejected, match="header"):
        sealed_of(headers, value)
