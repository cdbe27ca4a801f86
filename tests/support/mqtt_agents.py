"""The agents' side of a real broker: publishes frames, hears receipts. A plain paho client.

MQTT 3.1.1, as agents speak it, in its own thread, apart from the product's doors.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from protocols.receipts import Receipt, decode_receipt
from protocols.topics import mqtt_topic, receipts_topic
from tests.support.gateway_fakes import AGENT

PATIENCE_S = 20.0


class MqttAgents:
    """One client that speaks for any agent. `heard`: agent and receipt as they came."""

    def __init__(self, host: str, port: int, client_id: str = "the-agents", **login: Any) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.acknowledged = 0
        self._loop = asyncio.get_running_loop()
        self._change = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv311
        )
        self._client.max_inflight_messages = 0
        if "username" in login:
            self._client.username_pw_set(login["username"], login["password"])
        if "tls" in login:
            self._client.tls_set(**login["tls"])
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._soon(self._subscribed.set)
        self._client.on_message = self._on_message
        self._client.on_publish = lambda *_: self._soon(self._count)
        self._client.connect(host, port, keepalive=10)
        self._client.loop_start()

    async def subscribed(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._subscribed.wait()

    def publish(self, channel: str, data: bytes, agent: str = AGENT, qos: int = 1) -> None:
        self._client.publish(mqtt_topic(agent, channel), data, qos=qos)

    @property
    def receipts(self) -> list[Receipt]:
        return [decode_receipt(data) for _, data in self.heard]

    def logged(self, agent: str = AGENT) -> list[int]:
        """Seqs that `logged` was said of, in order of hearing."""
        return [
            run.first + place
            for to, data in self.heard
            if to == agent
            for run in decode_receipt(data).runs
            if run.kind == "logged"
            for place in range(len(run.digests))
        ]

    async def until(self, wanted: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Looks again whenever something came in, and now and then."""
        async with asyncio.timeout(timeout_s):
            while not wanted():
                self._change.clear()
                try:
                    async with asyncio.timeout(0.2):
                        await self._change.wait()
                except TimeoutError:
                    continue

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(receipts_topic("+"), 1)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        agent = message.topic.split("/")[2]
        self._soon(self._hear, agent, bytes(message.payload))

    def _hear(self, agent: str, data: bytes) -> None:
        self.heard.append((agent, data))
        self._change.set()

    def _count(self) -> None:
        self.acknowledged += 1
        self._change.set()

    def _soon(self, call: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)
