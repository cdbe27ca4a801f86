"""The planner: every tag covered, no limit exceeded, never more requests than one a tag."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.driver import Mode, TagSpec
from protocols.drivers.modbus.config import ModbusConnection
from protocols.drivers.modbus.planner import ModbusPlan, make_plan
from protocols.image import Route
from protocols.reading import Sheet

CONNECTION = ModbusConnection(host="plc")
FEW = settings(max_examples=25, deadline=None)

registers = st.builds(
    lambda table, start, type_, unit: f"{table}:{start}:{type_}?unit={unit}",
    st.sampled_from(["holding", "input"]),
    st.integers(0, 900),
    st.sampled_from(["int16", "uint8", "float32", "uint64", "text[7]", "text[300]", "int16[9]"]),
    st.integers(1, 2),
)
coils = st.builds(
    lambda table, start, extent: f"{table}:{start}:bool{extent}",
    st.sampled_from(["coil", "discrete"]),
    st.integers(0, 5_000),
    st.sampled_from(["", "[30]"]),
)
connections = st.builds(
    ModbusConnection,
    host=st.just("plc"),
    registers_max=st.integers(1, 125),
    bits_max=st.integers(1, 2_000),
    gap_registers=st.integers(0, 124),
    gap_bits=st.integers(0, 300),
)
groups = st.lists(registers | coils, max_size=40)


def planned(connection: ModbusConnection, addresses: list[str], mode: Mode) -> ModbusPlan:
    tags = [TagSpec(f"d.t{i}", address) for i, address in enumerate(addresses)]
    return make_plan(connection, tags, mode)


def units_of(plan: ModbusPlan) -> dict[int, set[int]]:
    """Every register or bit that the plan's blocks bring, by cell."""
    found: dict[int, set[int]] = {}
    for block in plan.blocks:
        for stretch in block.stretches:
            inside = range(max(block.start, stretch.start), min(block.end, stretch.end))
            found.setdefault(stretch.cell, set()).update(inside)
    return found


@FEW
@given(connections, groups, st.sampled_from([Mode.CYCLIC, Mode.ON_DEMAND]))
def test_a_plan_covers_all_within_the_limits(
    connection: ModbusConnection, addresses: list[str], mode: Mode
) -> None:
    plan = planned(connection, addresses, mode)
    covered = units_of(plan)
    assert set(covered) == set(range(plan.rows.cells))
    for block in plan.blocks:
        bits = block.space[1] in {1, 2}
        assert 1 <= block.size <= (connection.bits_max if bits else connection.registers_max)
        for stretch in block.stretches:
            assert covered[stretch.cell] == set(range(stretch.start, stretch.end))
            assert stretch.space == block.space


@FEW
@given(connections, groups)
def test_never_more_requests_than_one_a_tag(
    connection: ModbusConnection, addresses: list[str]
) -> None:
    plan = planned(connection, addresses, Mode.CYCLIC)
    alone = sum(planned(connection, [text], Mode.CYCLIC).requests for text in set(addresses))
    assert plan.requests <= alone


@FEW
@given(connections, groups)
def test_blocks_keep_to_their_own_place_of_the_image(
    connection: ModbusConnection, addresses: list[str]
) -> None:
    plan = planned(connection, addresses, Mode.CYCLIC)
    end = 0
    for block in plan.blocks:
        width = plan.limits(block.space).width
        assert block.at == end
        end = block.at + block.size * width
    assert end == plan.image_bytes


def test_one_request_for_what_lies_together() -> None:
    def requests(form: str, count: int) -> int:
        return planned(CONNECTION, [form.format(i) for i in range(count)], Mode.CYCLIC).requests

    assert requests("holding:{}:int16", 125) == 1
    assert requests("holding:{}:int16", 126) == 2
    assert requests("coil:{}", 2_000) == 1
    assert requests("coil:{}", 2_001) == 2


def test_gaps_are_filled_up_to_their_cost() -> None:
    near = ["holding:0:int16", "holding:17:int16"]
    assert planned(CONNECTION, near, Mode.CYCLIC).requests == 1
    assert planned(CONNECTION, [near[0], "holding:18:int16"], Mode.CYCLIC).requests == 2


