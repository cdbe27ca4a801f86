"""Every address that the plant prints is read by the product's drivers, to the same type."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from protocols import registry
from protocols.driver import Mode, TagSpec
from protocols.samples import DataType
from simulators.addresses import list_addresses
from simulators.config import read_plant_file

PLANTS = sorted(Path("simulators/plants").glob("*.yaml"))
CONNECTION: TypeAdapter[registry.AnyConnection] = TypeAdapter(registry.AnyConnection)
OPTIONS: dict[str, dict[str, object]] = {
    "modbus": {"host": "127.0.0.1", "port": 502},
    "s7": {"host": "127.0.0.1", "port": 102},
    "opcua": {"url": "opc.tcp://127.0.0.1:4840"},
}


@pytest.mark.parametrize("protocol", list(OPTIONS))
@pytest.mark.parametrize("file", PLANTS)
def test_addresses_are_read_by_the_driver(file: Path, protocol: str) -> None:
    rows = [r for r in list_addresses(read_plant_file(file)) if r.protocol == protocol]
    assert rows
    connection = CONNECTION.validate_python({"protocol": protocol, **OPTIONS[protocol]})
    for row in rows:
        type_ = DataType(f"{row.type}[]" if row.array else row.type)
        tag = TagSpec(row.path, row.address, type_)
        assert registry.parse_tag(connection, tag, Mode.ON_DEMAND) == (), row
