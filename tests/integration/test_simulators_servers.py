"""Real clients read what the journal says they were sent, byte for byte."""

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from asyncua import Client as OpcuaClient
from asyncua import ua
from pymodbus.client import AsyncModbusTcpClient
from snap7.client import Client as S7Client
from snap7.type import Area

from simulators.config import read_plant_file
from simulators.datablocks import BlockImage
from simulators.decoding import Decoder
from simulators.journal import (
    ModbusResponse,
    OpcuaResponse,
    Record,
    S7Response,
    WriteRecord,
    read_journal,
)
from simulators.plant import Plant
from simulators.registers import RegisterImage
from simulators.servers import Served
from simulators.tags import Kind
from simulators.typed import typed_tags

pytestmark = pytest.mark.integration

Image = TypeVar("Image", RegisterImage, BlockImage)
TYPES = Path("simulators/plants/types.yaml")


@dataclass
class Running:
    plant: Plant
    file: Path

    @property
    def ports(self) -> dict[str, dict[str, Any]]:
        return self.plant.ports

    def image(self, kind: type[Image]) -> Image:
        (image,) = self.plant.images.values()
        assert isinstance(image, kind)
        return image

    def records(self) -> list[Record]:
        self.plant.journal.flush()
        return list(read_journal(self.file))


