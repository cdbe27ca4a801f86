"""Recorded samples through a binding: the same passes as when they happened."""

import csv
import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.cli import app
from edge.recorded import COLUMNS, read_samples
from edge.replay import replay
from edge.stations import make_binder
from protocols.errors import ConfigError
from protocols.events import PassEvent, from_us
from protocols.samples import DataType, Sample
from tests.support.edge_line import Run, checked_example, living, watch

STATIONS = ("L1/WIND10", "L1/ROTOR15", "L1/ST010", "L1/EOL30")


def write_csv(file: Path, samples: list[Sample]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for row in samples:
            value = None if row.value is None else str(row.value)
            time, agent = from_us(row.time_us), from_us(row.agent_time_us)
            writer.writerow([time, row.path, row.type, value, row.quality, row.code, agent, None])


def rows(run: Run) -> list[Sample]:
    return [row for cut in run.cuts for row in cut.samples.rows()]


@pytest.mark.slow
async def test_a_replay_gives_the_passes_that_were_made(tmp_path: Path) -> None:
    checked = checked_example(tmp_path)
    async with living(units=2) as run:
        await watch(run, checked)
    file = tmp_path / "samples.csv"
    write_csv(file, rows(run))
    numbers = itertools.count(1)
    binder = make_binder(checked.plan.binding, "UTC", 1, lambda: next(numbers))
    found = replay(checked.plan, binder, read_samples(file))
    made = [one for one in run.events(PassEvent) if one.station in STATIONS]
    again = [one for one in found.events if isinstance(one, PassEvent) and one.station in STATIONS]
    assert made
    assert sorted(map(key, again)) == sorted(map(key, made))
    assert not found.unknown


def key(one: PassEvent) -> tuple[str, int, str, str]:
    item = one.items[0]
    return one.station, int(one.key.raw or 0), str(item.verdict), str(item.ref)


def test_values_come_back_as_their_types(tmp_path: Path) -> None:
    at = 1_800_000_000_123_456
    samples = [
        Sample(
            "p.bit",
            DataType.BOOL,
            at,
            value=True,
            quality=0,
            code=None,
            agent_time_us=at,
            device_time_us=None,
        ),
        Sample("p.big", DataType.UINT64, at, 2**64 - 1, 0, None, at, None),
        Sample("p.real", DataType.FLOAT32, at, -0.5, 0, None, at, None),
        Sample("p.text", DataType.TEXT, at, 'a "b", c', 0, None, at, None),
        Sample("p.bad", DataType.INT16, at, None, 0x80000000, 7, at, None),
        Sample("p.list", DataType.FLOAT64S, at, [1.0, 2.5], 0, None, at, None),
    ]
    file = tmp_path / "samples.csv"
    write_csv(file, samples)
    assert read_samples(file) == samples


def test_a_file_that_holds_no_samples_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "samples.csv"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_samples(file)
    file.write_text("time,path\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has no column type, value, quality"):
        read_samples(file)
    stamp = datetime(2027, 1, 1, tzinfo=UTC).isoformat()
    file.write_text(
        f"{','.join(COLUMNS)}\n{stamp},p.a,bool,maybe,0,,,\n{stamp},p.b,real,1,0,,,\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as raised:
        read_samples(file)
    assert [problem.value for problem in raised.value.problems] == ["p.a", "p.b"]


def test_the_command_prints_events_and_needs_a_recording(tmp_path: Path) -> None:
    checked_example(tmp_path)
    recording = tmp_path / "samples.csv"
    recording.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    told = CliRunner().invoke(
        app, ["bind", str(tmp_path / "agent.yaml"), "--dry-run", str(recording)]
    )
    assert told.exit_code == 1, "nothing followed"
