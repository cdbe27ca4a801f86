"""The agent on the simulated plant's real wire, devices hanging and refusing meanwhile.

What the agent hands to its outbox is compared with the plant's own journal, answer by answer.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.agent import Agent, system
from edge.check import Checked, check
from edge.status import AgentStatus
from protocols.events import PassEvent
from simulators.config import read_plant_file
from simulators.decoding import Decoder
from simulators.journal import CycleRecord, read_journal
from tests.support.edge_fakes import MemoryOutbox
from tests.support.truth import Comparison, Row, answers, compare

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
PLANT = ROOT / "simulators" / "plants" / "edrive.yaml"
EXAMPLE = ROOT / "edge" / "examples" / "edrive.yaml"


@dataclass
class Plant:
    """A running plant and where it says what it did."""

    folder: Path
    process: "asyncio.subprocess.Process"

    @property
    def environment(self) -> dict[str, str]:
        """Where its devices are, as the agent takes it from outside its file."""
        ports = json.loads((self.folder / "ports.json").read_text(encoding="utf-8"))
        return dict(_variable(name, port) for name, port in ports.items())

    async def tell(self, **order: str) -> Mapping[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self.folder / "control.sock")
        writer.write(json.dumps(order).encode() + b"\n")
        answer: Mapping[str, Any] = json.loads(await reader.readline())
        writer.close()
        return answer


def _variable(name: str, port: Mapping[str, Any]) -> tuple[str, str]:
    if "url" in port:
        return f"EDGE_DEVICE_{name.upper()}_URL", port["url"]
    return f"EDGE_DEVICE_{name.upper()}_PORT", str(port["port"])


@asynccontextmanager
async def plant(folder: Path) -> AsyncIterator[Plant]:
    command = [sys.executable, "-m", "threadline", "simulators", "run", str(PLANT)]
    files = ["--ports-file", "ports.json", "--journal", "journal.jsonl"]
    process = await asyncio.create_subprocess_exec(
        *command,
        *files,
        "--control",
        "control.sock",
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while not (folder / "ports.json").exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.1)
        yield Plant(folder, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class Watch:
    """The agent and its outbox in memory."""

    def __init__(self, checked: Checked) -> None:
        self.outbox = MemoryOutbox()
        self.agent = Agent(checked, self.outbox, system())

    def rows(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for cut in self.outbox.cuts:
            for row in cut.samples.rows():
                found[row.path].append(Row(row.time_us, row.value, row.quality))
        return {path: sorted(rows, key=lambda row: row.time_us) for path, rows in found.items()}

    def passes(self) -> list[PassEvent]:
        events = [event for cut in self.outbox.cuts for event in cut.events]
        return [event for event in events if isinstance(event, PassEvent)]


async def test_what_was_sent_is_what_was_read_whatever_fails(tmp_path: Path) -> None:
    async with plant(tmp_path) as line:
        checked = check(EXAMPLE, line.environment)
        watch = Watch(checked)
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            tasks.create_task(watch.agent.run())
            await asyncio.sleep(6)
            await line.tell(do="hang", device="p20")
            await line.tell(do="stop", device="w10")
            await asyncio.sleep(6)
            meanwhile = watch.agent.status()
            await line.tell(do="resume", device="p20")
            await line.tell(do="start", device="w10")
            await asyncio.sleep(14)
            afterwards = watch.agent.status()
            watch.agent.stop()
        await line.tell(do="flush")
    journal = list(read_journal(tmp_path / "journal.jsonl"))
    assert states(meanwhile) == {
        **dict.fromkeys(("st000", "r15", "eol30", "st010"), "up"),
        **dict.fromkeys(("p20", "scanner20", "w10", "f07"), "down"),
    }
    assert set(states(afterwards).values()) == {"up"}
    undisturbed = [device for device in afterwards.devices if device.failed == 0]
    assert {device.device for device in undisturbed} == {"st000", "r15", "eol30", "st010"}
    decoder = Decoder(read_plant_file(PLANT))
    sent = answers(journal, decoder)
    rows = watch.rows()
    total = Comparison()
    for path in rows:
        if ".raw." in path:
            total.add(compare(path, sent[path.replace(".raw.", ".")], rows[path], ()))
    assert not total.wrong
    assert total.equal > 5_000
    assert total.bad_rows > 0
    hand_shaken = ("L1/ROTOR15", "L1/ST010", "L1/EOL30")
    cycles = {
        (one.station, one.count)
        for one in journal
        if isinstance(one, CycleRecord) and one.station in hand_shaken
    }
    bound = {(one.station, int(one.key.raw or 0)) for one in watch.passes()}
    missing = cycles - bound
    assert len(missing) <= 3, "at most the one that each station was offering at the end"


def states(status: AgentStatus) -> dict[str, str]:
    return {device.device: device.state for device in status.devices}