@pytest.fixture
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A plant with the one controller that the test is called after."""
    protocol = request.node.name.split("_")[1]
    config = read_plant_file(TYPES)
    only = {k: v for k, v in config.devices.items() if v.controller == protocol}
    plant = config.model_copy(
        update={"controllers": {protocol: config.controllers[protocol]}, "devices": only}
    )
    file = tmp_path / "journal.jsonl"
    with file.open("w", encoding="utf-8") as sink:
        async with Plant(plant, journal_sink=sink) as running_plant:
            yield Running(running_plant, file)


async def test_modbus_client_reads_what_the_journal_says(running: Running) -> None:
    async with AsyncModbusTcpClient("127.0.0.1", port=running.ports["m"]["port"]) as client:
        words = [
            (await client.read_holding_registers(start, count=50)).registers
            for start in (1000, 1060, 4000, 4050)
        ]
        bits = [
            (await client.read_coils(1000, count=20)).bits[:20],
            (await client.read_discrete_inputs(4000, count=1)).bits[:1],
        ]
        words.append((await client.read_input_registers(4000, count=2)).registers)
    answers = [r for r in running.records() if isinstance(r, ModbusResponse)]
    of_words = [r for r in answers if r.function in {3, 4}]
    assert [struct.pack(f">{len(w)}H", *w) for w in words] == [r.raw for r in of_words]
    of_bits = [r for r in answers if r.function in {1, 2}]
    sent_bits = [[r.raw[i // 8] >> i % 8 & 1 == 1 for i in range(r.count)] for r in of_bits]
    assert sent_bits == bits
    assert [r.request for r in answers] == list(range(1, 8))


async def test_modbus_answers_pipelined_requests_in_order(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.ports["m"]["port"])
    requests = [struct.pack(">HHHBBHH", n, 0, 6, 1, 3, 1000 + n, 2) for n in range(30)]
    writer.write(b"".join(requests))
    answers = [await reader.readexactly(13) for _ in requests]
    writer.close()
    await writer.wait_closed()
    assert [struct.unpack(">H", a[:2])[0] for a in answers] == list(range(30))
    sent = [r.raw for r in running.records() if isinstance(r, ModbusResponse)]
    assert [a[9:] for a in answers] == sent


async def test_modbus_says_what_it_cannot_answer(running: Running) -> None:
    async with AsyncModbusTcpClient("127.0.0.1", port=running.ports["m"]["port"]) as client:
        assert (await client.read_holding_registers(60_000, count=1)).exception_code == 2
        assert (await client.read_holding_registers(0, count=1, device_id=9)).exception_code == 11
        assert (await client.write_register(4000, 1)).exception_code == 2
    assert [w.taken for w in running.records() if isinstance(w, WriteRecord)] == [False]


async def test_s7_client_reads_what_the_journal_says(running: Running) -> None:
    def read() -> list[bytes]:
        client = S7Client()
        client.connect("127.0.0.1", 0, 1, running.ports["s"]["port"])
        try:
            found = [bytes(client.db_read(2, 0, 600)), bytes(client.db_read(3, 0, 64))]
            return [*found, bytes(client.read_area(Area.DB, 3, 4, 6))]
        finally:
            client.disconnect()

    found = await asyncio.to_thread(read)
    answers = [r for r in running.records() if isinstance(r, S7Response)]
    sent = b"".join(item.raw for answer in answers for item in answer.items)
    assert b"".join(found) == sent
    assert len(answers) > 3, "600 bytes take two answers of 480"


async def test_s7_answers_several_items_of_one_snapshot(running: Running) -> None:
    def read() -> tuple[int, list[Any]]:
        client = S7Client()
        client.connect("127.0.0.1", 0, 1, running.ports["s"]["port"])
        items = [
            {"area": Area.DB, "db_number": 2, "start": 0, "size": 7},
            {"area": Area.DB, "db_number": 3, "start": 2, "size": 4},
        ]
        try:
            return client.read_multi_vars(items)
        finally:
            client.disconnect()

    code, found = await asyncio.to_thread(read)
    assert code == 0
    answers = [r for r in running.records() if isinstance(r, S7Response)]
    assert [item.raw for answer in answers for item in answer.items] == [bytes(f) for f in found]


async def test_opcua_client_reads_what_the_journal_says(running: Running) -> None:
    image = running.plant.images["o"]
    paths = [f"o.{name}" for name in image.slots]
    async with OpcuaClient(running.ports["o"]["url"]) as client:
        index = await client.get_namespace_index("urn:plant1:types")
        ids = [_node_id(path, index) for path in paths]
        parameters = ua.ReadParameters()
        parameters.NodesToRead = [_value_id(node) for node in ids]
        for _ in range(2):
            await client.uaclient.read(parameters)
        found = await client.uaclient.read(parameters)
        browsed = await client.nodes.objects.get_child([f"{index}:o"])
        assert len(await browsed.get_children()) == len(paths)
    answers = [r for r in running.records() if isinstance(r, OpcuaResponse)]
    assert len(answers) == 3
    last = answers[-1]
    decoded = Decoder(running.plant.config).values(last)
    for path, value in zip(paths, found, strict=True):
        tag = image.slots[path.removeprefix("o.")].tag
        assert value.StatusCode is not None
        assert value.StatusCode.value == last.statuses.get(path, 0), path
        if value.StatusCode.is_bad():
            assert decoded[path] is None
        elif tag.kind is not Kind.DATETIME:
            assert value.Value is not None
            assert _same(value.Value.Value, decoded[path]), path
        assert value.SourceTimestamp is not None


def _node_id(path: str, index: int) -> ua.NodeId:
    return ua.NodeId(path, index)  # type: ignore[arg-type]  # the library takes plain ones


def _value_id(node: ua.NodeId) -> ua.ReadValueId:
    value_id = ua.ReadValueId()
    value_id.NodeId = node
    value_id.AttributeId = ua.AttributeIds.Value
    return value_id


def _same(found: object, sent: object) -> bool:
    if isinstance(found, float) and isinstance(sent, float) and math.isnan(found):
        return math.isnan(sent)
    return found == sent


@pytest.mark.slow
async def test_opcua_keeps_a_session_that_only_reads(running: Running) -> None:
    """The library looks for idle sessions by requests that pass through it; ours do not."""
    client = OpcuaClient(running.ports["o"]["url"])
    client.session_timeout = 5_000  # the shortest that the server grants, in ms
    async with client:
        index = await client.get_namespace_index("urn:plant1:types")
        node = client.get_node(_node_id("o.types.uint8", index))
        until_s = asyncio.get_running_loop().time() + 7.5
        while asyncio.get_running_loop().time() < until_s:
            await node.read_value()
            await asyncio.sleep(0.25)


async def test_opcua_refuses_what_it_does_not_offer(running: Running) -> None:
    async with OpcuaClient(running.ports["o"]["url"]) as client:
        index = await client.get_namespace_index("urn:plant1:types")
        node = client.get_node(_node_id("o.types.int32", index))
        with pytest.raises(ua.uaerrors.BadNotWritable):
            await node.write_value(ua.Variant(1, ua.VariantType.Int32))
        written = client.get_node(_node_id("o.types.written", index))
        with pytest.raises(ua.uaerrors.BadTypeMismatch):
            await written.write_value(ua.Variant(1, ua.VariantType.Int16))
        await written.write_value(ua.Variant(-7, ua.VariantType.Int32))
        assert await written.read_value() == -7
        with pytest.raises(ua.uaerrors.BadServiceUnsupported):
            await client.create_subscription(100, None)
        missing = client.get_node(_node_id("o.nothing", index))
        with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
            await missing.read_value()
    writes = [r for r in running.records() if isinstance(r, WriteRecord)]
    assert [(w.values, w.taken) for w in writes] == [
        ({"o.types.int32": 1}, False),
        ({"o.types.written": 1}, False),
        ({"o.types.written": -7}, True),
    ]


async def test_modbus_types_decode_from_the_journal(running: Running) -> None:
    async with AsyncModbusTcpClient("127.0.0.1", port=running.ports["m"]["port"]) as client:
        image = running.image(RegisterImage)
        await client.read_holding_registers(4000, count=125)
        await client.read_holding_registers(4110, count=image.size("holding") - 4110)
        await client.read_coils(4000, count=image.size("coil") - 4000)
        await client.read_discrete_inputs(4000, count=1)
        await client.read_input_registers(4000, count=2)
    assert _undecoded(running, "m", "modbus") == []


async def test_s7_types_decode_from_the_journal(running: Running) -> None:
    def read() -> None:
        client = S7Client()
        client.connect("127.0.0.1", 0, 1, running.ports["s"]["port"])
        client.db_read(3, 0, len(running.image(BlockImage).blocks[3]))
        client.disconnect()

    await asyncio.to_thread(read)
    assert _undecoded(running, "s", "s7") == []


def _undecoded(running: Running, device: str, protocol: str) -> list[str]:
    decoder = Decoder(running.plant.config)
    found: dict[str, Any] = {}
    for record in running.records():
        if isinstance(record, ModbusResponse | S7Response):
            found |= decoder.values(record)
    image = running.plant.images[device]
    return [
        tag.name
        for tag, _ in typed_tags(protocol)
        if found.get(f"{device}.{tag.name}") != image.get(tag.name)
    ]


async def test_modbus_hung_accepts_and_is_silent_until_resumed(running: Running) -> None:
    server = running.plant.servers["modbus"]
    port = running.ports["m"]["port"]
    server.hang()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 1000, 2))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    server.resume()
    assert await reader.read(1) == b"", "what it left unanswered is dropped"
    writer.close()
    async with AsyncModbusTcpClient("127.0.0.1", port=port) as client:
        assert not (await client.read_holding_registers(1000, count=2)).isError()


async def test_modbus_stopped_refuses_and_comes_back_on_its_port(running: Running) -> None:
    await _stop_and_start(running.plant.servers["modbus"])


async def test_s7_stopped_refuses_and_comes_back_on_its_port(running: Running) -> None:
    await _stop_and_start(running.plant.servers["s7"])


async def test_opcua_stopped_refuses_and_comes_back_on_its_port(running: Running) -> None:
    await _stop_and_start(running.plant.servers["opcua"])


async def test_opcua_comes_back_with_its_namespace_moved(running: Running) -> None:
    url, server = running.ports["o"]["url"], running.plant.servers["opcua"]
    async with OpcuaClient(url) as client:
        before = await client.get_namespace_index("urn:plant1:types")
    await server.restart_with_moved_namespace()
    async with OpcuaClient(url) as client:
        after = await client.get_namespace_index("urn:plant1:types")
        assert after == before + 1
        assert await client.get_node(_node_id("o.types.uint8", after)).read_value() == 200
        with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
            await client.get_node(_node_id("o.types.uint8", before)).read_value()


async def test_opcua_takes_no_more_nodes_than_it_says(running: Running) -> None:
    async with OpcuaClient(running.ports["o"]["url"]) as client:
        index = await client.get_namespace_index("urn:plant1:types")
        limit = client.get_node(
            ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead
        )
        most = await limit.read_value()
        node = client.get_node(_node_id("o.types.uint8", index))
        assert len(await client.read_values([node] * most)) == most
        with pytest.raises(ua.uaerrors.BadTooManyOperations):
            await client.read_values([node] * (most + 1))


async def _stop_and_start(server: Served) -> None:
    port = server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await server.stop()
    with pytest.raises(ConnectionError):
        _connect(port)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read(1) == b""
    writer.close()
    await server.start()
    assert server.port == port
    _connect(port)


def _connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
