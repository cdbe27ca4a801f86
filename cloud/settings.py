"""What a command of `threadline cloud` may be told, and which values can be.

Where they come from, and what is said of a mistake: protocols/settings.py.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from cloud.storage import Policy, Wanted
from protocols.errors import ConfigError, Problem
from protocols.settings import Port, gather

PREFIX: Final = (
    "THREADLINE_CLOUD_"  # `CLOUD_` alone belongs to others, the Google Cloud SDK for one
)
_DURATION: Final = re.compile(r"([0-9]+)\s*(s|min|h|d)")
_UNITS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta) or value is None:
        return value
    if value == "off":
        return None
    match = _DURATION.fullmatch(str(value))
    if match is None:
        raise ValueError("is no duration like 90d, 12h, 30min or 10s, nor `off`")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[timedelta | None, BeforeValidator(_duration)]
LEDGER_KEEP_MIN: Final = timedelta(days=1)  # as long as agents keep what is stored


def _ledger_keep(keep: timedelta | None) -> timedelta | None:
    if keep is not None and keep < LEDGER_KEEP_MIN:
        raise ValueError("is less than 1d, for which agents keep what they may send again")
    return keep


LedgerKeep = Annotated[Duration, AfterValidator(_ledger_keep)]


class CloudSettings(BaseModel):
    """Everything that a command of `threadline cloud` may want to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: SecretStr
    storage: Wanted = Wanted.AUTO
    compress_after: Duration = timedelta(days=7)
    keep_samples: Duration = None
    source: Literal["mqtt", "kafka"] = "mqtt"
    ledger_keep: LedgerKeep = timedelta(days=14)
    mqtt_host: str = "127.0.0.1"
    mqtt_port: Port = 1883
    mqtt_client_id: Annotated[str, Field(min_length=1, max_length=256)] = "threadline-ingest"
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    mqtt_ca: Path | None = None
    mqtt_certificate: Path | None = None
    mqtt_key: Path | None = None
    kafka_bootstrap: Annotated[str, Field(min_length=1)] = "127.0.0.1:9092"
    kafka_group: Annotated[str, Field(min_length=1, max_length=200)] = "threadline-ingest"
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    kafka_ca: Path | None = None
    kafka_certificate: Path | None = None
    kafka_key: Path | None = None
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 9464
    api_host: str = "127.0.0.1"
    api_port: Port = 8080

    @property
    def dsn(self) -> str:
        return self.database.get_secret_value()

    @property
    def policy(self) -> Policy:
        return Policy(self.compress_after, self.keep_samples)


def read_duration(where: str, text: str) -> timedelta | None:
    """Of an option: `90d`, `12h`, `30min`, `10s`; None for `off`. ConfigError: none of these."""
    try:
        found: timedelta | None = _duration(text)
    except ValueError as error:
        raise ConfigError([Problem(where, text, str(error), "Write it like 90d.")]) from error
    return found


def read_settings(
    overrides: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None
) -> CloudSettings:
    """The settings of one run. `overrides`: options of the command line; None: not given."""
    written = gather(PREFIX, overrides, environment, file)
    try:
        return CloudSettings.model_validate(written.values)
    except ValidationError as error:
        raise ConfigError(written.problems(error, CloudSettings)) from error
