"""What people and machines are shown: tables, metrics, readings, commands."""

import asyncio
import io
import itertools
import json
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from rich.console import Console
from typer.testing import CliRunner

from edge.check import Checked
from edge.cli import app
from edge.metrics import families
from edge.status import AgentStatus
from edge.tables import print_readings, print_status
from edge.trial import read_once
from protocols.driver import Clock, Device
from protocols.registry import AnyConnection
from tests.support.edge_fakes import LoopClock
from tests.support.edge_line import EXAMPLE, Watching, checked_example, living
from tests.support.line_device import LineDevice
from tests.support.simulators_line import VirtualLine

GOLDEN = Path(__file__).parents[1] / "golden" / "edge"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    folder: Path = tmp_path_factory.mktemp("agent")
    return checked_example(folder, "st000", "f07")


async def status_of(checked: Checked) -> AgentStatus:
    """Of an agent that ran for a while, one of its two devices away."""
    async with living(units=1) as run:
        watching = Watching(checked, run.line, None)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(watching.agent.run())
            await asyncio.sleep(2)
            watching.devices["f07"].away = True
            await asyncio.sleep(3)
            status = watching.agent.status()
            watching.agent.stop()
    return status


async def test_the_status_survives_its_own_json(checked: Checked) -> None:
    status = await status_of(checked)
    assert AgentStatus.model_validate_json(status.model_dump_json()) == status


async def test_the_table_names_every_device_and_why_one_is_away(checked: Checked) -> None:
    out = io.StringIO()
    print_status(await status_of(checked), Console(file=out, width=180))
    text = out.getvalue()
    for expected in ("plant1.line1", "st000/hs", "f07/hs", "down", "away", "waiting: nothing"):
        assert expected in text


async def test_metrics_say_what_the_status_says(checked: Checked) -> None:
    status = await status_of(checked)
    told = {metric.name: metric for metric in families(status)}
    assert all(metric.documentation.endswith(".") for metric in told.values())
    group = status.devices[0].groups[0]
    labels = {"device": "st000", "group": "hs"}
    assert value(told["threadline_edge_polls"], labels) == group.finished
    assert value(told["threadline_edge_poll_overruns"], labels) == 0
    assert value(told["threadline_edge_device_up"], {"device": "st000"}) == 1
    assert value(told["threadline_edge_device_up"], {"device": "f07"}) == 0
    assert value(told["threadline_edge_rows_read"], {}) == status.pipeline.read
    assert value(told["threadline_edge_link_up"], {}) == 1
    assert value(told["threadline_edge_poll_jitter_seconds"], {**labels, "quantile": "0.99"}) >= 0


def value(metric: Metric, labels: dict[str, str]) -> float:
    (found,) = [sample.value for sample in metric.samples if sample.labels == labels]
    return float(found)


async def test_reading_once_shows_every_tag_and_what_is_away(checked: Checked) -> None:
    line = VirtualLine(units=1)
    names = itertools.cycle([device.name for device in checked.plan.devices])

    def opened(_: AnyConnection, clock: Clock) -> Device:
        device = LineDevice(next(names), line, clock)
        device.away = device.name == "f07"
        return device

    readings = await read_once(checked.plan, LoopClock(), opened)
    paths = [reading.path for reading in readings]
    assert len(paths) == len(set(paths)) == 13
    assert {reading.quality for reading in readings if reading.device == "st000"} == {"good"}
    away = [reading for reading in readings if reading.device == "f07"]
    assert {reading.quality for reading in away} == {"bad"}
    assert {reading.explanation for reading in away} == {"away"}
    out = io.StringIO()
    print_readings(readings, Console(file=out, width=180))
    assert all(path in out.getvalue() for path in paths)


def test_check_prints_every_mistake_and_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    told = CliRunner().invoke(app, ["check", "mistakes.yaml", "--output", "json"])
    assert told.exit_code == 2
    expected = (GOLDEN / "mistakes.txt").read_text(encoding="utf-8").splitlines()
    assert len(json.loads(told.output)["problems"]) == len(expected)


def test_check_of_a_sound_file_ends_with_0() -> None:
    told = CliRunner().invoke(app, ["check", str(EXAMPLE), "--output", "json"])
    assert told.exit_code == 0
    assert json.loads(told.output)["sound"] is True


def test_status_needs_a_file_or_a_socket(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["status"]).exit_code == 2
    nobody = ["status", "--socket", str(tmp_path / "none.sock")]
    assert CliRunner().invoke(app, nobody).exit_code == 1
