"""Compiles how a nest's cycles are seen: what is polled, what is read on request, and when."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from protocols.driver import Mode
from protocols.samples import DataType, ValueClass
from rules.binding.config import CycleConfig, KeyConfig, MailboxConfig, StationConfig
from rules.binding.parts import compile_edge
from rules.binding.plan import EdgePlan, EdgesPlan, KeyPlan, MailboxPlan, Source, TagFacts
from rules.binding.resolve import (
    BIT,
    INTEGER,
    NUMERIC,
    Found,
    Scope,
    polled_source,
    read_source,
)

TAKEN: Final = BIT | INTEGER
_BITS: Final = {
    DataType.INT8: 8,
    DataType.UINT8: 8,
    DataType.INT16: 16,
    DataType.UINT16: 16,
    DataType.INT32: 32,
    DataType.UINT32: 32,
}
Obtain: TypeAlias = Callable[[Scope, Found], Source | None]


@dataclass(slots=True)
class Reads:
    """Read sets of one nest, filled while its parts are compiled: name → paths, in order."""

    sets: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, name: str, path: str) -> None:
        self.sets.setdefault(name, {})[path] = None


@dataclass(frozen=True, slots=True)
class Way:
    """A nest's cycle, and how the other parts of the nest obtain their tags."""

    cycle: MailboxPlan | EdgesPlan | None
    obtain: Obtain


def compile_cycle(scope: Scope, station: StationConfig, nest_id: str, reads: Reads) -> Way:
    if station.cycle.mailbox is not None:
        return _mailbox(scope.at("cycle"), station, station.cycle.mailbox, (nest_id, reads))
    return _edges(scope, station, nest_id, reads)


def tags_below(tags: Mapping[str, TagFacts], text: str) -> list[str]:
    """The tags of `a.*`, or the one tag itself."""
    if not text.endswith(".*"):
        return [text] if text in tags else []
    return [path for path in tags if path.startswith(text[:-1])]


def _mailbox(
    scope: Scope, station: StationConfig, box: MailboxConfig, into: tuple[str, Reads]
) -> Way:
    nest_id, reads = into
    here = scope.at("mailbox")
    ready = _polled(here.at("ready"), box.ready, BIT)
    taken = here.at("taken").tag(box.taken, TAKEN)
    device = ready.device if ready else taken.facts.device if taken else ""
    key_set, block_set = f"{nest_id} key", f"{nest_id} block"
    _block(here.at("block"), box.block, device, (block_set, reads))
    if station.read_at_end:
        scope.at("read_at_end").problem(
            "", "a hand-shake reads everything while the PLC holds it", "Leave read_at_end out."
        )

    def obtain(at: Scope, found: Found) -> Source | None:
        return _handed_over(at, found, device, lambda path: reads.add(block_set, path))

    key = _mailbox_key(scope, station.cycle, device, (key_set, reads))
    times = _plc_times(scope.obtaining(obtain), station.cycle)
    if not (ready and taken and key):
        return Way(None, obtain)
    cycle = MailboxPlan(
        ready=ready,
        taken=taken.path,
        taken_type=taken.type,
        entries=box.entries,
        retry_us=int(box.retry_s * 1_000_000),
        key=key,
        key_set=key_set,
        block_set=block_set,
        started=times[0],
        ended=times[1],
    )
    return Way(cycle, obtain)


def _handed_over(at: Scope, found: Found, device: str, add: Callable[[str], None]) -> Source | None:
    """On the mailbox's device everything is read at the hand-over, while the PLC holds it."""
    polled_array = found.polled and found.facts.type.is_array
    if found.facts.device == device and not polled_array:
        add(found.base)
        return read_source(found)
    if found.polled:
        return polled_source(found)
    at.problem(found.path, "is on another device and read on request only", "Poll it.")
    return None


def _block(scope: Scope, text: str, device: str, into: tuple[str, Reads]) -> None:
    written = scope.filled(text)
    paths = tags_below(scope.tags, written)
    if not paths:
        scope.problem(written, "no configured tag is below it", "Name the result's tags: `a.b.*`.")
    for path in paths:
        facts = scope.tags[path]
        if facts.device != device:
            scope.problem(path, f"is not on {device}, whose hand-shake it is", "Use one device.")
        elif facts.mode not in (Mode.MAILBOX, Mode.ON_DEMAND):
            scope.problem(path, "is polled, so it can change in mid-read", "Use `mode: mailbox`.")
        else:
            into[1].add(into[0], path)


def _mailbox_key(
    scope: Scope, cycle: CycleConfig, device: str, into: tuple[str, Reads]
) -> KeyPlan | None:
    if cycle.key is None:
        scope.at("mailbox").problem(
            "",
            "a mailbox without a key cannot be told from the one before",
            "Give `key: {count, modulus}`, the PLC's counter of cycles.",
        )
        return None
    here = scope.at("key")
    found = _counter(here, cycle.key)
    if found is None:
        return None
    if found.facts.device != device:
        here.at("count").problem(
            found.path, f"is not on {device}", "Count where the hand-shake is."
        )
        return None
    into[1].add(into[0], found.base)
    return KeyPlan(read_source(found), cycle.key.modulus, cycle.key.jump_max)


