"""How the gateway gets into a broker, and which brokers it can work with at all."""

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from paho.mqtt.reasoncodes import ReasonCode

from protocols.errors import ConfigError, Problem
from protocols.tls import Peer, Pem, RememberingContext, configured, remembering_context

RECEIVE_MAX: Final = 4096  # messages under way to us and not acknowledged
CONNECT_S: Final = 10.0
NO_SHARING: Final = 0x9E  # reason codes of MQTT 5
NO_SUCH_VERSION: Final = 0x84
_REMEDY: Final = (
    "Use a broker with MQTT 5 and shared subscriptions (mosquitto 2, EMQX, HiveMQ), or without"
    " Kafka `threadline cloud ingest`, which needs neither."
)


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Where the broker is and who we are there. `group`: of gateways that share the frames."""

    host: str
    port: int = 1883
    client_id: str = "threadline-gateway"
    group: str = "threadline-gateway"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None  # set: TLS
    certificate: Path | None = None
    key: Path | None = None
    keepalive_s: int = 20
    receive_max: int = RECEIVE_MAX

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


def tls_context(settings: MqttSettings) -> RememberingContext:
    """ConfigError: a file is missing or no certificate."""
    pem = Pem(settings.ca, settings.certificate, settings.key)
    return configured(remembering_context, pem, Peer.BROKER)


def unfit(code: ReasonCode, properties: Any) -> str | None:
    """Why no gateway can ever work with this broker."""
    if code.value == NO_SUCH_VERSION:
        return "speaks no MQTT 5"
    if code.is_failure:
        return None
    if getattr(properties, "SharedSubscriptionAvailable", 1) == 0:
        return "has no shared subscriptions"
    if getattr(properties, "MaximumQoS", 1) == 0:
        return "has no QoS 1"
    return None


def not_this_broker(settings: MqttSettings, why: str) -> ConfigError:
    return ConfigError([Problem("mqtt_host", settings.where, f"the broker {why}", _REMEDY)])


def answers_version_3(settings: MqttSettings, tls: ssl.SSLContext | None) -> bool:
    """Whether a client of MQTT 3.1.1 is answered, in whatever way."""
    greeting = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x14\x00\x00"
    try:
        with socket.create_connection((settings.host, settings.port), CONNECT_S) as plain:
            plain.settimeout(CONNECT_S)
            wire = plain if tls is None else tls.wrap_socket(plain, server_hostname=settings.host)
            wire.sendall(greeting)
            return wire.recv(1) == b"\x20"
    except OSError:
        return False
