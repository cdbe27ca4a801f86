"""The agent's status and status notice, made from its parts as they stand. Reads, never changes."""

from dataclasses import dataclass

from edge.channel import Channel
from edge.cut import Outbox
from edge.pipeline import Pipeline
from edge.poller import Group, Poller
from edge.status import (
    AgentStatus,
    DeviceShown,
    GroupShown,
    PipelineShown,
    SpoolShown,
    UplinkShown,
)
from edge.supervisor import Supervisor
from protocols.driver import Clock
from protocols.events import from_us, rfc3339
from protocols.notices import GroupStatus, Status


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """The parts that have something to show."""

    agent: str
    version: str
    started_us: int
    pollers: tuple[Poller, ...]
    channel: Channel
    pipeline: Pipeline
    outbox: Outbox
    supervisor: Supervisor


def agent_status(seen: Observed, clock: Clock, metrics: str) -> AgentStatus:
    outbox = seen.outbox.status()
    return AgentStatus(
        agent=seen.agent,
        version=seen.version,
        epoch=f"{seen.outbox.epoch:016x}",
        at=rfc3339(from_us(clock.now_us())),
        started=rfc3339(from_us(seen.started_us)),
        devices=tuple(_device(poller, clock.monotonic_s()) for poller in seen.pollers),
        pipeline=_pipeline(seen.pipeline, seen.channel),
        spool=SpoolShown(
            bytes=outbox.spool_bytes,
            waiting_rows={lane.name.lower(): n for lane, n in outbox.waiting_rows.items()},
            oldest_age_s=round(outbox.oldest_age_s, 3),
            state=outbox.spool,
            written_tb_a_year=round(outbox.written_tb_a_year, 3),
        ),
        uplink=UplinkShown(
            state=outbox.uplink,
            connected=outbox.connected,
            identity=outbox.identity,
            counters=dict(outbox.counters),
        ),
        metrics=metrics,
        restarts=dict(seen.supervisor.restarts),
    )


def status_notice(seen: Observed, clock: Clock, *, stopping: bool) -> Status:
    """What the cloud is told every minute and at a clean stop."""
    counted = seen.pipeline.counted
    now_s = clock.monotonic_s()
    groups = [
        _group_status(poller.role.name, group, now_s)
        for poller in seen.pollers
        for group in poller.role.groups
    ]
    return Status(
        agent=seen.agent,
        epoch=seen.outbox.epoch,
        at=from_us(clock.now_us()),
        read=counted.read,
        derived=counted.derived,
        filtered=counted.filtered,
        discarded=counted.discarded,
        stopping=stopping,
        groups=tuple(groups),
    )


def _device(poller: Poller, now_s: float) -> DeviceShown:
    health = poller.health
    return DeviceShown(
        device=poller.role.name,
        state=health.state,
        reason=health.reason,
        since=rfc3339(from_us(health.since_us)),
        opened=health.opened,
        failed=health.failed,
        bad_rows=health.bad_rows,
        requests_failed=health.requests_failed,
        facts=dict(health.facts),
        groups=tuple(_group(group, now_s) for group in poller.role.groups),
    )


def _group(group: Group, now_s: float) -> GroupShown:
    schedule, counters = group.schedule, group.schedule.counters
    age_s = schedule.age_s(now_s)
    return GroupShown(
        group=group.name,
        interval_ms=_ms(schedule.interval_s),
        tags=len(group.plan.tags),
        requests=group.plan.requests,
        scheduled=counters.scheduled,
        started=counters.started,
        finished=counters.finished,
        overruns=counters.overruns,
        down=counters.down,
        age_ms=None if age_s is None else _ms(age_s),
        jitter_p50_ms=_ms(schedule.jitter.percentile_s(50)),
        jitter_p99_ms=_ms(schedule.jitter.percentile_s(99)),
        duration_p50_ms=_ms(schedule.duration.percentile_s(50)),
        duration_p99_ms=_ms(schedule.duration.percentile_s(99)),
    )


def _group_status(device: str, group: Group, now_s: float) -> GroupStatus:
    schedule, counters = group.schedule, group.schedule.counters
    return GroupStatus(
        device=device,
        group=group.name,
        scheduled=counters.scheduled,
        started=counters.started,
        finished=counters.finished,
        overruns=counters.overruns,
        age_us=round((schedule.age_s(now_s) or 0.0) * 1e6),
        jitter_p50_us=round(schedule.jitter.percentile_s(50) * 1e6),
        jitter_p99_us=round(schedule.jitter.percentile_s(99) * 1e6),
    )


def _pipeline(pipeline: Pipeline, channel: Channel) -> PipelineShown:
    counted = pipeline.counted
    return PipelineShown(
        read=counted.read,
        derived=counted.derived,
        filtered=counted.filtered,
        discarded=counted.discarded,
        events=counted.events,
        curves=counted.curves,
        alarms=counted.alarms,
        cuts=counted.cuts,
        waits_for_spool=counted.full,
        behind_ms=_ms(channel.behind_s),
        overrun_batches=channel.overrun_batches,
        overrun_rows=channel.overrun_rows,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
