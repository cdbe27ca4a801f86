"""An agent with three devices of 200 tags at 100 ms, and the way of a change to the API.

The whole line runs for BENCH_SECONDS (60; 600 are the ten minutes of the goal), beside a bare loop
on the same grid; afterwards the protocols' libraries read the same tags alone.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from edge.status import AgentStatus
from tests.bench.changes import Change, Steps, make_changes, percentile, steps
from tests.bench.line_up import Running, open_line, rest_until
from tests.bench.report import Figure
from threadline.kafka import Kafka
from threadline.stack import Stack

SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "60"))
WARM_S: Final = 5.0
READ_S: Final = 10.0
CHANGES_MIN: Final = 200
LIVE_GOAL: Final = 4.0  # times the payload, above 100 kB/s
_YEAR_S: Final = 365 * 86_400
_MS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Look:
    """The line at one moment; counters since its start."""

    at_s: float
    agent_cpu_s: float
    ingest_cpu_s: float
    agent_rss: int
    agent_written: int
    status: AgentStatus

    @property
    def overruns(self) -> int:
        return sum(group.overruns for one in self.status.devices for group in one.groups)

    @property
    def scheduled(self) -> int:
        return sum(group.scheduled for one in self.status.devices for group in one.groups)

    def counter(self, name: str) -> int:
        return self.status.uplink.counters.get(name, 0)


@dataclass(frozen=True, slots=True)
class Measured:
    before: Look
    after: Look
    bare: dict[str, float]
    library: dict[str, float]

    @property
    def span_s(self) -> float:
        return self.after.at_s - self.before.at_s

    @property
    def rows_read(self) -> int:
        return self.after.status.pipeline.read - self.before.status.pipeline.read

    def rate(self, counter: str) -> float:
        return (self.after.counter(counter) - self.before.counter(counter)) / self.span_s


def measure_through_kafka(stack: Stack) -> list[Figure]:
    """The way of a change alone: a gateway and Kafka are between, all else is as in `measure`."""
    kafka = Kafka(stack.children)
    kafka.start()
    try:
        with open_line(stack, kafka) as line:
            rest_until(time.monotonic() + WARM_S)
            changes = make_changes(line, time.monotonic() + SECONDS, CHANGES_MIN)
            way = steps(line, changes)
    finally:
        kafka.stop()
    return _latency(changes, way, "change to API through Kafka")


def measure(stack: Stack) -> list[Figure]:
    with open_line(stack) as line:
        rest_until(time.monotonic() + WARM_S)
        before = _look(line)
        bare = _Floor("grid", SECONDS)
        changes = make_changes(line, time.monotonic() + SECONDS, CHANGES_MIN)
        after = _look(line)
        told = bare.told()
        way = steps(line, changes)
        stack.children.stop(line.agent)
        library = _Floor("read", READ_S, _plant(line)).told()
    found = Measured(before, after, told, library)
    return [*_polling(found), *_costs(found), *_latency(changes, way, "change to API")]


def _look(line: Running) -> Look:
    agent, ingest = psutil.Process(line.agent.pid), psutil.Process(line.ingest.pid)
    used, used_by_ingest = agent.cpu_times(), ingest.cpu_times()
    return Look(
        time.monotonic(),
        used.user + used.system,
        used_by_ingest.user + used_by_ingest.system,
        agent.memory_info().rss,
        agent.io_counters().write_bytes,
        line.status(),
    )


def _polling(found: Measured) -> list[Figure]:
    slots = found.after.scheduled - found.before.scheduled
    groups = [group for one in found.after.status.devices for group in one.groups]
    overruns = found.after.overruns - found.before.overruns
    return [
        Figure("agent: overruns", overruns, "slots", "bare loop", found.bare["overruns"],
               goal="0", n=slots, spread=f"in {found.span_s:.0f} s"),
        _beside_bare("agent: start jitter p50", [one.jitter_p50_ms for one in groups],
                     found.bare["p50_ms"], slots),
        _beside_bare("agent: start jitter p99", [one.jitter_p99_ms for one in groups],
                     found.bare["p99_ms"], slots),
    ]  # fmt: skip


def _beside_bare(name: str, of_groups: Sequence[float], bare_ms: float, slots: int) -> Figure:
    """The worst group; the buckets of the agent's histogram are 25 % wide."""
    worst = max(of_groups)
    return Figure(
        name, worst, "ms", "bare loop", bare_ms, worst / bare_ms if bare_ms else None,
        n=slots, spread=f"{min(of_groups):.3g} … {worst:.3g}",
    )  # fmt: skip


