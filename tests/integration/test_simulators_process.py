"""The plant as a process: ports file, hand-shakes over the wire, control socket, clean end."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client as OpcuaClient
from asyncua import ua
from pymodbus.client import AsyncModbusTcpClient
from snap7.client import Client as S7Client
from snap7.type import Area, WordLen

from simulators.config import read_plant_file
from simulators.decoding import Decoder
from simulators.journal import (
    CycleRecord,
    EventRecord,
    ModbusResponse,
    OpcuaResponse,
    Record,
    S7Response,
    WriteRecord,
    read_journal,
)

pytestmark = pytest.mark.integration

EDRIVE = Path("simulators/plants/edrive.yaml")
QUICK = EDRIVE.read_text(encoding="utf-8").replace("speed: 1.0", "speed: 10.0")
MOST_S = 60


@dataclass
class Process:
    """A running plant and its files."""

    child: asyncio.subprocess.Process
    folder: Path
    ports: dict[str, dict[str, Any]]

    async def ask(self, **request: Any) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self.folder / "control")
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            answer = json.loads(await reader.readline())
            assert isinstance(answer, dict)
            return answer
        finally:
            writer.close()

    async def end(self) -> list[Record]:
        """Ends it as a user would; returns the whole journal."""
        self.child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.child.wait(), 20) == 0
        return list(read_journal(self.folder / "journal.jsonl"))


@contextlib.asynccontextmanager
async def started(folder: Path, *more: str) -> AsyncIterator[Process]:
    plant = folder / "plant.yaml"
    plant.write_text(QUICK, encoding="utf-8")
    options = ("--ports-file", "ports.json", "--journal", "journal.jsonl", "--control", "control")
    files = [part if part.startswith("--") else str(folder / part) for part in options]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "threadline", "simulators", "run", str(plant), *files, *more
    )
    try:
        ready = folder / "ports.json"
        await until(lambda: asyncio.to_thread(ready.exists))
        ports = json.loads((folder / "ports.json").read_text(encoding="utf-8"))
        yield Process(child, folder, ports)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once the condition holds; asks again and again, but not for ever."""
    async with asyncio.timeout(MOST_S):
        while not await condition():  # noqa: ASYNC110  # another process cannot set an event here
            await asyncio.sleep(0.05)


async def has_finished(plant: Process, units: int) -> bool:
    return bool((await plant.ask(do="status"))["line"]["finished"] >= units)


async def test_hand_shakes_over_the_wire_drive_the_line(tmp_path: Path) -> None:
    async with started(tmp_path, "--units", "2") as plant:
        finished = asyncio.Event()
        async with contextlib.AsyncExitStack() as clients, asyncio.TaskGroup() as tasks:
            for take in await _takers(plant.ports, clients):
                tasks.create_task(_take_until(finished, take))
            await until(lambda: has_finished(plant, 2))
            finished.set()
        records = await plant.end()
    cycles = [r for r in records if isinstance(r, CycleRecord)]
    stations = [c.station for c in cycles]
    assert {s: stations.count(s) for s in stations} == {
        f"L1/{name}": 1 if name == "F07-LOAD" else 2
        for name in ("ST000", "WIND10", "F07-LOAD", "ROTOR15", "PRESS20", "ST010", "EOL30")
    }
    handed = [r for r in records if isinstance(r, EventRecord) and r.what == "handed_over"]
    assert len(handed) == 4 * 2 + 1
    writes = [r for r in records if isinstance(r, WriteRecord)]
    assert all(w.taken for w in writes)
    assert len(writes) >= len(handed)
    _check_screwing(records, cycles)


def _check_screwing(records: list[Record], cycles: list[CycleRecord]) -> None:
    """What the responses of the mailbox carried is what the cycles say was made."""
    decoder = Decoder(read_plant_file(EDRIVE))
    shown: dict[int, dict[str, Any]] = {}
    for record in records:
        if isinstance(record, ModbusResponse | S7Response | OpcuaResponse):
            values = decoder.values(record)
            if values.get("st010.ready") is True:
                shown[int(str(values["st010.cycle_no"]))] = values
    screwed = {c.count: c for c in cycles if c.station == "L1/ST010"}
    assert set(shown) == set(screwed) == {42, 43}
    for count, cycle in screwed.items():
        assert shown[count]["st010.dmc"] == cycle.item.dmc
        torque = [cycle.values[f"st010.result.torque[{i}]"] for i in range(1, 7)]
        assert shown[count]["st010.result.torque"] == torque


