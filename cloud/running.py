"""The process `threadline cloud ingest`: everything put together, kept alive, ended by a signal.

Rule 1: nothing here raises for a peer that is away; a bug is logged whole and the work begun anew.
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

import structlog

from cloud.clock import Clock
from cloud.ingest import Ingest
from cloud.metrics import Metrics, ProjectorMetrics
from cloud.mqtt_source import MqttSettings, MqttSource, tls_context
from cloud.probes import Probes
from cloud.projector import Projector
from cloud.sessions import Sessions
from cloud.settings import CloudSettings
from cloud.source import Source
from cloud.standing import Standing
from protocols.errors import Busy
from protocols.retry import Backoff

PROBES: Final = "probes"
RETRY: Final = Backoff(first_s=0.5, limit_s=15.0)


async def run_ingest(settings: CloudSettings) -> None:
    """Until SIGTERM or SIGINT. What was taken and not committed then comes again."""
    clock = Clock()
    metrics = Metrics()
    projection = ProjectorMetrics(metrics.registry)
    standing = Standing(clock, metrics.state.state)
    mqtt = mqtt_settings(settings)
    if mqtt.ca is not None:
        tls_context(mqtt)  # a missing file is a mistake now, not a connection that never comes
    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(_serve_probes(settings, standing, metrics)),
            tasks.create_task(
                _supervise(lambda: _ingest(settings, MqttSource(mqtt), standing, metrics, clock))
            ),
            tasks.create_task(_supervise(lambda: Projector(settings.dsn, clock, projection))),
        ]
        await _until_told()
        for task in work:
            task.cancel()


def mqtt_settings(settings: CloudSettings) -> MqttSettings:
    password = settings.mqtt_password
    return MqttSettings(
        settings.mqtt_host,
        settings.mqtt_port,
        settings.mqtt_client_id,
        settings.mqtt_username,
        None if password is None else password.get_secret_value(),
        settings.mqtt_ca,
        settings.mqtt_certificate,
        settings.mqtt_key,
    )


def _ingest(
    settings: CloudSettings, source: Source, standing: Standing, metrics: Metrics, clock: Clock
) -> Ingest:
    sessions = Sessions(settings.dsn, clock, standing, RETRY)
    return Ingest(source, sessions, standing, metrics, clock)


async def _supervise(make: Callable[[], Ingest | Projector]) -> None:
    log = structlog.get_logger("cloud.running")
    attempt = 0
    while True:
        try:
            await make().run()
        except Exception:
            log.exception("a bug; the part begins anew")
        await asyncio.sleep(RETRY.delay_s(attempt, 0.0))
        attempt += 1


async def _serve_probes(settings: CloudSettings, standing: Standing, metrics: Metrics) -> None:
    probes = Probes(standing, metrics)
    while True:
        try:
            await probes.open(settings.metrics_host, settings.metrics_port)
            break
        except Busy as taken:
            standing.down(PROBES, "port_taken", taken.reason)
            await asyncio.sleep(taken.retry_after_s)
    standing.up(PROBES)
    try:
        await asyncio.Event().wait()
    finally:
        await probes.close()


async def _until_told() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
