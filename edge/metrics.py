"""Every metric of the agent with its meaning, made from its status; and the endpoint that tells it.

Nothing is counted here: a scrape reads the same status as `edge status`.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from edge.status import AgentStatus, DeviceShown, GroupShown
from protocols.probes import Page, listen
from protocols.retry import Backoff

PREFIX: Final = "threadline_edge_"
Number = Callable[[GroupShown], float | None]
_log = structlog.get_logger("edge.metrics")


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric's name (without prefix and `_total`), what it means, its labels."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    counts: bool = True

    def family(self) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if self.counts else GaugeMetricFamily
        return kind(f"{PREFIX}{self.name}", self.meaning, labels=self.labels)


def _gauge(name: str, meaning: str, *labels: str) -> Declared:
    return Declared(name, meaning, labels, counts=False)


def _counter(name: str, meaning: str, *labels: str) -> Declared:
    return Declared(name, meaning, labels)


_GROUP: Final = ("device", "group")
OF_GROUPS: Final[tuple[tuple[Declared, Number], ...]] = (
    (
        _counter("polls_scheduled", "Slots of the group's grid that came.", *_GROUP),
        lambda group: group.scheduled,
    ),
    (
        _counter("polls_started", "Slots whose read began.", *_GROUP),
        lambda group: group.started,
    ),
    (
        _counter("polls", "Reads that the device answered.", *_GROUP),
        lambda group: group.finished,
    ),
    (
        _counter("poll_overruns", "Slots missed because a read was still going on.", *_GROUP),
        lambda group: group.overruns,
    ),
    (
        _counter("polls_down", "Slots that passed while the device was away.", *_GROUP),
        lambda group: group.down,
    ),
    (
        _gauge("poll_age_seconds", "Time since the last answer.", *_GROUP),
        lambda group: None if group.age_ms is None else group.age_ms / 1000,
    ),
)
OF_QUANTILES: Final[tuple[tuple[Declared, Number, Number], ...]] = (
    (
        _gauge("poll_jitter_seconds", "How late reads began.", *_GROUP, "quantile"),
        lambda group: group.jitter_p50_ms / 1000,
        lambda group: group.jitter_p99_ms / 1000,
    ),
    (
        _gauge("poll_duration_seconds", "How long reads took.", *_GROUP, "quantile"),
        lambda group: group.duration_p50_ms / 1000,
        lambda group: group.duration_p99_ms / 1000,
    ),
)
OF_DEVICES: Final[tuple[tuple[Declared, Callable[[DeviceShown], float]], ...]] = (
    (
        _gauge("device_up", "1 while the device answers.", "device"),
        lambda device: device.state == "up",
    ),
    (
        _counter("device_opens", "Connections that came about.", "device"),
        lambda device: device.opened,
    ),
    (
        _counter("device_failures", "Connections and reads that failed.", "device"),
        lambda device: device.failed,
    ),
    (
        _counter("tag_errors", "Rows that were BAD.", "device"),
        lambda device: device.bad_rows,
    ),
    (
        _counter("request_failures", "Reads and writes of stations that failed.", "device"),
        lambda device: device.requests_failed,
    ),
)
OF_AGENT: Final[tuple[tuple[Declared, Callable[[AgentStatus], float]], ...]] = (
    (_counter("rows_read", "Rows read from devices."), lambda agent: agent.pipeline.read),
    (_counter("rows_derived", "Rows that rules added."), lambda agent: agent.pipeline.derived),
    (
        _counter("rows_filtered", "Rows held back by `report`."),
        lambda agent: agent.pipeline.filtered,
    ),
    (
        _counter("rows_discarded", "Rows lost before the spool, each in a declared outage."),
        lambda agent: agent.pipeline.discarded,
    ),
    (_counter("events", "Trace events that stations gave."), lambda agent: agent.pipeline.events),
    (_counter("curves", "Curves that stations gave."), lambda agent: agent.pipeline.curves),
    (_counter("cuts", "Transactions handed to the spool."), lambda agent: agent.pipeline.cuts),
    (
        _counter("spool_waits", "Times the spool was more than 2 s behind."),
        lambda agent: agent.pipeline.waits_for_spool,
    ),
    (
        _counter("channel_overruns", "Batches let go because processing was 2 s behind."),
        lambda agent: agent.pipeline.overrun_batches,
    ),
    (
        _gauge("channel_behind_seconds", "How long the oldest batch has waited."),
        lambda agent: agent.pipeline.behind_ms / 1000,
    ),
    (_gauge("buffer_bytes", "What the spool holds on disk."), lambda agent: agent.spool.bytes),
    (
        _gauge("buffer_oldest_age_seconds", "Age of the oldest frame not known as stored."),
        lambda agent: agent.spool.oldest_age_s,
    ),
    (
        _gauge("link_up", "1 while there is a session with the broker."),
        lambda agent: agent.uplink.connected,
    ),
)
WAITING: Final = _gauge("buffer_waiting_rows", "Rows not known as stored.", "lane")
OUTBOX: Final = _counter("outbox", "Counters of spool and uplink, by name.", "what")
RESTARTS: Final = _counter("task_restarts", "Tasks begun anew after a bug.", "task")
STATE: Final = _gauge("state", "1 for the named state that a part is in.", "part", "state")


def families(agent: AgentStatus) -> Iterator[Metric]:
    yield from _of_groups(agent)
    for declared, number in OF_DEVICES:
        family = declared.family()
        for device in agent.devices:
            family.add_metric([device.device], number(device))
        yield family
    for declared, of_agent in OF_AGENT:
        family = declared.family()
        family.add_metric([], of_agent(agent))
        yield family
    yield _filled(WAITING, agent.spool.waiting_rows.items())
    yield _filled(OUTBOX, agent.uplink.counters.items())
    yield _filled(RESTARTS, agent.restarts.items())
    yield _states(agent)


def _of_groups(agent: AgentStatus) -> Iterator[Metric]:
    groups = [(device.device, group) for device in agent.devices for group in device.groups]
    for declared, number in OF_GROUPS:
        family = declared.family()
        for device, group in groups:
            value = number(group)
            if value is not None:
                family.add_metric([device, group.group], value)
        yield family
    for declared, half, most in OF_QUANTILES:
        family = declared.family()
        for device, group in groups:
            family.add_metric([device, group.group, "0.5"], half(group) or 0.0)
            family.add_metric([device, group.group, "0.99"], most(group) or 0.0)
        yield family


def _filled(declared: Declared, numbers: Iterable[tuple[str, int]]) -> Metric:
    family = declared.family()
    for label, number in numbers:
        family.add_metric([label], number)
    return family


def _states(agent: AgentStatus) -> Metric:
    family = STATE.family()
    family.add_metric(["spool", agent.spool.state], 1)
    family.add_metric(["uplink", agent.uplink.state], 1)
    family.add_metric(["identity", agent.uplink.identity], 1)
    for device in agent.devices:
        family.add_metric([f"device {device.device}", device.state], 1)
    return family


class MetricsServer:
    """GET anything on its port. A port that is taken is a named state, tried again."""

    def __init__(
        self,
        address: tuple[str, int],
        snapshot: Callable[[], AgentStatus],
        draw: Callable[[], float],
    ) -> None:
        self.state = "starting"
        self.port = 0  # the one that listens; configured as 0, the system chooses
        self._address = address
        self._draw = draw
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_Scraped(snapshot))

    async def run(self) -> None:
        attempt = 0
        while True:
            try:
                await self._serve()
            except OSError as error:
                self._say(f"not listening: {error.strerror or error}")
            await asyncio.sleep(Backoff().delay_s(attempt, self._draw()))
            attempt += 1

    async def _serve(self) -> None:
        host, port = self._address
        server = await listen(self._page, host, port)
        self.port = server.sockets[0].getsockname()[1]
        self._say("listening")
        async with server:
            await server.serve_forever()

    def _page(self, _path: bytes) -> Page:
        return Page(generate_latest(self._registry), CONTENT_TYPE_LATEST)

    def _say(self, state: str) -> None:
        if state != self.state:
            _log.info("metrics endpoint", state=state, address=f"{self._address[0]}:{self.port}")
        self.state = state


class _Scraped(Collector):
    def __init__(self, snapshot: Callable[[], AgentStatus]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        return ()  # known only when asked: devices and groups are the file's

    def collect(self) -> Iterable[Metric]:
        return families(self._snapshot())
