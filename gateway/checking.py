"""What `gateway check` and `gateway topics create` find and do: each thing one line."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.kafka_access import KafkaAccess, client_options, hush
from gateway.kafka_topics import create, read_cluster
from gateway.mqtt import check_broker
from gateway.mqtt_access import tls_context
from gateway.ports import Trouble
from gateway.running import client_id
from gateway.settings import GatewaySettings
from gateway.topics import Wanted, findings, wanted
from protocols.errors import ConfigError, Disconnected

FINE = "fine"
WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing looked at. `state`: FINE, WARNING, or what the running gateway would say."""

    part: str
    state: str
    what: str
    remedy: str = ""

    @property
    def is_fault(self) -> bool:
        return self.state not in (FINE, WARNING)


async def check(settings: GatewaySettings) -> Sequence[Line]:
    """Never raises for a peer. ConfigError: certificates that are none."""
    hush()
    return [*await _broker(settings), *await _kafka(settings)]


async def create_topics(
    access: KafkaAccess, partitions: int, replication: int | None
) -> Sequence[Line]:
    """Make what is missing. What is there keeps its settings; `check` says if they are wrong."""
    hush()
    try:
        cluster = await read_cluster(access)
        made = await create(access, wanted(cluster, partitions, replication))
    except Trouble as trouble:
        return [_trouble(access, trouble)]
    there = [Line(name, FINE, "is there") for name in cluster.topics]
    return [*there, *(_made(one, why) for one, why in made)]


def _made(one: Wanted, why: str) -> Line:
    if why:
        return Line(one.name, "not_made", why, "Correct --partitions or --replication, or rights.")
    settings = ", ".join(f"{name}={value}" for name, value in one.settings.items())
    shape = f"{one.partitions} partitions, {one.replicas} copies"
    return Line(one.name, FINE, f"made: {shape}, {settings}")


def _trouble(access: KafkaAccess, trouble: Trouble) -> Line:
    remedy = _REMEDIES.get(trouble.state, "Look at Kafka's own log.")
    return Line("kafka", trouble.state, f"{access.bootstrap}: {trouble.reason}", remedy)


async def _broker(settings: GatewaySettings) -> Sequence[Line]:
    mqtt = settings.mqtt(client_id())
    if mqtt.ca is not None:
        tls_context(mqtt)
    try:
        await check_broker(mqtt)
    except ConfigError as unfit:
        found = unfit.problems[0]
        return [Line("broker", "broker_unfit", f"{mqtt.where}: {found.why}", found.remedy)]
    except Trouble as trouble:
        remedy = "Let this client subscribe to $share/… of tl/1/+/… and publish tl/1/+/receipts."
        return [Line("broker", trouble.state, f"{mqtt.where}: {trouble.reason}", remedy)]
    except Disconnected as gone:
        return [Line("broker", "broker_down", gone.reason, "Start it, or correct mqtt_host.")]
    return [Line("broker", FINE, f"{mqtt.where}: MQTT 5, shared subscriptions")]


async def _kafka(settings: GatewaySettings) -> Sequence[Line]:
    access = settings.kafka
    client_options(access)
    try:
        cluster = await read_cluster(access)
    except Trouble as trouble:
        return [_trouble(access, trouble)]
    found = findings(cluster)
    lines = [
        Line(one.where, one.state or WARNING, f"{one.value}: {one.why}".lstrip(": "), one.remedy)
        for one in found
    ]
    if any(line.is_fault for line in lines):
        return lines
    whole = f"{access.bootstrap}: {cluster.brokers} brokers, {len(cluster.topics)} topics"
    return [Line("kafka", FINE, whole), *lines]


_REMEDIES = {
    "kafka_down": "Start it, or correct kafka_bootstrap, kafka_security and kafka_ca.",
    "kafka_refused": "Correct kafka_username, kafka_password or kafka_mechanism.",
    "not_authorised": "Let this principal Describe and DescribeConfigs the topics tl.*, Write"
    " the frame topics and tl.dead, Read tl.receipts and the group kafka_group.",
}
