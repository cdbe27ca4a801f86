"""The metrics of the gateway: every name and its meaning, once."""

from typing import ClassVar

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

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


class Metrics:
    """One per process, in a registry of its own."""

    CONTENT_TYPE: ClassVar[str] = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.state = Enum(
            "threadline_gateway_state", "What the gateway is doing", registry=r, states=list(STATES)
        )
        self.frames = Counter(
            "threadline_gateway_frames",
            "Messages confirmed by Kafka, by what became of them: carried, or as a dead letter"
            " unreadable, foreign_identity, rejected, too_large",
            ["outcome"],
            registry=r,
        )
        self.ignored = Counter(
            "threadline_gateway_ignored",
            "Messages of topics that are no agent's: acknowledged and dropped",
            registry=r,
        )
        self.received_bytes = Counter(
            "threadline_gateway_received_bytes", "Bytes of messages taken", registry=r
        )
        self.held_bytes = Gauge(
            "threadline_gateway_held_bytes",
            "Bytes of messages taken and not acknowledged to the broker",
            registry=r,
        )
        self.held_messages = Gauge(
            "threadline_gateway_held_messages",
            "Messages taken and not acknowledged to the broker",
            registry=r,
        )
        self.rewritten = Counter(
            "threadline_gateway_rewritten",
            "Records written again because Kafka did not confirm them in an earlier session",
            registry=r,
        )
        self.confirm_s = Histogram(
            "threadline_gateway_confirm_seconds",
            "From taking the oldest message of a confirmation to the confirmation",
            registry=r,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30),
        )
        self.receipts = Counter(
            "threadline_gateway_receipts",
            "Receipts published: logged (ours), carried (of ingest)",
            ["kind"],
            registry=r,
        )
        self.receipts_lost = Counter(
            "threadline_gateway_receipts_lost",
            "Receipts `logged` that found no connection or no room; their frames come again",
            registry=r,
        )
        self.last_write = Gauge(
            "threadline_gateway_last_write_timestamp_seconds",
            "Time of the last write that Kafka confirmed",
            registry=r,
        )
        self.single_copy = Gauge(
            "threadline_gateway_single_copy",
            "1 while `logged` means one copy: fewer than 3 replicas or min.insync below 2",
            registry=r,
        )

    def exposition(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
