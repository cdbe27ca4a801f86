"""From a valid file to what the agent runs: tags, plans, reports, the binding. Pure.

It finds every mistake that shows without a connection: addresses, paths, types, stations.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from edge.catalogue import TagFacts
from edge.config import PATH_BYTES_MAX, DeviceConfig, EdgeConfig, GroupConfig, TagConfig
from edge.document import KeyPath
from edge.findings import Finding
from protocols.driver import Mode, Plan, TagSpec
from protocols.errors import ConfigError, Problem
from protocols.registry import AnyConnection, make_plan
from protocols.samples import DataType
from rules.binding.compile import compile_binding
from rules.binding.config import BindingConfig
from rules.binding.plan import Compiled, MailboxPlan
from rules.binding.plan import TagFacts as BindingFacts
from rules.conditioning import Report
from rules.durations import format_duration

POLLED: Final = (Mode.CYCLIC, Mode.SUBSCRIBE)  # no driver offers a subscription yet
_ELEMENT: Final = re.compile(r".*\[(-?[0-9]+)\]")
_STATION: Final = re.compile(r"stations\[([0-9]+)\]")
_KEYS: Final = re.compile(r"\[([0-9]+)\]|([^.\[\]]+)")


@dataclass(frozen=True, slots=True, eq=False)
class GroupPlan:
    """A polled group."""

    name: str
    interval_s: float
    plan: Plan


@dataclass(frozen=True, slots=True, eq=False)
class DevicePlan:
    """What one device is asked for. `writable`: hand-shake bits of its stations, nothing else."""

    name: str
    connection: AnyConnection
    groups: tuple[GroupPlan, ...]
    sets: Mapping[str, Plan]
    writable: Mapping[str, TagSpec]


@dataclass(frozen=True, slots=True, eq=False)
class AgentPlan:
    """Everything that the agent runs, compiled once. `tests`: what `edge test` reads, in order."""

    devices: tuple[DevicePlan, ...]
    binding: Compiled
    reports: Mapping[str, Report]
    facts: Mapping[str, TagFacts]
    tests: tuple["TestRead", ...]

    @property
    def set_devices(self) -> dict[str, str]:
        return {name: device.name for device in self.devices for name in device.sets}

    @property
    def path_devices(self) -> dict[str, str]:
        return {path: device.name for device in self.devices for path in device.writable}


@dataclass(frozen=True, slots=True, eq=False)
class TestRead:
    """One group read once."""

    device: str
    group: str
    mode: Mode
    plan: Plan


@dataclass(slots=True)
class Compiling:
    """The plan as far as it is sound; None: no sound plan at all."""

    plan: AgentPlan | None = None
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


class Configured(NamedTuple):
    """One tag with all that stands around it."""

    path: str
    device: str
    group: str
    tag: TagConfig
    in_group: GroupConfig
    in_device: DeviceConfig

    @property
    def keys(self) -> KeyPath:
        name = self.path.partition(".")[2]
        return ("devices", self.device, "groups", self.group, "tags", name)

    @property
    def spec(self) -> TagSpec:
        tag = self.tag
        return TagSpec(self.path, tag.address, tag.type, tag.scale, tag.offset)


class Known(NamedTuple):
    """What planning a tag on its own tells: its whole type, and an array's extent."""

    configured: Configured
    type: DataType | None
    first: int
    length: int | None


def compile_agent(config: EdgeConfig, places: Sequence[int], paths_in_file: set[str]) -> Compiling:
    """`places`: where each station stands in the file. `paths_in_file`: faulty tags included."""
    done = Compiling()
    tags = list(_configured(config))
    _intervals(config, done)
    _names(tags, done)
    known = {tag.path: one for tag in tags if (one := _known(tag, done)) is not None}
    _reports_fit(known.values(), done)
    groups = _group_plans(config, known, done)
    binding = _binding(config, known, places, paths_in_file, done)
    if done.findings or binding is None:
        return done
    done.plan = _agent_plan(config, known, groups, binding, done)
    return done


# Tags.


def _configured(config: EdgeConfig) -> Iterator[Configured]:
    for device_name, device in config.devices.items():
        for group_name, group in device.groups.items():
            for name, tag in group.tags.items():
                path = f"{device_name}.{name}"
                yield Configured(path, device_name, group_name, tag, group, device)


