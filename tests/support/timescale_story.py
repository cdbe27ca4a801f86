"""A small plant's five days as its agents send them, and what arrives late. Pure.

Rule 1: every id, time and value is fixed: two databases filled with it have to answer alike.
Rule 2: names differ in letters and digits only, so that no collation puts them in another order.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from uuid import UUID

import numpy as np

from protocols.codec import Curve, curve_sha256
from protocols.events import Alarm, Event, body, to_us
from protocols.frames import Frame, Kind, Lane
from protocols.notices import (
    Drop,
    GroupStatus,
    Hello,
    LaneState,
    Outage,
    Release,
    Status,
    TagLine,
)
from protocols.samples import Code, DataType, Quality, Sample, Value
from tests.support.frames import AgentVoice, changed, sample
from tests.support.trace import T0, event, holder, lot, name, pid, slot, uid, when, work
from tests.support.trace_worlds import world

Group: TypeAlias = Sequence[Frame]
"""Frames given to ingest together and waited for."""

DAYS: Final = 5
DAY_MINUTES: Final = 1440
DAY_US: Final = DAY_MINUTES * 60_000_000
NOW: Final = when(DAYS * DAY_MINUTES)
KEPT_FROM: Final = when(2 * DAY_MINUTES).replace(hour=0)  # samples before are deleted by age
AGENTS: Final = (("werk1.line1", "L1/**"), ("werk1.line2", "L2/**"), ("werk2.oven", "**"))
SERIALS: Final = tuple(f"S{day}{letter}" for day in range(DAYS) for letter in "AB")
UNNAMED: Final = pid(5)  # its scan comes late
LATE_CURVE: Final = pid(3)
HOSTILE: Final = "'; drop table item; -- \\ % _ \n<b>"
ANALOG: Final = ("st010.a1", "st010.a2", "st010.a3")
COUNTER: Final = "st010.count"
ROWS: Final = 120  # of an analog tag and day

SCALARS: Final[dict[DataType, tuple[Value, ...]]] = {
    DataType.BOOL: (True, False),
    DataType.INT8: (-(2**7), 0),
    DataType.INT16: (-(2**15), 1),
    DataType.INT32: (2**31 - 1, 5, 4, 3, 2),
    DataType.INT64: (-(2**63), 2**63 - 1),
    DataType.UINT8: (255,),
    DataType.UINT16: (65_535,),
    DataType.UINT32: (2**32 - 1,),
    DataType.UINT64: (2**64 - 1, 2**63),
    DataType.FLOAT32: (1.5, None),
    DataType.FLOAT64: (math.pi, math.inf, math.nan, -0.0),
    DataType.TEXT: ("Grüße\n\"'\\/ €", "", "x" * 3000),
    DataType.BYTES: (b"\x00\xff\x00",),
    DataType.DATETIME: (1_772_000_000_123_456_789,),
    DataType.DATE: (1_771_977_600_000_000_000,),
    DataType.TIME: (86_399_999_999_999,),
    DataType.DURATION: (-1,),
}
LISTS: Final[dict[DataType, tuple[Value, ...]]] = {
    DataType.FLOAT64S: ([1.5, -2.25],),
    DataType.FLOAT32S: ([],),
    DataType.INT16S: ([-1, 2],),
    DataType.UINT64S: ([2**64 - 1, 1],),
    DataType.BOOLS: ([True, False, True],),
    DataType.TEXTS: (["a", "", "ü\n"],),
}
PATHS: Final = (*ANALOG, COUNTER, *(f"types.{code}" for code in (*SCALARS, *LISTS)))


@dataclass
class Plant:
    """Its agents. One instance a database: their counters go on from `first` to `late`."""

    line1: AgentVoice = field(default_factory=lambda: AgentVoice("werk1.line1", now_us=to_us(T0)))
    line2: AgentVoice = field(default_factory=lambda: AgentVoice("werk1.line2", 0x22, to_us(T0)))
    oven: AgentVoice = field(default_factory=lambda: AgentVoice("werk2.oven", 0x33, to_us(T0)))

    def first(self) -> Iterator[Group]:
        """What the five days say as they go by, the bad and the strange included."""
        yield [self._hello(self.line1), self._hello(self.line2), self._hello(self.oven)]
        yield [self.line1.notices(Kind.TAGS, list(_tag_lines()))]
        for day in range(DAYS):
            yield self._samples(day)
            yield self._told(day)
        yield self._beside()
        yield self._stretches()
        yield from self._trouble()
        yield from self._misconduct()

    def late(self) -> Iterator[Group]:
        """Rows of days that are compressed by then, the missing scans, the missing curve."""
        self.line1.now_us = to_us(NOW) - 60_000_000
        rows: list[Sample] = []
        for day in range(3):
            start = to_us(T0) + day * DAY_US
            rows += [
                sample(path, DataType.FLOAT64, start + n * 10_000_000 + 5_000_000, 0.25 + n)
                for path in ANALOG
                for n in range(60, 70)
            ]
            rows += list(_types(start + 3_600_000_000, SCALARS))
        yield [self.line1.samples(rows, lane=Lane.BACKLOG)]
        lists = list(_types(to_us(T0) + 3_600_000_000, LISTS))
        yield [self.line1.samples(lists, lane=Lane.BACKLOG)]
        yield [self.line1.events(_late_events()), self.line1.curve(curve(LATE_CURVE))]
        yield [self._hello(AgentVoice(self.line1.agent, 0x11, self.line1.now_us))]

    def last(self) -> Iterator[Group]:
        """A second process of the first line's name was heard; the first goes on all the same."""
        yield [self.line1.samples(list(_analog(DAYS - 1, first=ROWS, rows=6)))]
        yield [self._hello(self.line1)]

    def _hello(self, voice: AgentVoice) -> Frame:
        line1 = self.line1
        head = line1.seqs.get(Lane.LIVE, 0)
        lanes = (LaneState(epoch=line1.epoch, lane=2, floor=1, head=head, rows=10 if head else 0),)
        return voice.hello(
            Hello(
                agent=voice.agent,
                epoch=voice.epoch,
                at=when((voice.now_us - to_us(T0)) / 60e6),
                version="1.2.3",
                lanes=lanes if voice.agent == line1.agent else (),
            )
        )

    def _samples(self, day: int) -> Group:
        self.line1.now_us = to_us(T0) + day * DAY_US + 1_800_000_000
        start = to_us(T0) + day * DAY_US
        return [
            self.line1.samples([*_analog(day), *_counted(day)], filtered=7),
            self.line1.samples(list(_types(start, SCALARS)), lane=Lane.BACKLOG),
            self.line1.samples(list(_types(start, LISTS))),
        ]

    def _told(self, day: int) -> Group:
        passes = [PASSES[count] for count in COUNTS[day] if pid(count) != LATE_CURVE]
        return [
            self.line1.events(list(_events(day))),
            *(self.line1.curve(curve(one)) for one in passes),
        ]

    def _beside(self) -> Group:
        """Another site with the same names, another agent with the same tags, alarms, status."""
        stop = Status(
            agent=self.line1.agent, epoch=self.line1.epoch, at=when(DAY_MINUTES), read=1000,
            filtered=35, stopping=True,
            groups=(GroupStatus(device="st010", group="fast", scheduled=10, started=9),),
        )  # fmt: skip
        others = [sample(ANALOG[0], DataType.FLOAT64, to_us(T0) + n, n / 4) for n in range(9)]
        born = event("born elsewhere", "name", 3, site="werk2", names=[name("S0A")])
        other = {**name("S0A"), "issuer": "other"}
        second = event("the same number", "name", 4, site="werk2", names=[other])
        return [
            self.oven.samples(others),
            self.oven.events([born, second]),
            self.line2.samples(others),
            self.line1.alarms([_alarm("raised", 5), _alarm("cleared", 6)]),
            self.line1.status(stop),
        ]

    def _stretches(self) -> Group:
        """Of three frames one is dropped, one released, one is still on its way."""
        lost = [self.line1.samples(list(_analog(4, first=ROWS + 10 * n, rows=3))) for n in range(3)]
        told: list[tuple[Kind, type[Drop | Release]]] = [
            (Kind.DROP, Drop),
            (Kind.RELEASE, Release),
        ]
        notices = [
            self.line1.notices(
                kind,
                [
                    notice(
                        lane=2, epoch=self.line1.epoch, from_seq=frame.header.seq,
                        to_seq=frame.header.seq, from_time=T0, to_time=NOW, reason="spool full",
                        rows=frame.header.rows,
                    )
                ],
            )
            for (kind, notice), frame in zip(told, lost, strict=False)
        ]  # fmt: skip
        outage = Outage(from_time=when(100), to_time=when(101), reason="restart")
        return [*notices, self.line1.notices(Kind.OUTAGE, [outage])]

    def _trouble(self) -> Iterator[Group]:
        """A repeat, a fork, an id with another content, what nobody can hold, a stranger."""
        frame = self.line1.samples(list(_analog(4, first=ROWS + 40, rows=4)))
        yield [frame]
        yield [frame]
        digested = [sample(ANALOG[0], DataType.FLOAT64, frame.header.t_min, 1.0)]
        fork = AgentVoice(self.line1.agent, self.line1.epoch, self.line1.now_us)
        forked = fork.samples(digested)
        yield [changed(forked, seq=frame.header.seq)]
        yield [self.line1.events([event("gap", "gap", 9, **{**_GAP, "to_count": 99})])]
        nul = work("nul", 77, 8, name("S0A"), seats={"a\x00b": "x"})
        yield [self.line1.events([nul])]
        yield [changed(self.line1.samples(digested), payload=b"?", raw_len=1, compressed=False)]
        stranger = AgentVoice("werk3.nobody", now_us=self.line1.now_us)
        yield [stranger.samples(digested)]

    def _misconduct(self) -> Iterator[Group]:
        """More than half of a hundred rejected: the oven is set aside."""
        empty: list[Sample] = []
        frames = [
            changed(self.oven.samples(empty), payload=b"!", raw_len=1, compressed=False)
            for _ in range(51)
        ]
        yield frames
        yield [self.oven.samples([sample(ANALOG[0], DataType.FLOAT64, to_us(T0) + 99, 1.0)])]


