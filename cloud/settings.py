"""Where the cloud's settings come from: command line, then environment, then file, then default.

Rule 1: every mistake at once, each with the place where it was written and the way out.
Rule 2: an environment variable that begins with `THREADLINE_CLOUD_` and means nothing is a mistake.
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
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cloud.storage import Policy, Wanted
from protocols.errors import ConfigError, Problem

PREFIX: Final = (
    "THREADLINE_CLOUD_"  # `CLOUD_` alone belongs to others, the Google Cloud SDK for one
)
FILE_VARIABLE: Final = "THREADLINE_CLOUD_CONFIG"
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
Port = Annotated[int, Field(ge=0, le=65_535)]


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
    given = {name: value for name, value in overrides.items() if value is not None}
    chosen = file or (Path(environment[FILE_VARIABLE]) if FILE_VARIABLE in environment else None)
    from_file = {} if chosen is None else _read_file(chosen)
    from_environment = _from_environment(environment)
    places = {name: f"{chosen}: {name}" for name in from_file}
    places |= {name: f"{PREFIX}{name.upper()}" for name in from_environment}
    places |= {name: f"--{name.replace('_', '-')}" for name in given}
    try:
        return CloudSettings.model_validate({**from_file, **from_environment, **given})
    except ValidationError as error:
        raise ConfigError(_problem(one, places) for one in error.errors()) from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name != FILE_VARIABLE
    }


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
    if error["type"] == "missing":
        remedy = f"Give --{name.replace('_', '-')} or set {PREFIX}{name.upper()}."
        return Problem(f"setting {name}", "", "is not given", remedy)
    where = places.get(name, name)
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(CloudSettings.model_fields))
        return Problem(where, "", "is not a setting", f"Known are: {known}.")
    secret = CloudSettings.model_fields[name].annotation in (SecretStr, SecretStr | None)
    shown = "" if secret else repr(error["input"])
    why = str(error["msg"]).removeprefix("Value error, ")
    return Problem(where, shown, why, "Correct it or leave it out.")
