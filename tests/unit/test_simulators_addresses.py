"""Every address that the plant prints is read by the product's drivers, to the same type."""

from pathlib import Path

import pytest

from protocols.driver import TagSpec
from protocols.drivers.modbus import address as modbus_address
from protocols.drivers.modbus.config import ModbusConnection
from simulators.addresses import AddressRow, list_addresses
from simulators.config import read_plant_file

PLANTS = sorted(Path("simulators/plants").glob("*.yaml"))


def rows(protocol: str) -> list[AddressRow]:
    return [
        row
        for file in PLANTS
        for row in list_addresses(read_plant_file(file))
        if row.protocol == protocol
    ]


def wanted(row: AddressRow) -> tuple[str, int, int]:
    return row.type, row.array, row.first


def test_modbus_addresses_are_read() -> None:
    connection = ModbusConnection.model_validate(
        {"protocol": "modbus", "host": "127.0.0.1", "port": 502}
    )
    for row in rows("modbus"):
        found = modbus_address.parse(TagSpec(row.path, row.address), connection)
        extent = found.extent
        shape = (extent.count, extent.first) if extent else (0, 0)
        assert (found.type.value, *shape) == wanted(row), row.path


@pytest.mark.parametrize("file", PLANTS)
def test_each_plant_file_in_the_tree_is_valid(file: Path) -> None:
    assert list_addresses(read_plant_file(file))
