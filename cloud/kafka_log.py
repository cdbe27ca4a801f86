"""What Kafka's servers say of their topics: each one's own id, and who leads its parts since when.

A second door to aiokafka beside `kafka_source`: how a connection is made, what its failures mean.
Rule 1: asking makes no topic.
Rule 2: aiokafka's exceptions leave as SourceTrouble.
"""

import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from cloud.source import SourceState, SourceTrouble
from protocols import tasks
from protocols.tls import Peer, Pem, configured, plain_context

REQUEST_MS: Final = 10_000
RETRY_MS: Final = 200
METADATA_MS: Final = 10_000  # so soon parts that a topic was given more are read


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where Kafka is and who we are there. `prefix`: of every topic's name.

    `bytes_max`: taken and not acknowledged; above it nothing is taken.
    """

    bootstrap: str
    group: str = "threadline-ingest"
    security: str = "plaintext"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = "PLAIN"
    prefix: str = ""
    bytes_max: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """`topic_id` None: this server tells none. `leader_epochs`: by part."""

    topic_id: UUID | None
    leader_epochs: Mapping[int, int]


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """What every client of aiokafka is given. ConfigError: a file is missing or no certificate."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "client_id": settings.group,
        "security_protocol": settings.security.upper(),
        "request_timeout_ms": REQUEST_MS,
        "retry_backoff_ms": RETRY_MS,
        "metadata_max_age_ms": METADATA_MS,
    }
    if settings.security in ("ssl", "sasl_ssl"):
        options["ssl_context"] = _tls_context(settings)
    if settings.security.startswith("sasl"):
        options["sasl_mechanism"] = settings.mechanism
        options["sasl_plain_username"] = settings.username
        options["sasl_plain_password"] = settings.password
    return options


@contextmanager
def translated() -> Iterator[None]:
    """Aiokafka's exceptions leave as SourceTrouble."""
    try:
        yield
    except errors.KafkaError as error:
        raise trouble_of(error) from error
    except (TimeoutError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise SourceTrouble(SourceState.KAFKA_DOWN, reason) from error


def trouble_of(error: errors.KafkaError) -> SourceTrouble:
    """What an error of aiokafka means to whoever reads."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, _REFUSALS):
        return SourceTrouble(SourceState.KAFKA_REFUSED, reason)
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return SourceTrouble(SourceState.KAFKA_TOPIC_MISSING, reason)
    return SourceTrouble(SourceState.KAFKA_DOWN, reason)


_REFUSALS: Final = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.IllegalSaslStateError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)


async def end(close: Callable[[], Awaitable[None]], within_s: float) -> None:
    """Let a part of aiokafka end, or leave it to itself; that it fails then is no matter."""
    with suppress(errors.KafkaError, TimeoutError):
        await tasks.end(close, within_s)


class LogView:
    """A connection that only asks."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._options = client_options(settings)
        self._client = AIOKafkaClient(**self._options)

    async def open(self) -> None:
        """SourceTrouble: nobody there, or we may not."""
        try:
            with translated():
                await self._client.bootstrap()
        except SourceTrouble:
            await self._explain()
            raise

    async def read(self, topics: Iterable[str]) -> Mapping[str, Topic]:
        """All of them. SourceTrouble: one is missing, we may not see it, or nobody answers."""
        wanted = sorted(topics)
        with translated():
            answer = await self._ask(wanted)
        found = {}
        for error, name, raw_id, _, parts, *_ in answer.topics:
            _check(name, error)
            epochs = {number: epoch for _, number, _, epoch, *_ in parts}
            found[name] = Topic(UUID(bytes=raw_id) if any(raw_id) else None, epochs)
        return found

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, topics: list[str]) -> Any:
        """Any server that answers knows; it is asked of one after the other."""
        last: errors.KafkaError = errors.NodeNotReadyError("Kafka names no servers")
        for broker in self._client.cluster.brokers():
            try:
                return await self._client.send(broker.nodeId, _Describe(topics))
            except errors.KafkaError as error:
                last = error
        raise last

    async def _explain(self) -> None:
        """A failed start only says that it failed: connect once more, for the reason."""
        options = {name: value for name, value in self._options.items() if name in _OF_CONNECTION}
        for host, port, _ in self._client.hosts:
            with translated():
                connection = await create_conn(host, port, **options)
                await connection.close()


_OF_CONNECTION: Final = frozenset(
    (
        "client_id",
        "request_timeout_ms",
        "ssl_context",
        "security_protocol",
        "sasl_mechanism",
        "sasl_plain_username",
        "sasl_plain_password",
    )
)


def _check(name: str, error: int) -> None:
    kind = errors.for_code(error)
    if kind is errors.NoError:
        return
    if kind is errors.UnknownTopicOrPartitionError:
        reason = f"there is no topic {name}: threadline gateway topics create makes it"
        raise SourceTrouble(SourceState.KAFKA_TOPIC_MISSING, reason)
    if kind is errors.TopicAuthorizationFailedError:
        reason = f"Kafka does not let us see the topic {name}: check its access rules"
        raise SourceTrouble(SourceState.KAFKA_REFUSED, reason)
    raise SourceTrouble(SourceState.KAFKA_DOWN, f"{name}: {kind.__name__}")


def _tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    pem = Pem(settings.ca, settings.certificate, settings.key)
    return configured(plain_context, pem, Peer.KAFKA)


# Kafka's Metadata request, version 10: the first with ids of topics. aiokafka's own stops at 5.


class _Uuid(AbstractType[bytes]):  # type: ignore[misc] # no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _DescribeAnswer(Response):  # type: ignore[misc] # no types
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _DescribeTopics(RequestStruct):  # type: ignore[misc] # no types
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeAnswer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


# No topic made, no list of what we may do.
_NOTHING_MORE: Final = (False, False, False)


class _Describe(Request[_DescribeTopics]):  # type: ignore[misc] # no types
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_DescribeTopics]) -> _DescribeTopics:
        no_tags: dict[int, bytes] = {}
        asked = [(bytes(16), topic, no_tags) for topic in self._topics]
        made: _DescribeTopics = request_struct_class(asked, *_NOTHING_MORE, no_tags)
        return made