Taker = Callable[[], Awaitable[None]]


async def _takers(
    ports: dict[str, dict[str, Any]], clients: contextlib.AsyncExitStack
) -> list[Taker]:
    """Takes each mailbox through its own protocol, with the libraries' clients."""
    modbus = AsyncModbusTcpClient("127.0.0.1", port=ports["f07"]["port"], timeout=MOST_S)
    await clients.enter_async_context(modbus)
    assert modbus.connected, "entering it says nothing of a failure"
    opcua = await clients.enter_async_context(OpcuaClient(ports["r15"]["url"]))
    index = await opcua.get_namespace_index("urn:plant1:plc15")
    return [
        lambda: _take_reel(modbus),
        lambda: _take_node(opcua, index, "r15"),
        lambda: _take_node(opcua, index, "eol30"),
        _block_taker(ports["st000"]["port"], 1, 4, clients),
        _block_taker(ports["st010"]["port"], 10, 220, clients),
    ]


async def _take_reel(client: AsyncModbusTcpClient) -> None:
    if (await client.read_coils(0, count=1, device_id=2)).bits[0]:
        assert not (await client.write_coil(1, value=True, device_id=2)).isError()


async def _take_node(client: OpcuaClient, index: int, device: str) -> None:
    ready = client.get_node(f"ns={index};s={device}.ready")
    if await ready.read_value():
        true = ua.Variant(Value=True, VariantType=ua.VariantType.Boolean)
        await client.get_node(f"ns={index};s={device}.taken").write_value(true)


def _block_taker(port: int, block: int, size: int, clients: contextlib.AsyncExitStack) -> Taker:
    client = S7Client()
    clients.callback(client.disconnect)

    def take() -> None:
        if not client.get_connected():
            client.connect("127.0.0.1", 0, 1, port)
        if client.db_read(block, 0, size)[0] & 1:
            # Bit 0.1 alone: the rest of the byte belongs to the PLC.
            client.write_area(Area.DB, block, 1, bytearray([1]), word_len=WordLen.Bit)

    return lambda: asyncio.to_thread(take)


async def _take_until(finished: asyncio.Event, take: Taker) -> None:
    """Told, not cancelled: in Python 3.11 `asyncio.wait_for`, which pymodbus awaits, swallows a
    cancellation that meets the answer, and the taker goes on with a client that is closed.
    """
    while not finished.is_set():
        await take()
        await asyncio.sleep(0.05)


async def test_the_control_socket_stops_hangs_and_explains(tmp_path: Path) -> None:
    async with started(tmp_path) as plant:
        port = plant.ports["w10"]["port"]
        assert (await plant.ask(do="stop", device="w10"))["ok"]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert (await plant.ask(do="start", device="plc10"))["ok"]
        assert (await plant.ask(do="hang", device="w10"))["ok"]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        assert (await plant.ask(do="resume", device="w10"))["ok"]
        status = await plant.ask(do="status")
        assert status["ok"]
        assert status["line"]["born"] <= 1, "nobody takes the first hand-over"
        for wrong in ({"do": "stop", "device": "nope"}, {"do": "fly"}, {}):
            answer = await plant.ask(**wrong)
            assert not answer["ok"]
            assert answer["error"]
        records = await plant.end()
    told = [r.what for r in records if isinstance(r, EventRecord)]
    assert [what for what in told if what in {"stop", "start", "hang", "resume"}] == [
        "stop",
        "start",
        "hang",
        "resume",
    ]


async def test_a_wrong_plant_file_ends_with_every_mistake(tmp_path: Path) -> None:
    plant = tmp_path / "plant.yaml"
    plant.write_text("site: X Y\nline: L1\ncontrollers: {}\ndevices: {}\nextra: 1\n", "utf-8")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "threadline", "simulators", "run", str(plant)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await child.communicate()
    assert child.returncode == 2
    assert b"site" in errors
    assert b"extra" in errors


async def test_a_taken_port_is_said_and_ends_with_2(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        await stack.enter_async_context(server)
        port = server.sockets[0].getsockname()[1]
        plant = tmp_path / "plant.yaml"
        plant.write_text(
            f"site: p\nline: L\ncontrollers: {{c: {{protocol: s7, port: {port}}}}}\n"
            "devices: {d: {controller: c, block: 1, analog: 3}}\n",
            "utf-8",
        )
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "threadline", "simulators", "run", str(plant)),
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await child.communicate()
    assert child.returncode == 2
    assert str(port).encode() in errors
    assert b"Traceback" not in errors