def _intervals(config: EdgeConfig, done: Compiling) -> None:
    for device_name, device in config.devices.items():
        for group_name, group in device.groups.items():
            keys = ("devices", device_name, "groups", group_name)
            if group.mode in POLLED and group.interval is None:
                why = f"is {group.mode} without an interval"
                done.findings.append(Finding(keys, "", why, "Add `interval: 100ms` or more."))
            if group.mode not in POLLED and group.interval is not None:
                written = format_duration(group.interval)
                why = f"means nothing: a {group.mode} group is read on request"
                done.findings.append(Finding((*keys, "interval"), written, why, "Leave it out."))


def _names(tags: Iterable[Configured], done: Compiling) -> None:
    seen: dict[str, Configured] = {}
    for tag in tags:
        if tag.path in seen:
            why = f"is also in group {seen[tag.path].group}"
            done.findings.append(Finding(tag.keys, tag.path, why, "A path stands once a device."))
        seen.setdefault(tag.path, tag)
        if len(tag.path.encode()) > PATH_BYTES_MAX:
            why = f"is longer than {PATH_BYTES_MAX} bytes"
            done.findings.append(Finding(tag.keys, tag.path, why, "Shorten it."))
    for tag in seen.values():
        if tag.tag.was in seen:
            keys = (*tag.keys, "was")
            why = "is still configured, so it was not renamed"
            done.findings.append(Finding(keys, str(tag.tag.was), why, "Leave `was` out."))


def _known(tag: Configured, done: Compiling) -> Known | None:
    """Plan the tag on its own, element by element: its mistakes, type and extent."""
    mode = Mode.CYCLIC if tag.in_group.mode in POLLED else tag.in_group.mode
    try:
        whole = make_plan(tag.in_device.connection, [tag.spec], mode).tags[0]
        elements = _elements(tag, mode)
    except ConfigError as error:
        done.findings += [
            Finding((*tag.keys, "address"), each.value, each.why, each.remedy)
            for each in error.problems
        ]
        return None
    if not elements:
        return Known(tag, whole.type, 0, None)
    first = _ELEMENT.fullmatch(elements[0].path)
    type_ = elements[0].type
    if first is None:
        return Known(tag, type_, 0, None)
    return Known(tag, type_.array if type_ else None, int(first[1]), len(elements))


def _elements(tag: Configured, mode: Mode) -> tuple[TagSpec, ...]:
    """What polling would read of it. Empty: an array whose length only the device knows."""
    try:
        return make_plan(tag.in_device.connection, [tag.spec], Mode.CYCLIC).tags
    except ConfigError:
        if mode is Mode.CYCLIC:
            raise
        return ()


def _reports_fit(known: Iterable[Known], done: Compiling) -> None:
    for one in known:
        report = one.configured.tag.report
        if report is not None and one.type is not None and not report.suits(one.type):
            keys = (*one.configured.keys, "report", "deadband")
            why = f"{one.type} has no deadband"
            done.findings.append(Finding(keys, "", why, "Leave it out, or report every change."))


# Plans.


def _group_plans(
    config: EdgeConfig, known: Mapping[str, Known], done: Compiling
) -> dict[tuple[str, str], Plan]:
    """A plan a group, of those of its tags that can be read."""
    plans: dict[tuple[str, str], Plan] = {}
    for device_name, device in config.devices.items():
        for group_name, group in device.groups.items():
            specs = [
                known[path].configured.spec
                for path in (f"{device_name}.{name}" for name in group.tags)
                if path in known and known[path].configured.group == group_name
            ]
            mode = Mode.CYCLIC if group.mode in POLLED else group.mode
            keys = ("devices", device_name, "groups", group_name)
            plan = _planned(device.connection, specs, mode, keys, done)
            if plan is not None:
                plans[device_name, group_name] = plan
    return plans


def _planned(
    connection: AnyConnection, specs: Sequence[TagSpec], mode: Mode, keys: KeyPath, done: Compiling
) -> Plan | None:
    try:
        return make_plan(connection, specs, mode)
    except ConfigError as error:
        done.findings += [
            Finding(keys, each.value, f"{each.where}: {each.why}", each.remedy)
            for each in error.problems
        ]
        return None


# Stations.