MASTERS: Final[tuple[dict[str, Any], ...]] = (
    {"kind": "material", "material": "EDRIVE", "item_kind": "unit"},
    {"kind": "bom", "material": "EDRIVE", "child": "CU", "qty": "0.85", "uom": "kg"},
    {"kind": "route", "material": "EDRIVE", "operation": "screw", "position": 10},
    {"kind": "characteristic", "name": "torque", "aliases": ["md"], "unit": "N.m", "high": 9},
    {"kind": "station_tag", "site": "werk1", "station": "L1/ST010", "tag": ANALOG[0]},
    {"kind": "holder", "holder": "magazine", "discipline": "fifo"},
    {
        "kind": "calendar",
        "site": "werk1",
        "zone": "Europe/Berlin",
        "shifts": [{"name": "early", "start": "06:00"}, {"name": "late", "start": "14:00"}],
    },
)


NEW_MASTERS: Final[tuple[dict[str, Any], ...]] = (
    {**MASTERS[-1], "site": "werk2", "zone": "Europe/Lisbon"},
    {"kind": "holder", "holder": "rack", "discipline": "fifo"},
)


def loaded() -> list[dict[str, Any]]:
    """Lines of a file: every kind of master, and events in which everything meets everything."""
    return [*MASTERS, *(body(one) for one in world(11, most=60)), {"kind": "teleport"}]


