"""The only door to paho: one MQTT 3.1.1 client per session, driven by our loop.

Rule 1: a client is thrown away with its session, so that nothing it kept is ever sent later.
Rule 2: nothing is handed to paho but inside a session; it never queues for one.
Rule 3: paho's and TLS's failures leave as Disconnected, with a reason for people.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from edge.link import Link
from protocols.errors import Disconnected
from protocols.tls import Pem, RememberingContext, remembering_context
from protocols.topics import receipts_topic

QOS: Final = 1
TICK_S: Final = 0.5
CLOSE_S: Final = 1.0
FAILURES: Final = (OSError, ValueError, MQTTException)  # all that paho and TLS raise
RECEIVED_BYTES_MAX: Final = 16 * 1024 * 1024
_READS_AT_ONCE: Final = 64
_FAILURE: Final = 0x80
_ENDINGS: Final = {  # what paho says of a session that nobody ended on purpose
    "Unspecified error": "connection lost",
    "Keep alive timeout": "the broker does not answer",
}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is and as whom to come. `certificate` and `key` belong together."""

    agent: str
    host: str
    port: int
    tls: bool = False
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: str | None = None
    keepalive_s: float = 15.0
    open_timeout_s: float = 10.0


class MqttBroker:
    """A Broker at one address."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address

    @property
    def identity(self) -> str:
        return "proven" if self._address.certificate else "unproven"

    async def open(self) -> Link:
        link = MqttLink(self._address)
        try:
            await link.open()
        except BaseException:
            await link.close()
            raise
        return link


class MqttLink:
    """A Link on one paho client."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._handle = -1
        self._sizes: dict[int, int] = {}
        self._unacknowledged = 0
        self._received: deque[bytes] = deque()
        self._received_bytes = 0
        self._reading = False
        self._writing = False
        self._ended: str | None = None
        self._news = asyncio.Event()  # a message, or the end
        self._flow = asyncio.Event()  # an acknowledgement, or the end
        self._greeted = asyncio.Event()  # CONNACK and SUBACK, or the end
        self._tick: asyncio.TimerHandle | None = None
        self._client = self._make_client()

    async def open(self) -> None:
        """Connect, log in and subscribe. Disconnected: not now, with the reason."""
        try:
            async with asyncio.timeout(self._address.open_timeout_s):
                await self._connect()
                await self._greeted.wait()
        except TimeoutError as error:
            raise self._lost("the broker does not answer") from error
        except Disconnected as gone:
            self._end(gone.reason)
            raise
        self._check()

    def publish(self, topic: str, payload: bytes) -> None:
        self._check()
        try:
            sent = self._client.publish(topic, payload, QOS)
        except FAILURES as error:
            raise self._lost(str(error)) from error
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._lost(paho.error_string(sent.rc))
        self._sizes[sent.mid] = len(payload)
        self._unacknowledged += len(payload)

    @property
    def unacknowledged_bytes(self) -> int:
        return self._unacknowledged

    async def flowed(self) -> None:
        self._check()
        await self._flow.wait()
        self._flow.clear()
        self._check()

    async def receive(self) -> bytes:
        while not self._received:
            self._check()
            self._news.clear()
            await self._news.wait()
        data = self._received.popleft()
        self._received_bytes -= len(data)
        if not self._reading and self._received_bytes < RECEIVED_BYTES_MAX // 2:
            self._read_on()
        return data

    async def close(self) -> None:
        if self._ended is None:
            self._client.disconnect()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    while self._ended is None:
                        self._flow.clear()
                        await self._flow.wait()
        self._end("closed")

    def _make_client(self) -> paho.Client:
        address = self._address
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=address.agent,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages = 0  # no limit: the window is ours, and paho must not queue
        client.connect_timeout = address.open_timeout_s
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    async def _connect(self) -> None:
        """In a thread, because paho resolves, connects and shakes hands by waiting."""
        connecting = self._loop.run_in_executor(None, self._connect_by_waiting)
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(self._give_up)
            raise
        self._attach()

    def _connect_by_waiting(self) -> None:
        address = self._address
        context: RememberingContext | None = None
        try:
            if address.tls:
                context = _tls(address)
                self._client.tls_set_context(context)
            self._client.connect(address.host, address.port, max(1, round(address.keepalive_s)))
        except FAILURES as error:
            if context is not None:
                context.close_last()
            raise Disconnected(_reason(error)) from error

    def _give_up(self, connecting: "asyncio.Future[None]") -> None:
        connecting.exception()  # looked at, so that nobody reports it as forgotten
        handle = self._client.socket()
        if handle is not None:
            handle.close()

    def _attach(self) -> None:
        """From here on the loop moves the bytes."""
        handle = self._client.socket()
        if handle is None:
            self._end("closed while connecting")
            return
        if isinstance(handle, socket.socket):
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._handle = handle.fileno()
        self._client.on_socket_register_write = self._write_on
        self._client.on_socket_unregister_write = self._write_off
        self._client.on_socket_close = self._on_socket_close
        self._read_on()
        if self._client.want_write():
            self._write_on()
        self._look_after()

    def _look_after(self) -> None:
        """Pings, and the end of a peer that no longer answers them."""
        self._tick = self._loop.call_later(TICK_S, self._look_after)
        self._judge(self._client.loop_misc())

    def _readable(self) -> None:
        for _ in range(_READS_AT_ONCE):
            self._judge(self._client.loop_read())
            if self._ended is not None or not self._reading:
                return
            if not _has_more(self._client.socket()):
                return
        self._loop.call_soon(self._readable_again)

    def _readable_again(self) -> None:
        if self._ended is None and self._reading:
            self._readable()

    def _writable(self) -> None:
        self._judge(self._client.loop_write())

    def _judge(self, code: MQTTErrorCode) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end(paho.error_string(code))

    def _read_on(self) -> None:
        if self._ended is None and not self._reading:
            self._reading = True
            self._loop.add_reader(self._handle, self._readable)
            self._loop.call_soon(self._readable_again)  # TLS may hold what was read already

    def _read_off(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._handle)

    def _write_on(self, *_: Any) -> None:
        if self._ended is None and not self._writing:
            self._writing = True
            self._loop.add_writer(self._handle, self._writable)

    def _write_off(self, *_: Any) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._handle)

    def _on_socket_close(self, *_: Any) -> None:
        """Before paho closes it: the number may be another socket's a moment later."""
        self._read_off()
        self._write_off()

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        if code.is_failure:
            self._end(f"refused: {str(code).lower()}")
            return
        client.subscribe(receipts_topic(self._address.agent), QOS)

    def _on_subscribe(
        self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        if any(code.value >= _FAILURE for code in codes):
            self._end("refused: may not subscribe to its receipts")
        self._greeted.set()

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._received.append(bytes(message.payload))
        self._received_bytes += len(message.payload)
        if self._received_bytes >= RECEIVED_BYTES_MAX:
            self._read_off()
        self._news.set()

    def _on_publish(self, _client: Any, _data: Any, mid: int, _code: Any, _properties: Any) -> None:
        self._unacknowledged -= self._sizes.pop(mid, 0)
        self._flow.set()

    def _on_disconnect(
        self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        self._end(_ENDINGS.get(str(code), str(code).lower()))

    def _check(self) -> None:
        if self._ended is not None:
            raise Disconnected(self._ended)

    def _lost(self, reason: str) -> Disconnected:
        self._end(reason)
        return Disconnected(reason)

    def _end(self, reason: str) -> None:
        """Once: the first reason stands."""
        if self._ended is not None:
            return
        self._ended = reason
        if self._tick is not None:
            self._tick.cancel()
        for event in (self._news, self._flow, self._greeted):
            event.set()
        self._read_off()
        self._write_off()
        handle = self._client.socket()
        if handle is not None:
            handle.close()


def _tls(address: BrokerAddress) -> RememberingContext:
    return remembering_context(Pem(address.authority, address.certificate, address.key))


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"refused by us: the broker's certificate: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "the broker does not answer"
    return str(error) or type(error).__name__


def _has_more(handle: Any) -> bool:
    """TLS holds bytes that the socket no longer shows."""
    return isinstance(handle, ssl.SSLSocket) and handle.pending() > 0
