"""OPC UA addresses and plans: each node once, split by what a server takes."""

import pytest

from protocols.driver import Mode, TagSpec
from protocols.drivers.opcua.address import Address, parse
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.drivers.opcua.planner import make_plan
from protocols.errors import ConfigError
from protocols.samples import DataType

CONNECTION = OpcuaConnection(url="opc.tcp://plc:4840", nodes_per_read_max=10)
GUID = "09087e75-8e5e-499b-954f-f2a9603db28a"
URI = "nsu=http://plant/line"


def read(text: str, type_: DataType | None = DataType.FLOAT32) -> Address:
    return parse(TagSpec("d.t", text, type_))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (f"{URI};s=Temp", f"{URI};s=Temp"),
        ("ns=2;s=Temp", "ns=2;s=Temp"),
        ("ns=0;i=2258", "i=2258"),
        ("i=2258", "i=2258"),
        ("s=Name;with=signs", "s=Name;with=signs"),
        (
            "ns=3;g=09087E75-8E5E-499B-954F-F2A9603DB28A",
            "ns=3;g=09087e75-8e5e-499b-954f-f2a9603db28a",
        ),
        ("ns=3;b=M/RbKBsRVkePCePcx24oRA==", "ns=3;b=M/RbKBsRVkePCePcx24oRA=="),
        ("nsu=urn:a%3Bb%25;s=x", "nsu=urn:a%3Bb%25;s=x"),
        ("range=0:59;ns=2;s=Curve", "range=0:59;ns=2;s=Curve"),
        ("range=7;ns=2;s=Curve", "range=7;ns=2;s=Curve"),
        ("2!Temp", "ns=2;s=Temp"),
    ],
)
def test_forms_and_their_canonical_text(text: str, canonical: str) -> None:
    assert str(read(text)) == canonical
    assert str(read(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "type_", "why", "remedy"),
    [
        ("Temp", DataType.INT16, "not an OPC UA address", "nsu=URI;s=NAME"),
        ("2!12", DataType.INT16, "not an OPC UA address", "kinds"),
        ("ns=2;s=Temp", None, "no type", "Give the tag a type"),
        ("ns=2;s=Temp", DataType.DATE, "no date", "datetime"),
        ("ns=2;i=x", DataType.INT16, "no identifier", "number"),
        ("ns=2;i=4294967296", DataType.INT16, "no identifier", "number"),
        ("ns=2;g=12", DataType.INT16, "no identifier", "GUID"),
        ("ns=2;b=!", DataType.INT16, "no identifier", "base64"),
        ("ns=70000;s=a", DataType.INT16, "of 65535", "nsu=URI"),
        ("range=5:4;ns=2;s=a", DataType.INT16, "ends before", "first:last"),
    ],
)
def test_mistakes_have_a_way_out(text: str, type_: DataType | None, why: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text, type_)
    (problem,) = refused.value.problems
    assert why in problem.why
    assert remedy in problem.remedy


def test_a_polled_array_needs_its_range() -> None:
    tag = TagSpec("d.a", "ns=2;s=a", DataType.FLOAT32S)
    with pytest.raises(ConfigError, match="number is not known"):
        make_plan(CONNECTION, [tag], Mode.CYCLIC)
    assert [t.type for t in make_plan(CONNECTION, [tag], Mode.ON_DEMAND).tags] == ["float32[]"]


def test_an_array_without_a_type_of_its_own_is_refused_whole() -> None:
    tag = TagSpec("d.a", "range=0:3;ns=2;s=a", DataType.DATETIME)
    assert len(make_plan(CONNECTION, [tag], Mode.CYCLIC).tags) == 4
    with pytest.raises(ConfigError, match="cannot be one value"):
        make_plan(CONNECTION, [tag], Mode.MAILBOX)


def test_elements_of_one_array_are_one_node() -> None:
    plan = make_plan(
        CONNECTION, [TagSpec("d.a", "range=2:4;ns=2;s=a", DataType.INT16)], Mode.CYCLIC
    )
    assert len(plan.nodes) == 1
    assert [spec.path for spec in plan.tags] == ["d.a[2]", "d.a[3]", "d.a[4]"]
    assert [spec.address for spec in plan.tags][1] == "range=3;ns=2;s=a"


def test_twins_are_one_node_and_reads_are_split() -> None:
    tags = [TagSpec(f"d.t{i}", f"ns=2;i={i // 2}", DataType.INT16) for i in range(50)]
    plan = make_plan(CONNECTION, tags, Mode.CYCLIC)
    assert (len(plan.nodes), plan.requests) == (25, 3)
    assert [plan.readings[i].request for i in (0, 19, 20, 49)] == [0, 0, 1, 2]
    assert sorted(plan.cells_of(0, 10).tolist() + plan.cells_of(10, 25).tolist()) == list(range(50))