def curve(of: UUID) -> Curve:
    axis = np.arange(5.0)
    force = np.array([0.0, 1.5, math.nan, 4.25, float(of.int % 97)])
    return Curve(of, "torque_angle", "1", "angle", ("angle", "torque"), ("deg", "N.m"),
                 (axis, force))  # fmt: skip


# Counts of the screwing station, day by day; 7 and 8 are a gap.
COUNTS: Final = ((1, 2), (3, 4), (5, 6), (9, 10), (11, 12))
PASSES: Final = {count: pid(count) for day in COUNTS for count in day}
_GAP: Final[dict[str, Any]] = {
    "station": "L1/ST010",
    "series": "0000000000000007",
    "from_count": 7,
    "to_count": 8,
}


def _events(day: int) -> Iterator[Event]:
    start = day * DAY_MINUTES
    if day != 2:  # of the third day's reel the scan comes late
        yield event(f"reel {day}", "move", start, what=lot(f"CU{day}"), to=holder("feeder/F07"))
    for letter, count in zip("AB", COUNTS[day], strict=True):
        serial = name(f"S{day}{letter}")
        yield event(
            f"birth {day}{letter}", "name", start + 1, names=[serial], material="EDRIVE",
            order="A77", zone_offset="+01:00",
        )  # fmt: skip
        ref = None if pid(count) == UNNAMED else serial
        yield _screwed(f"open {count}", count, start + 2 + count, ref, took=None)
        yield _screwed(
            f"closed {count}", count, start + 2 + count, ref, replaces=[f"open {count}"],
            ended_by="end", verdict="fail" if count == 4 else "pass",
        )  # fmt: skip
        yield _pressed(day, letter.lower(), serial, start + 20)
    yield from _SAID.get(day, ())


