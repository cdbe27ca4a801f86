"""The drivers against the simulated plant: every type, faults of a running device, what is written.

The plant shares no code with the drivers, keeps its own journal and can hang, restart and move.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from protocols import registry
from protocols.driver import Device, Mode, Plan, TagSpec, Write
from protocols.errors import Disconnected
from protocols.samples import Code, DataType, Quality, Value
from simulators.addresses import AddressRow, list_addresses
from simulators.config import read_plant_file
from simulators.plant import Plant
from simulators.servers import Served
from simulators.tags import Kind
from simulators.typed import typed_tags
from tests.support.devices import SystemClock

TIMEOUT_S = 0.5
CLOCK = SystemClock()
CONNECTION: TypeAdapter[registry.AnyConnection] = TypeAdapter(registry.AnyConnection)
DEVICES = {"modbus": "m", "s7": "s", "opcua": "o"}
MS_NS = 1_000_000


@dataclass
class Running:
    protocol: str
    plant: Plant
    connection: registry.AnyConnection
    device: Device

    @property
    def server(self) -> Served:
        return self.plant.servers[self.protocol]

    @property
    def rows(self) -> list[AddressRow]:
        return list_addresses(self.plant.config)

    def plan(self, rows: Sequence[AddressRow], mode: Mode) -> Plan:
        return registry.make_plan(self.connection, [spec_of(row) for row in rows], mode)

    def row(self, name: str) -> AddressRow:
        (row,) = (r for r in self.rows if r.path == f"{DEVICES[self.protocol]}.{name}")
        return row

    async def value(self, name: str) -> Value:
        row = self.row(name)
        return (await self.device.read(self.plan([row], Mode.ON_DEMAND))).value(0)


def spec_of(row: AddressRow) -> TagSpec:
    return TagSpec(row.path, row.address, DataType(f"{row.type}[]" if row.array else row.type))


@pytest.fixture(params=list(DEVICES))
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    protocol = request.param
    config = read_plant_file(Path("simulators/plants/types.yaml"))
    device = DEVICES[protocol]
    config = config.model_copy(
        update={
            "controllers": {protocol: config.controllers[protocol]},
            "devices": {device: config.devices[device]},
        }
    )
    async with Plant(config) as plant:
        connection = CONNECTION.validate_python(options(protocol, plant.ports[device]))
        opened = registry.open_device(connection, CLOCK)
        await opened.open()
        yield Running(protocol, plant, connection, opened)
        await opened.close()


def options(protocol: str, at: dict[str, Any]) -> dict[str, Any]:
    where: dict[str, Any] = {"host": "127.0.0.1", "port": at["port"]}
    if protocol == "opcua":
        where = {"url": f"opc.tcp://127.0.0.1:{at['port']}/"}
    return {"protocol": protocol, "timeout_s": TIMEOUT_S, **where}


async def test_every_type_of_the_plant(running: Running) -> None:
    expected = {
        f"{DEVICES[running.protocol]}.{tag.name}": (tag, value)
        for tag, value in typed_tags(running.protocol)
    }
    typed = [row for row in running.rows if row.path in expected]
    batch = await running.device.read(running.plan(typed, Mode.ON_DEMAND))
    wrong = []
    for sample in batch.rows():
        tag, value = expected[sample.path]
        found = np.array(sample.value).tolist() if tag.count else sample.value
        if sample.path.endswith(".bad"):
            assert (found, sample.quality) == (None, 0x808C0000)
        elif sample.path.endswith(".uncertain"):
            assert (found, sample.quality) == (2.0, 0x40930000)
        elif repr(found) != repr(as_stored(running.protocol, tag.kind, tag.form, value)):
            wrong.append((sample.path, found, value, hex(sample.quality)))
    assert not wrong
    assert len(batch) == len(typed) > 15


def as_stored(protocol: str, kind: Kind, form: str, value: Any) -> Any:
    """What a type cannot say is cut by the PLC, and a float32 is one."""
    if protocol == "s7" and form in {"DT", "TOD", "TIME"}:
        return value // MS_NS * MS_NS
    return np.array(value, np.float32).tolist() if kind is Kind.FLOAT32 else value


async def test_arrays_are_polled_as_elements(running: Running) -> None:
    row = running.row("types.int16_list")
    address = row.address
    if running.protocol == "opcua" and not address.startswith("range"):
        address = f"range=0:{row.array - 1};{address}"
    spec = TagSpec(row.path, address, DataType.INT16S)
    plan = registry.make_plan(running.connection, [spec], Mode.CYCLIC)
    batch = await running.device.read(plan)
    assert [r.path for r in batch.rows()] == [f"{row.path}[{i}]" for i in range(5)]
    assert [r.value for r in batch.rows()] == [-32_768, -1, 0, 1, 32_767]
    assert plan.requests == 1


async def test_two_hundred_tags_are_few_requests(running: Running) -> None:
    analog = [row for row in running.rows if ".types." not in row.path]
    plan = running.plan(analog, Mode.CYCLIC)
    assert len(plan.tags) >= 200
    before = running.plant.journal.responses
    batch = await running.device.read(plan)
    assert (batch.quality == Quality.GOOD).all()
    assert running.plant.journal.responses - before == plan.requests <= 6


async def test_what_is_written_arrives(running: Running) -> None:
    row = running.row("types.written")
    await running.device.write([Write(spec_of(row), -123_456)])
    assert await running.value("types.written") == -123_456


async def test_a_device_that_hangs_is_given_up_in_time_and_comes_back(running: Running) -> None:
    plan = running.plan([running.row("types.int32")], Mode.CYCLIC)
    await running.device.read(plan)
    running.server.hang()
    started = time.monotonic()
    with pytest.raises(Disconnected) as failed:
        await running.device.read(plan)
    assert failed.value.code == Code.TIMEOUT
    await running.device.close()
    assert time.monotonic() - started < 3 * TIMEOUT_S + 1.5
    running.server.resume()
    await running.device.open()
    assert (await running.device.read(plan)).value(0) == -1_234_567_890


async def test_a_lost_connection_is_noticed_at_once(running: Running) -> None:
    plan = running.plan([running.row("types.int32")], Mode.CYCLIC)
    await running.device.read(plan)
    running.server.hang()
    reading = asyncio.ensure_future(running.device.read(plan))  # noqa: TID251  # awaited right below
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await running.server.stop()
    with pytest.raises(Disconnected):
        await reading
    assert time.monotonic() - started < TIMEOUT_S
    await running.server.start()
    await running.device.close()
    await running.device.open()
    assert (await running.device.read(plan)).value(0) == -1_234_567_890


@pytest.mark.parametrize("running", ["opcua"], indirect=True)
async def test_a_moved_namespace_is_found_again(running: Running) -> None:
    plan = running.plan([running.row("types.int32")], Mode.CYCLIC)
    assert (await running.device.read(plan)).value(0) == -1_234_567_890
    await running.server.restart_with_moved_namespace()
    with pytest.raises(Disconnected):
        await running.device.read(plan)
    await running.device.close()
    await running.device.open()
    assert (await running.device.read(plan)).value(0) == -1_234_567_890


@pytest.mark.parametrize("running", ["modbus", "s7"], indirect=True)
async def test_culprits_do_not_blind_their_neighbours(running: Running) -> None:
    """Addresses behind the end of the device's memory, beside good ones."""
    good = [row for row in running.rows if ".types." not in row.path][:60]
    behind = {"modbus": "holding:{}:int16", "s7": "DB3.DBW{}:INT"}[running.protocol]
    last = {"modbus": 4_000, "s7": 0}[running.protocol]
    tags = [spec_of(row) for row in good]
    tags += [TagSpec(f"x.{i}", behind.format(last + 2 * i)) for i in range(0, 400, 10)]
    plan = registry.make_plan(running.connection, tags, Mode.CYCLIC)
    batches = [await running.device.read(plan) for _ in range(12)]
    batch = batches[-1]
    assert (batch.quality[: len(good)] == Quality.GOOD).all()
    alone = {}
    for spec in tags[len(good) :]:
        one = registry.make_plan(running.connection, [spec], Mode.CYCLIC)
        alone[spec.path] = (await running.device.read(one)).row(0)
    bad = {path for path, row in alone.items() if row.value is None}
    assert 0 < len(bad) < len(alone)
    assert {row.path for row in batch.rows() if row.value is None} == bad
    before = running.plant.journal.responses
    await running.device.read(plan)
    assert running.plant.journal.responses - before <= plan.requests + 3


