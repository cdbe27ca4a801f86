"""asyncua's server as a rig. It runs in its own thread and loop, once for all tests of a run: its
address space takes seconds to build. Switching it off ends its sockets and keeps its nodes.
"""

import asyncio
import math
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from asyncua import Server, ua
from asyncua.common.callback import CallbackType
from asyncua.server.binary_server_asyncio import BinaryServer

from protocols import registry
from protocols.driver import Clock, Device, Mode, Plan, TagSpec
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.samples import DataType, Value
from tests.support.devices import TIMEOUT_S, Case, MuteServer, free_port, tag

NAMESPACE = "urn:test:plc"
T = TypeVar("T")


class OpcuaMachine:
    """The server's thread. Every method may be called from any other thread."""

    def __init__(self, *namespaces: str) -> None:
        self.port = free_port()
        self.reads = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server: Any = self.call(self._build(namespaces))

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _build(self, namespaces: Sequence[str]) -> Server:
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for uri in (*namespaces, NAMESPACE):
            await server.register_namespace(uri)
        server.subscribe_server_callback(CallbackType.PreRead, self._count)
        await server.start()
        return server

    def _count(self, *_: Any) -> None:
        self.reads += 1

    def start(self) -> None:
        self.call(self._start())

    async def _start(self) -> None:
        if self.server.bserver is None:
            made = BinaryServer(self.server.iserver, "127.0.0.1", self.port, self.server.limits)
            made.set_policies(self.server._policies)
            await made.start()
            self.server.bserver = made

    def stop(self) -> None:
        self.call(self._stop())

    async def _stop(self) -> None:
        running, self.server.bserver = self.server.bserver, None
        if running is not None:
            for transport in list(self.server.iserver.asyncio_transports):
                transport.abort()
            await running.stop()

    def put(self, name: str, value: ua.DataValue) -> None:
        self.call(self._put(name, value))

    async def _put(self, name: str, value: ua.DataValue) -> None:
        index = await self.server.get_namespace_index(NAMESPACE)
        node_id = ua.NodeId(name, index)  # type: ignore[arg-type]  # the library takes plain text
        node = self.server.get_node(node_id)
        with suppress(ua.UaError):  # the first time it is not there
            await self.server.delete_nodes([node])
        made = await self.server.nodes.objects.add_variable(
            node_id, ua.QualifiedName(name, index), value.Value
        )
        await made.set_writable()
        await self.server.iserver.isession.write(_write(made.nodeid, value))


def _write(node_id: ua.NodeId, value: ua.DataValue) -> ua.WriteParameters:
    one = ua.WriteValue()
    one.NodeId, one.AttributeId, one.Value = node_id, ua.AttributeIds.Value, value
    return ua.WriteParameters([one])


@cache
def machine() -> OpcuaMachine:
    return OpcuaMachine()


class OpcuaRig:
    """`raw`: (name, variant)."""

    name = "opcua"

    def __init__(self) -> None:
        self._machine = machine()
        self._mute = MuteServer()
        self.connection = OpcuaConnection(
            url=f"opc.tcp://127.0.0.1:{self._machine.port}/", timeout_s=TIMEOUT_S
        )

    @property
    def missing(self) -> TagSpec:
        return node("nowhere", DataType.INT16)

    @property
    def cases(self) -> Sequence[Case]:
        return opcua_cases()

    @property
    def writable(self) -> Mapping[TagSpec, Value]:
        return {
            node("w_int16", DataType.INT16): -12_345,
            node("w_bool", DataType.BOOL): True,
            node("w_text", DataType.TEXT): "ÄB",
            node("w_double", DataType.FLOAT64): 5e-324,
            node("w_time", DataType.DATETIME): 1_772_323_199_123_456_000,
            node("w_bytes", DataType.BYTES): b"\0\1",
        }

    @property
    def refused_writes(self) -> Sequence[TagSpec]:
        return [node("nowhere", DataType.INT16), tag("i=2258", DataType.INT16)]

    def device(self, clock: Clock) -> Device:
        return registry.open_device(self.connection, clock)

    def plan(self, tags: Sequence[TagSpec], mode: Mode = Mode.CYCLIC) -> Plan:
        return registry.make_plan(self.connection, tags, mode)

    async def start(self) -> None:
        await self._mute.stop()
        self._machine.start()
        for spec in self.writable:
            self._machine.put(_name(spec), ua.DataValue(_zero_of(spec)))

    async def stop(self) -> None:
        await self._mute.stop()
        self._machine.stop()

    async def mute(self) -> None:
        await self.stop()
        await self._mute.start(self._machine.port)

    async def put(self, case: Case) -> None:
        name, variant = case.raw
        self._machine.put(name, ua.DataValue(variant))

    def requests(self) -> int:
        return self._machine.reads


