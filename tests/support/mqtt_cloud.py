"""The far side of a real broker: takes every frame of every agent and answers as it is told.

A plain paho client in its own thread, apart from the product's door. It keeps its session over a
restart of the broker, as an ingest does.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from protocols.errors import Rejected
from protocols.frames import Frame, split
from protocols.receipts import Receipt, Run, Said, encode_receipt

TOPICS = tuple(f"tl/1/+/{lane}" for lane in ("events", "live", "backlog", "control", "hello"))

Answer = Callable[[Frame], Said | None]


class MqttCloud:
    """`frames`: received, in order, hello and status too. `answer`: what to say, None: nothing."""

    def __init__(self, host: str, port: int, answer: Answer | None = None, **login: str) -> None:
        self.answer: Answer = answer or (lambda _: None)
        self.frames: list[Frame] = []
        self.unreadable = 0
        self._loop = asyncio.get_running_loop()
        self._change = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="the-cloud",
            clean_session=False,
            protocol=paho.MQTTv311,
        )
        if login:
            self._client.username_pw_set(login["username"], login["password"])
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect(host, port, keepalive=10)
        self._client.loop_start()

    @property
    def numbered(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.header.seq]

    def say(self, said: Said, frames: Iterable[Frame], store_id: str = "s1") -> None:
        for frame in frames:
            self.publish(frame.header.agent, encode_receipt(receipt_of(frame, said, store_id)))

    def publish(self, agent: str, message: bytes) -> None:
        self._client.publish(f"tl/1/{agent}/receipts", message, qos=1)

    async def subscribed(self) -> None:
        async with asyncio.timeout(10):
            await self._subscribed.wait()

    async def until(self, wanted: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Look again at each message."""
        async with asyncio.timeout(timeout_s):
            while not wanted():
                self._change.clear()
                await self._change.wait()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(topic, 1) for topic in TOPICS])

    def _on_subscribe(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._subscribed.set)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            frame = split(bytes(message.payload))
        except Rejected:
            self.unreadable += 1
            return
        assert isinstance(frame, Frame)
        self._loop.call_soon_threadsafe(self._take, frame)

    def _take(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._change.set()
        said = self.answer(frame) if frame.header.seq else None
        if said is not None:
            self.say(said, [frame])


def receipt_of(frame: Frame, said: Said, store_id: str | None = "s1") -> Receipt:
    header = frame.header
    run = Run(
        epoch=header.epoch,
        lane=header.lane,
        kind=said,
        first=header.seq,
        digests=(header.digest,),
    )
    return Receipt(agent=header.agent, store_id=store_id, runs=(run,))


@contextlib.contextmanager
def cloud_at(host: str, port: int, answer: Answer | None = None) -> Iterator[MqttCloud]:
    cloud = MqttCloud(host, port, answer)
    try:
        yield cloud
    finally:
        cloud.close()
