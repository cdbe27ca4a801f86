"""The direct route: frames from an MQTT broker. The only module of the cloud that speaks paho.

Rule 1: one client per connection, thrown away with it; a clean session, so the broker promises
nothing and the agents' spools everything.
Rule 2: PUBACK only by `acknowledge`, in order of receipt.
Rule 3: above the byte bound the socket is not read, so the broker's flow control takes over.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from cloud.source import CHANNELS, Appetite, Record
from protocols.errors import Disconnected
from protocols.tls import Peer, Pem, configured, plain_context
from protocols.topics import mqtt_topic, read_mqtt_topic, receipts_topic

UNACKNOWLEDGED_BYTES_MAX: Final = 16 * 1024 * 1024
ANSWERS_WAITING_MAX: Final = 4096
CONNECT_S: Final = 10.0
MISC_S: Final = 0.5
READS_PER_TURN: Final = 64  # packets before others get the loop again


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Where the broker is and who we are there."""

    host: str
    port: int = 1883
    client_id: str = "threadline-ingest"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None  # set: TLS
    certificate: Path | None = None
    key: Path | None = None
    keepalive_s: int = 20


@dataclass(frozen=True, slots=True)
class _Token:
    """The packet of a record, and the connection that it belongs to."""

    connection: int
    number: int  # of the message in it: packet ids come back, and at QoS 0 all are 0
    mid: int
    qos: int
    size: int


class MqttSource:
    """A `cloud.source.Source`. Everything happens on the loop that opened it."""

    def __init__(
        self,
        settings: MqttSettings,
        bytes_max: int = UNACKNOWLEDGED_BYTES_MAX,
        channels: Sequence[str] = CHANNELS,
    ) -> None:
        self._settings = settings
        self._bytes_max = bytes_max
        self._channels = channels
        self._connection: _Connection | None = None
        self._count = 0

    async def open(self) -> None:
        await self.close()
        self._count += 1
        connection = _Connection(self._settings, self._count, self._bytes_max, self._channels)
        try:
            await connection.open()
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    async def take(self, appetite: Appetite) -> Sequence[Record]:
        return await self._there().take(appetite)

    def holds(self, records: Sequence[Record]) -> bool:  # noqa: ARG002 - nobody else counts them
        return True

    async def acknowledge(self, records: Sequence[Record]) -> None:
        if self._connection is not None:
            self._connection.acknowledge(records)

    async def abandon(self, records: Sequence[Record]) -> None:
        """Never: nobody else counts them."""

    async def answer(self, agent: str, receipt: bytes) -> None:
        self._there().answer(agent, receipt)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _there(self) -> "_Connection":
        if self._connection is None:
            raise Disconnected("not connected to the broker")
        return self._connection