async def test_a_hand_shake_bit_is_written_alone() -> None:
    """Its neighbours in the same byte keep what the PLC wrote."""
    config = read_plant_file(Path("simulators/plants/edrive.yaml"))
    update = {
        "controllers": {"plc00": config.controllers["plc00"]},
        "devices": {"st000": config.devices["st000"]},
        "production": None,
    }
    plant = Plant(config.model_copy(update=update))
    rows = [row for row in list_addresses(plant.config) if row.type == "bool" and not row.array]
    (taken,) = (row for row in rows if row.written)
    byte = taken.address.partition(".DBX")[2].partition(".")[0]
    neighbours = [r for r in rows if f".DBX{byte}." in r.address and r is not taken]
    assert neighbours
    image = plant.images["st000"]
    for number, row in enumerate(neighbours):
        image.put(row.path.partition(".")[2], number % 2 == 0)
    async with plant:
        connection = CONNECTION.validate_python(options("s7", plant.ports["st000"]))
        device = registry.open_device(connection, CLOCK)
        await device.open()
        plan = registry.make_plan(
            connection, [spec_of(row) for row in (*neighbours, taken)], Mode.MAILBOX
        )
        for value in (True, False, True):
            await device.write([Write(spec_of(taken), value)])
            values = [row.value for row in (await device.read(plan)).rows()]
            assert values == [*(n % 2 == 0 for n in range(len(neighbours))), value]
        await device.close()
