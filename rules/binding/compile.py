"""From configuration and configured tags to a plan that runs, or every mistake at once."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from protocols.errors import ConfigError
from rules.binding.config import BindingConfig, StationConfig
from rules.binding.cycles import Reads, compile_cycle
from rules.binding.emits import compile_emits
from rules.binding.parts import (
    compile_context,
    compile_curves,
    compile_feeds,
    compile_items,
    compile_values,
    compile_verdict,
)
from rules.binding.plan import Compiled, EdgesPlan, MailboxPlan, NestPlan, Source, TagFacts
from rules.binding.resolve import Findings, Scope

_REV_CHARACTERS: Final = 16
_REPEATED: Final = re.compile(r"[+*}]\)[+*{]")


def compile_binding(
    config: BindingConfig, tags: Mapping[str, TagFacts], site: str, *, where: str = ""
) -> Compiled:
    """`where`: what stands before `stations[0]…` in a problem. ConfigError: all mistakes."""
    findings = Findings()
    scope = Scope(tags, findings, where)
    _patterns(scope.at("patterns"), config.patterns)
    _names_apart(scope, config.stations)
    nests: list[NestPlan] = []
    sets: dict[str, tuple[str, ...]] = {}
    for at, station in enumerate(config.stations):
        rev = _revision(config, station)
        for nest in station.nests or ("",):
            reads = Reads()
            plan = _nest(scope.at("stations", at), station, nest, (rev, reads))
            nests += [plan] if plan else []
            sets.update({name: tuple(paths) for name, paths in reads.sets.items()})
    _writes_apart(scope, nests)
    if findings.problems:
        raise ConfigError(dict.fromkeys(findings.problems))
    return Compiled(
        site=site,
        nests=tuple(nests),
        read_sets=sets,
        notes=tuple(dict.fromkeys(findings.notes)),
        stations=_stations(nests, sets),
        counters=frozenset(plan.cycle.key.count.path for plan in nests if plan.cycle.key),
    )


def _nest(
    scope: Scope, station: StationConfig, nest: str, into: tuple[str, Reads]
) -> NestPlan | None:
    rev, reads = into
    scope.findings.sources.clear()
    here = scope.filling({"nest": nest} if nest else {})
    nest_id = f"{station.station}/{nest}" if nest else station.station
    way = compile_cycle(here, station, nest_id, reads)
    here = here.obtaining(way.obtain)
    items = compile_items(here.at("items"), station.items) if station.items else None
    holders, scans = compile_feeds(here.at("feeds"), station.feeds)
    curves = compile_curves(here.at("curves"), station.curves)
    values = compile_values(here.at("values"), station.values, curves)
    verdict = compile_verdict(here.at("verdict"), station.verdict) if station.verdict else None
    context = compile_context(here, station.context, station.purpose)
    emits = compile_emits(here.at("emit"), station.emit)
    _remark(here, station, way.cycle)
    if way.cycle is None:
        return None
    sources = tuple(scope.findings.sources.values())
    return NestPlan(
        station=station.station,
        nest=nest,
        operation=station.operation,
        rev=rev,
        cycle=way.cycle,
        items=items,
        feeds=holders,
        scans=scans,
        values=values,
        curves=curves,
        verdict=verdict,
        context=context,
        emits=emits,
        open=station.open,
        devices=_devices(sources, way.cycle),
        sources=sources,
    )


def _devices(sources: Iterable[Source], cycle: MailboxPlan | EdgesPlan) -> tuple[str, ...]:
    own = cycle.ready if isinstance(cycle, MailboxPlan) else cycle.end.source
    return tuple(sorted({own.device, *(source.device for source in sources)}))


def _remark(scope: Scope, station: StationConfig, cycle: MailboxPlan | EdgesPlan | None) -> None:
    if station.gate:
        scope.at("gate").note(
            station.gate.ask,
            "gates are not asked by this release; nothing is written",
            "Leave the PLC's own decision in place.",
        )
    polled_over_time = [
        (at, value.how)
        for at, value in enumerate(station.values)
        if value.tag and value.how not in ("last", "at_end")
    ]
    if isinstance(cycle, MailboxPlan):
        for at, how in polled_over_time:
            scope.at("values", at, "how").problem(
                how,
                "a hand-shake tells of its cycle only when it is over",
                "Let the PLC put the value into the mailbox, and use `how: last`.",
            )
        if station.open:
            scope.at("open").problem("true", "a hand-shake has no running cycle", "Leave it out.")
    elif station.cycle.key is None:
        scope.at("cycle").note(
            "", "without a counter nothing proves that no cycle was missed", "Give `key`."
        )


def _patterns(scope: Scope, patterns: Mapping[str, str]) -> None:
    for name, text in patterns.items():
        try:
            pattern = re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            scope.at(name).problem(text, f"is no regular expression: {error}", "Correct it.")
            continue
        if _REPEATED.search(text):
            scope.at(name).problem(
                text,
                "repeats a repetition, so a hostile text can keep it busy for hours",
                "Write (…+) once, without another + or * around it.",
            )
            continue
        scope.findings.patterns[name] = pattern


def _names_apart(scope: Scope, stations: Iterable[StationConfig]) -> None:
    seen: set[str] = set()
    for at, station in enumerate(stations):
        here = scope.at("stations", at)
        if station.station in seen:
            here.at("station").problem(station.station, "stands twice", "A station has one entry.")
        if len(set(station.nests)) != len(station.nests):
            here.at("nests").problem(", ".join(station.nests), "names a nest twice", "Once each.")
        seen.add(station.station)


def _writes_apart(scope: Scope, nests: Iterable[NestPlan]) -> None:
    taken: dict[str, str] = {}
    for plan in nests:
        if not isinstance(plan.cycle, MailboxPlan):
            continue
        other = taken.setdefault(plan.cycle.taken, plan.id)
        if other != plan.id:
            scope.at("stations").problem(
                plan.cycle.taken,
                f"is written by {other} and by {plan.id}",
                "Each mailbox has its own `taken`.",
            )


def _revision(config: BindingConfig, station: StationConfig) -> str:
    """Of what is written of the station and the patterns; a default is as good as left out."""
    written = {
        "patterns": config.patterns,
        "station": station.model_dump(mode="json", by_alias=True, exclude_defaults=True),
    }
    text = json.dumps(written, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:_REV_CHARACTERS]


def _stations(
    nests: Iterable[NestPlan], sets: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, str]]:
    used: dict[str, set[tuple[str, str]]] = {}
    for plan in nests:
        paths = {source.path for source in plan.sources}
        if isinstance(plan.cycle, MailboxPlan):
            paths.add(plan.cycle.taken)
        paths |= {
            path
            for name, many in sets.items()
            if name.rpartition(" ")[0] == plan.id
            for path in many
        }
        for path in paths:
            used.setdefault(path, set()).add((plan.station, plan.nest))
    return {path: _shared(users) for path, users in sorted(used.items())}


def _shared(users: set[tuple[str, str]]) -> tuple[str, str]:
    """One user's station and nest; of several nests the station alone; of several stations none."""
    stations = {station for station, _ in users}
    nests = {nest for _, nest in users}
    station = stations.pop() if len(stations) == 1 else ""
    return station, nests.pop() if station and len(nests) == 1 else ""
