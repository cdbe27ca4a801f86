"""The product's drivers read the plant by the addresses that it prints: every type, every value."""

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from protocols import registry
from protocols.driver import Device, Mode, TagSpec, Write
from protocols.errors import Rejected
from protocols.samples import DataType, Sample
from simulators.addresses import AddressRow, list_addresses
from simulators.config import PlantConfig, read_plant_file
from simulators.plant import Plant
from simulators.typed import TYPED_STATUS
from tests.support.devices import SystemClock

pytestmark = pytest.mark.integration

TYPES = Path("simulators/plants/types.yaml")
DEVICES = {"modbus": "m", "s7": "s", "opcua": "o"}
CONNECTION: TypeAdapter[registry.AnyConnection] = TypeAdapter(registry.AnyConnection)
KEYS = ("host", "port", "unit", "rack", "slot", "url")


@dataclass
class Bench:
    """One device of the plant and the driver connected to it."""

    plant: Plant
    name: str
    connection: registry.AnyConnection
    device: Device

    async def read(self, rows: list[AddressRow]) -> dict[str, Sample]:
        tags = [TagSpec(row.path, row.address, type_of(row)) for row in rows]
        plan = registry.make_plan(self.connection, tags, Mode.ON_DEMAND)
        batch = await self.device.read(plan)
        return {sample.path: sample for sample in batch.rows()}


def type_of(row: AddressRow) -> DataType:
    return DataType(f"{row.type}[]" if row.array else row.type)


def only(protocol: str) -> PlantConfig:
    config = read_plant_file(TYPES)
    name = DEVICES[protocol]
    controller = config.devices[name].controller
    return config.model_copy(
        update={
            "controllers": {controller: config.controllers[controller]},
            "devices": {name: config.devices[name]},
        }
    )


@pytest.fixture(params=list(DEVICES))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    name = DEVICES[request.param]
    async with Plant(only(request.param)) as plant:
        port = plant.ports[name]
        wanted = {"url"} if request.param == "opcua" else {*KEYS} - {"url"}
        options = {key: value for key, value in port.items() if key in wanted}
        if request.param == "s7":
            options["text_encoding"] = "latin-1"  # as the plant's PLCs write STRING
        connection = CONNECTION.validate_python({"protocol": request.param, **options})
        device = registry.open_device(connection, SystemClock())
        await device.open()
        yield Bench(plant, name, connection, device)
        await device.close()


async def test_every_type_comes_as_the_plant_holds_it(bench: Bench) -> None:
    rows = [r for r in list_addresses(bench.plant.config) if ".types." in r.path]
    image = bench.plant.images[bench.name]
    found = await bench.read(rows)
    assert len(found) == len(rows) > 15
    for row in rows:
        name = row.path.removeprefix(f"{bench.name}.")
        sample = found[row.path]
        if sample.quality & 0x80000000:
            assert TYPED_STATUS[name] == sample.quality
        else:
            assert same(sample.value, image.get(name)), row.path


async def test_written_tags_read_back(bench: Bench) -> None:
    rows = [r for r in list_addresses(bench.plant.config) if r.written]
    values = {"types.written": -77, "types.written_bit": True}
    for row in rows:
        name = row.path.removeprefix(f"{bench.name}.")
        tag = TagSpec(row.path, row.address, type_of(row))
        await bench.device.write([Write(tag, values[name])])
        assert (await bench.read([row]))[row.path].value == values[name]
        assert bench.plant.images[bench.name].get(name) == values.pop(name)
    assert values == {}


async def test_what_the_line_makes_cannot_be_written(bench: Bench) -> None:
    rows = {r.path: r for r in list_addresses(bench.plant.config)}
    row = rows[f"{bench.name}.types.int32"]
    with pytest.raises(Rejected):
        await bench.device.write([Write(TagSpec(row.path, row.address, type_of(row)), 1)])


def same(found: Any, held: Any) -> bool:
    if isinstance(held, float) and math.isnan(held):
        return math.isnan(found)
    return list(found) == held if isinstance(held, list) else bool(found == held)
