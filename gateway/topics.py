"""Which topics the gateway needs, with which settings, and what is wrong with them. Pure.

Rule 1: what could lose or refuse a frame is a fault, and the gateway waits until it is gone. Fewer
copies than a plant needs are a warning, and `logged` says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.ports import Terms
from protocols.topics import DEAD_TOPIC, KAFKA_TOPICS, RECEIPTS_TOPIC

MESSAGE_BYTES_MIN: Final = 3 * 1024 * 1024  # the largest frame, its headers, and some room
REPLICAS_WANTED: Final = 3
IN_SYNC_WANTED: Final = 2
PARTITIONS: Final = 12
CREATE: Final = "threadline gateway topics create"
_DAY_MS: Final = 86_400_000
FRAME_TOPICS: Final = tuple(dict.fromkeys(KAFKA_TOPICS.values()))
RETENTION_MS: Final[Mapping[str, int]] = {
    **dict.fromkeys(FRAME_TOPICS, 7 * _DAY_MS),
    RECEIPTS_TOPIC: _DAY_MS,
    DEAD_TOPIC: 30 * _DAY_MS,
}
TOPICS: Final = tuple(RETENTION_MS)
# What is looked at; each is asked for by name.
SETTINGS: Final = (
    "message.timestamp.type",
    "max.message.bytes",
    "cleanup.policy",
    "min.insync.replicas",
    "unclean.leader.election.enable",
)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it is. `replicas`, `in_sync`: of the partition that has fewest.

    `leaderless`: partitions that nobody leads, so that nobody takes anything for them.
    """

    name: str
    partitions: int
    replicas: int
    in_sync: int
    settings: Mapping[str, str]
    leaderless: int = 0

    @property
    def needed_in_sync(self) -> int:
        return int(self.settings.get("min.insync.replicas", "1"))


@dataclass(frozen=True, slots=True)
class Cluster:
    """Kafka as it is. `makes_topics`: auto.create.topics.enable; None: we may not know."""

    brokers: int
    makes_topics: bool | None
    topics: Mapping[str, Topic]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `state` None: a warning."""

    where: str
    value: str
    why: str
    remedy: str
    state: str | None = None

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.where}{shown}: {self.why}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic to be made."""

    name: str
    partitions: int
    replicas: int
    settings: Mapping[str, str] = field(default_factory=dict)


def findings(cluster: Cluster) -> list[Finding]:
    """Everything at once, faults first."""
    found = [*_of_cluster(cluster)]
    for name in TOPICS:
        topic = cluster.topics.get(name)
        found += [_missing(name)] if topic is None else _of_topic(topic)
    return sorted(found, key=lambda one: one.state is None)


def terms_of(cluster: Cluster) -> Terms:
    frames = [cluster.topics[name] for name in FRAME_TOPICS if name in cluster.topics]
    return Terms(is_single_copy=any(_is_single_copy(topic) for topic in frames))


def wanted(
    cluster: Cluster, partitions: int = PARTITIONS, replicas: int | None = None
) -> Sequence[Wanted]:
    """The topics that are missing, as they ought to be."""
    copies = replicas or min(REPLICAS_WANTED, cluster.brokers)
    in_sync = min(IN_SYNC_WANTED, copies)
    return [
        Wanted(name, partitions, copies, _settings(name, in_sync))
        for name in TOPICS
        if name not in cluster.topics
    ]


def _settings(name: str, in_sync: int) -> Mapping[str, str]:
    return {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MESSAGE_BYTES_MIN),
        "cleanup.policy": "delete",
        "min.insync.replicas": str(in_sync),
        "unclean.leader.election.enable": "false",
        "compression.type": "producer",
        "retention.ms": str(RETENTION_MS[name]),
        "retention.bytes": "-1",
    }


def _of_cluster(cluster: Cluster) -> Iterator[Finding]:
    if cluster.makes_topics:
        yield Finding(
            "auto.create.topics.enable",
            "true",
            "a topic that is mistyped or deleted comes back with settings of nobody's choice",
            "Set auto.create.topics.enable=false on every broker.",
            "topic_settings",
        )


def _missing(name: str) -> Finding:
    return Finding(
        name,
        "",
        "is not there, or we may not see it",
        f"Make it with `{CREATE}`, or allow us to describe it.",
        "topic_missing",
    )


def _of_topic(topic: Topic) -> Iterator[Finding]:
    yield from _of_settings(topic)
    if topic.needed_in_sync > topic.replicas:
        yield _fault(
            topic,
            "min.insync.replicas",
            f"can never be: there are {topic.replicas} replicas",
            "1" if topic.replicas == 1 else str(IN_SYNC_WANTED),
        )
    elif topic.in_sync < topic.needed_in_sync:
        yield Finding(
            topic.name,
            f"{topic.in_sync} in sync",
            f"Kafka takes nothing below min.insync.replicas = {topic.needed_in_sync}",
            "Bring the missing brokers back.",
            "kafka_stalled",
        )
    if topic.leaderless:
        yield Finding(
            topic.name,
            f"{topic.leaderless} of {topic.partitions} partitions",
            "nobody leads them",
            "Bring the missing brokers back.",
            "kafka_stalled",
        )
    if _is_single_copy(topic):
        yield Finding(
            topic.name,
            f"{topic.replicas} replicas, min.insync.replicas = {topic.needed_in_sync}",
            "`logged` means a single copy",
            f"A plant wants {REPLICAS_WANTED} replicas and min.insync.replicas={IN_SYNC_WANTED}.",
        )


def _of_settings(topic: Topic) -> Iterator[Finding]:
    settings = topic.settings
    if settings.get("message.timestamp.type") != "LogAppendTime":
        why = "retention would go by the senders' clocks: a backlog is deleted as it arrives"
        yield _fault(topic, "message.timestamp.type", why, "LogAppendTime")
    if int(settings.get("max.message.bytes", "0")) < MESSAGE_BYTES_MIN:
        yield _fault(
            topic, "max.message.bytes", "a large frame has nowhere to go", str(MESSAGE_BYTES_MIN)
        )
    if settings.get("cleanup.policy") != "delete":
        why = "of one key only the newest record would stay, and every agent is one key"
        yield _fault(topic, "cleanup.policy", why, "delete")
    if settings.get("unclean.leader.election.enable") == "true":
        yield Finding(
            f"{topic.name}: unclean.leader.election.enable",
            "true",
            "a replica that lags may become leader, and what was logged is gone",
            _alter(topic, "unclean.leader.election.enable", "false"),
        )


def _fault(topic: Topic, name: str, why: str, right: str) -> Finding:
    value = topic.settings.get(name, "unknown")
    where = f"{topic.name}: {name}"
    return Finding(where, value, why, _alter(topic, name, right), "topic_settings")


def _alter(topic: Topic, name: str, right: str) -> str:
    return f"kafka-configs --alter --topic {topic.name} --add-config {name}={right}"


def _is_single_copy(topic: Topic) -> bool:
    return topic.replicas < REPLICAS_WANTED or topic.needed_in_sync < IN_SYNC_WANTED
