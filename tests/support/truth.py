"""What the plant truly sent, per tag, by its journal alone; how what is stored compares with it.

Decodes the journal's bytes by itself: nothing of the product takes part in saying what is true.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulators.journal import ModbusResponse, OpcuaResponse, Record, S7Response

PATIENCE_US = 5_000_000  # an answer is taken at most this long after it was sent
GOOD = 0
BAD = 0x80000000


@dataclass(frozen=True, slots=True)
class Answer:
    """One value of one address in one response: snapshot and completion, UTC µs, and the value."""

    snapshot_us: int
    sent_us: int
    value: Any


@dataclass(frozen=True, slots=True)
class Row:
    """One stored sample."""

    time_us: int
    value: Any
    quality: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A declared outage, UTC µs."""

    from_us: int
    to_us: int

    def meets(self, answer: Answer) -> bool:
        return answer.snapshot_us <= self.to_us and answer.sent_us >= self.from_us


@dataclass(slots=True)
class Comparison:
    """Of one tag or of many."""

    equal: int = 0
    in_outage: int = 0
    timed_out: int = 0
    bad_rows: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Comparison") -> None:
        self.equal += other.equal
        self.in_outage += other.in_outage
        self.timed_out += other.timed_out
        self.bad_rows += other.bad_rows
        self.wrong += other.wrong


def compare(
    path: str, answers: Sequence[Answer], rows: Sequence[Row], outages: Sequence[Stretch]
) -> Comparison:
    """Answers in order of sending with stored rows in order of time, one to one.

    An answer without a row must lie in a declared outage, or meet a BAD row: the agent gave up
    waiting for it. A good row without an answer is invented or doubled.
    """
    found = Comparison()
    at = 0
    for row in rows:
        if row.quality & BAD:
            found.bad_rows += 1
            continue
        while at < len(answers) and not _is(answers[at], row):
            _excuse(path, answers[at], rows, outages, found)
            at += 1
        if at == len(answers):
            found.wrong.append(f"{path}: stored {row.value!r} at {row.time_us} was never sent")
            return found
        found.equal += 1
        at += 1
    for answer in answers[at:]:
        _excuse(path, answer, rows, outages, found)
    return found


def _is(answer: Answer, row: Row) -> bool:
    late = row.time_us - answer.sent_us
    return (
        same(answer.value, row.value) and row.time_us >= answer.snapshot_us and late < PATIENCE_US
    )


def _excuse(
    path: str,
    answer: Answer,
    rows: Sequence[Row],
    outages: Sequence[Stretch],
    found: Comparison,
) -> None:
    if any(outage.meets(answer) for outage in outages):
        found.in_outage += 1
    elif any(row.quality & BAD and abs(row.time_us - answer.sent_us) < PATIENCE_US for row in rows):
        found.timed_out += 1
    else:
        found.wrong.append(f"{path}: {answer.value!r} sent at {answer.sent_us} is not stored")


def same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - NaN


# --- where a tag is in a response


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tag lives: in a controller's memory, or at a node."""

    controller: str
    key: tuple[Any, ...]  # modbus: unit, function; s7: area, block; opcua: path
    start: int = 0  # register, coil or byte
    bit: int = -1
    kind: str = ""
    size: int = 1  # registers, coils or bytes


def answers(
    journal: Iterable[Record], places: Mapping[str, Place], offset_us: int
) -> dict[str, list[Answer]]:
    """Per tag path the values sent, in order of completion. `offset_us`: UTC minus monotonic."""
    finder = _Finder(places)
    sent: dict[str, list[Answer]] = defaultdict(list)
    for record in journal:
        if not isinstance(record, (ModbusResponse, S7Response, OpcuaResponse)):
            continue
        done_us = record.sent_us + offset_us
        for path, value in finder.values(record):
            sent[path].append(Answer(record.utc_us, done_us, value))
    for found in sent.values():
        found.sort(key=lambda answer: answer.sent_us)
    return sent


