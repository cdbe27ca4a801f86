"""The agent put together: devices, pipeline, outbox, servers; started, watched over, stopped.

The composition root of the edge: it alone gives clocks and random numbers to the others.
Rule 1: nothing is connected before the file is known to be sound.
Rule 2: a stop finishes what is under way, in the order of the data, within a bound.
"""

import asyncio
import gc
import random
import secrets
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import structlog

from edge.bad import Shape
from edge.catalogue import Catalogue
from edge.channel import Channel, Openings
from edge.check import Checked
from edge.clock import SystemClock
from edge.compile import DevicePlan
from edge.config import EdgeConfig
from edge.cut import Outbox
from edge.draining import Drained, Waiting, drain
from edge.metrics import MetricsServer
from edge.mqtt import BrokerAddress, MqttBroker
from edge.outbox import Chance, OutboxSettings, SpoolOutbox, open_outbox
from edge.pipeline import Parts, Pipeline
from edge.poller import Group, Poller, ReadSet, Role, Surroundings
from edge.requests import Desk
from edge.retention import Limits
from edge.schedule import GroupSchedule, phase_s
from edge.snapshot import Observed, agent_status, status_notice
from edge.stations import make_binder
from edge.status import AgentStatus, StatusServer
from edge.supervisor import Supervisor
from protocols.driver import Clock, Device
from protocols.registry import AnyConnection, open_device
from protocols.tasks import at_signal
from rules.conditioning import Conditioner
from rules.durations import to_us

NOTICE_S: Final = 60.0
STOP_S: Final = 8.0  # for pollers and pipeline each; the outbox bounds its own
YOUNG_MAX: Final = 10_000  # objects; a collection of so many takes 2 ms
_log = structlog.get_logger("edge.agent")
Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Outside:
    """What the agent gets from outside itself; tests give their own."""

    clock: Clock
    draw: Callable[[], float]
    draw_64: Callable[[], int]
    open_device: Callable[[AnyConnection, Clock], Device] = open_device
    restarting: bool = True


def system() -> Outside:
    """The system's clock and random numbers."""
    return Outside(SystemClock(), random.SystemRandom().random, lambda: secrets.randbits(64))


async def run_agent(checked: Checked, outside: Outside | None = None) -> None:
    """Until SIGTERM or SIGINT. ConfigError: the spool cannot be used."""
    given = outside or system()
    agent = Agent(checked, open_spool(checked, given), given)
    agent.serve(checked.config, given.draw)
    at_signal(agent.stop)
    await agent.run()


async def drain_spool(
    checked: Checked,
    timeout_s: float,
    say: Callable[[Waiting], None],
    outside: Outside | None = None,
) -> Drained:
    """Send what waits, without any device. ConfigError: an agent runs, or the spool is unusable."""
    told = asyncio.Event()
    at_signal(told.set)
    return await drain(open_spool(checked, outside or system()), timeout_s, told, say)


def open_spool(checked: Checked, outside: Outside) -> SpoolOutbox:
    """ConfigError: it cannot be used."""
    config = checked.config
    limits = Limits(
        bytes_max=config.spool.max_bytes,
        age_max_us=to_us(config.spool.max_age),
        keep_stored_us=to_us(config.spool.keep_stored),
        logged_expires_us=to_us(config.spool.logged_expires),
    )
    settings = OutboxSettings(
        config.agent,
        config.spool.path,
        limits,
        own_version(),
        restarting=outside.restarting,
    )
    broker = MqttBroker(_address(config, checked.password))
    chance = Chance(outside.draw_64, outside.draw)
    return open_outbox(settings, broker, outside.clock, chance)


def own_version() -> str:
    try:
        return version("threadline")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


