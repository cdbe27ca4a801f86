"""Ingest from Kafka: its speed beside a raw COPY, one process and two, catching up beside live.

Real processes of `threadline cloud ingest --source kafka` on the embedded Kafka and PostgreSQL.
They stand ready before what is to be taken comes, all at once.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import numpy as np
import psutil
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from cloud.agents import add
from cloud.copying import HEADER, TRAILER, Shape, TagMap, rows_of
from cloud.db import Connection, connect
from cloud.migrate import migrate
from cloud.storage import Policy, Wanted
from protocols import codec
from protocols.frames import Frame, Lane
from protocols.receipts import Said, decode_receipt
from protocols.topics import RECEIPTS_TOPIC
from tests.bench.report import Figure, of_rounds
from tests.support.frames import AgentVoice
from tests.support.kafka_plant import KafkaPlant
from tests.support.many_frames import large_frames
from threadline.children import Child, wait_until
from threadline.demo.line import threadline
from threadline.kafka import Kafka
from threadline.ports import free_port
from threadline.stack import Stack

AGENTS: Final = ("bench.line1", "bench.line2", "bench.line3", "bench.line4")
PARTS: Final = len(AGENTS)
ROWS: Final = 10_000  # of a frame that is caught up with
FRAMES: Final = 80  # of a round and way
ROUNDS: Final = 3
UP_S: Final = 120.0
LIVE_S: Final = 20.0
LIVE_EVERY_S: Final = 0.25
LIVE_ROWS: Final = 1500  # with the pause above 6,000 rows a second, as the measured line has
BACKLOG_S: Final = 300  # of such a plant


def measure(stack: Stack) -> list[Figure]:
    kafka = Kafka(stack.children)
    kafka.start()
    try:
        return [*_speeds(stack, kafka), *_catching_up(stack, kafka)]
    finally:
        kafka.stop()


@dataclass(slots=True)
class Bench:
    """A migrated database, Kafka's topics, and the ingests on both."""

    stack: Stack
    plant: KafkaPlant
    dsn: str
    database: Connection
    running: list[Child] = field(default_factory=list)

    def start(self, count: int) -> None:
        group = f"bench-{uuid4().hex[:6]}"  # members that ended are not waited for
        for number in range(count):
            command = threadline(
                "cloud", "ingest", "--source", "kafka",
                "--kafka-bootstrap", self.plant.bootstrap, "--metrics-port", str(free_port()),
            )  # fmt: skip
            env = {"THREADLINE_CLOUD_DATABASE": self.dsn, "THREADLINE_CLOUD_KAFKA_GROUP": group}
            name = f"{group}_{number}"
            self.running.append(self.stack.children.start(name, command, env=env))

    def stop(self) -> None:
        for child in self.running:
            self.stack.children.stop(child)
        self.running.clear()

    def taken(self) -> int:
        row = self.database.execute("select sum(next_offset) from kafka_position").fetchone()
        return int(row[0] or 0) if row is not None else 0

    def until_shared(self, count: int) -> None:
        """Each of them has parts of the live lane, and reads."""
        query = "select count(distinct owner) from kafka_position where topic = 'tl.live'"

        def is_shared() -> bool:
            return self.database.execute(query).fetchone() == (count,)

        wait_until(is_shared, self.running[0], "sharing", UP_S)

    def until_taken(self, count: int) -> None:
        wait_until(lambda: self.taken() >= count, self.running[0], "done", UP_S)


@contextmanager
def _bench(stack: Stack, kafka: Kafka, name: str) -> Iterator[Bench]:
    dsn = stack.postgres.create_database(name)
    plant = KafkaPlant(kafka.bootstrap, "")
    plant.make(PARTS)
    with connect(dsn, application="bench") as database:
        migrate(database, Wanted.AUTO, Policy(), datetime.now(UTC))  # noqa: TID251 - the bench's
        for agent in AGENTS:
            add(database, agent, ["**"])
        bench = Bench(stack, plant, dsn, database)
        try:
            yield bench
        finally:
            bench.stop()
            plant.delete()


