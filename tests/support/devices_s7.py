"""python-snap7's server as a rig. `raw`: (data block, first byte, bytes)."""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from snap7.s7protocol import S7Function
from snap7.server import Server
from snap7.type import SrvArea

from protocols import registry
from protocols.driver import Clock, Device, Mode, Plan, TagSpec
from protocols.drivers.s7.config import S7Connection
from protocols.samples import DataType, Value
from tests.support.devices import TIMEOUT_S, Case, MuteServer, free_port, tag

BLOCK_BYTES = 4_000
SCRATCH_BLOCK = 9


class CountingServer(Server):
    """Counts read requests; when it stops, its clients' sockets end with it."""

    def __init__(self) -> None:
        super().__init__(log=False)
        self.reads = 0
        self.sockets: list[Any] = []

    def _handle_client(self, client_socket: Any, address: Any) -> None:
        self.sockets.append(client_socket)
        super()._handle_client(client_socket, address)

    def _handle_read_area(self, request: Any, client_address: Any) -> bytes:
        self.reads += request["parameters"].get("function_code") == S7Function.READ_AREA
        return super()._handle_read_area(request, client_address)

    def stop(self) -> int:
        for client in self.sockets:
            client.close()
        self.sockets.clear()
        return super().stop()


class S7Rig:
    name = "s7"
    missing = tag("DB77.DBW0:INT")

    def __init__(self) -> None:
        self.port = free_port()
        self.connection = S7Connection(host="127.0.0.1", port=self.port, timeout_s=TIMEOUT_S)
        self._server: CountingServer | None = None
        self._mute = MuteServer()
        self.areas: dict[tuple[SrvArea, int], bytearray] = {
            (SrvArea.DB, 1): bytearray(BLOCK_BYTES),
            (SrvArea.DB, SCRATCH_BLOCK): bytearray(1_000),
            (SrvArea.MK, 0): bytearray(64),
            (SrvArea.PE, 0): bytearray(64),
            (SrvArea.PA, 0): bytearray(64),
        }

    @property
    def cases(self) -> Sequence[Case]:
        return s7_cases()

    @property
    def writable(self) -> Mapping[TagSpec, Value]:
        moment = 1_772_323_199_123_456_789
        return {
            tag("DB9.DBW0:INT"): -12_345,
            tag("DB9.DBD4:REAL"): 0.15625,
            tag("DB9.DBB8:ULINT"): 2**64 - 1,
            tag("DB9.DBB16:STRING[254]"): "Ä" * 254,
            tag("DB9.DBB300:WSTRING[20]"): "Grüße",
            tag("DB9.DBB350:DTL"): moment,
            tag("DB9.DBB370:DT"): moment // 1_000_000 * 1_000_000,
            tag("DB9.DBW380:S5TIME"): 9_990_000_000_000,
            tag("DB9.DBD384:TIME"): -90_061_001_000_000,
            tag("DB9.DBD388:TOD"): 86_399_999_000_000,
            tag("DB9.DBW392:DATE"): 20_000 * 86_400_000_000_000,
            tag("DB9.DBB394:CHAR[4]"): "ab",
            tag("DB9.DBB400:BYTE[3]"): b"\x00\x01\xff",
        }

    @property
    def refused_writes(self) -> Sequence[TagSpec]:
        return [tag("DB77.DBW0:INT"), tag("DB9.DBW5000:INT")]

    def device(self, clock: Clock) -> Device:
        return registry.open_device(self.connection, clock)

    def plan(self, tags: Sequence[TagSpec], mode: Mode = Mode.CYCLIC) -> Plan:
        return registry.make_plan(self.connection, tags, mode)

    async def start(self) -> None:
        await self._mute.stop()
        self._server = CountingServer()
        for (area, number), memory in self.areas.items():
            self._server.register_area(area, number, memory)
        await asyncio.to_thread(self._server.start_to, "127.0.0.1", self.port)

    async def stop(self) -> None:
        await self._mute.stop()
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
            self._server = None

    async def mute(self) -> None:
        await self.stop()
        await self._mute.start(self.port)

    async def put(self, case: Case) -> None:
        area, number, start, raw = case.raw
        self.areas[area, number][start : start + len(raw)] = raw

    def requests(self) -> int:
        return self._server.reads if self._server else 0


