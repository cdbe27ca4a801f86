"""The process `threadline cloud ingest`: everything put together, kept alive, ended by a signal.

Rule 1: nothing here raises for a peer that is away; a bug is logged whole and the work begun anew.
Rule 2: two lines into the database, each with its own connection to where records come from and
its own session: however much backlog there is, what happens now never stands behind it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from uuid import uuid4

from cloud.clock import Clock
from cloud.compactor import Compactor
from cloud.ingest import Ingest
from cloud.kafka_log import KafkaSettings, client_options
from cloud.kafka_source import KafkaSource
from cloud.metrics import CompactionMetrics, Metrics, ProjectorMetrics
from cloud.mqtt_source import MqttSettings, MqttSource, tls_context
from cloud.positions import Positions
from cloud.projector import Projector
from cloud.sessions import Sessions
from cloud.settings import CloudSettings
from cloud.source import BACKLOG, CHANNELS
from cloud.standing import Standing
from protocols.probes import Probes
from protocols.retry import Backoff
from protocols.settings import revealed
from protocols.tasks import Begin, at_signal, supervise

PROBES: Final = "probes"
RETRY: Final = Backoff(first_s=0.5, limit_s=15.0)
LOG: Final = "cloud.running"

# What a line reads; its name tells its parts and its group or client id apart from the first's.
LINES: Final[Mapping[str, Sequence[str]]] = {
    "": tuple(channel for channel in CHANNELS if channel != BACKLOG),
    BACKLOG: (BACKLOG,),
}


async def run_ingest(settings: CloudSettings) -> None:
    """Until SIGTERM or SIGINT. What was taken and not committed then comes again."""
    clock = Clock()
    metrics = Metrics()
    projection = ProjectorMetrics(metrics.registry)
    compaction = CompactionMetrics(metrics.registry)
    standing = Standing(clock, metrics.state.state)
    process = _Process(settings, standing, metrics, clock)
    process.check()
    told = asyncio.Event()
    at_signal(told.set)
    parts: list[Begin] = [
        *(partial(process.run_line, line) for line in LINES),
        lambda: Projector(settings.dsn, clock, projection).run(),
        lambda: Compactor(settings.dsn, settings.ledger_keep, clock, compaction).run(),
    ]
    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(
                Probes(standing.health, metrics.page).serve(
                    settings.metrics_host,
                    settings.metrics_port,
                    down=partial(standing.down, PROBES, "port_taken"),
                    up=partial(standing.up, PROBES),
                )
            ),
            *(tasks.create_task(supervise(one, told, LOG)) for one in parts),
        ]
        await told.wait()
        for task in work:
            task.cancel()


def mqtt_settings(settings: CloudSettings) -> MqttSettings:
    return MqttSettings(
        settings.mqtt_host,
        settings.mqtt_port,
        settings.mqtt_client_id,
        settings.mqtt_username,
        revealed(settings.mqtt_password),
        settings.mqtt_ca,
        settings.mqtt_certificate,
        settings.mqtt_key,
    )


def kafka_settings(settings: CloudSettings) -> KafkaSettings:
    return KafkaSettings(
        settings.kafka_bootstrap,
        settings.kafka_group,
        settings.kafka_security,
        settings.kafka_ca,
        settings.kafka_certificate,
        settings.kafka_key,
        settings.kafka_username,
        revealed(settings.kafka_password),
        settings.kafka_mechanism,
    )


@dataclass(frozen=True, slots=True)
class _Process:
    """What its lines share."""

    settings: CloudSettings
    standing: Standing
    metrics: Metrics
    clock: Clock

    def check(self) -> None:
        """ConfigError: a missing file is a mistake now, not a connection that never comes."""
        if self.settings.source == "kafka":
            client_options(kafka_settings(self.settings))
        elif self.settings.mqtt_ca is not None:
            tls_context(mqtt_settings(self.settings))

    async def run_line(self, line: str) -> None:
        is_kafka = self.settings.source == "kafka"
        await (self._kafka_line(line) if is_kafka else self._mqtt_line(line)).run()

    def _mqtt_line(self, line: str) -> Ingest:
        settings = mqtt_settings(self.settings)
        settings = replace(settings, client_id=_named(settings.client_id, line))
        standing = self.standing.of_line(line)
        sessions = Sessions(self.settings.dsn, self.clock, standing, RETRY)
        source = MqttSource(settings, channels=LINES[line])
        return Ingest(source, sessions, standing, self.metrics, self.clock)

    def _kafka_line(self, line: str) -> Ingest:
        settings = kafka_settings(self.settings)
        settings = replace(settings, group=_named(settings.group, line))
        standing = self.standing.of_line(line)
        owner = uuid4()
        sessions = Sessions(self.settings.dsn, self.clock, standing, RETRY, owner)
        positions = Positions(sessions, owner, self.clock)
        lost = self.metrics.receipts_lost.inc
        source = KafkaSource(settings, LINES[line], positions, self.clock, self._show_lag, lost)
        return Ingest(source, sessions, standing, self.metrics, self.clock)

    def _show_lag(self, lags: Mapping[str, int]) -> None:
        for topic, records in lags.items():
            self.metrics.kafka_lag.labels(topic).set(records)


def _named(name: str, line: str) -> str:
    return f"{name}-{line}" if line else name
