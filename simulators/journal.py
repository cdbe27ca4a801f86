"""The plant's own record of what it sent, was told, made and met: JSON lines.

Owns the format, written and read here only. A response is recorded once its last byte is with the
operating system, in the order of completion; its times are those of the snapshot and of completion.
Bytes are hex; NaN and infinities are text. Lines are buffered: `flush` makes them readable.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from simulators.clock import Clock

BUFFER_LINES = 2_000
MOST_NODE_SETS = 1_000


@dataclass(frozen=True, slots=True)
class StartRecord:
    """First line: which plant, and both clocks at once."""

    site: str
    line: str
    seed: int
    mono_us: int
    utc_us: int


@dataclass(frozen=True, slots=True)
class ModbusResponse:
    """Bits are packed in `raw` as on the wire; `exception` is set instead of data."""

    controller: str
    connection: int
    request: int
    mono_us: int
    utc_us: int
    sent_us: int
    unit: int
    function: int
    start: int
    count: int
    raw: bytes
    exception: int = 0


@dataclass(frozen=True, slots=True)
class S7Item:
    """One item of a response; `code` 0xFF is good, `bit` is -1 unless one bit was asked."""

    area: int
    block: int
    start: int
    bit: int
    code: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class S7Response:
    controller: str
    connection: int
    request: int
    mono_us: int
    utc_us: int
    sent_us: int
    items: tuple[S7Item, ...]


@dataclass(frozen=True, slots=True)
class OpcuaResponse:
    """Values by path, an index range in brackets; null where the status carries none."""

    controller: str
    connection: int
    request: int
    mono_us: int
    utc_us: int
    sent_us: int
    paths: tuple[str, ...]
    values: tuple[Any, ...]
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """A write received: which tags it touched, by path, and whether the PLC took it."""

    controller: str
    connection: int
    request: int
    mono_us: int
    utc_us: int
    values: dict[str, Any]
    taken: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks."""

    mono_us: int
    utc_us: int


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """Whose part it truly was, and what the station's scanner said (`text`; None: no scanner)."""

    unit: int | None
    dmc: str
    text: str | None
    carrier: str | None
    outcome: str


@dataclass(frozen=True, slots=True)
class CurveRecord:
    """A curve as served: `sha256` over x then y as little-endian float32."""

    name: str
    place: str
    x: list[float]
    y: list[float]
    sha256: str


