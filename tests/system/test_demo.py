"""The demo as a user starts it: with an end it proves itself; killed or told, it leaves nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.services import need

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
LIFE_S = 40  # the first unit is finished after about 17 s
PATIENCE_S = 240.0
PARTS = {"plant", "postgres", "mosquitto", "ingest", "api", "agent"}


@pytest.fixture(autouse=True)
def _services() -> None:
    need("postgres")
    need("mosquitto")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where a demo lives; what a failed test leaves running ends with it."""
    yield tmp_path / "demo"
    for process in running(tmp_path / "demo"):
        process.kill()


def start(directory: Path, seconds: str = "", *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "threadline", "demo", "--directory", str(directory), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "DEMO_SECONDS": seconds},
    )


def recorded(directory: Path) -> dict[str, int]:
    """The children of a demo, by name."""
    file = directory / "children.json"
    return (
        {one["name"]: one["pid"] for one in json.loads(file.read_text())} if file.exists() else {}
    )


def running(directory: Path) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in recorded(directory).values() if psutil.pid_exists(pid)]


def alive(process: psutil.Process) -> bool:
    """A container without an init keeps the dead ones that nobody asked for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(happens: Callable[[], bool], demo: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happens():
        assert demo.poll() is None, demo.stdout and demo.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def asked_by_a_shell(env: Path) -> int:
    """The answer's code to somebody who was told by the file how to ask."""
    script = f'. {env}; exec {sys.executable} -c "$0"'
    code = """
import os, urllib.request
headers = {"Authorization": "Bearer " + os.environ["THREADLINE_TOKEN"]}
asked = urllib.request.Request(os.environ["THREADLINE_API"] + "/overview", headers=headers)
print(urllib.request.urlopen(asked, timeout=10).status)
"""
    words = ["sh", "-c", script, code]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    return int(done.stdout)


def test_a_demo_with_an_end_proves_itself(directory: Path) -> None:
    demo = start(directory, str(LIFE_S))
    printed, _ = demo.communicate(timeout=PATIENCE_S)
    lines = printed.splitlines()
    assert demo.returncode == 0, printed
    assert re.fullmatch(r"plant1\.line1: \d+ stored, 0 missing, 0 duplicate", lines[-1]), printed
    assert int(lines[-1].split()[1]) > LIFE_S * 500
    story = printed[printed.index("unit · serial") :]
    for station in ("ST000", "WIND10", "ROTOR15", "ST010", "EOL30"):
        assert f"L1/{station}" in story
    assert "part lot CU" in story
    figures = [line for line in lines if line.startswith("[00:")]
    assert len(figures) > LIFE_S / 8
    assert not re.search(r"finished 0$", figures[-1])
    assert recorded(directory) == {}


def test_a_demo_through_kafka_proves_itself_too(directory: Path) -> None:
    need("kafka")
    demo = start(directory, "25", "--route", "kafka")
    printed, _ = demo.communicate(timeout=PATIENCE_S)
    lines = printed.splitlines()
    assert demo.returncode == 0, printed
    assert re.fullmatch(r"plant1\.line1: \d+ stored, 0 missing, 0 duplicate", lines[-1]), printed
    assert "PostgreSQL, mosquitto and Kafka are up" in printed
    figures = [line for line in lines if line.startswith("[00:")]
    assert re.search(r"gateway [1-9]\d* frames/s", figures[-1]), figures[-1]
    assert recorded(directory) == {}


def test_a_demo_starts_again_after_a_kill_and_leaves_when_told(directory: Path) -> None:
    killed = start(directory)
    wait_until(lambda: recorded(directory).keys() == PARTS, killed)
    orphans = running(directory)
    killed.kill()
    killed.communicate(timeout=PATIENCE_S)
    assert len(orphans) == len(PARTS)
    assert all(map(alive, orphans))
    old = {one.pid for one in orphans}

    again = start(directory)
    wait_until(lambda: not old & set(recorded(directory).values()), again)
    assert not any(map(alive, orphans)), "the new run clears the old one before it starts"
    wait_until((directory / "env").exists, again)
    assert asked_by_a_shell(directory / "env") == 200
    again.send_signal(signal.SIGINT)
    printed, _ = again.communicate(timeout=60)
    assert again.returncode == 0, printed
    assert "as asked" in printed.splitlines()[-1]
    assert recorded(directory) == {}


def test_a_demo_leaves_when_told_while_it_starts(directory: Path) -> None:
    demo = start(directory)
    wait_until(lambda: "plant" in recorded(directory), demo)
    plant = running(directory)
    demo.terminate()
    printed, _ = demo.communicate(timeout=90)
    assert demo.returncode == 0, printed
    assert "as asked" in printed
    assert not any(map(alive, plant))


def test_a_second_demo_in_the_same_directory_is_refused(directory: Path) -> None:
    first = start(directory)
    wait_until(lambda: "plant" in recorded(directory), first)
    second = start(directory)
    printed, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 1
    assert f"in use by process {first.pid}" in printed
    assert first.poll() is None
    first.terminate()
    first.communicate(timeout=90)
    assert first.returncode == 0


def test_a_part_that_does_not_come_up_is_named_with_its_log(directory: Path) -> None:
    """The plant dies while the others start: the demo says who it was, and leaves nothing."""
    demo = start(directory)
    wait_until(lambda: "plant" in recorded(directory), demo)
    psutil.Process(recorded(directory)["plant"]).kill()
    printed, _ = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1, printed
    assert "plant ended with code -9" in printed
    assert recorded(directory) == {}