def _screwed(
    ident: str, count: int, minutes: float, ref: dict[str, Any] | None, **fields: Any
) -> Event:
    """A pass with values, curve, feed, tool and the window that its samples are found by."""
    made = curve(pid(count))
    window = {"device": "st010", "from": when(minutes), "to": when(minutes + 1)}
    values = [
        {"name": "torque", "place": "1", "num": 8.5 + count, "unit": "N.m", "low": 8.0, "ok": True},
        {"name": "cycles", "int": str(2**63 + count)},
        {"name": "program", "text": "P1"},
        {"name": "oiled", "bool": True},
    ]
    if count == 9:  # so many that they are copied into the view
        values += [{"name": f"depth{n}", "num": n / 8} for n in range(60)]
    curves = [{
        "name": made.name, "place": made.place, "sha256": curve_sha256(made), "n": 5,
        "axis": made.axis, "units": list(made.units),
    }]  # fmt: skip
    return work(
        ident, count, minutes, ref, feeds=[("feeder/F07", "0.85")], windows=[window],
        values=values, curves=curves, seats={"tool": "seat/T1"}, recipe={"name": "R1"},
        **fields,
    )  # fmt: skip


def _pressed(day: int, nest: str, serial: dict[str, Any], minutes: float) -> Event:
    station = "L1/PRESS20"
    return work(
        f"press {day}{nest}", day + 1, minutes, serial, station=station, nest=nest,
        pass_id=str(pid(day + 1, station=station, nest=nest)),
        feeds=[(f"magazine/P20{nest}", "1")], purpose="master" if day == 4 else None,
    )  # fmt: skip


