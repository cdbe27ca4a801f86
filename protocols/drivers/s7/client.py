"""One S7 connection: the only I/O of this driver.

Frames and requests are python-snap7's (its asyncio transport: no thread, and a read can be
cancelled); planning and decoding are ours. One request is under way at a time.
"""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from snap7.async_client import AsyncISOTCPConnection
from snap7.datatypes import S7Area, S7WordLen
from snap7.error import S7Error, S7TimeoutError
from snap7.s7protocol import S7Protocol

from protocols.addressing import Unfit
from protocols.driver import Clock, NotOffered, Plan, Write
from protocols.drivers.s7.address import Address, parse
from protocols.drivers.s7.config import S7Connection
from protocols.drivers.s7.decode import encode
from protocols.drivers.s7.planner import Cut, S7Plan
from protocols.drivers.s7.wire import (
    OUT_OF_RANGE,
    Refusal,
    decode_read,
    decode_set_up,
    decode_written,
    group,
    sequence_of,
    with_sequence,
    write_bytes_max,
)
from protocols.errors import Disconnected, Rejected
from protocols.image import Block, Route
from protocols.reading import Sheet
from protocols.samples import Code, Column, Quality, SampleBatch

_CONNECTION_TYPES: Final = {"PG": 1, "OP": 2, "S7-basic": 3}
_LOCAL_TSAP: Final = 0x0100
_LATE_ANSWERS_MAX: Final = 3
_UNTIL_CLOSED_S: Final = 1.0
_PDU_BYTES_MIN: Final = 112
AnswerT = TypeVar("AnswerT")

# The runtime logs a device that goes and comes; the library would log every attempt.
logging.getLogger("snap7").setLevel(logging.CRITICAL)


@dataclass(slots=True)
class _Way:
    """A plan as this connection reads it; `requests` belong to `route.blocks` as they were."""

    cut: Cut
    route: Route
    asked: tuple[Block, ...] = ()
    requests: tuple[tuple[tuple[Block, ...], bytes], ...] = ()


