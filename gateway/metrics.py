"""The metrics of the gateway: every name and its meaning, once."""

from prometheus_client import Counter, Enum, Gauge, Histogram

from protocols.meters import Meter, Meters

STATES = (
    "starting",
    "running",
    "kafka_down",
    "kafka_stalled",
    "kafka_refused",
    "not_authorised",
    "topic_missing",
    "topic_settings",
    "broker_down",
    "broker_refused",
    "broker_unfit",
    "receipts_down",
    "port_taken",
)


class Metrics(Meters):
    """One per process, in a registry of its own."""

    state = Meter(Enum, "threadline_gateway_state", "What the gateway is doing", states=STATES)
    frames = Meter(
        Counter,
        "threadline_gateway_frames",
        "Messages confirmed by Kafka, by what became of them: carried, or as a dead letter"
        " unreadable, foreign_identity, rejected, too_large",
        "outcome",
    )
    ignored = Meter(
        Counter,
        "threadline_gateway_ignored",
        "Messages of topics that are no agent's: acknowledged and dropped",
    )
    received_bytes = Meter(Counter, "threadline_gateway_received_bytes", "Bytes of messages taken")
    held_bytes = Meter(
        Gauge,
        "threadline_gateway_held_bytes",
        "Bytes of messages taken and not acknowledged to the broker",
    )
    held_messages = Meter(
        Gauge,
        "threadline_gateway_held_messages",
        "Messages taken and not acknowledged to the broker",
    )
    rewritten = Meter(
        Counter,
        "threadline_gateway_rewritten",
        "Records written again because Kafka did not confirm them in an earlier session",
    )
    confirm_s = Meter(
        Histogram,
        "threadline_gateway_confirm_seconds",
        "From taking the oldest message of a confirmation to the confirmation",
        buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30),
    )
    receipts = Meter(
        Counter,
        "threadline_gateway_receipts",
        "Receipts published: logged (ours), carried (of ingest)",
        "kind",
    )
    receipts_lost = Meter(
        Counter,
        "threadline_gateway_receipts_lost",
        "Receipts `logged` that found no connection or no room; their frames come again",
    )
    last_write = Meter(
        Gauge,
        "threadline_gateway_last_write_timestamp_seconds",
        "Time of the last write that Kafka confirmed",
    )
    single_copy = Meter(
        Gauge,
        "threadline_gateway_single_copy",
        "1 while `logged` means one copy: fewer than 3 replicas or min.insync below 2",
    )