def s7_cases() -> list[Case]:
    moment = 1_772_323_199_123_456_789  # 2026-02-28T23:59:59.123456789
    plain: list[tuple[str, str, Value]] = [
        ("BYTE", "ff", 255),
        ("USINT", "c8", 200),
        ("SINT", "80", -128),
        ("CHAR", "41", "A"),
        ("WCHAR", "20ac", "€"),
        ("WORD", "ffff", 65_535),
        ("UINT", "0102", 258),
        ("INT", "8000", -32_768),
        ("DWORD", "deadbeef", 0xDEADBEEF),
        ("UDINT", "00000001", 1),
        ("DINT", "80000000", -(2**31)),
        ("REAL", "7f7fffff", struct.unpack(">f", bytes.fromhex("7f7fffff"))[0]),
        ("LWORD", "ffffffffffffffff", 2**64 - 1),
        ("ULINT", "8000000000000000", 2**63),
        ("LINT", "8000000000000000", -(2**63)),
        ("LREAL", "0000000000000001", 5e-324),
        ("S5TIME", "3999", 9_990_000_000_000),
        ("S5TIME", "0001", 10_000_000),
        ("TIME", "fa9d3d8b", -90_358_389_000_000),
        ("LTIME", "ffffffffffffffff", -1),
        ("DATE", "ffff", 72_840 * 86_400_000_000_000),
        ("TOD", "05265bff", 86_399_999_000_000),
        ("LTOD", "00004e94914effff", 86_399_999_999_999),
        ("DT", "2602282359591237", moment // 1_000_000 * 1_000_000),
        ("DT", "9001010000000002", 631_152_000_000_000_000),
        ("LDT", f"{moment:016x}", moment),
        ("DTL", "07ea021c07173b3b075bcd15", moment),
        ("STRING[10]", "0a054772fcdf65" + "20" * 5, "Grüße"),
        ("STRING[4]", "040241004242", b"A\0"),
        ("STRING[4]", "0402ff414242", "ÿA"),
        ("WSTRING[6]", "00060003" + "4100" * 0 + "0041" + "00e4" + "d83d" + "0000" * 3, None),
        ("BYTE[3]", "00ff01", b"\x00\xff\x01"),
        ("CHAR[6]", "616263000000", "abc"),
    ]
    letters = {1: "B", 2: "W", 4: "D"}
    cases: list[Case] = []
    at = 0
    for kind, text, value in plain:
        raw = bytes.fromhex(text)
        expected: Value = b"\x00A\x00\xe4\xd8=" if value is None else value
        letter = "B" if "[" in kind else letters.get(len(raw), "B")
        address = f"DB1.DB{letter}{at}:{kind}"
        cases.append(Case(f"{kind} {text}", tag(address), (SrvArea.DB, 1, at, raw), expected))
        at += len(raw) + len(raw) % 2
    return cases + _other_cases()


def _other_cases() -> list[Case]:
    db, mk = SrvArea.DB, SrvArea.MK
    reals = struct.pack(">1000f", *range(1_000))
    int_case = Case("int32", tag("DB1.DBD700:DINT"), (db, 1, 700, b"\0\0\0\x05"), 5)
    return [
        int_case,
        Case("bit", tag("DB1.DBX710.3:BOOL"), (db, 1, 710, b"\x08"), value=True),
        Case("not", tag("DB1.DBX710.4:BOOL"), (db, 1, 710, b"\x08"), value=False),
        Case("marker", tag("M10.2"), (mk, 0, 10, b"\x04"), value=True),
        Case("input", tag("IW4"), (SrvArea.PE, 0, 4, b"\x12\x34"), 0x1234),
        Case("output", tag("QB1"), (SrvArea.PA, 0, 1, b"\x07"), 7),
        Case("typed", tag("DB1.DBD712", DataType.FLOAT32), (db, 1, 712, b"\x3f\x80\0\0"), 1.0),
        Case(
            "reals",
            tag("DB9.DBD0:REAL[200]"),
            (db, 9, 0, reals[:800]),
            [float(i) for i in range(200)],
            Mode.ON_DEMAND,
        ),
        Case(
            "bits",
            tag("DB1.DBX720.6:BOOL[5]"),
            (db, 1, 720, b"\x80\x03"),
            [False, True, True, True, False],
            Mode.MAILBOX,
        ),
        Case(
            "strings",
            tag("DB1.DBB730:STRING[3][2]"),
            (db, 1, 730, b"\x03\x01a\0\0\0\x03\x03abc"),
            ["a", "abc"],
            Mode.ON_DEMAND,
        ),
        Case(
            "curve",
            tag("DB1.DBD740:REAL[800]"),
            (db, 1, 740, reals[:3_200]),
            [float(i) for i in range(800)],
            Mode.MAILBOX,
        ),
    ]