def node(name: str, type_: DataType) -> TagSpec:
    return tag(f"nsu={NAMESPACE};s={name}", type_)


def _name(spec: TagSpec) -> str:
    return spec.address.rpartition("=")[2]


def _zero_of(spec: TagSpec) -> ua.Variant:
    assert spec.type is not None
    zeros: dict[DataType, tuple[Any, ua.VariantType]] = {
        DataType.INT16: (0, ua.VariantType.Int16),
        DataType.BOOL: (False, ua.VariantType.Boolean),
        DataType.TEXT: ("", ua.VariantType.String),
        DataType.FLOAT64: (0.0, ua.VariantType.Double),
        DataType.DATETIME: (datetime(2000, 1, 1, tzinfo=UTC), ua.VariantType.DateTime),
        DataType.BYTES: (b"", ua.VariantType.ByteString),
    }
    return ua.Variant(*zeros[spec.type])


MOMENT = datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=UTC)
MOMENT_NS = 1_772_323_199_123_456_000


def opcua_cases() -> list[Case]:
    kinds = ua.VariantType
    scalars: list[tuple[str, DataType, ua.VariantType, Any, Value]] = [
        ("bool", DataType.BOOL, kinds.Boolean, True, True),
        ("int8", DataType.INT8, kinds.SByte, -128, -128),
        ("uint8", DataType.UINT8, kinds.Byte, 255, 255),
        ("int16", DataType.INT16, kinds.Int16, -32_768, -32_768),
        ("uint16", DataType.UINT16, kinds.UInt16, 65_535, 65_535),
        ("int32", DataType.INT32, kinds.Int32, -(2**31), -(2**31)),
        ("uint32", DataType.UINT32, kinds.UInt32, 2**32 - 1, 2**32 - 1),
        ("int64", DataType.INT64, kinds.Int64, -(2**63), -(2**63)),
        ("uint64", DataType.UINT64, kinds.UInt64, 2**64 - 1, 2**64 - 1),
        ("float32", DataType.FLOAT32, kinds.Float, 0.15625, 0.15625),
        ("float64", DataType.FLOAT64, kinds.Double, 5e-324, 5e-324),
        ("inf", DataType.FLOAT64, kinds.Double, -math.inf, -math.inf),
        ("text", DataType.TEXT, kinds.String, 'Grüße "12" µm\n', 'Grüße "12" µm\n'),
        ("nul", DataType.TEXT, kinds.String, "A\0B", b"A\0B"),
        ("local", DataType.TEXT, kinds.LocalizedText, ua.LocalizedText("grün", "de"), "grün"),
        ("bytes", DataType.BYTES, kinds.ByteString, b"\0\xff", b"\0\xff"),
        ("datetime", DataType.DATETIME, kinds.DateTime, MOMENT, MOMENT_NS),
        ("duration", DataType.DURATION, kinds.Double, -1.5, -1_500_000),
    ]
    cases = [
        Case(f"{name}", node(name, type_), (name, ua.Variant(raw, kind)), value)
        for name, type_, kind, raw, value in scalars
    ]
    return cases + _array_cases()


def _array_cases() -> list[Case]:
    kinds = ua.VariantType
    arrays: list[tuple[str, DataType, ua.VariantType, list[Any]]] = [
        ("bools", DataType.BOOLS, kinds.Boolean, [True, False, True]),
        ("int16s", DataType.INT16S, kinds.Int16, [-1, 0, 1]),
        ("uint64s", DataType.UINT64S, kinds.UInt64, [0, 2**64 - 1]),
        ("float32s", DataType.FLOAT32S, kinds.Float, [0.5] * 4_000),
        ("texts", DataType.TEXTS, kinds.String, ["a", "", "ü"]),
        ("empty", DataType.FLOAT64S, kinds.Double, []),
    ]
    whole = [
        Case(name, node(name, type_), (name, _array(kind, values)), values, Mode.ON_DEMAND)
        for name, type_, kind, values in arrays
    ]
    part = tag(f"range=1:2;nsu={NAMESPACE};s=part", DataType.INT32S)
    one = tag(f"range=2;nsu={NAMESPACE};s=one", DataType.INT32)
    values = _array(kinds.Int32, [10, 11, 12, 13])
    return [
        *whole,
        Case("part", part, ("part", values), [11, 12], Mode.MAILBOX),
        Case("one", one, ("one", values), 12),
    ]


def _array(kind: ua.VariantType, values: list[Any]) -> ua.Variant:
    return ua.Variant(values, kind, is_array=True)
