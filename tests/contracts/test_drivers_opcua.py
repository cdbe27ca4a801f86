"""What only OPC UA has: limits of a server, the life of a channel, namespaces, clocks."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocols.driver import Mode, TagSpec
from protocols.drivers.opcua.client import OpcuaDevice
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.drivers.opcua.planner import OpcuaPlan, make_plan
from protocols.samples import Code, DataType, Quality, SampleBatch
from simulators.config import OpcuaController, PlantConfig, read_plant_file
from simulators.plant import Plant
from tests.support.devices import SystemClock

YEAR_S = 365 * 86_400


@dataclass
class MovableClock(SystemClock):
    """Steps when told; the wall clock stays."""

    ahead_s: float = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


def plant_with(**controller: Any) -> Plant:
    config = read_plant_file(Path("simulators/plants/types.yaml"))
    made = OpcuaController(protocol="opcua", namespace="urn:plant1:types", **controller)
    only: PlantConfig = config.model_copy(
        update={"controllers": {"opcua": made}, "devices": {"o": config.devices["o"]}}
    )
    return Plant(only)


def url(plant: Plant) -> str:
    return f"opc.tcp://127.0.0.1:{plant.ports['o']['port']}/"


def analog(count: int) -> list[TagSpec]:
    plant = plant_with()
    slots = [slot for name, slot in plant.images["o"].slots.items() if not name.startswith("types")]
    return [
        TagSpec(f"d.t{i}", slot.address, DataType(slot.tag.kind)) for i, slot in enumerate(slots)
    ][:count]


@pytest.fixture
async def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def limited() -> AsyncIterator[Plant]:
    async with plant_with(nodes_per_read=10) as plant:
        yield plant


async def test_reads_are_split_by_the_limit_of_the_server(
    limited: Plant, clock: MovableClock
) -> None:
    connection = OpcuaConnection(url=url(limited))
    device = OpcuaDevice(connection, clock)
    await device.open()
    assert device.facts["nodes_per_read"] == "10"
    plan = make_plan(connection, analog(35), Mode.CYCLIC)
    before = limited.journal.responses
    batch = await device.read(plan)
    assert (batch.quality == Quality.GOOD).all()
    assert limited.journal.responses - before == 4
    await device.close()


async def test_a_server_that_hides_its_limit_is_asked_for_less(
    limited: Plant, clock: MovableClock
) -> None:
    connection = OpcuaConnection(url=url(limited))
    device = OpcuaDevice(connection, clock)
    await device.open()
    device._nodes_max = 200  # as if it had not said
    plan = make_plan(connection, analog(35), Mode.CYCLIC)
    assert ((await device.read(plan)).quality == Quality.GOOD).all()
    assert int(device.facts["nodes_per_read"]) <= 10
    assert ((await device.read(plan)).quality == Quality.GOOD).all()
    await device.close()


async def test_the_channel_is_renewed_in_time(clock: MovableClock) -> None:
    async with plant_with() as plant:
        connection = OpcuaConnection(url=url(plant))
        device = OpcuaDevice(connection, clock)
        await device.open()
        tags = make_plan(connection, analog(3), Mode.CYCLIC)
        assert device._client is not None
        channel = device._client._channel
        assert channel is not None
        tokens = set()
        for _ in range(3):
            await device.read(tags)
            tokens.add(channel._connection.security_token.TokenId)
            clock.ahead_s += device._client.life_s
        assert len(tokens) > 1
        await device.close()


async def test_a_namespace_that_comes_later_is_found(clock: MovableClock) -> None:
    async with plant_with() as plant:
        connection = OpcuaConnection(url=url(plant))
        device = OpcuaDevice(connection, clock)
        await device.open()
        plan = make_plan(connection, analog(2), Mode.CYCLIC)
        known, device._namespaces = device._namespaces, {}  # as if it came after us
        batch = await device.read(plan)
        assert (batch.quality == Quality.BAD_NODE_ID_UNKNOWN).all()
        assert (await device.read(plan)).value(0) is None
        clock.ahead_s += 31
        assert (await device.read(plan)).value(0) is not None
        assert device._namespaces == known
        await device.close()


async def changed(device: OpcuaDevice, plan: OpcuaPlan) -> SampleBatch:
    """The first batch with another value: an old time may be that of an old value, until then."""
    before = (await device.read(plan)).value(0)
    async with asyncio.timeout(5):
        while True:
            batch = await device.read(plan)
            if batch.value(0) != before:
                return batch
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("offset_s", [-36 * YEAR_S, 73 * YEAR_S])
async def test_a_plc_clock_decades_away_is_replaced_and_kept(
    offset_s: float, clock: MovableClock
) -> None:
    async with plant_with(clock_offset_s=offset_s) as plant:
        connection = OpcuaConnection(url=url(plant))
        device = OpcuaDevice(connection, clock)
        await device.open()
        plan = make_plan(connection, analog(1), Mode.CYCLIC)
        before = clock.now_us()
        row = (await changed(device, plan)).row(0)
        assert before <= row.time_us <= clock.now_us()
        assert (row.quality, row.code) == (Quality.UNCERTAIN, Code.CLOCK_SKEW)
        assert row.device_time_us is not None
        assert abs(row.device_time_us - row.time_us - offset_s * 1e6) < 3_600e6
        assert row.value is not None
        await device.close()