def test_tables_and_units_are_apart() -> None:
    plan = planned(
        CONNECTION,
        ["holding:0:int16", "input:0:int16", "coil:0", "discrete:0", "holding:1:int16?unit=2"],
        Mode.CYCLIC,
    )
    assert plan.requests == 5


def test_an_array_is_polled_as_elements_and_read_whole_on_demand() -> None:
    tag = TagSpec("d.a", "holding:0:int16[1..3]")
    polled = make_plan(CONNECTION, [tag], Mode.CYCLIC)
    assert [spec.path for spec in polled.tags] == ["d.a[1]", "d.a[2]", "d.a[3]"]
    assert [spec.address for spec in polled.tags][2] == "holding:2:int16?unit=1"
    whole = make_plan(CONNECTION, [tag], Mode.MAILBOX)
    assert [(t.path, t.type) for t in whole.rows.tags] == [("d.a", "int16[]")]


@FEW
@given(st.sets(st.integers(0, 199), max_size=12), st.integers(1, 40))
def test_a_route_finds_every_culprit_and_blinds_nobody(bad: set[int], step: int) -> None:
    """A device without the registers `bad` answers all others after a few reads."""
    addresses = [f"holding:{start}:int16" for start in range(0, 200, step)]
    plan = planned(CONNECTION, addresses, Mode.CYCLIC)
    route = Route(plan.blocks, plan.limits)
    seen: set[int] = set()
    for _ in range(30):
        seen = read_around(route, bad)
    wanted = set(range(len(addresses)))
    assert seen == {cell for cell in wanted if cell * step not in bad}
    assert len(route.blocks) <= len(addresses)


def test_a_route_asks_the_culprit_again_after_its_rest() -> None:
    plan = planned(CONNECTION, ["holding:0:int16", "holding:1:int16"], Mode.CYCLIC)
    route = Route(plan.blocks, plan.limits)
    read_around(route, {1}, now_s=0.0)
    assert [rest.block.start for rest in route.resting] == [1]
    assert read_around(route, set(), now_s=Route.REST_S / 2) == {0}
    assert read_around(route, set(), now_s=Route.REST_S) == {0, 1}
    assert route.resting == ()


def test_what_a_device_took_apart_is_joined_again() -> None:
    plan = planned(CONNECTION, [f"holding:{i}:int16" for i in range(100)], Mode.CYCLIC)
    route = Route(plan.blocks, plan.limits)
    read_around(route, {37})
    assert [(block.start, block.size) for block in route.blocks] == [(0, 37), (38, 62)]


def read_around(route: Route, bad: set[int], now_s: float = 0.0) -> set[int]:
    route.begin(now_s)
    waiting, seen, asked = list(route.blocks), set(), 0
    while waiting:
        block = waiting.pop()
        asked += 1
        if any(block.start <= register < block.end for register in bad):
            waiting += route.refuse(block, 2, now_s)
        else:
            seen.update(block.cells.tolist())
    assert asked <= len(route.blocks) + 2 * Route.SPLITS_MAX + len(route.resting)
    route.settle()
    return seen


@FEW
@given(connections, st.lists(registers, min_size=1, max_size=20))
def test_values_come_from_their_own_registers(
    connection: ModbusConnection, addresses: list[str]
) -> None:
    """Whatever the blocks, a value is that of its own place in the device's memory."""
    plan = planned(connection, addresses, Mode.CYCLIC)
    memory = np.random.default_rng(7).integers(0, 256, 2 * 2_000, np.uint8)
    image = np.zeros(plan.image_bytes, np.uint8)
    for block in plan.blocks:
        image[block.at : block.at + 2 * block.size] = memory[2 * block.start : 2 * block.end]
    sheet = Sheet(plan.rows)
    plan.decoder.fill(sheet, image)
    for row, spec in zip(sheet.batch().rows(), plan.tags, strict=True):
        alone = planned(CONNECTION, [spec.address], Mode.CYCLIC)
        start = alone.blocks[0].start
        own = memory[2 * start : 2 * start + alone.image_bytes].copy()
        one = Sheet(alone.rows)
        alone.decoder.fill(one, own)
        assert repr(one.batch().row(0).value) == repr(row.value)