def _costs(found: Measured) -> list[Figure]:
    before, after, library = found.before, found.after, found.library
    cores = (after.agent_cpu_s - before.agent_cpu_s) / found.span_s
    a_value = (after.agent_cpu_s - before.agent_cpu_s) / found.rows_read * 1e6
    library_value = library["cpu_s"] / library["values"] * 1e6
    written = (after.agent_written - before.agent_written) / found.span_s
    payload = found.rate("payload_bytes_sealed")
    ingest_cores = (after.ingest_cpu_s - before.ingest_cpu_s) / found.span_s
    rss, floor = after.agent_rss / 1e6, library["rss"] / 1e6
    rows = found.rows_read
    return [
        Figure("agent: values read", rows / found.span_s, "values/s", n=rows),
        Figure("agent: CPU", cores, "cores", n=rows),
        Figure("agent: CPU of a value", a_value, "us", "libraries, read only", library_value,
               a_value / library_value, n=rows),
        Figure("agent: memory (RSS)", rss, "MB", "libraries, read only", floor, rss / floor,
               spread=f"{before.agent_rss / 1e6:.4g} … {rss:.4g}"),
        Figure("agent: spool writes", written / 1e3, "kB/s", "payload", payload / 1e3,
               written / payload, goal=f"ratio <= {LIVE_GOAL:g} above 100 kB/s"),
        Figure("agent: spool writes a year", written * _YEAR_S / 1e12, "TB"),
        Figure("ingest: CPU", ingest_cores, "cores", n=rows),
    ]  # fmt: skip


def _latency(changes: Sequence[Change], way: Steps, name: str) -> list[Figure]:
    seen = [one.latency_s for one in changes if one.latency_s is not None]
    lost = len(changes) - len(seen)
    whole = [
        Figure(f"{name}: not seen in 10 s", lost, "changes", goal="0", n=len(changes)),
        _percentile(f"{name}: p50", seen, 50),
        _percentile(f"{name}: p99", seen, 99, goal="< 1000"),
    ]
    parts = {
        "change to polled": way.polled,
        "polled to sealed": way.sealed,
        "sealed to its transaction": way.storing,
        "transaction to API": way.shown,
    }
    return whole + [
        _percentile(f"… {part}: p{percent}", values, percent)
        for part, values in parts.items()
        for percent in (50, 99)
    ]


def _percentile(name: str, values: Sequence[float], percent: int, goal: str = "") -> Figure:
    spread = f"{min(values) * _MS:.3g} … {max(values) * _MS:.3g}"
    value = percentile(values, percent) * _MS
    return Figure(name, value, "ms", goal=goal, n=len(values), spread=spread)


def _plant(line: Running) -> dict[str, Any]:
    return {"ports": dict(line.ports), "tags": [asdict(tag) for tag in line.tags]}


class _Floor:
    """A process of `tests.bench.floors`."""

    def __init__(self, kind: str, seconds: float, plant: dict[str, Any] | None = None) -> None:
        self._timeout_s = seconds + 60
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.floors", kind, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(plant))
        self._process.stdin.close()
        self._process.stdin = None

    def told(self) -> dict[str, float]:
        output, _ = self._process.communicate(timeout=self._timeout_s)
        assert self._process.returncode == 0, self._process.returncode
        found: dict[str, float] = json.loads(output.splitlines()[-1])
        return found
