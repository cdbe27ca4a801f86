"""`edge test`: reads each group of a file once and says what came. It publishes nothing."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge.bad import Shape
from edge.compile import AgentPlan, TestRead
from protocols.driver import Clock, Device
from protocols.errors import ConfigError, Disconnected
from protocols.events import from_us, rfc3339
from protocols.registry import AnyConnection, explain
from protocols.samples import SEVERITY_MASK, Sample, Value

SEVERITIES = {0x00000000: "good", 0x40000000: "uncertain", 0x80000000: "bad"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One row as `edge test` shows it."""

    device: str
    group: str
    path: str
    value: Value
    quality: str
    code: int | None
    explanation: str
    time: str
    request: str


async def read_once(
    plan: AgentPlan,
    clock: Clock,
    open_device: Callable[[AnyConnection, Clock], Device],
) -> list[Reading]:
    """All devices at once, each one's groups in order. A device that is away gives BAD rows."""
    by_device: dict[str, list[TestRead]] = {}
    for read in plan.tests:
        by_device.setdefault(read.device, []).append(read)
    connections = {device.name: device.connection for device in plan.devices}
    # Opened before the first wait: a driver's import takes long enough to time out a neighbour.
    devices = {name: open_device(connections[name], clock) for name in by_device}
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(_read_device(devices[name], connections[name], reads, clock))
            for name, reads in by_device.items()
        ]
    return [reading for task in running for reading in task.result()]


async def _read_device(
    device: Device, connection: AnyConnection, reads: Sequence[TestRead], clock: Clock
) -> list[Reading]:
    readings: list[Reading] = []
    for read in reads:
        readings += await _read_group(device, connection, read, clock)
    return readings


async def _read_group(
    device: Device, connection: AnyConnection, read: TestRead, clock: Clock
) -> list[Reading]:
    """On a connection of its own: one group that fails does not spoil the next."""
    reason = ""
    try:
        async with asyncio.timeout(connection.timeout_s * (read.plan.requests + 4)):
            await device.open()
            rows = (await device.read(read.plan)).rows()
    except (Disconnected, ConfigError, TimeoutError) as error:
        gone = error if isinstance(error, Disconnected) else Disconnected(str(error))
        rows = Shape(read.plan.tags).bad_rows(gone, clock.now_us()).rows()
        reason = gone.reason or "no answer in time"
    finally:
        await device.close()
    requests = {each.path: f"{each.request} {each.detail}".strip() for each in read.plan.readings}
    return [_reading(read, row, connection, requests.get(row.path, ""), reason) for row in rows]


def _reading(
    read: TestRead, row: Sample, connection: AnyConnection, request: str, reason: str
) -> Reading:
    return Reading(
        device=read.device,
        group=read.group,
        path=row.path,
        value=row.value,
        quality=SEVERITIES.get(row.quality & SEVERITY_MASK, "bad"),
        code=row.code,
        explanation=reason or ("" if row.code is None else explain(connection, row.code)),
        time=rfc3339(from_us(row.time_us)),
        request=request,
    )
