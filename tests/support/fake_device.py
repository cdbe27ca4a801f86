"""A device in memory that passes the contract suite of the real drivers.

`FakePlc` is the machine: switch it off, make it mute, let it refuse a place. `FakeDevice` is the
driver. An address is the name of a place, `name[n]` or `name[first..last]` that of an array.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from protocols.addressing import (
    EXTENT,
    Extent,
    Linear,
    agreed_type,
    extent_of,
    lay_out,
    linear_of,
    understand,
)
from protocols.driver import Clock, Mode, NodeReading, NotOffered, Plan, TagSpec, Write
from protocols.errors import Disconnected, Rejected
from protocols.reading import Rows, Sheet
from protocols.samples import Code, DataType, Quality, SampleBatch, Scalar, ValueClass

_ADDRESS = re.compile(rf"(?P<place>[^\[\]]+?)(?:{EXTENT})?")


@dataclass(frozen=True)
class FakeAddress:
    place: str
    type: DataType
    extent: Extent | None = None
    linear: Linear | None = None

    @property
    def is_array(self) -> bool:
        return self.extent is not None

    def element(self, number: int) -> "FakeAddress":
        return replace(self, place=f"{self.place}/{number}", extent=None, linear=None)

    def __str__(self) -> str:
        return f"{self.place}{self.extent or ''}"


@dataclass
class FakePlc:
    """What stands behind any number of fake devices. Elements of an array are places `name/0` …"""

    up: bool = True
    mute: bool = False  # takes requests and never answers
    memory: dict[str, Scalar] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)  # place: the device's own code
    reads: list[tuple[str, ...]] = field(default_factory=list)
    written: list[tuple[str, Scalar]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class FakePlan:
    rows: Rows
    places: tuple[FakeAddress, ...]
    linear: tuple[Linear | None, ...]

    @property
    def tags(self) -> tuple[TagSpec, ...]:
        return self.rows.specs

    @property
    def requests(self) -> int:
        return 1 if self.places else 0

    @property
    def readings(self) -> tuple[NodeReading, ...]:
        return tuple(NodeReading(tag.path, 0, "the fake's only request") for tag in self.rows.tags)


def make_fake_plan(tags: Sequence[TagSpec], mode: Mode = Mode.CYCLIC) -> FakePlan:
    """ConfigError: as every driver's."""
    rows, parts = lay_out(understand(tags, _parse), mode)
    return FakePlan(
        rows, tuple(part.address for part in parts), tuple(part.linear for part in parts)
    )


class FakeDevice:
    """protocols.driver.Device over a FakePlc; takes `delay_s` of the loop's time for a request."""

    def __init__(
        self, plc: FakePlc, clock: Clock, *, timeout_s: float = 2.0, delay_s: float = 0.0
    ) -> None:
        self.plc = plc
        self._clock = clock
        self._timeout_s = timeout_s
        self._delay_s = delay_s
        self._open = False

    @property
    def facts(self) -> Mapping[str, str]:
        return {"places": str(len(self.plc.memory))}

    async def open(self) -> None:
        await self._request()
        self._open = True

    async def read(self, plan: Plan) -> SampleBatch:
        assert isinstance(plan, FakePlan)
        if plan.places:
            await self._ask()
            self.plc.reads.append(tuple(dict.fromkeys(a.place for a in plan.places)))
        sheet = Sheet(plan.rows)
        sheet.time[:] = self._clock.now_us()
        for cell, (address, linear) in enumerate(zip(plan.places, plan.linear, strict=True)):
            self._fill(sheet, cell, address, linear)
        return sheet.batch()

    def _fill(self, sheet: Sheet, cell: int, address: FakeAddress, linear: Linear | None) -> None:
        value = self.plc.memory.get(address.place)
        if address.place in self.plc.refused or value is None:
            code = self.plc.refused.get(address.place, Code.UNDECODABLE)
            sheet.fail([cell], Quality.BAD, code)
            return
        kind = ValueClass.F64 if linear else address.type.value_class
        values = np.empty(1, object)
        values[0] = value if linear is None else float(value) * linear[0] + linear[1]
        sheet.put(kind, np.array([cell]), values, None)

    async def write(self, values: Sequence[Write]) -> None:
        refused = []
        for row, write in enumerate(values):
            await self._ask()
            place = _parse(write.tag).place
            if place in self.plc.refused:
                refused.append(row)
                continue
            self.plc.memory[place] = write.value
            self.plc.written.append((place, write.value))
        if refused:
            raise Rejected("refused by the fake", tuple(refused))

    def subscribe(self, plan: Plan, interval_s: float) -> AsyncIterator[SampleBatch]:  # noqa: ARG002  # the port's
        raise NotOffered("the fake sends nothing by itself: poll instead")

    async def close(self) -> None:
        self._open = False

    async def _ask(self) -> None:
        if not self._open:
            raise Disconnected("not open", Code.DISCONNECTED)
        await self._request()

    async def _request(self) -> None:
        if not self.plc.up:
            self._open = False
            raise Disconnected("switched off", Code.DISCONNECTED)
        if self.plc.mute:
            await asyncio.sleep(self._timeout_s)
            raise Disconnected("no answer", Code.TIMEOUT)
        await asyncio.sleep(self._delay_s)


def _parse(spec: TagSpec) -> FakeAddress:
    match = _ADDRESS.fullmatch(spec.address)
    assert match is not None, spec.address
    extent = extent_of(spec, match)
    type_ = agreed_type(spec, None, extent)
    return FakeAddress(match["place"], type_, extent, linear_of(spec, type_, 1.0, 0.0))
