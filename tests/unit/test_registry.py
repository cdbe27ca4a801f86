"""The list of drivers: configuration as a user writes it, nothing imported before it is needed."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from protocols import registry
from protocols.driver import Mode, TagSpec
from protocols.drivers.modbus.config import ModbusConnection
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.drivers.s7.config import S7Connection
from protocols.samples import DataType
from tests.support.devices import SystemClock

CONNECTION: TypeAdapter[registry.AnyConnection] = TypeAdapter(registry.AnyConnection)
WRITTEN: dict[str, dict[str, Any]] = {
    "modbus": {"host": "plc"},
    "s7": {"host": "plc"},
    "opcua": {"url": "opc.tcp://plc:4840"},
}
ADDRESSES = {"modbus": "holding:0:int16", "s7": "DB1.DBW0:INT", "opcua": "ns=2;s=a"}


def connection(protocol: str, **options: Any) -> registry.AnyConnection:
    return CONNECTION.validate_python({"protocol": protocol, **WRITTEN[protocol], **options})


@pytest.mark.parametrize("protocol", list(WRITTEN))
def test_every_protocol_has_a_driver(protocol: str) -> None:
    made = connection(protocol)
    tag = TagSpec("d.t", ADDRESSES[protocol], DataType.INT16)
    plan = registry.make_plan(made, [tag], Mode.CYCLIC)
    assert [spec.path for spec in plan.tags] == ["d.t"]
    assert registry.parse_tag(made, tag, Mode.CYCLIC) == ()
    (problem,) = registry.parse_tag(made, TagSpec("d.t", "?", DataType.INT16), Mode.CYCLIC)
    assert problem.remedy
    device = registry.open_device(made, SystemClock())
    assert all(isinstance(fact, str) for fact in device.facts.values())


@pytest.mark.parametrize(
    ("protocol", "options", "where"),
    [
        ("modbus", {"unt": 3}, "unt"),
        ("modbus", {"registers_max": 126}, "registers_max"),
        ("modbus", {"order": "little"}, "order"),
        ("modbus", {"port": 0}, "port"),
        ("s7", {"rack": 8}, "rack"),
        ("s7", {"connection_type": "HMI"}, "connection_type"),
        ("s7", {"timeout_s": 0}, "timeout_s"),
        ("opcua", {"url": "http://plc"}, "url"),
        ("opcua", {"url": "opc.tcp://me:secret@plc"}, "url"),
        ("opcua", {"certificate": "/nowhere/at/all.pem"}, "certificate"),
        ("opcua", {"security_policy": "Basic256"}, "security_policy"),
        ("opcua", {"security_policy": "Basic256Sha256"}, "needs"),
        ("opcua", {"user": "me"}, "come together"),
    ],
)
def test_mistakes_are_named(protocol: str, options: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as refused:
        connection(protocol, **options)
    assert where in str(refused.value)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValidationError, match="'modbus', 'opcua', 's7'"):
        CONNECTION.validate_python({"protocol": "profinet", "host": "plc"})


def test_secrets_are_not_shown() -> None:
    made = connection("opcua", user="me", password="hunter2")  # noqa: S106  # of nobody
    assert "hunter2" not in repr(made)


def test_an_editor_gets_a_schema() -> None:
    schema = CONNECTION.json_schema()
    assert set(schema["discriminator"]["mapping"]) == set(WRITTEN)


def test_codes_are_explained() -> None:
    assert "0-based" in registry.explain(ModbusConnection(host="plc"), 2)
    assert "Optimized" in registry.explain(S7Connection(host="plc"), 5)
    assert registry.explain(OpcuaConnection(url="opc.tcp://plc"), 0x80340000)


def test_no_library_is_loaded_before_a_device_is_opened() -> None:
    code = (
        "import sys; from protocols import registry; "
        "print(sorted({'asyncua', 'pymodbus', 'snap7'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