class Agent:
    """One agent. `run` once; `stop` from the same loop."""

    def __init__(self, checked: Checked, outbox: Outbox, outside: Outside) -> None:
        config, plan, clock = checked.config, checked.plan, outside.clock
        openings = Openings()
        channel = Channel(clock, openings)
        around = Surroundings(channel, openings, clock, outside.draw)
        self._pollers = {device.name: _poller(device, around, outside) for device in plan.devices}
        self._pipeline = Pipeline(
            Parts(
                config.agent,
                channel,
                openings,
                clock,
                Conditioner(plan.reports),
                make_binder(plan.binding, config.zone, outbox.epoch, outside.draw_64),
                outbox,
                Desk(self._pollers, plan.set_devices, plan.path_devices),
                Catalogue(plan.facts),
            )
        )
        self._agent = config.agent
        self._outbox = outbox
        self._clock = clock
        self._stop_asked = asyncio.Event()
        self._supervisor = Supervisor(clock, outside.draw, restarting=outside.restarting)
        self._helpers: dict[str, Work] = {
            "after commit": self._pipeline.after_commit.run,
            "notices": self._tell,
        }
        self.metrics: MetricsServer | None = None
        self._observed = Observed(
            config.agent,
            own_version(),
            clock.now_us(),
            tuple(self._pollers.values()),
            channel,
            self._pipeline,
            outbox,
            self._supervisor,
        )

    def serve(self, config: EdgeConfig, draw: Callable[[], float]) -> None:
        """Tell the status on its socket and, if wanted, the metrics on their port."""
        self._helpers["status socket"] = StatusServer(config.socket, self.status, draw).run
        if config.metrics is not None:
            self.metrics = MetricsServer(config.metrics.address, self.status, draw)
            self._helpers["metrics"] = self.metrics.run

    def stop(self) -> None:
        self._stop_asked.set()

    def status(self) -> AgentStatus:
        metrics = self.metrics.state if self.metrics else "off"
        return agent_status(self._observed, self._clock, metrics)

    async def run(self) -> None:
        """Until `stop`; everything that was read is synced then."""
        self._outbox.on_report_all = self._pipeline.report_all
        self._outbox.on_forked = self._pipeline.on_forked
        self._pipeline.begin()
        identity = self._outbox.status().identity
        _log.info("agent starts", agent=self._agent, devices=len(self._pollers), identity=identity)
        gc.collect()
        gc.freeze()  # a full collection over all imports would take half an interval
        gc.set_threshold(YOUNG_MAX)  # next to nothing is a cycle here: look seldom
        async with asyncio.TaskGroup() as tasks:
            outbox = tasks.create_task(self._outbox.run(), name="outbox")
            helpers = [self._keep(tasks, name, work) for name, work in self._helpers.items()]
            pipeline = self._keep(tasks, "pipeline", self._pipeline.run)
            pollers = [
                self._keep(tasks, f"device {name}", poller.run)
                for name, poller in self._pollers.items()
            ]
            await self._stop_asked.wait()
            await self._shut_down(pollers, pipeline)
            for helper in helpers:
                helper.cancel()
            await outbox
        _log.info("agent stopped", agent=self._agent)

    def _keep(self, tasks: asyncio.TaskGroup, name: str, work: Work) -> "asyncio.Task[None]":
        return tasks.create_task(self._supervisor.keep(name, work), name=name)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(NOTICE_S)
            self._outbox.send_notice(status_notice(self._observed, self._clock, stopping=False))

    async def _shut_down(
        self, pollers: Iterable["asyncio.Task[None]"], pipeline: "asyncio.Task[None]"
    ) -> None:
        """First nothing more is read, then all of it is processed, then all of it is synced."""
        _log.info("agent stops", agent=self._agent)
        for poller in self._pollers.values():
            poller.stop()
        await _ended(pollers, "devices")
        self._pipeline.stop()
        await _ended([pipeline], "pipeline")
        self._outbox.send_notice(status_notice(self._observed, self._clock, stopping=True))
        await self._outbox.drain_and_stop()


async def _ended(tasks: Iterable["asyncio.Task[None]"], what: str) -> None:
    """Wait, then cancel: what was not finished counts as not read, and the next start says so."""
    waiting = list(tasks)
    if not waiting:
        return
    _, late = await asyncio.wait(waiting, timeout=STOP_S)
    if late:
        _log.warning("not finished in time", what=what, tasks=[task.get_name() for task in late])
        for task in late:
            task.cancel()
        await asyncio.wait(late)


def _poller(plan: DevicePlan, around: Surroundings, outside: Outside) -> Poller:
    origin_s = outside.clock.monotonic_s()
    groups = [
        Group(
            group.name,
            GroupSchedule(
                group.interval_s, phase_s(plan.name, group.name, group.interval_s), origin_s
            ),
            group.plan,
            Shape(group.plan.tags),
        )
        for group in plan.groups
    ]
    sets = {name: ReadSet(each, Shape(each.tags)) for name, each in plan.sets.items()}
    role = Role(plan.name, plan.connection.timeout_s, groups, sets, plan.writable)
    return Poller(role, outside.open_device(plan.connection, outside.clock), around)


def _address(config: EdgeConfig, password: str | None) -> BrokerAddress:
    uplink = config.uplink
    return BrokerAddress(
        agent=config.agent,
        host=uplink.host,
        port=uplink.port,
        tls=uplink.tls,
        authority=uplink.ca,
        certificate=uplink.certificate,
        key=uplink.key,
        username=uplink.username,
        password=password,
        keepalive_s=uplink.keepalive.total_seconds(),
    )
