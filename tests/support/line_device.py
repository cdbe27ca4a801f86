"""A simulated line's memory behind the device port, without wire: for whole agents in virtual time.

A read is one snapshot of the memory after `delay_s`, of whatever protocol the device would speak.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from protocols.driver import Clock, NotOffered, Plan, TagSpec, Write
from protocols.errors import Disconnected, Rejected
from protocols.samples import Code, DataType, Sample, SampleBatch, from_samples
from tests.support.simulators_line import VirtualLine

_ELEMENT = re.compile(r"(.+)\[(-?\d+)\]")


class LineDevice:
    """One device of the line. `away`: it does not answer."""

    def __init__(self, name: str, line: VirtualLine, clock: Clock, delay_s: float = 0.004) -> None:
        self.away = False
        self.reads = 0
        self.name = name
        self._line = line
        self._clock = clock
        self._delay_s = delay_s

    async def open(self) -> None:
        await self._answer()

    async def read(self, plan: Plan) -> SampleBatch:
        await self._answer()
        self.reads += 1
        now_us = self._clock.now_us()
        return from_samples(self._row(tag, now_us) for tag in plan.tags)

    async def write(self, values: Sequence[Write]) -> None:
        await self._answer()
        for write in values:
            name = write.tag.path.partition(".")[2]
            if write.value is not True:
                raise Rejected("an agent only ever writes true", (0,))
            self._line.images[self.name].put(name, value=True)
            self._line.line.written(self.name, name)

    def subscribe(self, plan: Plan, interval_s: float) -> AsyncIterator[SampleBatch]:
        raise NotOffered(f"poll {len(plan.tags)} tags every {interval_s} s")

    async def close(self) -> None:
        """Nothing is held."""

    @property
    def facts(self) -> Mapping[str, str]:
        return {"memory": self.name}

    async def _answer(self) -> None:
        await asyncio.sleep(self._delay_s)
        if self.away:
            raise Disconnected("away", Code.DISCONNECTED)

    def _row(self, tag: TagSpec, now_us: int) -> Sample:
        assert tag.type is not None
        value = self._value(tag.path.partition(".")[2].removeprefix("raw."))
        if isinstance(value, str):
            value = value.rstrip("\0")
        return Sample(tag.path, tag.type, now_us, _typed(value, tag.type), 0, None, now_us, None)

    def _value(self, name: str) -> Any:
        image = self._line.images[self.name]
        try:
            return image.get(name)
        except KeyError:
            element = _ELEMENT.fullmatch(name)
            assert element is not None, name
            whole = image.get(element[1])
            assert isinstance(whole, list)
            return whole[int(element[2])]


def _typed(value: Any, type_: DataType) -> Any:
    return [float(one) for one in value] if type_ is DataType.FLOAT32S else value
