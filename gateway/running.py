"""The process `threadline gateway run`: everything put together, kept alive, ended by a signal.

Rule 1: a broker that can never serve a gateway is refused at the start; after it, nothing here
raises for a peer: it is a named state, and tried again. A bug is logged whole and the part begun
anew.
"""

import asyncio
import secrets
import socket
from functools import partial
from typing import Final

import structlog

from gateway.bridge import Bridge
from gateway.clock import Clock
from gateway.kafka import KafkaOutlet
from gateway.kafka_access import client_options, hush
from gateway.kafka_receipts import KafkaLetterbox
from gateway.kafka_topics import inspect
from gateway.mail import Mail
from gateway.metrics import Metrics
from gateway.mqtt import MqttIntake, check_broker
from gateway.mqtt_access import MqttSettings
from gateway.settings import GatewaySettings
from gateway.standing import Part, Standing
from protocols.errors import Disconnected
from protocols.probes import Probes
from protocols.tasks import at_signal, supervise

END_S: Final = 10.0  # for what is held, and for connections to close
LOG: Final = "gateway.running"


async def run_gateway(settings: GatewaySettings) -> None:
    """Until SIGTERM or SIGINT. What was taken and not confirmed then comes again.

    ConfigError: certificates that are none, or a broker that cannot serve a gateway.
    """
    hush()
    mqtt, kafka = settings.mqtt(client_id()), settings.kafka
    client_options(kafka)  # a missing file is a mistake now, not a connection that never comes
    await refuse_unfit(mqtt)
    clock, metrics = Clock(), Metrics()
    standing = Standing(clock, metrics)
    intake = MqttIntake(mqtt)
    outlet = KafkaOutlet(kafka, partial(inspect, kafka))
    letterbox = KafkaLetterbox(kafka, settings.kafka_group or "")
    told = asyncio.Event()
    at_signal(told.set)
    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(one)
            for one in (
                Probes(standing.health, metrics.page).serve(
                    settings.metrics_host,
                    settings.metrics_port,
                    down=partial(standing.down, Part.PROBES, "port_taken"),
                    up=partial(standing.up, Part.PROBES),
                ),
                supervise(
                    lambda: Bridge(intake, outlet, standing, metrics, clock).run(told), told, LOG
                ),
                supervise(
                    lambda: Mail(letterbox, intake, standing, metrics, clock).run(), told, LOG
                ),
            )
        ]
        probes, bridge, mail = work
        await told.wait()
        mail.cancel()
        await asyncio.wait([bridge], timeout=END_S)
        for task in (probes, bridge):
            task.cancel()


def client_id() -> str:
    """Of this process: two of one name would end each other's connections."""
    return f"threadline-gateway-{socket.gethostname()[:40]}-{secrets.token_hex(4)}"


async def refuse_unfit(mqtt: MqttSettings) -> None:
    """ConfigError: this broker can never serve a gateway. One that is away may yet come."""
    try:
        await check_broker(mqtt)
    except Disconnected as away:
        structlog.get_logger("gateway").info("the broker is not there yet", reason=away.reason)
