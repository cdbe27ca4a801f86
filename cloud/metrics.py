"""The metrics of ingest and of the projector: every name and its meaning, once."""

from prometheus_client import Counter, Enum, Gauge, Histogram

from protocols.meters import Meter, Meters

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


class Metrics(Meters):
    """One per process, in a registry of its own."""

    state = Meter(Enum, "threadline_ingest_state", "What ingest is doing", states=STATES)
    frames = Meter(
        Counter,
        "threadline_ingest_frames",
        "Frames by what became of them: admitted, repeat, forked, compacted, rejected,"
        " unreadable, later",
        "outcome",
    )
    samples = Meter(Counter, "threadline_ingest_samples", "Samples stored")
    events = Meter(
        Counter,
        "threadline_ingest_events",
        "Events by what became of them: new, repeat, conflict",
        "outcome",
    )
    dead_letters = Meter(
        Counter, "threadline_ingest_dead_letters", "Dead letters written or counted again"
    )
    dead_letters_without_room = Meter(
        Counter,
        "threadline_ingest_dead_letters_without_room",
        "Dead letters not kept: the agent has too many",
    )
    spools_lost = Meter(
        Counter,
        "threadline_ingest_spools_lost",
        "Agents that came back without their spool, and so without what it had not sent",
    )
    receipts = Meter(Counter, "threadline_ingest_receipts", "Receipts sent")
    receipts_lost = Meter(
        Counter,
        "threadline_ingest_receipts_lost",
        "Receipts that found no connection, or that Kafka did not take after all",
    )
    received_bytes = Meter(Counter, "threadline_ingest_received_bytes", "Bytes of records taken")
    transactions = Meter(Counter, "threadline_ingest_transactions", "Transactions committed")
    transaction_s = Meter(
        Histogram,
        "threadline_ingest_transaction_seconds",
        "From the lock to the commit",
        buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
    )
    waiting = Meter(Gauge, "threadline_ingest_waiting_records", "Records taken and not confirmed")
    last_write = Meter(
        Gauge,
        "threadline_ingest_last_write_timestamp_seconds",
        "Time of the last confirmed write",
    )
    lag_s = Meter(
        Gauge,
        "threadline_ingest_lag_seconds",
        "Age at the commit of the newest frame stored last, by the agent's clock",
        "lane",
    )
    log_gen = Meter(
        Gauge,
        "threadline_ingest_log_gen",
        "How often Kafka's log was found replaced, as the database counts",
    )
    abandoned = Meter(
        Counter,
        "threadline_ingest_abandoned_records",
        "Records taken from Kafka and left to another reader before they were stored",
    )
    kafka_lag = Meter(
        Gauge,
        "threadline_ingest_kafka_lag_records",
        "Records in this reader's parts of a topic that are not taken yet",
        "topic",
    )


class CompactionMetrics(Meters):
    """In the registry of the process that compacts the ledger."""

    frames = Meter(
        Counter,
        "threadline_compaction_frames",
        "Frames moved from the ledger into ranges",
    )
    busy = Meter(
        Counter,
        "threadline_compaction_busy_lanes",
        "Lanes left for the next time because somebody held them",
    )
    last = Meter(
        Gauge,
        "threadline_compaction_last_timestamp_seconds",
        "When this process had last been through all lanes",
    )


class ProjectorMetrics(Meters):
    """In the registry of the process that the projector runs in."""

    up = Meter(Gauge, "threadline_projector_up", "1 while the trace view is kept up")
    events = Meter(Counter, "threadline_projector_events", "Events taken into the view")
    skipped = Meter(
        Counter,
        "threadline_projector_skipped",
        "Events left out of the view because of a bug; see table projection_skipped",
    )
    rows_read = Meter(Counter, "threadline_projector_rows_read", "Rows read to find what changes")
    position = Meter(
        Gauge,
        "threadline_projector_position",
        "recorded_seq up to which the view is complete",
    )
    lag_events = Meter(
        Gauge,
        "threadline_projector_lag_events",
        "Events recorded and not in the view yet",
    )
    lag_s = Meter(
        Gauge,
        "threadline_projector_lag_seconds",
        "Age of the oldest event recorded and not in the view yet",
    )
    batch_s = Meter(
        Histogram,
        "threadline_projector_batch_seconds",
        "From the first read to the commit of a batch",
        buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    )
    masters_pending = Meter(
        Gauge,
        "threadline_projector_masters_pending",
        "1 while masters have changed that need `threadline cloud rebuild`",
    )
