"""One behaviour suite of the device port: every driver against a real server, and the fake."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from protocols.driver import Device, Mode, NotOffered, TagSpec, Write
from protocols.errors import Disconnected, Rejected
from protocols.samples import Code, Quality, SampleBatch, Value
from tests.support.devices import TIMEOUT_S, Case, FakeRig, ModbusRig, Rig, SystemClock
from tests.support.devices_opcua import OpcuaRig
from tests.support.devices_s7 import S7Rig

RIGS: dict[str, Callable[[], Rig]] = {
    "fake": FakeRig,
    "modbus": ModbusRig,
    "opcua": OpcuaRig,
    "s7": S7Rig,
}
CLOCK = SystemClock()
SLACK_S = 1.5  # this machine is shared; the bound itself is the time-out


@pytest.fixture(params=list(RIGS))
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    made = RIGS[request.param]()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def device(rig: Rig) -> AsyncIterator[Device]:
    made = rig.device(CLOCK)
    await made.open()
    yield made
    await made.close()


def numbered(tags: Sequence[TagSpec]) -> list[TagSpec]:
    return [replace(spec, path=f"d.t{number}") for number, spec in enumerate(tags)]


def same(found: Value, expected: Value) -> bool:
    if isinstance(expected, list):
        return list(found) == expected  # type: ignore[arg-type]  # a sequence of its elements
    return type(found) is type(expected) and repr(found) == repr(expected)


async def put_all(rig: Rig, mode: Mode) -> list[Case]:
    cases = [case for case in rig.cases if case.mode is mode]
    for case in cases:
        await rig.put(case)
    return cases


async def test_one_row_a_tag_in_the_order_of_the_plan(rig: Rig, device: Device) -> None:
    cases = (await put_all(rig, Mode.CYCLIC))[::-1]
    plan = rig.plan(numbered([case.tag for case in cases]))
    before = CLOCK.now_us()
    batch = await device.read(plan)
    after = CLOCK.now_us()
    assert [row.path for row in batch.rows()] == [spec.path for spec in plan.tags]
    assert [tag.path for tag in batch.tags] == [spec.path for spec in plan.tags]
    assert ((before <= batch.time) & (batch.time <= after)).all()
    assert (batch.quality == Quality.GOOD).all()


async def test_every_type_keeps_its_value(rig: Rig, device: Device) -> None:
    for mode in {case.mode for case in rig.cases}:
        cases = await put_all(rig, mode)
        rows = (await device.read(rig.plan(numbered([c.tag for c in cases]), mode))).rows()
        wrong = [
            (case.name, row.value, case.value)
            for case, row in zip(cases, rows, strict=True)
            if not same(row.value, case.value)
        ]
        assert not wrong


async def test_every_type_alone(rig: Rig, device: Device) -> None:
    for case in rig.cases:
        await rig.put(case)
        (row,) = (await device.read(rig.plan([case.tag], case.mode))).rows()
        assert same(row.value, case.value), case.name
        assert row.type is rig.plan([case.tag], case.mode).tags[0].type


async def test_a_tag_that_cannot_be_read_is_bad_and_the_others_go_on(
    rig: Rig, device: Device
) -> None:
    cases = await put_all(rig, Mode.CYCLIC)
    tags = [cases[0].tag, rig.missing, *(case.tag for case in cases[1:])]
    for _ in range(3):
        batch = await device.read(rig.plan(numbered(tags)))
        bad = batch.row(1)
        assert bad.value is None
        assert bad.quality >= Quality.BAD
        assert bad.time_us > 0
        good = [row for number, row in enumerate(batch.rows()) if number != 1]
        assert all(same(row.value, case.value) for row, case in zip(good, cases, strict=True))


async def test_twins_come_with_one_answer(rig: Rig, device: Device) -> None:
    case = (await put_all(rig, Mode.CYCLIC))[0]
    plan = rig.plan(numbered([case.tag] * 3))
    before = rig.requests()
    batch = await device.read(plan)
    assert rig.requests() - before == plan.requests == 1
    assert [row.value for row in batch.rows()] == [case.value] * 3
    assert len(set(batch.time.tolist())) == 1


async def test_scale_and_offset_make_float64(rig: Rig, device: Device) -> None:
    case = next(c for c in rig.cases if isinstance(c.value, int) and c.name.startswith("int"))
    await rig.put(case)
    assert isinstance(case.value, int)
    spec = replace(case.tag, scale=0.5, offset=7.0)
    twin = replace(case.tag, path="d.twin")
    batch = await device.read(rig.plan([spec, twin]))
    assert same(batch.value(0), float(case.value) * 0.5 + 7.0)
    assert batch.tags[0].type == "float64"
    assert same(batch.value(1), case.value)


async def test_what_is_written_is_read(rig: Rig, device: Device) -> None:
    tags = list(rig.writable)
    await device.write([Write(spec, value) for spec, value in rig.writable.items()])  # type: ignore[arg-type]  # scalars
    rows = (await device.read(rig.plan(numbered(tags)))).rows()
    for row, spec in zip(rows, tags, strict=True):
        assert same(row.value, rig.writable[spec]), spec.address


async def test_refused_writes_are_named_and_the_others_written(rig: Rig, device: Device) -> None:
    good, value = next(iter(rig.writable.items()))
    writes = [Write(spec, 1) for spec in rig.refused_writes] + [Write(good, value)]  # type: ignore[arg-type]  # scalar
    with pytest.raises(Rejected) as refused:
        await device.write(writes)
    assert refused.value.rows == tuple(range(len(rig.refused_writes)))
    assert same((await device.read(rig.plan([good]))).value(0), value)


async def test_a_stopped_machine_is_disconnected_and_comes_back(rig: Rig, device: Device) -> None:
    case = rig.cases[0]
    plan = rig.plan([case.tag], case.mode)
    await device.read(plan)
    await rig.stop()
    with pytest.raises(Disconnected):
        await device.read(plan)
    with pytest.raises(Disconnected):
        await device.write([Write(next(iter(rig.writable)), 1)])
    await device.close()
    with pytest.raises(Disconnected) as failed:
        await device.open()
    assert failed.value.code is not None
    await rig.start()
    await rig.put(case)
    await device.open()
    assert same((await device.read(plan)).value(0), case.value)


async def test_a_machine_that_never_answers_is_given_up_in_time(rig: Rig) -> None:
    device = rig.device(CLOCK)
    await rig.mute()
    started = time.monotonic()
    with pytest.raises(Disconnected) as failed:
        await open_and_read(device, rig)
    assert failed.value.code == Code.TIMEOUT
    await device.close()
    assert time.monotonic() - started < 2 * TIMEOUT_S + SLACK_S


async def test_closed_is_closed_and_leaves_nothing(rig: Rig) -> None:
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    device = rig.device(CLOCK)
    await device.close()
    plan = rig.plan([rig.cases[0].tag], rig.cases[0].mode)
    with pytest.raises(Disconnected):
        await device.read(plan)
    await device.open()
    await device.read(plan)
    await device.close()
    await device.close()
    with pytest.raises(Disconnected):
        await device.read(plan)
    await settled(threads, tasks)


async def open_and_read(device: Device, rig: Rig) -> None:
    await device.open()
    await device.read(rig.plan([rig.cases[0].tag], rig.cases[0].mode))


async def settled(threads: int, tasks: int) -> None:
    """No more of either than before, soon: the server's own tasks end a moment later."""
    async with asyncio.timeout(2):
        while threading.active_count() > threads or len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)