class _Finder:
    """Finds the tags of a response; which ones is learnt once per shape of response."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._by_memory: dict[tuple[Any, ...], list[tuple[str, Place]]] = defaultdict(list)
        for path, place in places.items():
            self._by_memory[(place.controller, *place.key)].append((path, place))

    def values(self, record: Record) -> list[tuple[str, Any]]:
        match record:
            case ModbusResponse() if not record.exception:
                return self._modbus(record)
            case S7Response():
                return self._s7(record)
            case OpcuaResponse():
                return self._opcua(record)
            case _:
                return []

    def _modbus(self, record: ModbusResponse) -> list[tuple[str, Any]]:
        tags = self._by_memory.get((record.controller, record.unit, record.function), ())
        return [
            (path, modbus_value(record, place))
            for path, place in tags
            if record.start <= place.start
            and place.start + place.size <= record.start + record.count
        ]

    def _s7(self, record: S7Response) -> list[tuple[str, Any]]:
        found = []
        for item in record.items:
            tags = self._by_memory.get((record.controller, item.area, item.block), ())
            for path, place in tags:
                inside = item.start <= place.start
                inside &= place.start + place.size <= item.start + len(item.raw)
                if item.code == 0xFF and inside and (item.bit < 0 or item.bit == place.bit):
                    raw = item.raw[place.start - item.start :]
                    bit = 0 if item.bit >= 0 else place.bit
                    found.append((path, s7_value(raw, place.kind, bit)))
        return found

    def _opcua(self, record: OpcuaResponse) -> list[tuple[str, Any]]:
        found = []
        for node, value in zip(record.paths, record.values, strict=True):
            for path, place in self._by_memory.get((record.controller, node), ()):
                if not record.statuses.get(node, 0) & BAD:
                    found.append((path, typed(value, place.kind)))
        return found


def typed(value: Any, kind: str) -> Any:
    return float(value) if kind.startswith("float") and value is not None else value


_STRUCT = {
    "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip


def modbus_value(record: ModbusResponse, place: Place) -> Any:
    at = place.start - record.start
    if record.function in (1, 2):
        return bool(record.raw[at // 8] >> (at % 8) & 1)
    raw = record.raw[2 * at : 2 * (at + place.size)]
    kind, _, order = place.kind.partition("?")
    if kind == "text":
        return raw.split(b"\0")[0].decode()
    if order == "CDAB":
        raw = b"".join(raw[i : i + 2] for i in range(len(raw) - 2, -1, -2))
    return struct.unpack(">" + _STRUCT[kind], raw)[0]


def s7_value(raw: bytes, kind: str, bit: int) -> Any:
    if kind == "bool":
        return bool(raw[0] >> bit & 1)
    if kind == "text":
        return raw[2 : 2 + raw[1]].decode("latin-1")
    form = ">" + _STRUCT[kind]
    return struct.unpack(form, raw[: struct.calcsize(form)])[0]


_S7 = re.compile(r"DB(\d+)\.DB([XBWD])(\d+)(?:\.(\d))?:(\w+)(?:\[(\d+)\])?")
_MODBUS = re.compile(r"(\w+):(\d+):(\w+)(?:\[(\d+)\])?(?:\?(.*))?")
_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_S7_KINDS = {
    "BOOL": "bool", "SINT": "int8", "INT": "int16", "DINT": "int32", "LINT": "int64",
    "USINT": "uint8",
    "UINT": "uint16", "UDINT": "uint32", "ULINT": "uint64", "REAL": "float32", "LREAL": "float64",
    "STRING": "text", "BYTE": "uint8", "WORD": "uint16", "DWORD": "uint32",
}  # fmt: skip


def place(controller: str, protocol: str, address: str, kind: str, unit: int = 1) -> Place | None:
    """None: a type that this module does not decode (dates, arrays)."""
    match protocol:
        case "s7":
            return _s7_place(controller, address)
        case "modbus":
            return _modbus_place(controller, address, unit)
        case _:
            return Place(controller, (address.partition(";s=")[2],), kind=kind)


def _s7_place(controller: str, address: str) -> Place | None:
    parts = _S7.fullmatch(address)
    if parts is None or parts[5] not in _S7_KINDS or (parts[6] and parts[5] != "STRING"):
        return None
    kind = _S7_KINDS[parts[5]]
    size = int(parts[6]) + 2 if kind == "text" else 1 if kind == "bool" else _size(kind)
    return Place(controller, (0x84, int(parts[1])), int(parts[3]), int(parts[4] or -1), kind, size)


def _modbus_place(controller: str, address: str, unit: int) -> Place | None:
    parts = _MODBUS.fullmatch(address)
    if parts is None or (parts[4] and parts[3] != "text"):
        return None
    options = dict(one.split("=") for one in (parts[5] or "").split("&") if one)
    kind = parts[3]
    size = 1 if kind == "bool" else int(parts[4]) // 2 if kind == "text" else _size(kind) // 2
    key = (int(options.get("unit", unit)), _FUNCTIONS[parts[1]])
    shown = f"{kind}?{options.get('order', 'ABCD')}"
    return Place(controller, key, int(parts[2]), kind=shown, size=size)


def _size(kind: str) -> int:
    return struct.calcsize(_STRUCT[kind])
