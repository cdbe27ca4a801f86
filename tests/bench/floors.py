"""What the machine and the libraries alone would do: processes of their own, told by one JSON line.

`grid`: a bare loop that only waits for the same grid as the agent. `read`: pymodbus, python-snap7
and asyncua, used as their pages show it, read and decode the same tags on that grid and do nothing
with them.
"""

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import psutil

from edge.schedule import GroupSchedule, phase_s

INTERVAL_S: Final = 0.1
REGISTERS_MAX: Final = 125
Read = Callable[[], Awaitable[int]]


def main() -> None:
    logging.disable(logging.WARNING)  # asyncua's client tells of every session time-out
    kind, seconds = sys.argv[1], float(sys.argv[2])
    told = asyncio.run(grid(seconds) if kind == "grid" else read(json.load(sys.stdin), seconds))
    sys.stdout.write(json.dumps(told) + "\n")


async def grid(seconds: float) -> dict[str, float]:
    """Start jitter of three groups that do nothing."""
    schedules = await _on_grid(dict.fromkeys(("m", "s", "o"), _nothing), seconds)
    return {
        "p50_ms": max(one.jitter.percentile_s(50) for one in schedules) * 1e3,
        "p99_ms": max(one.jitter.percentile_s(99) for one in schedules) * 1e3,
        "overruns": sum(one.counters.overruns for one in schedules),
    }


async def read(plant: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """CPU and memory of reading every tag; `plant`: ports and tags by device."""
    reads: dict[str, Read] = {}
    for name, port in plant["ports"].items():
        tags = [tag for tag in plant["tags"] if tag["device"] == name]
        reads[name] = await _OPENS[port["protocol"]](port, tags)
    for one in reads.values():
        await one()  # what is learned once is not counted
    process, values = psutil.Process(), 0

    def counted(one: Read) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            nonlocal values
            values += await one()

        return work

    cpu, wall = time.process_time(), time.monotonic()
    schedules = await _on_grid({name: counted(one) for name, one in reads.items()}, seconds)
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - wall,
        "values": values,
        "rss": process.memory_info().rss,
        "overruns": sum(one.counters.overruns for one in schedules),
    }


async def _on_grid(
    works: Mapping[str, Callable[[], Awaitable[None]]], seconds: float
) -> list[GroupSchedule]:
    origin_s = time.monotonic()
    schedules = {
        name: GroupSchedule(INTERVAL_S, phase_s(name, "fast", INTERVAL_S), origin_s)
        for name in works
    }

    async def one(schedule: GroupSchedule, work: Callable[[], Awaitable[None]]) -> None:
        while schedule.due_s < origin_s + seconds:
            await asyncio.sleep(max(1e-6, schedule.due_s - time.monotonic()))
            if schedule.is_due(time.monotonic()):
                schedule.start(time.monotonic())
                await work()

    async with asyncio.TaskGroup() as tasks:
        for name, work in works.items():
            tasks.create_task(one(schedules[name], work))
    return list(schedules.values())


async def _nothing() -> None:
    """The floor."""


Tag = Mapping[str, Any]


async def _modbus(port: Mapping[str, Any], tags: Sequence[Tag]) -> Read:
    from pymodbus.client import AsyncModbusTcpClient  # noqa: PLC0415 - the bare grid loads no library

    client = AsyncModbusTcpClient(port["host"], port=port["port"])
    assert await client.connect()
    types = {
        "float32": client.DATATYPE.FLOAT32,
        "int16": client.DATATYPE.INT16,
        "int32": client.DATATYPE.INT32,
    }
    coils = [int(tag["address"].split(":")[1]) for tag in tags if tag["type"] == "bool"]
    placed = sorted(
        (int(tag["address"].split(":")[1]), types[tag["type"]])
        for tag in tags
        if tag["type"] != "bool"
    )
    blocks: list[list[tuple[int, Any]]] = []
    for at, kind in placed:
        if not blocks or at + kind.value[1] - blocks[-1][0][0] > REGISTERS_MAX:
            blocks.append([])
        blocks[-1].append((at, kind))

    async def read_all() -> int:
        values: list[Any] = []
        for block in blocks:
            first, (last, kind) = block[0][0], block[-1]
            count = last + kind.value[1] - first
            found = await client.read_holding_registers(first, count=count, device_id=port["unit"])
            for at, kind in block:
                words = found.registers[at - first : at - first + kind.value[1]]
                values.append(client.convert_from_registers(words, kind))
        start, end = min(coils), max(coils) + 1
        bits = await client.read_coils(start, count=end - start, device_id=port["unit"])
        values += [bits.bits[at - start] for at in coils]
        return len(values)

    return read_all


async def _s7(port: Mapping[str, Any], tags: Sequence[Tag]) -> Read:
    import snap7  # noqa: PLC0415 - as above
    from snap7 import util  # noqa: PLC0415 - as above

    client = snap7.Client()
    await asyncio.to_thread(client.connect, port["host"], port["rack"], port["slot"], port["port"])
    gets: dict[str, tuple[int, Callable[..., Any]]] = {
        "REAL": (4, util.get_real),
        "INT": (2, util.get_int),
        "DINT": (4, util.get_dint),
        "BOOL": (1, util.get_bool),
    }
    form = re.compile(r"DB(\d+)\.DB[XBWD](\d+)(?:\.(\d))?:(\w+)")
    blocks: dict[int, list[tuple[int, tuple[int, ...], int, Callable[..., Any]]]] = {}
    for tag in tags:
        match = form.fullmatch(tag["address"])
        assert match, tag
        size, get = gets[match[4]]
        bit = () if match[3] is None else (int(match[3]),)
        blocks.setdefault(int(match[1]), []).append((int(match[2]), bit, size, get))

    def read_blocks() -> int:
        values = []
        for block, placed in blocks.items():
            first = min(at for at, *_ in placed)
            end = max(at + size for at, _, size, _ in placed)
            data = client.db_read(block, first, end - first)
            values += [get(data, at - first, *bit) for at, bit, _, get in placed]
        return len(values)

    async def read_all() -> int:
        return await asyncio.to_thread(read_blocks)

    return read_all


async def _opcua(port: Mapping[str, Any], tags: Sequence[Tag]) -> Read:
    from asyncua import Client  # noqa: PLC0415 - as above

    client = Client(port["url"])
    await client.connect()
    index = await client.get_namespace_index(port["namespace"])
    texts = [tag["address"].partition(";s=")[2] for tag in tags]
    nodes = [client.get_node(f"ns={index};s={text}") for text in texts]

    async def read_all() -> int:
        return len(await client.read_values(nodes))

    return read_all


_OPENS: Final = {"modbus": _modbus, "s7": _s7, "opcua": _opcua}


if __name__ == "__main__":
    main()