async def test_a_read_can_be_cancelled(rig: Rig, device: Device) -> None:
    case = rig.cases[0]
    await rig.put(case)
    plan = rig.plan([case.tag], case.mode)
    reading = asyncio.ensure_future(device.read(plan))  # noqa: TID251  # cancelled right below
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await device.close()
    await device.open()
    assert same((await device.read(plan)).value(0), case.value)


async def test_an_empty_plan_asks_nothing(rig: Rig, device: Device) -> None:
    plan = rig.plan([])
    before = rig.requests()
    batch: SampleBatch = await device.read(plan)
    assert len(batch) == 0
    assert plan.requests == 0
    assert rig.requests() == before


async def test_a_driver_without_subscriptions_says_what_to_do(rig: Rig, device: Device) -> None:
    with pytest.raises(NotOffered, match="poll"):
        device.subscribe(rig.plan([rig.cases[0].tag], rig.cases[0].mode), 1.0)


async def test_every_tag_of_a_plan_says_which_request_reads_it(rig: Rig) -> None:
    tags = [case.tag for case in rig.cases if case.mode is Mode.CYCLIC]
    plan = rig.plan(numbered(tags))
    assert [reading.path for reading in plan.readings] == [spec.path for spec in plan.tags]
    assert all(0 <= reading.request < plan.requests for reading in plan.readings)


async def test_columns_are_read_only(rig: Rig, device: Device) -> None:
    case = rig.cases[0]
    await rig.put(case)
    batch = await device.read(rig.plan([case.tag], case.mode))
    for column in (batch.time, batch.quality, batch.tag, *batch.values.values()):
        assert isinstance(column, np.ndarray)
        assert not column.flags.writeable
