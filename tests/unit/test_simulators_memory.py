"""Images: every tag reads back, addresses never overlap, orders are what their names say."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.addresses import list_addresses
from simulators.config import PlantConfig, PlantFileError, read_plant_file
from simulators.datablocks import BlockImage
from simulators.memory import build_images
from simulators.nodes import NodeImage
from simulators.registers import RegisterImage
from simulators.s7times import bytes_to_time, time_to_bytes
from simulators.tags import Kind, Tag
from simulators.typed import typed_tags

EDRIVE = Path("simulators/plants/edrive.yaml")


def typed_plant(protocol: str) -> PlantConfig:
    own = {"modbus": {}, "s7": {}, "opcua": {"namespace": "urn:x"}}[protocol]
    device = {"modbus": {"unit": 1}, "s7": {"block": 1}, "opcua": {}}[protocol]
    return PlantConfig.model_validate(
        {
            "site": "p",
            "line": "L",
            "controllers": {"c": {"protocol": protocol, **own}},
            "devices": {"d": {"controller": "c", "types": True, "analog": 20, **device}},
        }
    )


@pytest.mark.parametrize("protocol", ["modbus", "s7", "opcua"])
def test_every_type_reads_back(protocol: str) -> None:
    image = build_images(typed_plant(protocol), lambda: 0)["d"]
    for tag, value in typed_tags(protocol):
        found = image.get(tag.name)
        if isinstance(value, float) and math.isnan(value):
            assert isinstance(found, float)
            assert math.isnan(found)
        elif tag.kind is Kind.FLOAT32:
            assert found == pytest.approx(value, rel=1e-6)
        else:
            if isinstance(value, int) and tag.form in {"DT", "TOD", "TIME"}:
                value = value // 10**6 * 10**6  # noqa: PLW2901  # what a millisecond type keeps
            assert found == value, tag.name


@pytest.mark.parametrize("protocol", ["modbus", "s7"])
def test_tags_of_an_area_never_share_a_place(protocol: str) -> None:
    image = build_images(typed_plant(protocol), lambda: 0)["d"]
    taken: dict[tuple[str, int], str] = {}
    for name, slot in image.slots.items():
        bits = slot.tag.elements if slot.tag.kind is Kind.BOOL and protocol == "s7" else 0
        places = (
            range(slot.start * 8 + slot.bit, slot.start * 8 + slot.bit + bits)
            if bits
            else range(slot.start * 8, (slot.start + slot.length) * 8)
        )
        for place in places:
            other = taken.setdefault((slot.area, place), name)
            assert other == name


@pytest.mark.parametrize(
    ("order", "raw"),
    [("ABCD", "42f6e979"), ("CDAB", "e97942f6"), ("BADC", "f64279e9"), ("DCBA", "79e9f642")],
)
def test_orders_are_what_their_names_say(order: str, raw: str) -> None:
    image = RegisterImage(1, order)
    image.place([Tag("x", Kind.FLOAT32)])
    image.put("x", 123.456)
    assert image.tables["holding"].hex() == raw
    assert image.get("x") == pytest.approx(123.456)


def test_addresses_are_canonical() -> None:
    image = RegisterImage(2, "CDAB")
    image.place(
        [Tag("on", Kind.BOOL), Tag("v", Kind.FLOAT32, count=3), Tag("t", Kind.TEXT, size=9)]
    )
    assert [slot.address for slot in image.slots.values()] == [
        "coil:0:bool?unit=2",
        "holding:0:float32[3]?order=CDAB&unit=2",
        "holding:6:text[9]?unit=2",
    ]
    blocks = BlockImage()
    blocks.place(
        [
            Tag("a", Kind.BOOL),
            Tag("b", Kind.BOOL),
            Tag("v", Kind.FLOAT32, count=60),
            Tag("s", Kind.TEXT, size=10),
            Tag("t", Kind.DATETIME),
        ],
        7,
    )
    assert [slot.address for slot in blocks.slots.values()] == [
        "DB7.DBX0.0:BOOL",
        "DB7.DBX0.1:BOOL",
        "DB7.DBD2:REAL[60]",
        "DB7.DBB242:STRING[10]",
        "DB7.DBB254:DTL",
    ]
    nodes = NodeImage("p20", "urn:x", lambda: 0)
    nodes.place([Tag("a.done", Kind.BOOL)])
    assert nodes.slots["a.done"].address == "nsu=urn:x;s=p20.a.done"


@given(st.integers(631_152_000_000, 3_786_911_999_999))
def test_plc_times_keep_a_millisecond(time_ms: int) -> None:
    for form in ("DTL", "DT", "LDT"):
        assert bytes_to_time(form, time_to_bytes(form, time_ms * 10**6)) == time_ms * 10**6


def test_the_line_has_the_tags_that_bindings_name() -> None:
    rows = {row.path: row for row in list_addresses(read_plant_file(EDRIVE))}
    wanted = """st000.ready st000.taken st000.count st000.mark.dmc st000.mark.type st000.mark.order
        w10.running w10.cycle_no w10.dmc w10.tension w10.resistance w10.turns
        f07.scan_ready f07.scan_taken f07.scan_no f07.scan.lot f07.scan.qty f07.scan.at
        p20.a.clamped p20.b.done p20.a.cycle_no p20.a.result p20.b.nok p20.a.program
        p20.a.curve.way p20.b.curve.force p20.a.curve.n scanner20.a scanner20.b p20.oil_temp
        st010.ready st010.taken st010.cycle_no st010.t_start st010.t_end st010.dmc st010.rfid
        st010.cover_dmc st010.result.torque st010.result.angle st010.result.t_low
        st010.result.t_high st010.result.cx[1] st010.result.cy[6] st010.result.cn
        st010.result.code st010.result.nok_code st010.program st010.master_on st010.setup_on"""
    assert set(wanted.split()) <= set(rows)
    assert {path for path, row in rows.items() if row.written} == {
        "st000.taken",
        "f07.scan_taken",
        "r15.taken",
        "st010.taken",
        "eol30.taken",
    }


def test_all_mistakes_of_a_file_come_at_once(tmp_path: Path) -> None:
    text = EDRIVE.read_text(encoding="utf-8")
    text = text.replace("site: plant1", "site: Plant 1").replace("zone: Europe", "zone: Erope")
    text = text.replace("speed: 1.0", "sped: 1.0")
    file = tmp_path / "plant.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PlantFileError) as caught:
        read_plant_file(file)
    assert {mistake.path for mistake in caught.value.mistakes} == {
        "site",
        "zone",
        "production.sped",
    }


def test_devices_that_do_not_fit_are_named(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(
        """
site: p
line: L
controllers: {c: {protocol: s7}}
devices:
  a: {controller: c, block: 1}
  b: {controller: c, block: 3}
  d: {controller: x}
  e: {controller: c, unit: 1}
production: {}
""",
        encoding="utf-8",
    )
    with pytest.raises(PlantFileError) as caught:
        read_plant_file(file)
    text = str(caught.value)
    for part in ("devices.b", "block 3", "devices.d", "devices.e.unit", "devices.st010"):
        assert part in text
