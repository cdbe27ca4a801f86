"""From a valid file to what the agent runs: tags, plans, reports, the binding. Pure.

It finds every mistake that shows without a connection: addresses, paths, types, stations.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edge.catalogue import TagFacts
from edge.config import DeviceConfig, EdgeConfig
from edge.configured import (
    ELEMENT,
    POLLED,
    Known,
    check_intervals,
    check_names,
    check_reports,
    configured,
    know,
)
from edge.document import KeyPath
from edge.findings import Finding
from protocols.driver import Mode, Plan, TagSpec
from protocols.errors import ConfigError, Problem
from protocols.registry import AnyConnection, make_plan
from rules.binding.compile import compile_binding
from rules.binding.config import BindingConfig
from rules.binding.plan import Compiled, MailboxPlan
from rules.binding.plan import TagFacts as BindingFacts
from rules.conditioning import Report

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


def compile_agent(config: EdgeConfig, places: Sequence[int], paths_in_file: set[str]) -> Compiling:
    """`places`: where each station stands in the file. `paths_in_file`: faulty tags included."""
    done = Compiling()
    tags = list(configured(config))
    check_intervals(config, done.findings)
    check_names(tags, done.findings)
    known = {tag.path: one for tag in tags if (one := know(tag, done.findings)) is not None}
    check_reports(known.values(), done.findings)
    groups = _group_plans(config, known, done)
    _elements_apart(groups, known, done)
    binding = _binding(config, known, places, paths_in_file, done)
    if done.findings or binding is None:
        return done
    done.plan = _agent_plan(config, known, groups, binding, done)
    return done


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


def _elements_apart(
    groups: Mapping[tuple[str, str], Plan], known: Mapping[str, Known], done: Compiling
) -> None:
    """A polled array `a` has the paths `a[0]` …; another tag may bear such a name."""
    for plan in groups.values():
        for row in plan.tags:
            if row.path in known and ELEMENT.fullmatch(row.path):
                array = known.get(row.path.rpartition("[")[0])
                if array is not None and array.configured.in_group.mode in POLLED:
                    keys = known[row.path].configured.keys
                    why = "is also an element of a polled array"
                    done.findings.append(Finding(keys, row.path, why, "Give it another name."))


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
    done.notes += _polled_instead(config)
    return compiled


def _polled_instead(config: EdgeConfig) -> Iterator[Finding]:
    for device_name, device in config.devices.items():
        for group_name, group in device.groups.items():
            if group.mode is Mode.SUBSCRIBE:
                keys = ("devices", device_name, "groups", group_name, "mode")
                why = "is polled at its interval: no driver offers subscriptions yet"
                yield Finding(keys, "subscribe", why, "Write cyclic, or leave it for later.")


def _binding_facts(one: Known) -> BindingFacts:
    group = one.configured.in_group
    assert one.type is not None  # noqa: S101 - the caller's filter
    interval = group.interval
    return BindingFacts(
        type=one.type,
        device=one.configured.device,
        group=one.configured.group,
        mode=Mode.CYCLIC if group.mode is Mode.SUBSCRIBE else group.mode,  # polled instead
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
    reports = {path: r for path, one in known.items() if (r := _report(config, one, binding))}
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


def _report(config: EdgeConfig, one: Known, binding: Compiled) -> Report | None:
    """Tag before group before device before agent. A deadband that means nothing is left out."""
    at = one.configured
    report = at.tag.report or at.in_group.report or at.in_device.report or config.report
    if report is not None and at.path in binding.counters:
        return report.of_a_counter()
    if report is None or one.type is None or report.suits(one.type):
        return report
    return report.model_copy(update={"deadband": None})


def _facts(config: EdgeConfig, one: Known, binding: Compiled) -> TagFacts:
    at, tag = one.configured, one.configured.tag
    station, nest = binding.stations.get(at.path, ("", ""))
    report = _report(config, one, binding)
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
