"""One Modbus TCP connection: the only I/O of this driver.

Framing is pymodbus's; its client is not used: it hides why a connection failed, notices a lost one
only by time-out, and makes a Python object of every register. One request is under way at a time.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import numpy as np
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU

from protocols.addressing import Unfit, is_set
from protocols.driver import Clock, NotOffered, Plan, Write
from protocols.drivers.modbus.address import Address, Table, parse
from protocols.drivers.modbus.config import ModbusConnection
from protocols.drivers.modbus.decode import encode, encode_part
from protocols.drivers.modbus.planner import ModbusPlan
from protocols.drivers.modbus.wire import (
    ILLEGAL_FUNCTION,
    REFUSED,
    Refusal,
    decode_read,
    decode_written,
    encode_mask_write,
    encode_read,
    encode_write_coil,
    encode_write_registers,
    explain,
)
from protocols.errors import Disconnected, Rejected
from protocols.image import Block, Route
from protocols.reading import Sheet
from protocols.samples import Code, Column, Quality, SampleBatch

_READ_HOLDING = 3
_ADU_BYTES_MAX = 260  # Modbus Messaging on TCP/IP 1.0b, 4.1
_UNTIL_CLOSED_S = 1.0

# The runtime logs a device that goes and comes; the framer would log every odd frame.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


class ModbusDevice:
    """protocols.driver.Device. A plan's blocks are cut anew where the device refuses them."""

    def __init__(self, connection: ModbusConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._link: _Link | None = None
        self._routes: WeakKeyDictionary[ModbusPlan, Route] = WeakKeyDictionary()

    @property
    def facts(self) -> Mapping[str, str]:
        limits = self._connection
        return {"registers_max": str(limits.registers_max), "bits_max": str(limits.bits_max)}

    async def open(self) -> None:
        await self.close()
        self._routes.clear()  # another program may run there now
        how = self._connection
        with _door(f"{how.host}:{how.port}"):
            async with asyncio.timeout(how.timeout_s):
                loop = asyncio.get_running_loop()
                _, self._link = await loop.create_connection(_Link, how.host, how.port)

    async def read(self, plan: Plan) -> SampleBatch:
        if not isinstance(plan, ModbusPlan):
            raise TypeError(f"not a plan of this driver: {plan!r}")
        route = self._routes.setdefault(plan, Route(plan.blocks, plan.limits))
        route.begin(self._clock.monotonic_s())
        sheet, image = Sheet(plan.rows), np.zeros(plan.image_bytes, np.uint8)
        waiting = deque(route.blocks)
        while waiting:
            block = waiting.popleft()
            parts = await self._read_block(block, route, sheet, image)
            waiting.extendleft(reversed(parts))
        for rest in route.resting:
            _fail(sheet, rest.block, Refusal(rest.code), self._clock.now_us())
        route.settle()
        plan.decoder.fill(sheet, image)
        return sheet.batch()

    async def _read_block(
        self, block: Block, route: Route, sheet: Sheet, image: Column
    ) -> tuple[Block, ...]:
        """Ask for one block. What came goes into the image; returned: what to ask instead."""
        answer = await self._exchange(block.space[0], encode_read(block))
        time_us = self._clock.now_us()
        try:
            found = decode_read(block, answer)
        except ValueError:
            sheet.fail(block.cells, Quality.BAD, Code.UNDECODABLE)
            sheet.time[block.cells] = time_us
            return ()
        if not isinstance(found, Refusal):
            image[block.at : block.at + len(found)] = found
            sheet.time[block.cells] = time_us
            return ()
        parts: tuple[Block, ...] = ()
        if found.code in REFUSED:
            parts = route.refuse(block, found.code, self._clock.monotonic_s())
        if not parts:
            _fail(sheet, block, found, time_us)
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
        """Why the device or the value's type refuses it; empty: written."""
        address = parse(write.tag, self._connection)
        try:
            request = await self._encode_write(address, write)
            answer = await self._exchange(address.unit, request)
            refusal = decode_written(request, answer)
        except (ValueError, UnicodeEncodeError) as error:
            return str(error)
        if refusal is None:
            return ""
        if refusal.code == ILLEGAL_FUNCTION and _is_part(address):
            return "no function 22; bit_write: read_modify_write if nothing else writes there"
        return _reason(refusal)

    async def _encode_write(self, address: Address, write: Write) -> bytes:
        if address.extent is not None:
            raise Unfit("an array cannot be written, only an element")
        match address.table:
            case Table.COIL:
                return encode_write_coil(address.start, on=is_set(write.value))
            case Table.HOLDING if _is_part(address):
                mask, value = encode_part(address, write.value)
                if self._connection.bit_write == "mask":
                    return encode_mask_write(address.start, mask, value)
                return await self._encode_modified(address, mask, value)
            case Table.HOLDING:
                raw = encode(address, write.value, self._connection.text_encoding)
                return encode_write_registers(address.start, raw)
            case Table.DISCRETE | Table.INPUT:
                raise Unfit(f"{address.table} can only be read")

    async def _encode_modified(self, address: Address, mask: int, value: int) -> bytes:
        """The whole register with a part replaced: what the device wrote in between is lost."""
        one = Block((address.unit, _READ_HOLDING), address.start, 1, 0, (), np.zeros(0, np.intp))
        found = decode_read(one, await self._exchange(address.unit, encode_read(one)))
        if isinstance(found, Refusal):
            raise Unfit(_reason(found))
        now = int.from_bytes(found.tobytes(), "big")
        return encode_write_registers(address.start, (now & ~mask | value).to_bytes(2, "big"))

    def subscribe(self, plan: Plan, interval_s: float) -> AsyncIterator[SampleBatch]:  # noqa: ARG002  # the port's
        raise NotOffered("Modbus devices send nothing by themselves: poll instead")

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _exchange(self, unit: int, pdu: bytes) -> bytes:
        if self._link is None:
            raise Disconnected("not open", Code.DISCONNECTED)
        with _door("no answer"):
            async with asyncio.timeout(self._connection.timeout_s):
                return await self._link.exchange(unit, pdu)


@contextmanager
def _door(doing: str) -> Iterator[None]:
    """Where the library's exceptions end."""
    try:
        yield
    except TimeoutError as error:
        raise Disconnected(f"{doing}: timed out", Code.TIMEOUT) from error
    except (OSError, ModbusException) as error:
        raise Disconnected(f"{doing}: {error}", Code.DISCONNECTED) from error


def _is_part(address: Address) -> bool:
    """A bit, or a byte, of a register."""
    return address.bit is not None or address.type.value in {"int8", "uint8"}


def _reason(refusal: Refusal) -> str:
    return explain(refusal.code) or f"exception {refusal.code}"


def _fail(sheet: Sheet, block: Block, refusal: Refusal, time_us: int) -> None:
    sheet.fail(block.cells, refusal.quality, refusal.code)
    sheet.time[block.cells] = time_us


class _Link(asyncio.Protocol):
    """Frames over one TCP connection, one request at a time; late answers are dropped."""

    def __init__(self) -> None:
        self._framer = FramerSocket(DecodePDU(is_server=False))
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[bytes] | None = None
        self._expected = (0, 0)
        self._transaction = 0
        self._buffer = b""

    async def exchange(self, unit: int, pdu: bytes) -> bytes:
        """OSError: the connection is gone. Cancelled: the answer will be dropped."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._transaction = self._transaction % 0xFFFF + 1
        self._expected = (unit, self._transaction)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._framer.encode(pdu, unit, self._transaction))
        try:
            return await self._answer
        finally:
            self._answer = None

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            await asyncio.wait([self._closed], timeout=_UNTIL_CLOSED_S)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # narrows; TCP gives no other
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self._fail(ConnectionResetError(str(exc) if exc else "closed by the device"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._take_frames()
        except ModbusException as error:
            self._fail(error)
        if len(self._buffer) > _ADU_BYTES_MAX:  # a whole frame would have been taken
            self._buffer = b""
            self._fail(ConnectionAbortedError("what came is not Modbus"))

    def _take_frames(self) -> None:
        while self._buffer:
            used, unit, transaction, pdu = self._framer.decode(self._buffer)
            if not used:
                return
            self._buffer = self._buffer[used:]
            if self._answer and not self._answer.done() and (unit, transaction) == self._expected:
                self._answer.set_result(pdu)

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)
