"""S7 addresses: what is read, what is refused with a way out, the canonical text."""

import pytest

from protocols.driver import Mode, TagSpec
from protocols.drivers.s7.address import Address, parse
from protocols.drivers.s7.config import S7Connection
from protocols.drivers.s7.planner import make_plan
from protocols.errors import ConfigError
from protocols.samples import DataType

CONNECTION = S7Connection(host="plc")


def read(text: str, type_: DataType | None = None) -> Address:
    return parse(TagSpec("d.t", text, type_))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("DB1.DBD0:REAL", "DB1.DBD0:REAL"),
        ("db1.dbd0:real", "DB1.DBD0:REAL"),
        ("%DB1.DBD0:REAL", "DB1.DBD0:REAL"),
        ("DB1.DBX0.3:BOOL", "DB1.DBX0.3:BOOL"),
        ("DB1.DBX0.3", "DB1.DBX0.3:BOOL"),
        ("DB1.DBB30:STRING[10]", "DB1.DBB30:STRING[10]"),
        ("DB1.DBB30:STRING", "DB1.DBB30:STRING[254]"),
        ("DB1.DBB30:WSTRING[10]", "DB1.DBB30:WSTRING[10]"),
        ("DB1.DBB30:STRING[10][4]", "DB1.DBB30:STRING[10][4]"),
        ("DB1.DBB30:BYTE[8]", "DB1.DBB30:BYTE[8]"),
        ("DB1.DBB30:CHAR[8]", "DB1.DBB30:CHAR[8]"),
        ("DB1.DBB4:DTL", "DB1.DBB4:DTL"),
        ("DB1.DBB4:DATE_AND_TIME", "DB1.DBB4:DT"),
        ("DB1.DBD4:TIME_OF_DAY", "DB1.DBD4:TOD"),
        ("DB1.DBD8:LREAL", "DB1.DBB8:LREAL"),
        ("DB1.DBW0:INT[60]", "DB1.DBW0:INT[60]"),
        ("DB1.DBW0:INT[1..60]", "DB1.DBW0:INT[1..60]"),
        ("DB1.DBW2", "DB1.DBW2:WORD"),
        ("M10.2", "M10.2:BOOL"),
        ("MX10.2", "M10.2:BOOL"),
        ("IW4", "IW4:WORD"),
        ("EW4", "IW4:WORD"),
        ("AB1", "QB1:BYTE"),
        ("MD20:REAL", "MD20:REAL"),
        ("DB1.R0", "DB1.DBD0:REAL"),
        ("DB1.X0.3", "DB1.DBX0.3:BOOL"),
        ("DB1.I2", "DB1.DBW2:INT"),
        ("DB1.DI4", "DB1.DBD4:DINT"),
        ("DB1.DT8", "DB1.DBB8:DT"),
        ("DB1.S30.10", "DB1.DBB30:STRING[10]"),
    ],
)
def test_forms_and_their_canonical_text(text: str, canonical: str) -> None:
    assert str(read(text)) == canonical
    assert str(read(canonical)) == canonical


def test_the_type_of_the_tag_says_what_a_size_means() -> None:
    assert read("DB1.DBD0", DataType.FLOAT32).kind == "REAL"
    assert read("DB1.DBW0", DataType.INT16).kind == "INT"
    assert read("MB3", DataType.INT8).kind == "SINT"
    assert read("DB1.DBB0:BYTE[4]", DataType.UINT8S).extent is not None
    assert read("DB1.DBB0:BYTE[4]").type is DataType.BYTES


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        ("DB1", "not an S7 address", "DB1.DBD0:REAL"),
        ("DB1.DBD", "not an S7 address", "M10.2"),
        ("T5", "not an S7 address", "IW4"),
        ("DB1.DBD0:FLOAT", "no type 'FLOAT'", "REAL"),
        ("DB1.DBW0:REAL", "4 bytes", "DBD"),
        ("DB1.DBX0.1:INT", "size X", "B W D"),
        ("DB1.DBW0:BOOL", "size W", "X is for BOOL"),
        ("DB1.DBX0:BOOL", "a bit belongs", "DBX0.3"),
        ("DB1.DBB0.1:BYTE", "a bit belongs", "without a bit"),
        ("DB1.DBX0.8", "bit 8 of 8", "0 to 7"),
        ("DB0.DBW0:INT", "no block DB0", "DB1 to DB65535"),
        ("DB70000.DBW0:INT", "no block", "DB65535"),
        ("DB1.DBW65535:INT", "out of range", "65535"),
        ("DB1.DBD0:REAL[20000]", "out of range", "65535"),
        ("DB1.DBB0:STRING[255]", "STRING of 255", "254"),
        ("DB1.DBW0:INT[2][3]", "two lengths", "TYPE[n]"),
        ("DB1.DBW0:INT[0]", "no elements", "at least one"),
        ("M10", "neither a bit nor a size", "M10.2"),
        ("DB1.X0", "second number", "DB1.X0.3"),
        ("DB1.R0.3", "second number", "DB1.S30.10"),
    ],
)
def test_mistakes_have_a_way_out(text: str, why: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text)
    (problem,) = refused.value.problems
    assert (problem.where, problem.value) == ("d.t", text)
    assert why in problem.why
    assert remedy in problem.remedy


def test_a_type_that_differs_is_refused() -> None:
    with pytest.raises(ConfigError, match="says int16, the address says float32"):
        read("DB1.DBD0:REAL", DataType.INT16)


def test_elements_follow_each_other_as_a_plc_lays_them() -> None:
    def third(text: str) -> str:
        return str(read(text).element(2))

    assert third("DB1.DBW0:INT[4]") == "DB1.DBW4:INT"
    assert third("DB1.DBB0:SINT[4]") == "DB1.DBB2:SINT"
    assert third("DB1.DBX0.7:BOOL[4]") == "DB1.DBX1.1:BOOL"
    assert third("DB1.DBB0:STRING[9][4]") == "DB1.DBB24:STRING[9]"


def test_paths_count_from_the_declared_bound() -> None:
    tag = TagSpec("d.a", "DB1.DBW0:INT[1..3]")
    polled = make_plan(CONNECTION, [tag], Mode.CYCLIC)
    assert [spec.path for spec in polled.tags] == ["d.a[1]", "d.a[2]", "d.a[3]"]
    whole = make_plan(CONNECTION, [tag], Mode.ON_DEMAND)
    assert [spec.address for spec in whole.tags] == ["DB1.DBW0:INT[1..3]"]


def test_dates_are_never_one_value() -> None:
    with pytest.raises(ConfigError, match="cannot be one value"):
        make_plan(CONNECTION, [TagSpec("d.a", "DB1.DBB0:DTL[3]")], Mode.MAILBOX)
