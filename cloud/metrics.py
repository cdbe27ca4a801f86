"""The metrics of ingest and of the projector: every name and its meaning, once."""

from typing import ClassVar

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

STATES = (
    "starting",
    "running",
    "database_down",
    "database_too_old",
    "migration_missing",
    "database_full",
    "database_blocked",
    "database_refused",
    "database_error",
    "broker_down",
    "kafka_down",
    "kafka_topic_missing",
    "kafka_refused",
    "port_taken",
)


class Metrics:
    """One per process, in a registry of its own."""

    CONTENT_TYPE: ClassVar[str] = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.state = Enum(
            "threadline_ingest_state", "What ingest is doing", registry=r, states=list(STATES)
        )
        self.frames = Counter(
            "threadline_ingest_frames",
            "Frames by what became of them: admitted, repeat, forked, compacted, rejected,"
            " unreadable, later",
            ["outcome"],
            registry=r,
        )
        self.samples = Counter("threadline_ingest_samples", "Samples stored", registry=r)
        self.events = Counter(
            "threadline_ingest_events",
            "Events by what became of them: new, repeat, conflict",
            ["outcome"],
            registry=r,
        )
        self.dead_letters = Counter(
            "threadline_ingest_dead_letters", "Dead letters written or counted again", registry=r
        )
        self.dead_letters_without_room = Counter(
            "threadline_ingest_dead_letters_without_room",
            "Dead letters not kept: the agent has too many",
            registry=r,
        )
        self.receipts = Counter("threadline_ingest_receipts", "Receipts sent", registry=r)
        self.receipts_lost = Counter(
            "threadline_ingest_receipts_lost", "Receipts that found no connection", registry=r
        )
        self.received_bytes = Counter(
            "threadline_ingest_received_bytes", "Bytes of records taken", registry=r
        )
        self.transactions = Counter(
            "threadline_ingest_transactions", "Transactions committed", registry=r
        )
        self.transaction_s = Histogram(
            "threadline_ingest_transaction_seconds",
            "From the lock to the commit",
            registry=r,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
        )
        self.waiting = Gauge(
            "threadline_ingest_waiting_records", "Records taken and not confirmed", registry=r
        )
        self.last_write = Gauge(
            "threadline_ingest_last_write_timestamp_seconds",
            "Time of the last confirmed write",
            registry=r,
        )
        self.lag_s = Gauge(
            "threadline_ingest_lag_seconds",
            "Age at the commit of the newest frame stored last, by the agent's clock",
            ["lane"],
            registry=r,
        )
        self.log_gen = Gauge(
            "threadline_ingest_log_gen",
            "How often Kafka's log was found replaced, as the database counts",
            registry=r,
        )
        self.abandoned = Counter(
            "threadline_ingest_abandoned_records",
            "Records taken from Kafka and left to another reader before they were stored",
            registry=r,
        )
        self.kafka_lag = Gauge(
            "threadline_ingest_kafka_lag_records",
            "Records in this reader's parts of a topic that are not taken yet",
            ["topic"],
            registry=r,
        )

    def exposition(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)


class CompactionMetrics:
    """In the registry of the process that compacts the ledger."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.frames = Counter(
            "threadline_compaction_frames",
            "Frames moved from the ledger into ranges",
            registry=registry,
        )
        self.busy = Counter(
            "threadline_compaction_busy_lanes",
            "Lanes left for the next time because somebody held them",
            registry=registry,
        )
        self.last = Gauge(
            "threadline_compaction_last_timestamp_seconds",
            "When this process had last been through all lanes",
            registry=registry,
        )


class ProjectorMetrics:
    """In the registry of the process that the projector runs in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "threadline_projector_up", "1 while the trace view is kept up", registry=registry
        )
        self.events = Counter(
            "threadline_projector_events", "Events taken into the view", registry=registry
        )
        self.skipped = Counter(
            "threadline_projector_skipped",
            "Events left out of the view because of a bug; see table projection_skipped",
            registry=registry,
        )
        self.rows_read = Counter(
            "threadline_projector_rows_read", "Rows read to find what changes", registry=registry
        )
        self.position = Gauge(
            "threadline_projector_position",
            "recorded_seq up to which the view is complete",
            registry=registry,
        )
        self.lag_events = Gauge(
            "threadline_projector_lag_events",
            "Events recorded and not in the view yet",
            registry=registry,
        )
        self.lag_s = Gauge(
            "threadline_projector_lag_seconds",
            "Age of the oldest event recorded and not in the view yet",
            registry=registry,
        )
        self.batch_s = Histogram(
            "threadline_projector_batch_seconds",
            "From the first read to the commit of a batch",
            registry=registry,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
        )
        self.masters_pending = Gauge(
            "threadline_projector_masters_pending",
            "1 while masters have changed that need `threadline cloud rebuild`",
            registry=registry,
        )
