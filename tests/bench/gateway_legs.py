"""What stands on both sides of the gateway when it is measured, each a process of its own.

`flood`: frames of eight agents to a broker, as fast as it takes them. `subscribe`: paho as its page
shows it, a shared subscription acknowledged by hand. `produce`: aiokafka as its page shows it, the
same records with the same promises. Each of the latter prints one JSON line.
"""

import asyncio
import json
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import paho.mqtt.client as paho
from aiokafka import AIOKafkaProducer
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocols.frames import Header, Kind, Lane, Totals, seal

RAW: Final = "raw"  # topics that no gateway takes a share of
AGENTS: Final = tuple(f"bench.line{number}" for number in range(8))
HEAD_BYTES: Final = 190  # about what a header takes of the size asked for
DIFFERENT_BYTES_MAX: Final = 16 * 1024 * 1024
OPEN_BYTES_MAX: Final = 4 * 1024 * 1024  # sent and not acknowledged by the broker
OPEN_MAX: Final = 2000
IN_FLIGHT_BYTES: Final = 16 * 1024 * 1024
RECEIVE_MAX: Final = 4096


def main() -> None:
    leg, address, size, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    host, _, port = address.rpartition(":")
    if leg == "flood":
        flood(host, int(port), size, count, sys.argv[5])
        return
    told = (
        subscribe(host, int(port), count)
        if leg == "subscribe"
        else asyncio.run(produce(address, size, count))
    )
    sys.stdout.write(json.dumps(told) + "\n")


def frames(size: int, count: int) -> Sequence[tuple[str, bytes, bytes]]:
    """Agent, header, payload. As many different ones as fit; they come round again."""
    draw = bytes(range(256)) * (size // 256 + 2)
    different = max(8, min(count, DIFFERENT_BYTES_MAX // size, 4000))
    found = []
    for number in range(different):
        agent = AGENTS[number % len(AGENTS)]
        seq = number // len(AGENTS) + 1
        header = Header(
            Kind.SAMPLES, Lane.LIVE, agent, 7, seq, 1, 100, seq * 100, seq, seq, seq, seq,
            compressed=True, totals=Totals(seq * 100),
        )  # fmt: skip
        start = number % 256
        frame = seal(header, draw[start : start + max(1, size - HEAD_BYTES)])
        found.append((agent, frame.head, frame.payload))
    return found


def flood(host: str, port: int, size: int, count: int, root: str) -> None:
    """MQTT 3.1.1 by hand: packets are made before the clock of anybody else starts.

    `root`: of the topics, `tl` or RAW.
    """
    made = [
        _publish_packet(f"{root}/1/{agent}/live".encode(), head + payload)
        for agent, head, payload in frames(size, count)
    ]
    with socket.create_connection((host, port)) as wire:
        name = f"flood{time.monotonic_ns()}".encode()
        greeting = b"\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack(">H", len(name)) + name
        wire.sendall(b"\x10" + _length(len(greeting)) + greeting)
        wire.recv(4)
        _send_all(wire, made, size, count)


def _send_all(wire: socket.socket, made: Sequence[tuple[bytes, bytes]], size: int, n: int) -> None:
    open_max = max(8, min(OPEN_MAX, OPEN_BYTES_MAX // size))
    sent = acknowledged = heard = 0
    while acknowledged < n:
        if sent < n and sent - acknowledged < open_max:
            until = min(n, acknowledged + open_max, sent + max(1, 262_144 // size))
            wire.sendall(b"".join(_numbered(made, sent, until)))
            sent = until
        else:
            heard += len(wire.recv(65_536))
            acknowledged = heard // 4


def _numbered(made: Sequence[tuple[bytes, bytes]], start: int, until: int) -> Iterator[bytes]:
    for number in range(start, until):
        before, after = made[number % len(made)]
        yield before
        yield struct.pack(">H", number % 65_000 + 1)
        yield after


def _publish_packet(topic: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Before and after the packet's number."""
    length = 2 + len(topic) + 2 + len(body)
    return b"\x32" + _length(length) + struct.pack(">H", len(topic)) + topic, body


def _length(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def subscribe(host: str, port: int, count: int) -> dict[str, float]:
    """CPU and wall time from the first message to the last."""
    taken = 0
    began: tuple[float, float] = (0.0, 0.0)

    def on_message(client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        nonlocal taken, began
        if taken == 0:
            began = time.process_time(), time.monotonic()
        taken += 1
        client.ack(message.mid, message.qos)

    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="raw", protocol=paho.MQTTv5, manual_ack=True
    )
    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(f"$share/raw/{RAW}/1/+/live", 1)
    client.on_subscribe = _say_ready
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's own
    properties.ReceiveMaximum = RECEIVE_MAX
    client.connect(host, port, properties=properties, clean_start=True)
    while taken < count:
        client.loop(1.0)
    return {
        "cpu_s": time.process_time() - began[0],
        "wall_s": time.monotonic() - began[1],
    }


def _say_ready(*_: Any) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


async def produce(bootstrap: str, size: int, count: int) -> dict[str, float]:
    """CPU and wall time of so many records, each with its own future."""
    records = [
        (
            agent.encode(),
            payload,
            [
                ("frame", head),
                ("agent", agent.encode()),
                ("lane", b"live"),
                ("seq", b"123456"),
                ("kind", b"1"),
            ],
        )
        for agent, head, payload in frames(size, count)
    ]
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=3 * 1024 * 1024,
        max_batch_size=512 * 1024,
        linger_ms=2,
    )
    await producer.start()
    try:
        key, payload, headers = records[0]
        await producer.send_and_wait("tl.live", payload, key=key, headers=headers)
        began = time.process_time(), time.monotonic()
        at_once = max(8, min(RECEIVE_MAX, IN_FLIGHT_BYTES // size))
        for start in range(0, count, at_once):
            futures = []
            for number in range(start, min(count, start + at_once)):
                key, payload, headers = records[number % len(records)]
                futures.append(await producer.send("tl.live", payload, key=key, headers=headers))
            await asyncio.gather(*futures)
        return {"cpu_s": time.process_time() - began[0], "wall_s": time.monotonic() - began[1]}
    finally:
        await producer.stop()


if __name__ == "__main__":
    main()
