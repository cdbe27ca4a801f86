"""The broker's door: one MQTT 5 client per connection, driven by our loop. It speaks paho.

paho greets, subscribes, publishes receipts and looks after the connection; the stream of messages
is read and acknowledged beside it, see packets.py.

Rule 1: a shared subscription, a clean start, a session that ends with the connection: the broker
promises nothing, so nothing is asked of it but to hand over.
Rule 2: PUBACK only by `acknowledge`, in the order given.
Rule 3: above the byte bound the socket is not read; the receive maximum bounds what is under way.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.mqtt_access import (
    CONNECT_S,
    NO_SHARING,
    MqttSettings,
    answers_version_3,
    not_this_broker,
    tls_context,
    unfit,
)
from gateway.packets import Publish, puback
from gateway.ports import HELD_BYTES_MAX, Letter, Message, Trouble
from gateway.wire import Wire
from protocols.errors import Busy, ConfigError, Disconnected, Rejected
from protocols.tls import RememberingContext
from protocols.topics import Address, read_mqtt_topic, receipts_topic, subscriptions

PACKET_BYTES_MAX: Final = 4 * 1024 * 1024  # above it the broker drops; below, it is a dead letter
ANSWERS_MAX: Final = 4096
TICK_S: Final = 0.5
TOPICS_MAX: Final = 10_000  # whose meaning is remembered


class _Token(NamedTuple):
    """The packet of a message, and the connection that it belongs to."""

    connection: int
    mid: int


class MqttIntake:
    """An `Intake`. Everything happens on the loop that opened it."""

    def __init__(self, settings: MqttSettings, bytes_max: int = HELD_BYTES_MAX) -> None:
        self._settings = settings
        self._bytes_max = bytes_max
        self._connection: _Connection | None = None
        self._count = 0

    async def open(self) -> None:
        await self.close()
        self._count += 1
        connection = _Connection(self._settings, self._count, self._bytes_max)
        try:
            await connection.open()
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    async def take(self) -> Sequence[Message]:
        return await self._there().take()

    def acknowledge(self, messages: Iterable[Message]) -> None:
        if self._connection is not None:
            self._connection.acknowledge(messages)

    def answer(self, letter: Letter) -> None:
        self._there().answer(letter)

    async def answered(self) -> None:
        await self._there().answered()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _there(self) -> "_Connection":
        if self._connection is None:
            raise Disconnected("not connected to the broker")
        return self._connection


async def check_broker(settings: MqttSettings) -> None:
    """Whether this broker can serve a gateway. ConfigError: it cannot. Disconnected: not now.

    Subscribes as a group of its own, so that no frame is taken away from anybody.
    """
    group = f"{settings.group}.check"
    connection = _Connection(replace(settings, group=group, receive_max=1), 0, HELD_BYTES_MAX)
    try:
        await connection.open()
    finally:
        connection.close()


class _Client(mqtt.Client):
    """A paho client whose socket is a `Wire`."""

    wire: Wire | None = None

    def _create_socket(self) -> Any:
        """Paho has no other place where its socket can be another one."""
        self.wire = Wire(super()._create_socket(), PACKET_BYTES_MAX)
        return self.wire


class _Speechless(Exception):
    """The connection ended before the broker said anything."""


class _Connection:
    """One paho client from CONNECT to its end, its socket driven from the loop."""

    def __init__(self, settings: MqttSettings, number: int, bytes_max: int) -> None:
        self._settings = settings
        self._number = number
        self._bytes_max = bytes_max
        self._loop = asyncio.get_running_loop()
        self._messages: list[Message] = []
        self._arrived = asyncio.Event()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone: Disconnected | ConfigError | None = None
        self._addresses: dict[bytes, Address] = {}
        self._unacknowledged = 0
        self._is_paused = False
        self._is_flushing = False
        self._is_greeted = False
        self._has_heard = False
        self._answers: deque[Letter] = deque()
        self._answers_out = 0
        self._answers_out_max = 1  # until the broker says what it takes at once
        self._answered = asyncio.Event()
        self._wire: Wire | None = None
        self._fd = -1
        self._tls: RememberingContext | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self._client = self._make_client()

    async def open(self) -> None:
        """Connected and subscribed. Disconnected: not now. ConfigError: not with this broker."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connected()
                self._listen()
                await self._ready
        except _Speechless as ended:
            await self._judge_silence(str(ended))
        except TimeoutError:
            await self._judge_silence(f"{self._settings.where}: no answer")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise Disconnected(f"{self._settings.where}: {error}") from error

    async def take(self) -> Sequence[Message]:
        while not self._messages:
            self._check()
            self._arrived.clear()
            await self._arrived.wait()
        taken, self._messages = self._messages, []
        return taken

    def acknowledge(self, messages: Iterable[Message]) -> None:
        if self._gone is not None or self._wire is None:
            return
        mids = []
        for message in messages:
            token = message.token
            if isinstance(token, _Token) and token.connection == self._number:
                self._unacknowledged -= len(message.data)
                mids.append(token.mid)
        self._wire.send(b"".join(puback(mid) for mid in mids if mid))
        self._flush_soon()
        if self._is_paused and self._unacknowledged < self._bytes_max // 2:
            self._resume()

    def answer(self, letter: Letter) -> None:
        self._check()
        if len(self._answers) >= ANSWERS_MAX:
            raise Busy("too many receipts are on their way", TICK_S)
        self._answers.append(letter)
        self._send_answers()

    async def answered(self) -> None:
        while self._answers or self._answers_out:
            self._check()
            self._answered.clear()
            await self._answered.wait()
        self._check()

    def close(self) -> None:
        if self._gone is None and self._wire is not None:
            self._client.disconnect()
            self._flush()
        self._end(Disconnected("closed"))

    def _make_client(self) -> _Client:
        settings = self._settings
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        client.max_inflight_messages = 0  # the limit is the broker's, and kept here
        client.connect_timeout = CONNECT_S
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = _nothing
        return client

    async def _connected(self) -> None:
        """In a thread: paho resolves, connects and shakes hands by waiting."""
        connecting = self._loop.run_in_executor(None, self._connect)
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(self._give_up)
            raise

    def _give_up(self, connecting: "asyncio.Future[None]") -> None:
        """A connection that came too late."""
        connecting.exception()  # looked at, so that nobody reports it as forgotten
        if self._client.wire is not None:
            self._client.wire.close()

    def _connect(self) -> None:
        settings = self._settings
        if settings.ca is not None:
            self._tls = tls_context(settings)
            self._client.tls_set_context(self._tls)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's own
        properties.SessionExpiryInterval = 0
        properties.ReceiveMaximum = settings.receive_max
        properties.MaximumPacketSize = PACKET_BYTES_MAX
        try:
            self._client.connect(
                settings.host,
                settings.port,
                settings.keepalive_s,
                clean_start=True,
                properties=properties,
            )
        except BaseException:
            if self._tls is not None:
                self._tls.close_last()
            raise

    def _listen(self) -> None:
        self._wire = self._client.wire
        if self._wire is None or self._gone is not None:
            raise ConnectionError("the broker closed the connection")
        self._fd = self._wire.fileno()
        self._loop.add_reader(self._fd, self._read)
        self._flush_soon()
        self._tick()

    def _stop_listening(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)

    def _tick(self) -> None:
        """Keep-alive: any byte is a sign of life, and while paused none can be seen."""
        if self._is_paused or self._has_heard:
            self._client._ping_t = 0.0  # noqa: SLF001 - paho has no other way to say so
        self._has_heard = False
        self._client.loop_misc()
        if self._gone is None:
            self._tick_handle = self._loop.call_later(TICK_S, self._tick)

    def _read(self) -> None:
        if self._wire is None or self._is_paused or self._gone is not None:
            return
        self._has_heard = True
        try:
            found = self._wire.read(self._bytes_max - self._unacknowledged)
        except (OSError, Rejected) as error:
            self._end(Disconnected(f"the connection to the broker ended: {error}"))
            return
        if found:
            self._keep(found)
        while self._lives and self._wire.has_rest:
            self._client.loop_read()
        if self._wire.pending():
            self._loop.call_soon(self._read)

    def _keep(self, found: Sequence[Publish]) -> None:
        messages = [self._message(one) for one in found]
        self._messages += messages
        self._unacknowledged += sum(len(message.data) for message in messages)
        self._arrived.set()
        if self._unacknowledged >= self._bytes_max:
            self._pause()

    def _message(self, found: Publish) -> Message:
        token = _Token(self._number, found.mid)
        address = self._addresses.get(found.topic) or self._address(found.topic)
        if address is None or found.is_retained:
            return Message("", "", b"", token)
        return Message(address.agent, address.channel, found.payload, token)

    def _address(self, topic: bytes) -> Address | None:
        address = read_mqtt_topic(topic.decode("utf-8", "replace"))
        if address is not None:
            if len(self._addresses) >= TOPICS_MAX:
                self._addresses.clear()
            self._addresses[topic] = address
        return address

    def _flush_soon(self) -> None:
        """Once a turn: what is written in it goes out together."""
        if not self._is_flushing and self._gone is None:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._wire is None or self._gone is not None:
            return
        try:
            self._client.loop_write()
            done = self._wire.flush()
        except OSError as error:
            self._end(Disconnected(f"the connection to the broker ended: {error}"))
            return
        if self._fd < 0:
            return
        if done:
            self._loop.remove_writer(self._fd)
        else:
            self._loop.add_writer(self._fd, self._flush)

    def _pause(self) -> None:
        self._is_paused = True
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)

    def _resume(self) -> None:
        self._is_paused = False
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)
            self._loop.call_soon(self._read)

    def _send_answers(self) -> None:
        """As many as the broker takes at once."""
        while self._lives and self._answers and self._answers_out < self._answers_out_max:
            letter = self._answers.popleft()
            self._answers_out += 1
            self._client.publish(receipts_topic(letter.agent), letter.receipt, qos=1)

    def _on_socket_close(self, *_: Any) -> None:
        self._stop_listening()  # while the number is still this socket's

    def _on_register_write(self, *_: Any) -> None:
        if self._fd >= 0:
            self._flush_soon()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        self._is_greeted = True
        why_not = unfit(code, properties)
        if why_not is not None:
            self._end(not_this_broker(self._settings, why_not))
            return
        if code.is_failure:
            why = f"the broker refuses us: {str(code).lower()}"
            self._end(Trouble("broker_refused", why))
            return
        self._answers_out_max = min(getattr(properties, "ReceiveMaximum", ANSWERS_MAX), ANSWERS_MAX)
        prefix = f"$share/{self._settings.group}/"
        client.subscribe([(topic, 1) for topic in subscriptions(prefix)])

    def _on_subscribe(
        self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        refused = [code.value for code in codes if code.is_failure]
        if NO_SHARING in refused:
            self._end(not_this_broker(self._settings, "has no shared subscriptions"))
        elif refused:
            why = "the broker refuses the subscription to tl/1/+/…: check its access rules"
            self._end(Trouble("broker_refused", why))
        elif not self._ready.done():
            self._ready.set_result(None)

    def _on_publish(
        self, _client: Any, _data: Any, _mid: int, code: ReasonCode, _properties: Any
    ) -> None:
        self._answers_out -= 1
        self._send_answers()
        self._answered.set()
        if code.is_failure:
            why = f"the broker refuses a receipt ({str(code).lower()}): check its access rules"
            self._end(Trouble("broker_refused", why))

    def _on_disconnect(
        self, _client: Any, _data: Any, flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        said = str(code).lower() if flags.is_disconnect_packet_from_server else "connection lost"
        why = f"the connection to the broker ended: {said}"
        if not self._is_greeted and not self._ready.done():
            self._ready.set_exception(_Speechless(why))
        self._end(Disconnected(why))

    async def _judge_silence(self, why: str) -> None:
        """Some brokers hang up on a version they do not know, or say nothing: another one tells."""
        self._stop_listening()
        silent = self._wire is not None and not self._is_greeted
        if silent and await asyncio.to_thread(answers_version_3, self._settings, self._tls):
            raise not_this_broker(self._settings, "speaks no MQTT 5")
        raise Disconnected(why)

    @property
    def _lives(self) -> bool:
        return self._gone is None

    def _check(self) -> None:
        if self._gone is not None:
            raise self._gone

    def _end(self, why: Disconnected | ConfigError) -> None:
        """Once: the first reason stands."""
        if self._gone is not None:
            return
        self._gone = why
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        if not self._ready.done():
            self._ready.set_exception(why)
        if not self._ready.cancelled():
            self._ready.exception()  # seen, also when nobody waits any more
        self._arrived.set()
        self._answered.set()
        self._stop_listening()
        if self._wire is not None:
            self._wire.close()


def _nothing(*_: Any) -> None:
    """What goes out is flushed once a turn, whoever asked for it."""