class _Connection:
    """One paho client from CONNECT to its end, its socket driven from the loop."""

    def __init__(
        self, settings: MqttSettings, number: int, bytes_max: int, channels: Sequence[str]
    ) -> None:
        self._settings = settings
        self._number = number
        self._bytes_max = bytes_max
        self._channels = [name for name in CHANNELS if name in channels]
        self._log = structlog.get_logger("cloud.mqtt_source")
        self._loop = asyncio.get_running_loop()
        self._records: dict[str, deque[Record]] = {name: deque() for name in self._channels}
        self._received = 0
        self._order: deque[_Token] = deque()
        self._dealt_with: set[_Token] = set()
        self._arrived = asyncio.Event()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone: Disconnected | None = None
        self._unacknowledged = 0
        self._paused = False
        self._socket: Any = None
        self._misc: asyncio.TimerHandle | None = None
        self._client = self._make_client()

    async def open(self) -> None:
        """Connected and subscribed. Disconnected: refused, or nobody there."""
        settings = self._settings
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.to_thread(
                    self._client.connect, settings.host, settings.port, settings.keepalive_s
                )
                self._listen()
                await self._ready
        except (OSError, ssl.SSLError, TimeoutError) as error:
            reason = str(error) or "no answer"
            raise Disconnected(f"{settings.host}:{settings.port}: {reason}") from error

    async def take(self, appetite: Appetite) -> Sequence[Record]:
        while not any(self._records.values()):
            if self._gone is not None:
                raise self._gone
            self._arrived.clear()
            await self._arrived.wait()
        taken: list[Record] = []
        size = 0
        for waiting in self._records.values():
            while waiting and len(taken) < appetite.records:
                size += len(waiting[0].data)
                if taken and size > appetite.size:
                    return taken
                taken.append(waiting.popleft())
        return taken

    def acknowledge(self, records: Sequence[Record]) -> None:
        """PUBACK in order of receipt: one that was taken early waits for those before it."""
        self._dealt_with.update(
            record.token
            for record in records
            if isinstance(record.token, _Token) and record.token.connection == self._number
        )
        while self._order and self._order[0] in self._dealt_with:
            token = self._order.popleft()
            self._dealt_with.remove(token)
            self._unacknowledged -= token.size
            self._client.ack(token.mid, token.qos)
        if self._paused and self._unacknowledged < self._bytes_max // 2:
            self._resume()

    def answer(self, agent: str, receipt: bytes) -> None:
        if self._gone is not None:
            raise self._gone
        sent = self._client.publish(receipts_topic(agent), receipt, qos=1)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise Disconnected(f"receipt not sent: {mqtt.error_string(sent.rc)}")

    def close(self) -> None:
        if self._misc is not None:
            self._misc.cancel()
        self._stop_listening()
        self._client.disconnect()
        self._client._reset_sockets()  # noqa: SLF001 - paho closes sockets only in its own loop
        self._end("closed")

    def _make_client(self) -> mqtt.Client:
        settings = self._settings
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=True,
            protocol=mqtt.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.max_queued_messages_set(ANSWERS_WAITING_MAX)
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.ca is not None:
            client.tls_set_context(tls_context(settings))
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    def _listen(self) -> None:
        self._socket = self._client.socket()
        if self._socket is None:
            raise ConnectionError("the broker closed the connection")
        self._loop.add_reader(self._socket, self._read)
        if self._client.want_write():
            self._loop.add_writer(self._socket, self._write)
        self._tick()

    def _stop_listening(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _tick(self) -> None:
        """Keep-alive. While paused the answer to a ping waits unread: it is not missed then."""
        if self._paused:
            self._client._ping_t = 0.0  # noqa: SLF001 - paho has no other way to say so
        self._client.loop_misc()
        if self._gone is None:
            self._misc = self._loop.call_later(MISC_S, self._tick)

    def _read(self) -> None:
        for _ in range(READS_PER_TURN):
            if self._paused or self._socket is None:
                return
            if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or not self._more():
                return

    def _more(self) -> bool:
        """TLS may hold decrypted bytes that no selector will ever report."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _write(self) -> None:
        self._client.loop_write()

    def _pause(self) -> None:
        self._paused = True
        if self._socket is not None:
            self._loop.remove_reader(self._socket)

    def _resume(self) -> None:
        self._paused = False
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._read)
            self._loop.call_soon(self._read)

    def _on_socket_close(self, _client: object, _data: object, _sock: object) -> None:
        self._stop_listening()  # while the number is still this socket's

    def _on_register_write(self, _client: object, _data: object, sock: Any) -> None:
        if self._socket is not None:
            self._loop.add_writer(sock, self._write)

    def _on_unregister_write(self, _client: object, _data: object, sock: Any) -> None:
        if self._socket is not None:
            self._loop.remove_writer(sock)

    def _on_connect(
        self, client: mqtt.Client, _data: object, _flags: object, code: Any, _properties: object
    ) -> None:
        if code.is_failure:
            self._end(f"refused by the broker: {code}")
            return
        client.subscribe([(mqtt_topic("+", channel), 1) for channel in self._channels])

    def _on_subscribe(
        self, _client: object, _data: object, _mid: int, codes: Any, _properties: object
    ) -> None:
        refused = [code for code in codes if code.is_failure]
        if refused:
            self._end("the broker refuses the subscription to tl/1/+/…: check its access rules")
        elif not self._ready.done():
            self._ready.set_result(None)

    def _on_message(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        address = read_mqtt_topic(message.topic)
        if address is None or address.channel not in self._records or message.retain:
            self._log.warning("ignored", topic=message.topic[:200], retained=message.retain)
            client.ack(message.mid, message.qos)
            return
        payload = bytes(message.payload)
        self._received += 1
        token = _Token(self._number, self._received, message.mid, message.qos, len(payload))
        record = Record(address.agent, address.channel, payload, token)
        self._records[address.channel].append(record)
        self._order.append(token)
        self._unacknowledged += token.size
        self._arrived.set()
        if self._unacknowledged >= self._bytes_max:
            self._pause()

    def _on_disconnect(
        self, _client: object, _data: object, _flags: object, code: Any, _properties: object
    ) -> None:
        self._end(f"the connection to the broker ended: {code}")

    def _end(self, why: str) -> None:
        if self._gone is None:
            self._gone = Disconnected(why)
        if not self._ready.done():
            self._ready.set_exception(self._gone)
            self._ready.exception()  # seen, also when nobody waits any more
        self._arrived.set()


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """ConfigError: a file is missing or no certificate."""
    pem = Pem(settings.ca, settings.certificate, settings.key)
    return configured(plain_context, pem, Peer.BROKER)
