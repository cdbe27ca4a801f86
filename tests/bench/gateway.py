"""The gateway beside its two libraries: frames per second of CPU, and memory with Kafka away.

The legs take turns, each a process of its own, fed the same frames: a bare paho subscriber that
acknowledges, a bare aiokafka producer, and `threadline gateway run` between them. CPU is the
process' own, kernel included.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from tests.bench.gateway_legs import RAW
from tests.bench.report import Figure, of_rounds
from threadline.broker import BrokerSettings, Mosquitto
from threadline.children import Child, Children, wait_until
from threadline.kafka import Kafka
from threadline.ports import free_port
from threadline.stack import Stack

SIZES: Final = {1_000: 30_000, 20_000: 5_000, 200_000: 600}  # bytes of a frame: frames a round
ROUNDS: Final = 3
SECONDS_AWAY: Final = "BENCH_KAFKA_AWAY_S"
MODULE: Final = "tests.bench.gateway_legs"
READY_S: Final = 60.0
QUEUE: Final = 1_000_000  # messages: what the gateway has not taken yet must not be dropped


@dataclass(frozen=True, slots=True)
class Rig:
    children: Children
    broker: Mosquitto
    kafka: Kafka
    gateway: Child
    probes: int


def measure(stack: Stack) -> list[Figure]:
    own = stack.children.directory / "gateway"
    with Children(own) as children, _rig(children) as rig:
        figures = [figure for size, n in SIZES.items() for figure in _of_size(rig, size, n)]
        return [*figures, *_memory(rig)]


def _of_size(rig: Rig, size: int, count: int) -> list[Figure]:
    rounds: dict[str, list[float]] = {"gateway": [], "paho": [], "aiokafka": []}
    _through_gateway(rig, size, count // 4)  # warms up
    for _ in range(ROUNDS):
        rounds["paho"].append(count / _subscribed_s(rig, size, count))
        rounds["aiokafka"].append(count / _produced_s(rig, size, count))
        rounds["gateway"].append(count / _through_gateway(rig, size, count))
    slower = [min(pair) for pair in zip(rounds["paho"], rounds["aiokafka"], strict=True)]
    name = f"gateway, {size // 1000} kB: "
    goal = "ratio >= 0.7" + (", >= 8000" if size == min(SIZES) else "")
    return [
        of_rounds(name + "paho alone", rounds["paho"], "frames/CPU-s"),
        of_rounds(name + "aiokafka alone", rounds["aiokafka"], "frames/CPU-s"),
        of_rounds(name + "both ways", rounds["gateway"], "frames/CPU-s", goal=goal,
                  peer="slower leg", peers=slower),
    ]  # fmt: skip


def _subscribed_s(rig: Rig, size: int, count: int) -> float:
    with _leg("subscribe", _broker(rig), size, count) as leg:
        assert leg.stdout is not None
        assert leg.stdout.readline() == "ready\n"
        _flood(rig, size, count, RAW)
        return float(json.loads(leg.stdout.read())["cpu_s"])


def _produced_s(rig: Rig, size: int, count: int) -> float:
    with _leg("produce", rig.kafka.bootstrap, size, count) as leg:
        assert leg.stdout is not None
        return float(json.loads(leg.stdout.read())["cpu_s"])


def _through_gateway(rig: Rig, size: int, count: int) -> float:
    """Seconds of CPU of the gateway, until the last frame is confirmed."""
    process = psutil.Process(rig.gateway.pid)
    until = _carried(rig) + count
    before = _cpu_s(process)
    _flood(rig, size, count)
    deadline = time.monotonic() + READY_S
    while _carried(rig) < until:
        if time.monotonic() > deadline:
            raise AssertionError(f"{until - _carried(rig)} frames did not arrive")
        time.sleep(0.2)
    return _cpu_s(process) - before


def _memory(rig: Rig) -> list[Figure]:
    """Kafka is stopped, agents go on sending until the gateway takes no more, then time passes."""
    process = psutil.Process(rig.gateway.pid)
    seconds = float(os.environ.get(SECONDS_AWAY, "300"))
    before = process.memory_info().rss / 2**20
    os.kill(rig.kafka.child.pid, signal.SIGSTOP)
    try:
        _flood(rig, 20_000, 5_000)
        time.sleep(5)
        full = process.memory_info().rss / 2**20
        peaks = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(1)
            peaks.append(process.memory_info().rss / 2**20)
    finally:
        os.kill(rig.kafka.child.pid, signal.SIGCONT)
    goal = "flat"
    name = f"gateway, Kafka away {seconds:.0f} s: memory"
    return [
        Figure(name, max(peaks), "MiB", "full", full, max(peaks) / full, goal, len(peaks),
               f"{before:.4g} before … {min(peaks):.4g} … {max(peaks):.4g}"),
    ]  # fmt: skip


def _carried(rig: Rig) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.probes}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(
        r'^threadline_gateway_frames_total\{outcome="carried"\} (\S+)', text, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _broker(rig: Rig) -> str:
    return f"{rig.broker.host}:{rig.broker.port}"


def _flood(rig: Rig, size: int, count: int, root: str = "tl") -> None:
    with _leg("flood", _broker(rig), size, count, root) as leg:
        if leg.wait(READY_S * 3):
            raise AssertionError("the flood failed")


@contextmanager
def _leg(
    name: str, address: str, size: int, count: int, *more: str
) -> Iterator["subprocess.Popen[str]"]:
    command: Sequence[str] = [
        sys.executable, "-m", MODULE, name, address, str(size), str(count), *more,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leg:
        try:
            yield leg
        finally:
            if leg.poll() is None:
                leg.kill()


@contextmanager
def _rig(children: Children) -> Iterator[Rig]:
    broker = Mosquitto(children, BrokerSettings(max_queued_messages=QUEUE))
    kafka = Kafka(children)
    kafka.start()
    broker.start()
    env = {
        "THREADLINE_GATEWAY_MQTT_PORT": str(broker.port),
        "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "THREADLINE_GATEWAY_KAFKA_GROUP": "bench",
    }
    line = [sys.executable, "-m", "threadline", "gateway"]
    subprocess.run(
        [*line, "topics", "create"], check=True, env={**os.environ, **env}, capture_output=True
    )
    probes = free_port()
    gateway = children.start("gateway", [*line, "run", "--metrics-port", str(probes)], env=env)
    try:
        wait_until(lambda: _is_healthy(probes), gateway, "healthy", READY_S)
        yield Rig(children, broker, kafka, gateway, probes)
    finally:
        children.stop(gateway)
        broker.stop()
        kafka.stop()


def _is_healthy(probes: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{probes}/health", timeout=5) as answer:
            return bool(json.loads(answer.read())["state"] == "running")
    except OSError:
        return False