class S7Device:
    """protocols.driver.Device."""

    def __init__(self, connection: S7Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._protocol = S7Protocol()
        self._link: AsyncISOTCPConnection | None = None
        self._pdu_bytes = connection.pdu_bytes_max
        self._sequence = 0
        self._ways: WeakKeyDictionary[S7Plan, _Way] = WeakKeyDictionary()

    @property
    def facts(self) -> Mapping[str, str]:
        return {"pdu_bytes": str(self._pdu_bytes), "items_max": str(self._connection.items_max)}

    async def open(self) -> None:
        await self.close()
        how = self._connection
        kind = _CONNECTION_TYPES[how.connection_type]
        tsap = kind << 8 | how.rack << 5 | how.slot
        link = AsyncISOTCPConnection(how.host, how.port, _LOCAL_TSAP, tsap)
        try:
            with _door(f"{how.host}:{how.port}"):
                await link.connect(how.timeout_s)
            self._link = link
            self._pdu_bytes = await self._set_up()
        except BaseException:
            self._link = link
            await self.close()
            raise

    async def _set_up(self) -> int:
        wanted = self._connection.pdu_bytes_max
        request = self._protocol.build_setup_communication_request(1, 1, wanted)
        granted = self._understood(decode_set_up, await self._exchange(request))
        if isinstance(granted, Refusal):
            raise Disconnected(f"set-up refused: {granted.reason}", granted.code)
        if not _PDU_BYTES_MIN <= granted <= wanted:
            raise Disconnected(f"a PDU of {granted} bytes was granted", Code.DISCONNECTED)
        return granted

    async def read(self, plan: Plan) -> SampleBatch:
        if not isinstance(plan, S7Plan):
            raise TypeError(f"not a plan of this driver: {plan!r}")
        way = self._way_of(plan)
        way.route.begin(self._clock.monotonic_s())
        sheet, image = Sheet(plan.rows), np.zeros(way.cut.image_bytes, np.uint8)
        waiting = deque(self._requests_of(way))
        while waiting:
            blocks, request = waiting.popleft()
            parts = await self._read_blocks(blocks, request, way.route, sheet, image)
            waiting.extend(self._encode(parts))
        for rest in way.route.resting:
            _fail(sheet, rest.block, Refusal(rest.code), self._clock.now_us())
        way.route.settle()
        way.cut.decoder.fill(sheet, image)
        return sheet.batch()

    async def _read_blocks(
        self,
        blocks: tuple[Block, ...],
        request: bytes,
        route: Route,
        sheet: Sheet,
        image: Column,
    ) -> list[Block]:
        """One request. What came goes into the image; returned: what to ask instead."""
        answer = await self._exchange(request)
        time_us = self._clock.now_us()
        try:
            items = decode_read(blocks, answer)
        except ValueError:
            for block in blocks:
                sheet.fail(block.cells, Quality.BAD, Code.UNDECODABLE)
                sheet.time[block.cells] = time_us
            return []
        instead: list[Block] = []
        for block, item in zip(blocks, items, strict=True):
            if isinstance(item, Refusal):
                instead += self._refused(block, item, route, sheet, time_us)
                continue
            image[block.at : block.at + block.size] = item
            sheet.time[block.cells] = time_us
        return instead

    def _refused(
        self, block: Block, refusal: Refusal, route: Route, sheet: Sheet, time_us: int
    ) -> tuple[Block, ...]:
        parts: tuple[Block, ...] = ()
        if refusal.code == OUT_OF_RANGE:
            parts = route.refuse(block, refusal.code, self._clock.monotonic_s())
        if not parts:
            _fail(sheet, block, refusal, time_us)
        return parts

    async def write(self, values: Sequence[Write]) -> None:
        refused: dict[int, str] = {}
        for row, value in enumerate(values):
            reason = await self._write(value)
            if reason:
                refused[row] = f"{value.tag.path}: {reason}"
        if refused:
            raise Rejected("; ".join(refused.values()), tuple(refused))

    async def _write(self, write: Write) -> str:
        """Why the PLC or the value's type refuses it; empty: written."""
        address = parse(write.tag)
        if address.extent is not None:
            return "an array cannot be written, only an element"
        try:
            raw = encode(address, write.value, self._connection.text_encoding)
        except Unfit as error:
            return str(error)
        for request in self._write_requests(address, raw):
            refusal = self._understood(decode_written, await self._exchange(request))
            if refusal is not None:
                return refusal.reason
        return ""

    def _write_requests(self, address: Address, raw: bytes) -> list[bytes]:
        """From the back: the length at the head of a long text is written last."""
        area = S7Area(address.area)
        build = self._protocol.build_write_request
        if address.kind == "BOOL":
            bit = address.start * 8 + address.bit
            return [build(area, address.block, bit, S7WordLen.BIT, raw)]
        step = write_bytes_max(self._pdu_bytes)
        return [
            build(area, address.block, address.start + at, S7WordLen.BYTE, raw[at : at + step])
            for at in reversed(range(0, len(raw), step))
        ]

    def subscribe(self, plan: Plan, interval_s: float) -> AsyncIterator[SampleBatch]:  # noqa: ARG002  # the port's
        raise NotOffered("S7 PLCs send nothing by themselves: poll instead")

    async def close(self) -> None:
        link, self._link = self._link, None
        self._ways.clear()
        if link is None:
            return
        try:
            async with asyncio.timeout(_UNTIL_CLOSED_S):
                await link.disconnect()
        except TimeoutError:
            return  # the socket is closed all the same; only its goodbye was not sent

    def _way_of(self, plan: S7Plan) -> _Way:
        way = self._ways.get(plan)
        if way is None:
            cut = plan.cut(self._pdu_bytes)
            way = self._ways[plan] = _Way(cut, Route(cut.blocks, cut.limits))
        return way

    def _requests_of(self, way: _Way) -> tuple[tuple[tuple[Block, ...], bytes], ...]:
        """Encoded once, and again after the route has learnt something."""
        if way.asked is not way.route.blocks:
            way.asked = way.route.blocks
            way.requests = tuple(self._encode(way.asked))
        return way.requests

    def _encode(self, blocks: Sequence[Block]) -> Iterator[tuple[tuple[Block, ...], bytes]]:
        for part in group(blocks, self._pdu_bytes, self._connection.items_max):
            items = [(b.space[0], b.space[1], b.start, b.size) for b in part]
            yield part, self._protocol.build_multi_read_request(items)

    async def _exchange(self, request: bytes) -> bytes:
        """The answer to this request. A cancelled one leaves half an answer: no more follows."""
        link = self._link
        if link is None or not link.connected:
            raise Disconnected("not open", Code.DISCONNECTED)
        self._sequence = self._sequence % 0xFFFF + 1
        try:
            with _door("no answer"):
                async with asyncio.timeout(self._connection.timeout_s):
                    return await _ask(link, with_sequence(request, self._sequence), self._sequence)
        except BaseException:
            link.connected = False
            raise

    def _understood(self, decode: Callable[[bytes], AnswerT], answer: bytes) -> AnswerT:
        """Disconnected: what came is no answer, so nothing that follows can be trusted."""
        try:
            return decode(answer)
        except (ValueError, struct.error) as error:
            raise Disconnected(f"not S7: {error}", Code.UNDECODABLE) from error


async def _ask(link: AsyncISOTCPConnection, request: bytes, sequence: int) -> bytes:
    await link.send_data(request)
    for _ in range(_LATE_ANSWERS_MAX):
        answer = await link.receive_data()
        if sequence_of(answer) == sequence:
            return answer
    raise ValueError("only answers to earlier requests")


def _fail(sheet: Sheet, block: Block, refusal: Refusal, time_us: int) -> None:
    sheet.fail(block.cells, refusal.quality, refusal.code)
    sheet.time[block.cells] = time_us


@contextmanager
def _door(doing: str) -> Iterator[None]:
    """Where the library's exceptions end."""
    try:
        yield
    except (S7TimeoutError, TimeoutError) as error:
        raise Disconnected(f"{doing}: timed out {error}", Code.TIMEOUT) from error
    except (S7Error, OSError, ValueError, struct.error) as error:
        raise Disconnected(f"{doing}: {error}", Code.DISCONNECTED) from error