_BOX: Final = holder("box/B1")
_SAID: Final[dict[int, tuple[Event, ...]]] = {
    0: (
        event("tool in", "move", 0, what=name("T9", scheme="tool"), to=holder("seat/T1")),
        event("bearings", "move", 1, what=lot("BR1"), to=holder("magazine/P20a"),
              qty={"value": "2"}),
        event("more bearings", "move", 2, what=lot("BR2"), to=holder("magazine/P20a"),
              qty={"value": "5"}),
        event("strange", "name", 3, names=[name(HOSTILE)]),
        event("mistake", "state", 4, items=[name("S0B")], set_=["scrapped"]),
        event("taken back", "void", 5, replaces=["mistake"], reason="wrong unit"),
    ),
    3: (
        event("gap", "gap", 3 * DAY_MINUTES + 9, **_GAP),
        event("block", "state", 3 * DAY_MINUTES, items=[name("S0A")], set_=["blocked"],
              case="C1", reason="complaint"),
        event("judged", "state", 3 * DAY_MINUTES + 1, pass_=str(pid(4)), set_=["judged"]),
        event("scrap", "state", 3 * DAY_MINUTES + 2, items=[name("S2B")], set_=["scrapped"]),
    ),
    4: (
        event("free", "state", 4 * DAY_MINUTES, items=[name("S0A")], unset=["blocked"]),
        event("split", "make", 4 * DAY_MINUTES + 1, run="r1", inputs=[{"ref": lot("CU4")}],
              outputs=[{"ref": lot("CU4x")}, {"ref": lot("CU4y")}]),
        event("rotor", "move", 4 * DAY_MINUTES + 2, what=name("R4"), to=name("S4A"),
              pass_=str(pid(11))),
        event("boxed", "move", 4 * DAY_MINUTES + 3, what=name("S0A"), to=_BOX),
        event("boxed too", "move", 4 * DAY_MINUTES + 4, what=name("S1A"), to=_BOX),
    ),
}  # fmt: skip


def _late_events() -> list[Event]:
    third = 2 * DAY_MINUTES
    return [
        event("reel 2", "move", third, what=lot("CU2"), to=holder("feeder/F07"), by="anna"),
        event("read at last", "name", third + 30, item=slot(5), names=[name("S2A")]),
        event("relabelled", "name", 4 * DAY_MINUTES + 9, item=name("S1B"), names=[name("S1Bnew")]),
    ]


def _tag_lines() -> Iterator[TagLine]:
    for path in ANALOG:
        yield TagLine(path=path, since=T0, type=DataType.FLOAT64, unit="N.m", station="L1/ST010",
                      address="holding:1", report={"on": "change"})  # fmt: skip
    yield TagLine(path=ANALOG[2], since=when(DAY_MINUTES), type=DataType.FLOAT64, unit="kN.m",
                  station="L1/ST010", scale=1000.0)  # fmt: skip
    yield TagLine(path=COUNTER, since=T0, type=DataType.UINT32, station="L1/ST010")


def _analog(day: int, *, first: int = 0, rows: int = ROWS) -> Iterator[Sample]:
    """A row every ten seconds; some are bad with the protocol's code, some have other clocks."""
    start = to_us(T0) + day * DAY_US
    for path in ANALOG:
        for n in range(first, first + rows):
            at = start + n * 10_000_000
            value: float | None = day * 1000 + n / 8
            quality, code, agent, device = 0, None, at, None
            if n % 40 == 13:
                value, quality, code = None, int(Quality.BAD_TIMEOUT), int(Code.TIMEOUT)
            if n % 40 == 27:
                quality, agent, device = int(Quality.UNCERTAIN), at + 1500, at - 20
            yield Sample(path, DataType.FLOAT64, at, value, quality, code, agent, device)


def _counted(day: int) -> Iterator[Sample]:
    """The station's counter: once before the day's first cycle, then after each."""
    start = to_us(T0) + day * DAY_US
    first, second = COUNTS[day]
    for count, minutes in ((first - 1, 0), (first, first + 3), (second, second + 3)):
        yield sample(COUNTER, DataType.UINT32, start + minutes * 60_000_000, count)


def _types(start: int, values: dict[DataType, tuple[Value, ...]]) -> Iterator[Sample]:
    """Every type; several values of one tag share one time."""
    for code, given in values.items():
        for n, value in enumerate(given):
            yield sample(f"types.{code}", code, start + n // 2, value)


def _alarm(state: str, minutes: float) -> Alarm:
    return Alarm.model_validate(
        {"id": uid(f"alarm {state}"), "key": "st010/door", "state": state, "severity": "warning",
         "at": when(minutes), "text": f"door {state}", "source": "st010"}
    )  # fmt: skip