@dataclass(frozen=True, slots=True)
class CycleRecord:
    """One cycle of one nest: (station, nest, count) is its key, `ordinal` counts from 1."""

    station: str
    nest: str
    count: int
    ordinal: int
    started: Moment
    ended: Moment
    verdict: str
    defect: int
    purpose: str
    attempt: int
    item: ItemRecord
    values: dict[str, Any] = field(default_factory=dict)
    curves: tuple[CurveRecord, ...] = ()
    feeds: tuple[dict[str, Any], ...] = ()
    components: tuple[str, ...] = ()
    plc_times: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened: born, reel_changed, reel_scanned, finished, scrapped, hand_over."""

    what: str
    at: Moment
    fields: dict[str, Any]


Response = ModbusResponse | S7Response | OpcuaResponse
Record = StartRecord | Response | WriteRecord | CycleRecord | EventRecord


class Journal:
    """Writes records; without a sink it counts and forgets."""

    def __init__(self, clock: Clock, sink: TextIO | None = None) -> None:
        self.clock = clock
        self.responses = 0
        self._sink = sink
        self._lines: list[str] = []
        self._node_sets: dict[tuple[str, ...], int] = {}
        self._node_sets_made = 0

    def now(self) -> Moment:
        return Moment(self.clock.mono_us(), self.clock.utc_us())

    def start(self, site: str, line: str, seed: int) -> None:
        now = self.now()
        self._record("start", asdict(StartRecord(site, line, seed, now.mono_us, now.utc_us)))

    def response(self, head: str, fields: str) -> None:
        """Appends a response from ready fragments: the hot path builds no objects."""
        self.responses += 1
        self._append(f'{{"k":"response",{head},{fields},"sent":{self.clock.mono_us()}}}')

    def node_set(self, paths: tuple[str, ...]) -> int:
        """Returns the number that stands for these paths, recorded with its first use."""
        number = self._node_sets.get(paths)
        if number is None:
            if len(self._node_sets) >= MOST_NODE_SETS:
                self._node_sets.clear()
            self._node_sets_made += 1
            number = self._node_sets[paths] = self._node_sets_made
            self._record("nodes", {"set": number, "paths": paths})
        return number

    def write(self, record: WriteRecord) -> None:
        self._record("write", asdict(record))

    def cycle(self, record: CycleRecord) -> None:
        self._record("cycle", asdict(record))

    def event(self, what: str, **fields: Any) -> Moment:  # any JSON value
        now = self.now()
        self._record("event", {"what": what, "at": asdict(now), "fields": fields})
        return now

    def flush(self) -> None:
        if self._sink is not None and self._lines:
            self._sink.write("".join(self._lines))
            self._sink.flush()
        self._lines.clear()

    def _record(self, kind: str, body: dict[str, Any]) -> None:
        self._append(json.dumps({"k": kind, **body}, separators=(",", ":"), default=_as_text))

    def _append(self, line: str) -> None:
        if self._sink is None:
            return
        self._lines.append(line + "\n")
        if len(self._lines) >= BUFFER_LINES:
            self.flush()


def response_head(controller: str, connection: int, request: int, mono_us: int, utc_us: int) -> str:
    """Returns the fields that every response starts with."""
    return f'"c":"{controller}","n":{connection},"q":{request},"m":{mono_us},"u":{utc_us}'


def read_journal(file: Path) -> Iterator[Record]:
    """Yields the records in their order; a last line cut by a crash is left out."""
    with file.open(encoding="utf-8") as lines:
        yield from parse_lines(lines)


def parse_lines(lines: Iterable[str]) -> Iterator[Record]:
    node_sets: dict[int, tuple[str, ...]] = {}
    for line in lines:
        if not line.endswith("\n"):
            return
        fields = json.loads(line)
        kind = fields.pop("k")
        if kind == "nodes":
            node_sets[fields["set"]] = tuple(fields["paths"])
        else:
            yield _parse(kind, fields, node_sets)


def _parse(kind: str, fields: dict[str, Any], node_sets: dict[int, tuple[str, ...]]) -> Record:
    match kind:
        case "response":
            return _response(fields, node_sets)
        case "cycle":
            return _cycle(fields)
        case "event":
            return EventRecord(fields["what"], Moment(**fields["at"]), fields["fields"])
        case "write":
            return WriteRecord(**fields)
        case "start":
            return StartRecord(**fields)
        case _:
            raise ValueError(f"no journal record is called {kind!r}")


def _response(fields: dict[str, Any], node_sets: dict[int, tuple[str, ...]]) -> Response:
    head: dict[str, Any] = {
        "controller": fields["c"],
        "connection": fields["n"],
        "request": fields["q"],
        "mono_us": fields["m"],
        "utc_us": fields["u"],
        "sent_us": fields["sent"],
    }
    if "items" in fields:
        items = tuple(_s7_item(item) for item in fields["items"])
        return S7Response(**head, items=items)
    if "set" in fields:
        paths = node_sets[fields["set"]]
        statuses = {paths[int(i)]: status for i, status in fields.get("statuses", {}).items()}
        return OpcuaResponse(**head, paths=paths, values=tuple(fields["values"]), statuses=statuses)
    own = {key: fields[key] for key in ("unit", "function", "start", "count")}
    raw = bytes.fromhex(fields["hex"])
    return ModbusResponse(**head, **own, raw=raw, exception=fields.get("exception", 0))


def _s7_item(item: list[Any]) -> S7Item:
    area, block, start, bit, code, raw = item
    return S7Item(area, block, start, bit, code, bytes.fromhex(raw))


def _cycle(fields: dict[str, Any]) -> CycleRecord:
    fields["started"] = Moment(**fields["started"])
    fields["ended"] = Moment(**fields["ended"])
    fields["item"] = ItemRecord(**fields["item"])
    fields["curves"] = tuple(CurveRecord(**curve) for curve in fields["curves"])
    fields["feeds"] = tuple(fields["feeds"])
    fields["components"] = tuple(fields["components"])
    return CycleRecord(**fields)


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"the journal cannot hold {value!r}")
