"""Real servers of every protocol and the fake, as the contract suite of the device port sees them.

A `Rig` is one machine with a driver for it: started and stopped at one port, its memory set in the
device's own raw form, so that no code of the driver stands on both sides of a comparison.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType as SimType
from pymodbus.simulator import SimData, SimDevice

from protocols import registry
from protocols.driver import Clock, Device, Mode, Plan, TagSpec
from protocols.drivers.modbus.config import ModbusConnection
from protocols.samples import DataType, Value
from tests.support.fake_device import FakeDevice, FakePlc, make_fake_plan

TIMEOUT_S = 0.4


class SystemClock:
    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


@dataclass(frozen=True)
class Case:
    """A tag, the device's own form of its value, and what a row must then hold."""

    name: str
    tag: TagSpec
    raw: Any
    value: Value
    mode: Mode = Mode.CYCLIC


class Rig(Protocol):
    """One machine and its driver."""

    @property
    def name(self) -> str: ...

    @property
    def cases(self) -> Sequence[Case]: ...

    @property
    def missing(self) -> TagSpec:
        """A tag that the machine does not have."""

    @property
    def writable(self) -> Mapping[TagSpec, Value]:
        """Tags and a value to write to each; read back it is equal."""

    @property
    def refused_writes(self) -> Sequence[TagSpec]: ...

    def device(self, clock: Clock) -> Device: ...

    def plan(self, tags: Sequence[TagSpec], mode: Mode = Mode.CYCLIC) -> Plan: ...

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """The machine is switched off: connections end, the port is closed."""

    async def mute(self) -> None:
        """The machine takes connections and never answers."""

    async def put(self, case: Case) -> None: ...

    def requests(self) -> int:
        """Reads that reached the machine so far."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class MuteServer:
    """Takes connections and bytes, answers nothing: a half-open device."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while not reader.at_eof():
            await reader.read(4096)
        writer.close()


def tag(address: str, type_: DataType | None = None, *, path: str = "d.t") -> TagSpec:
    return TagSpec(path, address, type_)


@dataclass
class FakeRig:
    name: str = "fake"
    plc: FakePlc = field(default_factory=FakePlc)
    missing: TagSpec = field(default_factory=lambda: tag("nowhere", DataType.INT16))

    @property
    def cases(self) -> Sequence[Case]:
        values: dict[DataType, Value] = {
            DataType.BOOL: True,
            DataType.INT64: -(2**63),
            DataType.UINT64: 2**64 - 1,
            DataType.FLOAT64: 5e-324,
            DataType.TEXT: "Grüße",
            DataType.BYTES: b"\x00\xff",
            DataType.DATETIME: 1_800_000_000_000_000_001,
        }
        return [
            Case(str(type_), tag(f"p{number}", type_), None, value)
            for number, (type_, value) in enumerate(values.items())
        ]

    @property
    def writable(self) -> Mapping[TagSpec, Value]:
        return {tag("w1", DataType.INT16): -5, tag("w2", DataType.TEXT): "ok"}

    @property
    def refused_writes(self) -> Sequence[TagSpec]:
        return [tag("locked", DataType.INT16)]

    def device(self, clock: Clock) -> Device:
        return FakeDevice(self.plc, clock, timeout_s=TIMEOUT_S)

    def plan(self, tags: Sequence[TagSpec], mode: Mode = Mode.CYCLIC) -> Plan:
        return make_fake_plan(tags, mode)

    async def start(self) -> None:
        self.plc.up, self.plc.mute = True, False
        self.plc.refused["locked"] = 9

    async def stop(self) -> None:
        self.plc.up = False

    async def mute(self) -> None:
        self.plc.up = self.plc.mute = True

    async def put(self, case: Case) -> None:
        assert not isinstance(case.value, list | None)
        self.plc.memory[case.tag.address] = case.value  # type: ignore[assignment]  # scalars only

    def requests(self) -> int:
        return len(self.plc.reads)


_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_PUT = {"coil": 15, "discrete": 2, "holding": 16, "input": 4}


