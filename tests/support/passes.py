"""Stored passes beside the plant's cycles: identity, verdict, values, curves, components, feeds.

A cycle is found by station, nest and the counter as the PLC shows it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from cloud.db import Connection
from simulators.journal import CycleRecord, EventRecord, Record
from tests.support.truth import Stretch

DMC = re.compile(r"P(?P<material>\w+)#S(?P<serial>[A-Z0-9]{12})#V(?P<issuer>\w+)")
SCAN_US = 1_500_000  # a unit is scanned at most so long before its cycle starts
SETTLE_US = 1_500_000  # a cycle seen this long before the agent's end is told
Key = tuple[str, str, int]


@dataclass(slots=True)
class PassComparison:
    """`torn`: incomplete and saying so. `in_gap`, `before`: no pass, but counted, or too early.

    `unseen`: scanned while nothing was read, or before the very first cycle, when nobody knows
    whether a scan was for an earlier one; the pass says that it has no name, and is right in all
    else.
    """

    equal: int = 0
    torn: int = 0
    unseen: int = 0
    in_gap: int = 0
    before: int = 0
    units: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stored:
    """One pass as it is told now, and what the view makes of it."""

    body: Mapping[str, Any]
    names: frozenset[str]
    components: frozenset[str]
    lots: frozenset[str]


def compare_passes(
    database: Connection,
    journal: Sequence[Record],
    agent_file: Path,
    until_us: int,
    unread: Sequence[Stretch] = (),
) -> PassComparison:
    """Every cycle that ended before `until_us` (the agent's stop) beside the pass stored of it.

    `unread`: stretches in which the agent read nothing.
    """
    found = PassComparison()
    config = YAML(typ="safe", pure=True).load(agent_file.read_text())
    stations = {one["station"]: one for one in config["stations"]}
    stored = dict(_stored(database))
    gaps = list(_gaps(database))
    handed = _handed_over(journal)
    changes = list(_reel_changes(journal))
    for cycle in (one for one in journal if isinstance(one, CycleRecord)):
        key = (cycle.station, cycle.nest, cycle.count)
        has_handshake = "mailbox" in stations[cycle.station]["cycle"]
        if has_handshake and (cycle.station.partition("/")[2], cycle.count) not in handed:
            continue
        if not has_handshake and cycle.ended.utc_us > until_us - SETTLE_US:
            continue
        one = stored.pop(key, None)
        if one is None:
            _without(key, cycle, gaps, found, has_handshake=has_handshake)
        else:
            met = [stretch for stretch in unread if _meets(cycle, stretch)]
            one = replace(one, lots=one.lots - _put_on_unseen(cycle, met, changes))
            excused = bool(met) or (cycle.ordinal == 1 and not has_handshake)
            _beside(database, cycle, one, stations[cycle.station], found, may_be_unseen=excused)
    return found


def _meets(cycle: CycleRecord, stretch: Stretch) -> bool:
    """Its scan may have been missed: that is before its start."""
    earliest_us = cycle.started.utc_us - SCAN_US
    return stretch.from_us <= cycle.ended.utc_us and stretch.to_us >= earliest_us


def _put_on_unseen(
    cycle: CycleRecord, unread: Sequence[Stretch], changes: Iterable[tuple[int, str]]
) -> frozenset[str]:
    """Reels put on after the cycle in a stretch that it met: nobody saw which came first."""
    return frozenset(
        lot
        for changed_us, lot in changes
        for stretch in unread
        if cycle.ended.utc_us <= changed_us <= stretch.to_us
    )


def _without(
    key: Key,
    cycle: CycleRecord,
    gaps: Iterable[tuple[str, str, range, int]],
    found: PassComparison,
    *,
    has_handshake: bool,
) -> None:
    covered = any(
        (station, nest) == key[:2] and any(count % modulus == key[2] for count in counts)
        for station, nest, counts, modulus in gaps
    )
    if covered and not has_handshake:
        found.in_gap += 1
    elif cycle.ordinal == 1 and not has_handshake:
        found.before += 1  # it ran when the agent first saw the counter
    else:
        found.wrong.append(f"{key}: cycle without a pass, and in no gap")


def _beside(
    database: Connection,
    cycle: CycleRecord,
    stored: Stored,
    station: Mapping[str, Any],
    found: PassComparison,
    *,
    may_be_unseen: bool,
) -> None:
    key = (cycle.station, cycle.nest, cycle.count)
    body = stored.body
    unseen = may_be_unseen and not stored.names and cycle.item.outcome == "bound"
    wrong = [
        *(() if unseen else _identity(cycle, stored)),
        *_judgement(cycle, body, station),
        *_values(cycle, body, station),
        *_curves(database, cycle, body),
        *_feeds(cycle, stored),
    ]
    if wrong and (body.get("ended_by") != "end" or body.get("missing")):
        found.torn += 1  # the agent was down in it, and the pass says so
        return
    found.wrong += [f"{key}: {one}" for one in wrong]
    found.unseen += unseen and not wrong
    found.equal += not unseen and not wrong
    if cycle.item.unit is not None:
        found.units.add(cycle.item.dmc)


def _identity(cycle: CycleRecord, stored: Stored) -> Iterator[str]:
    if cycle.item.unit is None:
        return
    serial = _serial(cycle.item.dmc)
    if cycle.item.outcome == "bound" and serial not in stored.names:
        yield f"is of {serial}, stored of {sorted(stored.names)}"
    if cycle.item.outcome != "bound" and stored.names - {serial}:
        yield f"was {cycle.item.outcome} of {serial}, stored of {sorted(stored.names)}"


def _judgement(
    cycle: CycleRecord, body: Mapping[str, Any], station: Mapping[str, Any]
) -> Iterator[str]:
    if body["purpose"] != cycle.purpose:
        yield f"purpose {cycle.purpose}, stored {body['purpose']}"
    if "verdict" not in station:
        return
    item = body["items"][0]
    if item["verdict"] != cycle.verdict:
        yield f"verdict {cycle.verdict}, stored {item['verdict']}"
    defects = [one["code"] for one in item["defects"]]
    if defects != ([str(cycle.defect)] if cycle.defect else []):
        yield f"defect {cycle.defect}, stored {defects}"


def _values(
    cycle: CycleRecord, body: Mapping[str, Any], station: Mapping[str, Any]
) -> Iterator[str]:
    stored = {(one["name"], one.get("place", "")): one for one in body["values"]}
    for value in station.get("values", ()):
        if "tag" not in value or value.get("how", "last") not in ("last", "at_end"):
            continue
        for place, tag in _expanded(value, cycle.nest):
            one = stored.get((value["name"], place)) or stored.get((value["name"], cycle.nest))
            shown = None if one is None else one.get("num", one.get("int"))
            if tag in cycle.values and (shown is None or float(shown) != cycle.values[tag]):
                yield f"{value['name']}[{place}] {cycle.values[tag]}, stored {one}"


def _expanded(value: Mapping[str, Any], nest: str) -> Iterator[tuple[str, str]]:
    each = {name: _numbers(of) for name, of in value.get("each", {}).items()}
    for chosen in product(*each.values()):
        filled = dict(zip(each, chosen, strict=True))
        yield ".".join(chosen), value["tag"].format(nest=nest, **filled)


def _numbers(text: str) -> list[str]:
    first, last = text.split("..")
    return [str(one) for one in range(int(first), int(last) + 1)]


def _curves(database: Connection, cycle: CycleRecord, body: Mapping[str, Any]) -> Iterator[str]:
    stored = {(one["name"], one.get("place", "")): one for one in body["curves"]}
    if len(stored) != len(cycle.curves):
        yield f"{len(cycle.curves)} curves, stored {sorted(stored)}"
    for curve in cycle.curves:
        place = "" if curve.place == cycle.nest else curve.place  # the pass is of the nest already
        announced = stored.get((curve.name, place))
        row = database.execute(
            "select n, data from curve where pass_id = %s and name = %s and place = %s",
            (body["pass_id"], curve.name, place),
        ).fetchone()
        if announced is None or row is None:
            yield f"curve {curve.name}[{curve.place}] is not stored"
            continue
        points = np.frombuffer(row[1], "<f8").reshape(2, row[0])
        if not np.array_equal(points, np.array([curve.x, curve.y])):
            yield f"curve {curve.name}[{curve.place}] has other points"


def _feeds(cycle: CycleRecord, stored: Stored) -> Iterator[str]:
    components = {_serial(one) for one in cycle.components if DMC.fullmatch(one)}
    if components != stored.components:
        yield f"components {sorted(components)}, stored {sorted(stored.components)}"
    lots = _reels(cycle)
    if lots != stored.lots:
        yield f"lots {sorted(lots)}, stored {sorted(stored.lots)}"


def _reels(cycle: CycleRecord) -> frozenset[str]:
    return frozenset(one["lot"] for one in cycle.feeds if one.get("lot"))


def _serial(dmc: str) -> str:
    parts = DMC.fullmatch(dmc)
    return dmc if parts is None else parts["serial"]


def _handed_over(journal: Iterable[Record]) -> set[tuple[str, int]]:
    return {
        (one.fields["station"], one.fields["count"])
        for one in journal
        if isinstance(one, EventRecord) and one.what == "handed_over"
    }


def _reel_changes(journal: Iterable[Record]) -> Iterator[tuple[int, str]]:
    for one in journal:
        if isinstance(one, EventRecord) and one.what == "reel_changed":
            yield one.at.utc_us, one.fields["lot"]


def _stored(database: Connection) -> Iterator[tuple[Key, Stored]]:
    rows = database.execute(_PASSES).fetchall()
    for body, names, components, lots in rows:
        key = (body["station"], body.get("nest", ""), int(body["key"]["raw"]))
        yield key, Stored(body, frozenset(names), frozenset(components), frozenset(lots))


def _gaps(database: Connection) -> Iterator[tuple[str, str, range, int]]:
    moduli = {
        (body["station"], body.get("nest", "")): int(body["key"]["modulus"])
        for (body,) in database.execute("select body from event where kind = 'pass'").fetchall()
        if body["key"].get("modulus")
    }
    rows = database.execute("select station, nest, from_count, to_count from gap").fetchall()
    for station, nest, first, last in rows:
        counts = range(int(first), int(last) + 1)
        yield station, nest, counts, moduli.get((station, nest), 65_536)


_NAMES = """
    select coalesce(array_agg(n.value), '{}') from item_name n
    where n.known_to is null and n.item in
"""
_PASSES = f"""
    select e.body,
      ({_NAMES} (select item from pass_item i where i.pass_id = p.pass_id and i.known_to is null
                 and i.role = 'work') and n.scheme = 'serial'),
      ({_NAMES} (select child from link l where l.pass_id = p.pass_id and l.known_to is null
                 and l.relation = 'part') and n.scheme in ('rotor', 'cover')),
      ({_NAMES} (select child from link l where l.pass_id = p.pass_id and l.known_to is null
                 and l.relation = 'part') and n.scheme = 'lot')
    from pass p join event e on e.id = p.event
"""  # noqa: S608 - constants only