def _counter(scope: Scope, key: KeyConfig) -> Found | None:
    found = scope.at("count").tag(key.count, INTEGER)
    if found is not None and key.modulus > 2 ** _BITS.get(found.type, 64):
        scope.at("modulus").problem(
            str(key.modulus),
            f"is more than {found.type} can count",
            f"At most {2 ** _BITS.get(found.type, 64)}.",
        )
    return found


def _plc_times(scope: Scope, cycle: CycleConfig) -> tuple[Source | None, Source | None]:
    times: list[Source | None] = []
    for name, path in (("started", cycle.started), ("ended", cycle.ended)):
        source = scope.at(name).source(path, NUMERIC) if path else None
        if source and source.type is not DataType.DATETIME:
            scope.at(name).problem(
                source.path, f"is {source.type}, not a time", "Give the tag `type: datetime`."
            )
        times.append(source)
    return times[0], times[1]


def _polled(scope: Scope, text: str, classes: frozenset[ValueClass]) -> Source | None:
    found = scope.tag(text, classes)
    if found is None:
        return None
    if not found.polled:
        scope.problem(found.path, "is read on request only", "Poll it: put it in a cyclic group.")
        return None
    source = polled_source(found)
    scope.findings.add(source)
    return source


def _edges(scope: Scope, station: StationConfig, nest_id: str, reads: Reads) -> Way:
    here, config = scope.at("cycle"), station.cycle
    end_found = here.at("end", "edge").tag(config.end.edge, BIT) if config.end else None
    end_set = f"{nest_id} end"
    late = _read_late(scope.at("read_at_end"), station, lambda path: reads.add(end_set, path))

    def obtain(at: Scope, found: Found) -> Source | None:
        if found.polled:
            return polled_source(found, end_found)
        if found.base in late:
            return read_source(found)
        at.problem(found.path, "is read on request only", "Poll it, or add it to read_at_end.")
        return None

    polling = here.obtaining(lambda at, found: _only_polled(at, found, end_found))
    bits = _start_and_end(polling, config, end_found)
    key = _edges_key(polling.at("key"), config.key, end_found) if config.key else None
    if bits is None or (config.key and not key):
        return Way(None, obtain)
    cycle = EdgesPlan(
        start=bits[0],
        end=bits[1],
        key=key,
        key_set=_guard(scope, key, late, (f"{nest_id} key", reads)),
        read_sets=(end_set,) if late else (),
        max_us=int(config.max_s * 1_000_000) if config.max_s else None,
    )
    return Way(cycle, obtain)


def _start_and_end(
    scope: Scope, cycle: CycleConfig, end_found: Found | None
) -> tuple[EdgePlan, EdgePlan] | None:
    start = compile_edge(scope.at("start"), cycle.start) if cycle.start else None
    end = compile_edge(scope.at("end"), cycle.end) if cycle.end and end_found else None
    if start is None or end is None:
        return None
    if start.source.device != end.source.device:
        scope.problem(
            f"{start.source.path}, {end.source.path}",
            "start and end are on two devices, so their order is not certain",
            "Use two bits of one device.",
        )
    return start, end


def _guard(
    scope: Scope, key: KeyPlan | None, late: Set[str], into: tuple[str, Reads]
) -> str | None:
    """The read set of the counter: on one device with what is read late, it tells whose that is."""
    if key is None or {scope.tags[path].device for path in late} != {key.count.device}:
        return None
    name, reads = into
    reads.add(name, key.count.path)
    return name


def _only_polled(at: Scope, found: Found, end: Found | None) -> Source | None:
    if found.polled:
        return polled_source(found, end)
    at.problem(found.path, "is read on request only", "Poll it: put it in a cyclic group.")
    return None


def _read_late(scope: Scope, station: StationConfig, add: Callable[[str], None]) -> set[str]:
    """Tags that are read when the cycle ended, of one device."""
    late: dict[str, None] = {}
    for at, text in enumerate(station.read_at_end):
        here, written = scope.at(at), scope.filled(text)
        paths = tags_below(scope.tags, written)
        if not paths:
            here.problem(
                written, "no configured tag is below it", "Name tags of an on_demand group."
            )
        for path in paths:
            if scope.tags[path].mode in (Mode.MAILBOX, Mode.ON_DEMAND):
                late[path] = None
                add(path)
            else:
                here.problem(path, "is polled already", "Move it to an on_demand group.")
    if len({scope.tags[path].device for path in late}) > 1:
        scope.problem(", ".join(late), "are on several devices", "Read one device at the end.")
    return set(late)


def _edges_key(scope: Scope, key: KeyConfig, end: Found | None) -> KeyPlan | None:
    found = _counter(scope, key)
    source = scope.at("count").source(key.count, INTEGER) if found else None
    if found is None or source is None or end is None:
        return None
    slower = (found.facts.interval_us or 0) > (end.facts.interval_us or 0)
    if found.facts.device != end.facts.device or slower:
        scope.at("count").problem(
            found.path,
            f"is not read together with {end.path}, so it may be the next cycle's",
            "Put both into one group.",
        )
        return None
    return KeyPlan(source, key.modulus, key.jump_max)