def _binding(
    config: EdgeConfig,
    known: Mapping[str, Known],
    places: Sequence[int],
    paths_in_file: set[str],
    done: Compiling,
) -> Compiled | None:
    written = BindingConfig(patterns=config.patterns, stations=config.stations)
    facts = {path: _binding_facts(one) for path, one in known.items() if one.type is not None}
    try:
        compiled = compile_binding(written, facts, config.site)
    except ConfigError as error:
        unsound = paths_in_file - set(facts)
        found = [_binding_finding(each, places) for each in error.problems]
        done.findings += [each for each in found if _base(each.value) not in unsound]
        return None
    done.notes += [_binding_finding(each, places) for each in compiled.notes]
    return compiled


def _binding_facts(one: Known) -> BindingFacts:
    group = one.configured.in_group
    assert one.type is not None  # noqa: S101 - the caller's filter
    interval = group.interval
    return BindingFacts(
        type=one.type,
        device=one.configured.device,
        group=one.configured.group,
        mode=group.mode,
        interval_us=None if interval is None else round(interval.total_seconds() * 1e6),
        first=one.first,
        length=one.length,
    )


def _binding_finding(problem: Problem, places: Sequence[int]) -> Finding:
    where = _STATION.sub(lambda found: f"stations[{places[int(found[1])]}]", problem.where)
    keys = tuple(int(at) if at else key for at, key in _KEYS.findall(where))
    return Finding(keys, problem.value, problem.why, problem.remedy)


def _base(path: str) -> str:
    return path.partition("[")[0]


# All together.


def _agent_plan(
    config: EdgeConfig,
    known: Mapping[str, Known],
    groups: Mapping[tuple[str, str], Plan],
    binding: Compiled,
    done: Compiling,
) -> AgentPlan | None:
    sets = _set_plans(config, known, binding, done)
    if done.findings:
        return None
    taken = {nest.cycle.taken for nest in binding.nests if isinstance(nest.cycle, MailboxPlan)}
    devices = tuple(
        DevicePlan(
            name,
            device.connection,
            tuple(_polled(name, device, groups)),
            sets.get(name, {}),
            {p: known[p].configured.spec for p in taken if known[p].configured.device == name},
        )
        for name, device in config.devices.items()
    )
    tests = tuple(
        TestRead(device, group, config.devices[device].groups[group].mode, plan)
        for (device, group), plan in groups.items()
    )
    reports = {path: r for path, one in known.items() if (r := _report(config, one)) is not None}
    facts = {path: _facts(config, one, binding) for path, one in known.items()}
    return AgentPlan(devices, binding, reports, facts, tests)


def _polled(
    name: str, device: DeviceConfig, groups: Mapping[tuple[str, str], Plan]
) -> Iterator[GroupPlan]:
    for group_name, group in device.groups.items():
        if group.mode in POLLED and group.interval is not None:
            seconds = group.interval.total_seconds()
            yield GroupPlan(group_name, seconds, groups[name, group_name])


def _set_plans(
    config: EdgeConfig, known: Mapping[str, Known], binding: Compiled, done: Compiling
) -> dict[str, dict[str, Plan]]:
    """Read sets by device; each lies on one."""
    found: dict[str, dict[str, Plan]] = {}
    for name, paths in binding.read_sets.items():
        device = known[paths[0]].configured.device
        specs = [known[path].configured.spec for path in paths]
        connection = config.devices[device].connection
        plan = _planned(connection, specs, Mode.MAILBOX, ("devices", device), done)
        if plan is not None:
            found.setdefault(device, {})[name] = plan
    return found


def _report(config: EdgeConfig, one: Known) -> Report | None:
    """Tag before group before device before agent. A deadband that means nothing is left out."""
    at = one.configured
    report = at.tag.report or at.in_group.report or at.in_device.report or config.report
    if report is None or one.type is None or report.suits(one.type):
        return report
    return report.model_copy(update={"deadband": None})


def _facts(config: EdgeConfig, one: Known, binding: Compiled) -> TagFacts:
    at, tag = one.configured, one.configured.tag
    station, nest = binding.stations.get(at.path, ("", ""))
    report = _report(config, one)
    said: dict[str, Any] | None = None
    if report is not None:
        said = report.model_dump(mode="json", exclude_defaults=True) | {"on": str(report.on)}
    return TagFacts(
        unit=tag.unit,
        scale=tag.scale,
        offset=tag.offset,
        address=tag.address,
        station=_first(tag.station, at.in_group.station, at.in_device.station, station),
        nest=_first(tag.nest, at.in_group.nest, at.in_device.nest, nest),
        report=said,
        was=tag.was,
    )


def _first(*places: str | None) -> str:
    return next((place for place in places if place is not None), "")