class ModbusRig:
    """pymodbus's server. `raw`: (table, start, registers or bits)."""

    name = "modbus"
    missing = tag("holding:60000:int16")

    def __init__(self) -> None:
        self.port = free_port()
        self.connection = ModbusConnection(host="127.0.0.1", port=self.port, timeout_s=TIMEOUT_S)
        self._server: ModbusTcpServer | None = None
        self._mute = MuteServer()
        self._requests = 0

    @property
    def cases(self) -> Sequence[Case]:
        return modbus_cases()

    @property
    def writable(self) -> Mapping[TagSpec, Value]:
        return {
            tag("coil:900:bool"): True,
            tag("holding:900:int16"): -12_345,
            tag("holding:901:float32?order=CDAB"): 0.15625,
            tag("holding:903:uint64?order=DCBA"): 2**64 - 2,
            tag("holding:907:text[6]"): "ÄB",
            tag("holding:910.5:bool"): True,
            tag("holding:911.h:uint8"): 200,
        }

    @property
    def refused_writes(self) -> Sequence[TagSpec]:
        return [tag("holding:60000:int16"), tag("input:0:int16")]

    def device(self, clock: Clock) -> Device:
        return registry.open_device(self.connection, clock)

    def plan(self, tags: Sequence[TagSpec], mode: Mode = Mode.CYCLIC) -> Plan:
        return registry.make_plan(self.connection, tags, mode)

    async def start(self) -> None:
        await self._mute.stop()
        bits = [SimData(0, count=1_000, values=False, datatype=SimType.BITS)]
        registers = [SimData(0, count=10_000, values=0, datatype=SimType.REGISTERS)]
        device = SimDevice(1, (bits, bits, registers, registers))
        self._server = ModbusTcpServer(
            device, address=("127.0.0.1", self.port), trace_pdu=self._count
        )
        await self._server.serve_forever(background=True)

    def _count(self, sending: bool, pdu: Any) -> Any:  # noqa: FBT001  # pymodbus calls it so
        self._requests += not sending and pdu.function_code in _FUNCTIONS.values()
        return pdu

    async def stop(self) -> None:
        await self._mute.stop()
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus
            self._server = None

    async def mute(self) -> None:
        await self.stop()
        await self._mute.start(self.port)

    async def put(self, case: Case) -> None:
        assert self._server is not None
        table, start, values = case.raw
        await self._server.async_setValues(1, _PUT[table], start, values)

    def requests(self) -> int:
        return self._requests


_ORDERS = {"ABCD": (1, 1), "CDAB": (-1, 1), "BADC": (1, -1), "DCBA": (-1, -1)}


def registers_of(raw: bytes, order: str = "ABCD") -> list[int]:
    """Big-endian bytes as a device of this order keeps them in registers."""
    words, inner = _ORDERS[order]
    pairs = [raw[i : i + 2][::inner] for i in range(0, len(raw), 2)][::words]
    return [int.from_bytes(pair, "big") for pair in pairs]


def modbus_cases() -> list[Case]:
    numbers: list[tuple[str, str, Value]] = [
        ("int16", ">h", -32_768),
        ("uint16", ">H", 65_535),
        ("int32", ">i", -(2**31)),
        ("uint32", ">I", 0xDEADBEEF),
        ("int64", ">q", -1_234_567_890_123_456_789),
        ("uint64", ">Q", 2**64 - 1),
        ("float32", ">f", struct.unpack(">f", bytes.fromhex("7f7fffff"))[0]),
        ("float64", ">d", 5e-324),
    ]
    cases: list[Case] = []
    at = 10
    for order in _ORDERS:
        for name, code, value in numbers:
            registers = registers_of(struct.pack(code, value), order)
            address = tag(f"holding:{at}:{name}?order={order}")
            cases.append(Case(f"{name} {order}", address, ("holding", at, registers), value))
            at += len(registers)
    return cases + _other_modbus_cases()


def _other_modbus_cases() -> list[Case]:
    def case(address: str, raw: tuple[str, int, list[Any]], value: Value, **more: Any) -> Case:
        return Case(address, tag(address, more.pop("type_", None)), raw, value, **more)

    text = registers_of("Grüße".encode().ljust(10, b"\0"))
    return [
        case("input:20:int16", ("input", 20, [0xFFFE]), -2),
        case("coil:7:bool", ("coil", 7, [True]), value=True),
        case("discrete:9:bool", ("discrete", 9, [True]), value=True),
        case("holding:500.3:bool", ("holding", 500, [0b1000]), value=True),
        case("holding:501.15:bool", ("holding", 501, [0x8000]), value=True),
        case("holding:502:int8", ("holding", 502, [0x0080]), -128),
        case("holding:503.h:uint8", ("holding", 503, [0xC801]), 200),
        case("holding:510:text[10]", ("holding", 510, text), "Grüße"),
        case("holding:520:text[4]", ("holding", 520, [0x4100, 0x4200]), b"A\0B"),
        case("holding:522:text[4]", ("holding", 522, [0xFFFE, 0x4142]), b"\xff\xfeAB"),
        case("holding:530:bytes[3]", ("holding", 530, [0x0102, 0x0300]), b"\x01\x02\x03"),
        case(
            "holding:540:int16[3]",
            ("holding", 540, [1, 0xFFFF, 3]),
            [1, -1, 3],
            mode=Mode.ON_DEMAND,
        ),
        case("coil:100:bool[9]", ("coil", 100, [True] * 9), [True] * 9, mode=Mode.MAILBOX),
        case(
            "holding:550.14:bool[4]",
            ("holding", 550, [0x8000, 0x0001]),
            [False, True, True, False],
            mode=Mode.ON_DEMAND,
        ),
        case(
            "holding:600:float32[200]",
            ("holding", 600, registers_of(struct.pack(">200f", *range(200)))),
            [float(i) for i in range(200)],
            mode=Mode.ON_DEMAND,
        ),
        case(
            "holding:1000:text[2][2]",
            ("holding", 1000, registers_of(b"abc\0")),
            ["ab", "c"],
            mode=Mode.ON_DEMAND,
        ),
    ]
