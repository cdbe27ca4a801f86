"""What the demo shows, worked out of what it was told: pure, no I/O and no clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edge.status import AgentStatus, DeviceShown

LAST_STATION: Final = "L1/EOL30"  # a unit that passes here is finished


@dataclass(frozen=True, slots=True)
class GatewayTold:
    """What the gateway's probes say. `age_s`: of the last write that Kafka confirmed."""

    state: str
    frames: int
    waiting: int
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Told:
    """One round of questions; None: no answer, and `why` names who was silent.

    Attributes:
        at_s: monotonic.
        agent: what `edge status` shows.
        overview: the agent of `GET /overview`.
        stations: `GET /stations` since the demo began.
        cpu_s: processor time of each child so far, by name.
        gateway: None also on the direct route, which has none.
    """

    at_s: float
    agent: AgentStatus | None = None
    overview: Mapping[str, Any] | None = None
    stations: Sequence[Mapping[str, Any]] | None = None
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    why: tuple[str, ...] = ()
    gateway: GatewayTold | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A unit that left the line: its id, and a name that people know it by."""

    item: str
    scheme: str
    name: str


@dataclass(frozen=True, slots=True)
class DeviceLine:
    device: str
    state: str
    tags: int
    reads_per_s: float
    overruns: int
    late_ms: float
    age_ms: float | None


@dataclass(frozen=True, slots=True)
class StationLine:
    place: str
    passed: int
    failed: int
    others: int
    gaps: int
    last_name: str
    last_verdict: str


@dataclass(frozen=True, slots=True)
class GatewayLine:
    state: str
    frames_per_s: float | None
    waiting: int
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """None: nobody said. Rates are over the stretch between the two rounds."""

    elapsed_s: float
    read_per_s: float | None
    stored_per_s: float | None
    overruns: int | None
    waiting_rows: int | None
    spool_bytes: int | None
    lag_s: float | None
    uplink: str
    passes: int | None
    gaps: int | None
    finished: int | None
    devices: tuple[DeviceLine, ...]
    stations: tuple[StationLine, ...]
    cpu_percent: Mapping[str, float]
    why: tuple[str, ...]
    gateway: GatewayLine | None = None


def figures(begun_s: float, before: Told, now: Told) -> Figures:
    agent, overview = now.agent, now.overview
    span_s = now.at_s - before.at_s
    devices = _devices(before.agent, agent, span_s)
    stations = tuple(_station(one) for one in now.stations or ())
    known = now.stations is not None
    return Figures(
        elapsed_s=now.at_s - begun_s,
        read_per_s=_rate(_read(before.agent), _read(agent), span_s),
        stored_per_s=None if overview is None else overview["rows_per_s"],
        overruns=None if agent is None else sum(one.overruns for one in devices),
        waiting_rows=None if agent is None else sum(agent.spool.waiting_rows.values()),
        spool_bytes=None if agent is None else agent.spool.bytes,
        lag_s=None if overview is None else overview["lag_s"],
        uplink="no answer" if agent is None else agent.uplink.state,
        passes=sum(one["passes"] + one["others"] for one in now.stations or ()) if known else None,
        gaps=sum(one.gaps for one in stations) if known else None,
        finished=_finished(now.stations or ()) if known else None,
        devices=devices,
        stations=stations,
        cpu_percent={
            name: 100 * (spent_s - before.cpu_s[name]) / span_s
            for name, spent_s in now.cpu_s.items()
            if span_s > 0 and name in before.cpu_s
        },
        why=now.why,
        gateway=_gateway(before.gateway, now.gateway, span_s),
    )


def newest_finished(stations: Sequence[Mapping[str, Any]]) -> Finished | None:
    """The unit that was tested last, if it passed and has a name."""
    for one in stations:
        if one["station"] == LAST_STATION and one["last_verdict"] == "pass" and one["last_name"]:
            return Finished(one["last_item"], one["last_scheme"], one["last_name"])
    return None


def _finished(stations: Sequence[Mapping[str, Any]]) -> int:
    return sum(one["verdicts"].get("pass", 0) for one in stations if one["station"] == LAST_STATION)


def _station(one: Mapping[str, Any]) -> StationLine:
    place = one["station"].partition("/")[2] or one["station"]
    verdicts: Mapping[str, int] = one["verdicts"]
    passed, failed = verdicts.get("pass", 0), verdicts.get("fail", 0)
    return StationLine(
        place=f"{place} {one['nest']}".rstrip(),
        passed=passed,
        failed=failed,
        others=one["passes"] + one["others"] - passed - failed,
        gaps=one["gaps"],
        last_name=one["last_name"] or "",
        last_verdict=one["last_verdict"] or "",
    )


def _devices(
    before: AgentStatus | None, now: AgentStatus | None, span_s: float
) -> tuple[DeviceLine, ...]:
    earlier = {} if before is None else {one.device: one for one in before.devices}
    return tuple(
        _device(earlier.get(one.device), one, span_s) for one in (now.devices if now else ())
    )


def _device(before: DeviceShown | None, now: DeviceShown, span_s: float) -> DeviceLine:
    ages = [one.age_ms for one in now.groups if one.age_ms is not None]
    return DeviceLine(
        device=now.device,
        state=now.state,
        tags=sum(one.tags for one in now.groups),
        reads_per_s=_rate(None if before is None else _reads(before), _reads(now), span_s) or 0.0,
        overruns=sum(one.overruns for one in now.groups),
        late_ms=max((one.jitter_p99_ms for one in now.groups), default=0.0),
        age_ms=max(ages, default=None),
    )


def _reads(device: DeviceShown) -> int:
    return sum(one.finished for one in device.groups)


def _gateway(
    before: GatewayTold | None, now: GatewayTold | None, span_s: float
) -> GatewayLine | None:
    if now is None:
        return None
    frames = None if before is None else before.frames
    return GatewayLine(now.state, _rate(frames, now.frames, span_s), now.waiting, now.age_s)


def _read(agent: AgentStatus | None) -> int | None:
    return None if agent is None else agent.pipeline.read


def _rate(before: int | None, now: int | None, span_s: float) -> float | None:
    if before is None or now is None or span_s <= 0 or now < before:
        return None
    return (now - before) / span_s