def _speeds(stack: Stack, kafka: Kafka) -> list[Figure]:
    with _bench(stack, kafka, "bench_kafka") as bench:
        voices = [AgentVoice(agent, epoch=1, now_us=_some_time_ago_us()) for agent in AGENTS]
        others = [AgentVoice(agent, epoch=2, now_us=_some_time_ago_us()) for agent in AGENTS]
        _ingested(bench, voices, 1)  # partitions of the table, catalogues, files
        raw, one, two, cpu = [], [], [], []
        for _ in range(ROUNDS):
            raw.append(_copied(bench, others))
            speed, cpu_ns = _ingested(bench, voices, 1)
            one.append(speed)
            cpu.append(cpu_ns)
            two.append(_ingested(bench, voices, 2)[0])
    return [
        of_rounds("from Kafka: raw COPY of prebuilt buffers", raw, "M rows/s"),
        of_rounds("from Kafka: one ingest", one, "M rows/s", goal="ratio >= 0.9",
                  peer="raw COPY", peers=raw),
        of_rounds("from Kafka: two ingests", two, "M rows/s", peer="one", peers=one),
        of_rounds("from Kafka: CPU of the one", cpu, "ns/row"),
    ]  # fmt: skip


def _ingested(bench: Bench, voices: Sequence[AgentVoice], count: int) -> tuple[float, float]:
    """M rows a second, and ns of CPU a row, from the first transaction seen to the last."""
    before = bench.taken()
    frames = [large_frames(voice, FRAMES // PARTS, rows=ROWS, lane=Lane.LIVE) for voice in voices]
    bench.start(count)
    bench.until_shared(count)
    processes = [psutil.Process(child.pid) for child in bench.running]
    for number, some in enumerate(frames):
        bench.plant.send(*some, partition=number)
    bench.until_taken(before + 1)
    began, first, cpu_s = time.perf_counter(), bench.taken(), _cpu_s(processes)
    bench.until_taken(before + FRAMES)
    took_s = time.perf_counter() - began
    rows = (before + FRAMES - first) * ROWS
    cpu_ns = (_cpu_s(processes) - cpu_s) / rows * 1e9
    bench.stop()
    return rows / took_s / 1e6, cpu_ns


def _copied(bench: Bench, voices: Sequence[AgentVoice]) -> float:
    """As many rows like them into the same table, a transaction of ROWS each."""
    buffers = [
        _buffer(frame)
        for voice in voices
        for frame in large_frames(voice, FRAMES // PARTS, rows=ROWS, lane=Lane.LIVE)
    ]
    began = time.perf_counter()
    for buffer in buffers:
        with (
            bench.database.transaction(),
            bench.database.cursor().copy(Shape.F64.statement) as copy,
        ):
            copy.write(buffer)
    return FRAMES * ROWS / (time.perf_counter() - began) / 1e6


def _buffer(frame: Frame) -> bytes:
    batch = codec.decode_samples(codec.payload_of(frame))
    (rows,) = rows_of(batch, TagMap.of(batch.tags, range(len(batch.tags))), 1)
    return HEADER + bytes(rows.data) + TRAILER


def _catching_up(stack: Stack, kafka: Kafka) -> list[Figure]:
    """Live frames all the while: how long from Kafka to their receipts, with backlog or none."""
    with _bench(stack, kafka, "bench_catching_up") as bench:
        live = AgentVoice(AGENTS[0], epoch=2, now_us=_some_time_ago_us())
        late = [AgentVoice(agent, epoch=3, now_us=live.now_us) for agent in AGENTS]
        bench.start(1)
        warm = large_frames(live, 4, rows=LIVE_ROWS, lane=Lane.LIVE)
        bench.plant.send(*warm)
        bench.until_taken(len(warm))
        with _receipts(bench.plant) as heard:
            alone = _latencies(bench, live, heard, lambda seconds: seconds < LIVE_S)
            before = bench.taken()
            rows = BACKLOG_S * LIVE_ROWS / LIVE_EVERY_S
            frames = round(rows / ROWS)
            for number, voice in enumerate(late):
                some = large_frames(voice, frames // PARTS, rows=ROWS)
                bench.plant.send(*some, partition=number)
            count = frames // PARTS * PARTS
            began = time.perf_counter()
            beside = _latencies(bench, live, heard, lambda _: _backlog(bench) < count)
            took_s = time.perf_counter() - began
        assert bench.taken() > before
    speed = count * ROWS / took_s
    return [
        _latency("live alone: p50", alone, 50),
        _latency("live alone: p99", alone, 99),
        _latency("live while catching up: p50", beside, 50),
        _latency("live while catching up: p99", beside, 99, alone, "ratio <= 2"),
        Figure("catching up", speed / 1e6, "M rows/s", "real time",
               LIVE_ROWS / LIVE_EVERY_S / 1e6, speed / (LIVE_ROWS / LIVE_EVERY_S), "ratio >= 10",
               count),
    ]  # fmt: skip


Heard = dict[tuple[int, int], float]


def _latencies(
    bench: Bench, voice: AgentVoice, heard: Heard, go_on: Callable[[float], bool]
) -> list[float]:
    """Seconds from Kafka's acknowledgement of a live frame to the receipt that says stored."""
    began = time.perf_counter()
    sent: Heard = {}
    while go_on(time.perf_counter() - began) or not sent:
        (frame,) = large_frames(voice, 1, rows=LIVE_ROWS, lane=Lane.LIVE)
        bench.plant.send(frame)
        sent[frame.header.epoch, frame.header.seq] = time.perf_counter()
        due = began + len(sent) * LIVE_EVERY_S
        time.sleep(max(0.0, due - time.perf_counter()))
    wait_until(lambda: sent.keys() <= heard.keys(), bench.running[0], "answering", UP_S)
    return [max(0.0, heard[key] - at) for key, at in sent.items()]


def _backlog(bench: Bench) -> int:
    query = "select sum(next_offset) from kafka_position where topic = 'tl.backlog'"
    row = bench.database.execute(query).fetchone()
    return int(row[0] or 0) if row is not None else 0


@contextmanager
def _receipts(plant: KafkaPlant) -> Iterator[Heard]:
    """When each frame was first said to be stored, as a gateway hears it."""
    heard: Heard = {}
    stop = threading.Event()
    ready = threading.Event()

    def listen() -> None:
        consumer = Consumer(
            {"bootstrap.servers": plant.bootstrap, "group.id": "bench", "fetch.wait.max.ms": 10}
        )
        parts = consumer.list_topics(RECEIPTS_TOPIC, timeout=30).topics[RECEIPTS_TOPIC].partitions
        consumer.assign([TopicPartition(RECEIPTS_TOPIC, part, OFFSET_END) for part in parts])
        ready.set()
        while not stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                _hear(heard, message.value() or b"", time.perf_counter())
        consumer.close()

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(60)
    time.sleep(2.0)  # the end of the topic is where it is looked for now
    try:
        yield heard
    finally:
        stop.set()
        thread.join()


def _hear(heard: Heard, message: bytes, at: float) -> None:
    for run in decode_receipt(message).runs:
        if run.kind is Said.STORED:
            for place in range(len(run.digests)):
                heard.setdefault((run.epoch, run.first + place), at)


def _latency(
    name: str, values: Sequence[float], percent: int, peers: Sequence[float] = (), goal: str = ""
) -> Figure:
    value = _percentile(values, percent) * 1e3
    peer = _percentile(peers, percent) * 1e3 if peers else None
    return Figure(
        f"from Kafka: {name}",
        value,
        "ms",
        "alone" if peers else "",
        peer,
        None if peer is None else value / peer,
        goal,
        len(values),
        f"{min(values) * 1e3:.3g} … {max(values) * 1e3:.3g}",
    )


def _percentile(values: Sequence[float], percent: int) -> float:
    return float(np.percentile(np.array(values), percent))


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(one.user + one.system for one in times))


def _some_time_ago_us() -> int:
    return time.time_ns() // 1000 - 3_600_000_000
