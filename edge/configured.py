"""The configured tags one by one: paths, types, extents, and what is wrong with them. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from edge.config import PATH_BYTES_MAX, DeviceConfig, EdgeConfig, GroupConfig, TagConfig
from edge.document import KeyPath
from edge.findings import Finding
from protocols.driver import Mode, TagSpec
from protocols.errors import ConfigError
from protocols.registry import make_plan
from protocols.samples import DataType
from rules.durations import format_duration

POLLED: Final = (Mode.CYCLIC, Mode.SUBSCRIBE)  # no driver offers a subscription yet
ELEMENT: Final = re.compile(r".*\[(-?[0-9]+)\]")


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


def configured(config: EdgeConfig) -> Iterator[Configured]:
    for device_name, device in config.devices.items():
        for group_name, group in device.groups.items():
            for name, tag in group.tags.items():
                path = f"{device_name}.{name}"
                yield Configured(path, device_name, group_name, tag, group, device)


def check_intervals(config: EdgeConfig, findings: list[Finding]) -> None:
    for device_name, device in config.devices.items():
        for group_name, group in device.groups.items():
            keys = ("devices", device_name, "groups", group_name)
            if group.mode in POLLED and group.interval is None:
                why = f"is {group.mode} without an interval"
                findings.append(Finding(keys, "", why, "Add `interval: 100ms` or more."))
            if group.mode not in POLLED and group.interval is not None:
                written = format_duration(group.interval)
                why = f"means nothing: a {group.mode} group is read on request"
                findings.append(Finding((*keys, "interval"), written, why, "Leave it out."))


def check_names(tags: Iterable[Configured], findings: list[Finding]) -> None:
    seen: dict[str, Configured] = {}
    for tag in tags:
        if tag.path in seen:
            why = f"is also in group {seen[tag.path].group}"
            findings.append(Finding(tag.keys, tag.path, why, "A path stands once a device."))
        seen.setdefault(tag.path, tag)
        if len(tag.path.encode()) > PATH_BYTES_MAX:
            why = f"is longer than {PATH_BYTES_MAX} bytes"
            findings.append(Finding(tag.keys, tag.path, why, "Shorten it."))
    for tag in seen.values():
        if tag.tag.was in seen:
            keys = (*tag.keys, "was")
            why = "is still configured, so it was not renamed"
            findings.append(Finding(keys, str(tag.tag.was), why, "Leave `was` out."))


def know(tag: Configured, findings: list[Finding]) -> Known | None:
    """Plan the tag on its own, element by element: its mistakes, type and extent."""
    mode = Mode.CYCLIC if tag.in_group.mode in POLLED else tag.in_group.mode
    try:
        whole = make_plan(tag.in_device.connection, [tag.spec], mode).tags[0]
        elements = _elements(tag, mode)
    except ConfigError as error:
        findings += [
            Finding((*tag.keys, "address"), each.value, each.why, each.remedy)
            for each in error.problems
        ]
        return None
    if not elements:
        return Known(tag, whole.type, 0, None)
    first = ELEMENT.fullmatch(elements[0].path)
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


def check_reports(known: Iterable[Known], findings: list[Finding]) -> None:
    for one in known:
        report = one.configured.tag.report
        if report is not None and one.type is not None and not report.suits(one.type):
            keys = (*one.configured.keys, "report", "deadband")
            why = f"{one.type} has no deadband"
            findings.append(Finding(keys, "", why, "Leave it out, or report every change."))
