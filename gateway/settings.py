"""Where the gateway's settings come from: command line, then environment, then file, then default.

Rule 1: every mistake at once, each with the place where it was written and the way out.
Rule 2: an environment variable that begins with `THREADLINE_GATEWAY_` and means nothing is a
mistake.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway.kafka_access import KafkaAccess, Mechanism, Security
from gateway.mqtt_access import MqttSettings
from protocols.errors import ConfigError, Problem

PREFIX: Final = "THREADLINE_GATEWAY_"
FILE_VARIABLE: Final = "THREADLINE_GATEWAY_CONFIG"
NEEDED: Final = ("kafka_bootstrap", "kafka_group")  # to run; some commands need less
_ONE_SERVER: Final = re.compile(r"[^\s:,]+:[0-9]{1,5}")

Port = Annotated[int, Field(ge=0, le=65_535)]
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
            _secret(self.mqtt_password),
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
            _secret(self.kafka_password),
            self.kafka_mechanism,
        )


def read_settings(
    overrides: Mapping[str, Any],
    environment: Mapping[str, str],
    file: Path | None = None,
    needed: Collection[str] = NEEDED,
) -> GatewaySettings:
    """The settings of one run. `overrides`: options of the command line; None: not given."""
    given = {name: value for name, value in overrides.items() if value is not None}
    chosen = file or (Path(environment[FILE_VARIABLE]) if FILE_VARIABLE in environment else None)
    from_file = {} if chosen is None else _read_file(chosen)
    from_environment = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name != FILE_VARIABLE
    }
    places = {name: f"{chosen}: {name}" for name in from_file}
    places |= {name: f"{PREFIX}{name.upper()}" for name in from_environment}
    places |= {name: f"--{name.replace('_', '-')}" for name in given}
    values = {**from_file, **from_environment, **given}
    missing = [name for name in needed if values.get(name) is None]
    problems = [*map(_missing, missing), *_contradictions(values, places)]
    try:
        settings = GatewaySettings.model_validate(values)
    except ValidationError as error:
        problems = [*(_problem(one, places) for one in error.errors()), *problems]
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


def _read_file(file: Path) -> dict[str, Any]:
    try:
        found = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(file, str(error), "Give a readable file.") from error
    except YAMLError as error:
        raise _unusable(file, f"is no YAML: {error}", "Write `name: value` lines.") from error
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise _unusable(file, "is not a list of settings", "Write `name: value` lines.")
    return found


def _unusable(file: Path, why: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(str(file), "", why, remedy)])


def _problem(error: Any, places: Mapping[str, str]) -> Problem:
    name = str(error["loc"][0])
    where = places.get(name, name)
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(GatewaySettings.model_fields))
        return Problem(where, "", "is not a setting", f"Known are: {known}.")
    shown = "" if name.endswith("_password") else repr(error["input"])
    return Problem(where, shown, str(error["msg"]), "Correct it or leave it out.")


def _missing(name: str) -> Problem:
    remedy = f"Give --{name.replace('_', '-')} or set {PREFIX}{name.upper()}."
    return Problem(f"setting {name}", "", "is not given", f"{_MEANING[name]} {remedy}")


_MEANING: Final = {
    "kafka_bootstrap": "It says where Kafka is, as host:port.",
    "kafka_group": "It is one name for all gateways of a broker, another for each broker.",
}


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()
