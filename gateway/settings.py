"""What a command of `threadline gateway` may be told, and what cannot be together.

Where it comes from, and what is said of a mistake: protocols/settings.py.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from gateway.kafka_access import KafkaAccess, Mechanism, Security
from gateway.mqtt_access import MqttSettings
from protocols.errors import ConfigError, Problem
from protocols.settings import Port, gather, revealed

PREFIX: Final = "THREADLINE_GATEWAY_"
NEEDED: Final = ("kafka_bootstrap", "kafka_group")  # to run; some commands need less
_ONE_SERVER: Final = re.compile(r"[^\s:,]+:[0-9]{1,5}")

# A share group is a level of a topic: no wildcard, no slash.
Group = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]


class GatewaySettings(BaseModel):
    """Everything that a command of `threadline gateway` may want to know.

    `kafka_group`: whose receipts these are to carry: one name for all gateways of one broker,
    another for each broker. `mqtt_group`: of the shared subscription.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mqtt_host: str = "127.0.0.1"
    mqtt_port: Port = 1883
    mqtt_client_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    mqtt_group: Group = "threadline-gateway"
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    mqtt_ca: Path | None = None
    mqtt_certificate: Path | None = None
    mqtt_key: Path | None = None
    mqtt_receive_max: Annotated[int, Field(ge=1, le=65_535)] = 4096
    kafka_bootstrap: str | None = None
    kafka_group: Group | None = None
    kafka_security: Security = Security.PLAINTEXT
    kafka_ca: Path | None = None
    kafka_certificate: Path | None = None
    kafka_key: Path | None = None
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_mechanism: Mechanism = Mechanism.PLAIN
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 9465

    def mqtt(self, client_id: str) -> MqttSettings:
        """`client_id`: of this process, when none was given."""
        return MqttSettings(
            self.mqtt_host,
            self.mqtt_port,
            self.mqtt_client_id or client_id,
            self.mqtt_group,
            self.mqtt_username,
            revealed(self.mqtt_password),
            self.mqtt_ca,
            self.mqtt_certificate,
            self.mqtt_key,
            receive_max=self.mqtt_receive_max,
        )

    @property
    def kafka(self) -> KafkaAccess:
        return KafkaAccess(
            self.kafka_bootstrap or "",
            self.kafka_security,
            self.kafka_ca,
            self.kafka_certificate,
            self.kafka_key,
            self.kafka_username,
            revealed(self.kafka_password),
            self.kafka_mechanism,
        )


def read_settings(
    overrides: Mapping[str, Any],
    environment: Mapping[str, str],
    file: Path | None = None,
    needed: Collection[str] = NEEDED,
) -> GatewaySettings:
    """The settings of one run. `overrides`: options of the command line; None: not given."""
    written = gather(PREFIX, overrides, environment, file)
    values, places = written.values, written.places
    missing = [name for name in needed if values.get(name) is None]
    problems = [written.missing(name, _MEANING[name]) for name in missing]
    problems += _contradictions(values, places)
    try:
        settings = GatewaySettings.model_validate(values)
    except ValidationError as error:
        problems = [*written.problems(error, GatewaySettings), *problems]
        raise ConfigError(problems) from error
    if problems:
        raise ConfigError(problems)
    return settings


def _contradictions(values: Mapping[str, Any], places: Mapping[str, str]) -> Iterator[Problem]:
    """What no single field can see."""
    where = {name: places.get(name, f"setting {name}") for name in GatewaySettings.model_fields}
    yield from _of_servers(values, where)
    yield from _of_security(values, where)
    yield from _of_certificates(values, where)


def _of_servers(values: Mapping[str, Any], where: Mapping[str, str]) -> Iterator[Problem]:
    servers = [one.strip() for one in str(values.get("kafka_bootstrap") or "").split(",")]
    wrong = [one for one in servers if one and not _ONE_SERVER.fullmatch(one)]
    if wrong:
        remedy = "Write host:port, several with commas between them."
        yield Problem(where["kafka_bootstrap"], ", ".join(wrong), "is no host:port", remedy)


def _of_security(values: Mapping[str, Any], where: Mapping[str, str]) -> Iterator[Problem]:
    security = str(values.get("kafka_security", Security.PLAINTEXT.value))
    has_names, has_tls = security.startswith("sasl"), security.endswith("ssl")
    for name in ("kafka_username", "kafka_password"):
        if has_names and values.get(name) is None:
            yield Problem(where[name], "", f"is needed with {security}", "Give it.")
    unused = [] if has_names else ["kafka_username", "kafka_password"]
    unused += [] if has_tls else ["kafka_ca", "kafka_certificate"]
    for name in unused:
        if values.get(name) is not None:
            remedy = "Set kafka_security to ssl, sasl_ssl or sasl_plaintext, or leave it out."
            yield Problem(where[name], "", f"is never used with {security}", remedy)


def _of_certificates(values: Mapping[str, Any], where: Mapping[str, str]) -> Iterator[Problem]:
    for side in ("kafka", "mqtt"):
        certificate, key = f"{side}_certificate", f"{side}_key"
        for name, other in ((certificate, key), (key, certificate)):
            if values.get(name) is not None and values.get(other) is None:
                yield Problem(where[name], "", f"needs {other}", "Give both or neither.")
    if values.get("mqtt_certificate") is not None and values.get("mqtt_ca") is None:
        remedy = "Give mqtt_ca too: it turns on TLS."
        yield Problem(where["mqtt_certificate"], "", "is never used without mqtt_ca", remedy)


_MEANING: Final = {
    "kafka_bootstrap": "It says where Kafka is, as host:port.",
    "kafka_group": "It is one name for all gateways of a broker, another for each broker.",
}
