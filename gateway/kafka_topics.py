"""Looks at Kafka's topics and makes those that are missing. A door to aiokafka.

Rule 1: it never changes a topic that is there: its settings are its owner's.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from gateway.kafka_access import START_S, KafkaAccess, client_options, translated
from gateway.ports import Terms, Trouble
from gateway.topics import SETTINGS, TOPICS, Cluster, Topic, Wanted, findings, terms_of
from protocols.tasks import end

CLOSE_S: Final = 2.0
MAKES_TOPICS: Final = "auto.create.topics.enable"


async def inspect(access: KafkaAccess) -> Terms:
    """What Kafka promises. Trouble: the first fault of its topics, or no way to look."""
    cluster = await read_cluster(access)
    for finding in findings(cluster):
        if finding.state is not None:
            raise Trouble(finding.state, str(finding))
    return terms_of(cluster)


async def read_cluster(access: KafkaAccess) -> Cluster:
    """Trouble: Kafka is away, or we may not look."""
    with translated():
        async with _administrator(access) as admin, asyncio.timeout(START_S):
            found = [one for one in await admin.describe_topics() if one["topic"] in TOPICS]
            brokers = [one["node_id"] for one in (await admin.describe_cluster())["brokers"]]
            settings = await _settings(admin, [one["topic"] for one in found])
            topics = {one["topic"]: _topic(one, settings[one["topic"]]) for one in found}
            return Cluster(len(brokers), await _makes_topics(admin, brokers), topics)


async def create(access: KafkaAccess, wanted: Iterable[Wanted]) -> Sequence[tuple[Wanted, str]]:
    """Make them; each with why it could not be made, or nothing. Trouble: Kafka is away."""
    asked = list(wanted)
    if not asked:
        return []
    with translated():
        async with _administrator(access) as admin:
            answer = await admin.create_topics([_new(one) for one in asked])
    said = {name: (code, text) for name, code, text in answer.topic_errors}
    return [(one, _why(*said[one.name])) for one in asked]


@asynccontextmanager
async def _administrator(access: KafkaAccess) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**client_options(access))
    try:
        async with asyncio.timeout(START_S):
            await admin.start()
        yield admin
    finally:
        await end(admin.close, CLOSE_S)


async def _settings(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    asked = dict.fromkeys(SETTINGS, "")
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name, asked) for name in names]
    found: dict[str, dict[str, str]] = {}
    for code, _, _, name, entries in await _described(admin, wanted):
        if code:
            raise errors.for_code(code)(f"may not read the settings of {name}")
        found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def _makes_topics(admin: Any, brokers: Sequence[int]) -> bool | None:
    """Whether any broker makes topics by itself; it may be none of our business."""
    asked = {MAKES_TOPICS: ""}
    wanted = [ConfigResource(ConfigResourceType.BROKER, str(one), asked) for one in brokers]
    values = [
        entry[1]
        for code, _, _, _, entries in await _described(admin, wanted)
        if not code
        for entry in entries
    ]
    return "true" in values if values else None


async def _described(admin: Any, wanted: list[ConfigResource]) -> list[Any]:
    if not wanted:
        return []
    return [one for answer in await admin.describe_configs(wanted) for one in answer.resources]


def _topic(found: Any, settings: dict[str, str]) -> Topic:
    partitions = found["partitions"]
    return Topic(
        found["topic"],
        len(partitions),
        min((len(one["replicas"]) for one in partitions), default=0),
        min((len(one["isr"]) for one in partitions), default=0),
        settings,
        sum(one["leader"] < 0 for one in partitions),
    )


def _new(wanted: Wanted) -> NewTopic:
    return NewTopic(
        wanted.name, wanted.partitions, wanted.replicas, topic_configs=dict(wanted.settings)
    )


def _why(code: int, text: str | None) -> str:
    """Another gateway may have made it a moment before: that is fine."""
    error = errors.for_code(code)
    if error in (errors.NoError, errors.TopicAlreadyExistsError):
        return ""
    return text or error.__name__
