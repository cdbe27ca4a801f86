"""How any of the gateway's Kafka clients gets in, and what its failures mean.

Rule 1: the library's exceptions end at the doors that use this; they leave as Trouble, named.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final

from aiokafka import errors

from gateway.ports import Trouble
from protocols.tls import Peer, Pem, configured, plain_context

REQUEST_S: Final = 15.0  # of one request; a broker that takes longer is as good as away
METADATA_S: Final = 10.0  # a topic that was made anew is noticed so soon; by itself in five minutes
START_S: Final = 20.0


class Security(StrEnum):
    PLAINTEXT = "plaintext"
    SSL = "ssl"
    SASL_PLAINTEXT = "sasl_plaintext"
    SASL_SSL = "sasl_ssl"


class Mechanism(StrEnum):
    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where Kafka is and who we are there."""

    bootstrap: str
    security: Security = Security.PLAINTEXT
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: Mechanism = Mechanism.PLAIN

    @property
    def is_encrypted(self) -> bool:
        return self.security in (Security.SSL, Security.SASL_SSL)


def client_options(access: KafkaAccess) -> dict[str, Any]:
    """What producer, consumer and administrator have in common. ConfigError: a file is no PEM."""
    options: dict[str, Any] = {
        "bootstrap_servers": access.bootstrap,
        "security_protocol": access.security.value.upper(),
        "ssl_context": _tls_context(access) if access.is_encrypted else None,
        "request_timeout_ms": round(REQUEST_S * 1000),
        "metadata_max_age_ms": round(METADATA_S * 1000),
    }
    if access.security in (Security.SASL_PLAINTEXT, Security.SASL_SSL):
        options |= {
            "sasl_mechanism": access.mechanism.value,
            "sasl_plain_username": access.username,
            "sasl_plain_password": access.password,
        }
    return options


def _tls_context(access: KafkaAccess) -> SSLContext:
    pem = Pem(access.ca, access.certificate, access.key)
    return configured(plain_context, pem, Peer.KAFKA)


# Every exception that the library knows, and what it means to us; see test_gateway_doors.py.
FAILURES: Final = (
    errors.KafkaError,
    errors.ConsumerStoppedError,
    errors.IllegalOperation,
    errors.RecordTooLargeError,
    OSError,
    TimeoutError,
)
_REFUSED: Final = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_NOT_AUTHORISED: Final = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
)
_SETTINGS: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidTimestampError,
    errors.UnsupportedForMessageFormatError,
)
_AWAY: Final = (
    errors.KafkaConnectionError,
    errors.NoBrokersAvailable,
    errors.NodeNotReadyError,
    errors.KafkaTimeoutError,
    errors.RequestTimedOutError,
    errors.NotLeaderForPartitionError,
    errors.LeaderNotAvailableError,
    errors.CoordinatorNotAvailableError,
    OSError,
    TimeoutError,
)


def trouble_of(error: BaseException) -> Trouble:
    """What a failure of the library means. It swallows why a connection failed, and logs it."""
    cause = error
    if isinstance(error, errors.KafkaConnectionError) and _murmurs.cause is not None:
        cause = _murmurs.cause
    state = next((state for kinds, state in _STATES if isinstance(cause, kinds)), "kafka_refused")
    return Trouble(state, str(cause) or _WORDLESS.get(type(cause), type(cause).__name__))


_STATES: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    (_REFUSED, "kafka_refused"),
    (_NOT_AUTHORISED, "not_authorised"),
    (_SETTINGS, "topic_settings"),
    ((errors.UnknownTopicOrPartitionError,), "topic_missing"),
    (_AWAY, "kafka_down"),
)


@contextmanager
def translated() -> Iterator[None]:
    """The library's failures leave as Trouble."""
    try:
        yield
    except Trouble:
        raise
    except FAILURES as error:
        raise trouble_of(error) from error


_WORDLESS: Final[dict[type[BaseException], str]] = {TimeoutError: "no answer in time"}


class _Murmurs(logging.Handler):
    """Remembers what the library last complained of; what matters is logged by us, once."""

    cause: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.cause = next((one for one in arguments if isinstance(one, BaseException)), self.cause)


_murmurs: Final = _Murmurs(logging.WARNING)


def hush() -> None:
    """Hear the library's log lines and keep them out of ours: they repeat while Kafka is away."""
    log = logging.getLogger("aiokafka")
    log.setLevel(logging.WARNING)
    log.propagate = False
    if _murmurs not in log.handlers:
        log.addHandler(_murmurs)
