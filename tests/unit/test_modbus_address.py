"""Modbus addresses: what is read, what is refused with a way out, the canonical text."""

import pytest

from protocols.driver import Mode, TagSpec
from protocols.drivers.modbus.address import Address, parse
from protocols.drivers.modbus.config import ModbusConnection
from protocols.drivers.modbus.planner import make_plan
from protocols.errors import ConfigError
from protocols.samples import DataType

CONNECTION = ModbusConnection(host="plc")


def read(text: str, type_: DataType | None = None) -> Address:
    return parse(TagSpec("d.t", text, type_), CONNECTION)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("holding:300:float32", "holding:300:float32?unit=1"),
        ("holding:300:float32?order=CDAB&unit=2", "holding:300:float32?order=CDAB&unit=2"),
        ("Holding:300:FLOAT32?order=cdab", "holding:300:float32?order=CDAB&unit=1"),
        ("holding:300.3:bool", "holding:300.3:bool?unit=1"),
        ("holding:7.H:uint8", "holding:7.h:uint8?unit=1"),
        ("holding:7.l:uint8", "holding:7:uint8?unit=1"),
        ("input:40:text[20]", "input:40:text[20]?unit=1"),
        ("input:40:text[20][4]", "input:40:text[20][4]?unit=1"),
        ("holding:40:bytes[8]", "holding:40:bytes[8]?unit=1"),
        ("holding:0:float32[60]", "holding:0:float32[60]?unit=1"),
        ("holding:0:int16[1..60]", "holding:0:int16[1..60]?unit=1"),
        ("coil:12", "coil:12:bool?unit=1"),
        ("discrete:0:bool[16]", "discrete:0:bool[16]?unit=1"),
        ("400301:int16", "holding:300:int16?unit=1"),
        ("2!400301:int16", "holding:300:int16?unit=2"),
        ("000001", "coil:0:bool?unit=1"),
        ("100001", "discrete:0:bool?unit=1"),
        ("365536:uint16", "input:65535:uint16?unit=1"),
        ("t.holding.300.FLOAT32:scale=0.1:slaveID=2", "holding:300:float32?unit=2"),
        ("t.coil.3.BIT", "coil:3:bool?unit=1"),
    ],
)
def test_forms_and_their_canonical_text(text: str, canonical: str) -> None:
    address = read(text)
    assert str(address) == canonical
    assert str(read(canonical)) == canonical


def test_the_type_may_stand_at_the_tag() -> None:
    assert read("400301", DataType.FLOAT32).type is DataType.FLOAT32
    assert read("holding:0:float32[4]", DataType.FLOAT32S).type is DataType.FLOAT32


def test_scale_of_the_address_reaches_the_plan() -> None:
    plan = make_plan(
        CONNECTION, [TagSpec("d.t", "holding:0:int16?scale=0.1&offset=2")], Mode.CYCLIC
    )
    assert (plan.tags[0].scale, plan.tags[0].offset) == (0.1, 2.0)
    assert plan.rows.tags[0].type is DataType.FLOAT64
    again = make_plan(CONNECTION, plan.tags, Mode.CYCLIC)
    assert again.tags == plan.tags


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        ("hold:3:int16", "not a Modbus address", "holding:300:float32"),
        ("", "not a Modbus address", "table:start:type"),
        ("2!400301#BL", "different things", "order=CDAB"),
        ("holding:300", "no type", "Give the tag a type"),
        ("holding:65536:int16", "out of range", "65535"),
        ("holding:65535:float32", "ends behind the table", "65535"),
        ("holding:65000:float32[300]", "ends behind the table", "65535"),
        ("holding:3:real", "no type 'real'", "float32"),
        ("holding:3:bool", "no bit", "holding:3.0:bool"),
        ("holding:3.16:bool", "bit 16", "0 to 15"),
        ("holding:3.2:int16", "only a bool", "Leave"),
        ("coil:3.2:bool", "only a bool in a register", "Leave"),
        ("coil:3:int16", "holds one bit", "bool"),
        ("holding:3:text", "without a length", "text[n]"),
        ("holding:3:int16[2][3]", "two lengths", "type[n]"),
        ("holding:3:int16[0]", "no elements", "at least one"),
        ("holding:3:int16[5..4]", "no elements", "at least one"),
        ("holding:3.h:int16", "high byte", ".h"),
        ("holding:3:int16?order=ABDC", "no order", "CDAB"),
        ("holding:3:int16?unit=256", "unit", "0 to 255"),
        ("holding:3:int16?units=2", "option 'units'", "unit"),
        ("holding:3:int16?unit=2&unit=3", "doubled option", "once"),
        ("holding:3:int16?nonsense", "option 'nonsense'", "once"),
        ("holding:3:int16?scale=a", "not a number", "0.1"),
        ("holding:3:int16?scale=0", "other than 0", "scale"),
        ("holding:3:text[4]?scale=2", "cannot be scaled", "Leave"),
        ("000000", "out of range", "65535"),
    ],
)
def test_mistakes_have_a_way_out(text: str, why: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text)
    (problem,) = refused.value.problems
    assert (problem.where, problem.value) == ("d.t", text)
    assert why in problem.why
    assert remedy in problem.remedy


def test_two_types_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match="says int16, the address says float32"):
        read("holding:3:float32", DataType.INT16)
    with pytest.raises(ConfigError, match="without a length"):
        read("holding:3", DataType.INT16S)
    with pytest.raises(ConfigError, match="Modbus has no datetime"):
        read("holding:3", DataType.DATETIME)


def test_all_mistakes_at_once() -> None:
    tags = [TagSpec(f"d.{i}", text) for i, text in enumerate(["x", "coil:1", "holding:1:real"])]
    with pytest.raises(ConfigError) as refused:
        make_plan(CONNECTION, tags, Mode.CYCLIC)
    assert [problem.where for problem in refused.value.problems] == ["d.0", "d.2"]


def test_a_path_twice_is_refused() -> None:
    tags = [TagSpec("d.a", "coil:1"), TagSpec("d.a", "coil:2")]
    with pytest.raises(ConfigError, match="two tags"):
        make_plan(CONNECTION, tags, Mode.CYCLIC)
