"""The agent as a process of its own: sockets, signals, exit codes; no PLC and no broker there."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.status import AgentStatus, ask_status
from protocols.errors import Disconnected

pytestmark = pytest.mark.integration
FILE = """\
agent: plant1.line1
devices:
  w10:
    connection: {{protocol: modbus, host: 127.0.0.1, port: {dead}, timeout_s: 0.5}}
    groups: {{fast: {{interval: 100ms, tags: {{speed: "holding:0:uint16"}}}}}}
uplink: {{url: "mqtt://127.0.0.1:{dead}"}}
metrics: {{listen: "127.0.0.1:{metrics}"}}
"""


class Process:
    """One agent; ended by the fixture whatever happens."""

    def __init__(self, file: Path, *options: str) -> None:
        self.file = file
        self.log = (file.parent / "run.log").open("ab")
        command = [sys.executable, "-m", "threadline", "--log-format", "json", "edge", "run"]
        self.child = subprocess.Popen(
            [*command, str(file), *options], stdout=self.log, stderr=self.log
        )

    def status(self) -> AgentStatus | None:
        try:
            return ask_status(self.file.parent / "spool" / "status.sock")
        except Disconnected:
            return None

    def end(self, sent: signal.Signals) -> int:
        self.child.send_signal(sent)
        return self.child.wait(20)

    def lines(self) -> list[dict[str, Any]]:
        text = (self.file.parent / "run.log").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(metrics: int = 0, *options: str) -> Process:
        file = tmp_path / "agent.yaml"
        file.write_text(FILE.format(dead=free_port(), metrics=metrics), encoding="utf-8")
        started.append(Process(file, *options))
        return started[-1]

    yield begin
    for process in started:
        process.child.kill()
        process.child.wait(20)
        process.log.close()


def cli(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "threadline", "edge", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_an_agent_without_plc_and_broker_runs_says_so_and_stops_cleanly(
    start: Callable[..., Process],
) -> None:
    process = start(free_port())
    until(lambda: (now := process.status()) is not None and now.devices[0].state == "down")
    until(lambda: (now := process.status()) is not None and now.uplink.state != "connecting")
    status = process.status()
    assert status is not None
    assert "127.0.0.1" in status.devices[0].reason
    assert not status.uplink.connected
    assert status.metrics == "listening"
    assert status.spool.bytes > 0
    assert process.end(signal.SIGTERM) == 0
    lines = process.lines()
    assert [line["event"] for line in lines].count("device down") == 1, "one line down"
    assert lines[-1]["event"] == "agent stopped"
    assert not (process.file.parent / "spool" / "status.sock").exists()


def test_metrics_tell_what_the_status_tells(start: Callable[..., Process]) -> None:
    port = free_port()
    process = start(port)
    until(lambda: (now := process.status()) is not None and now.devices[0].state == "down")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    for expected in (
        'threadline_edge_device_up{device="w10"} 0.0',
        'threadline_edge_polls_down_total{device="w10",group="fast"}',
        "threadline_edge_link_up 0.0",
        "threadline_edge_buffer_bytes",
        'threadline_edge_state{part="device w10",state="down"} 1.0',
        "process_resident_memory_bytes",
    ):
        assert expected in text
    with socket.create_connection(("127.0.0.1", port), 5) as talk:
        talk.sendall(b"POST / HTTP/1.1\r\n\r\n")
        assert talk.recv(100).startswith(b"HTTP/1.1 405")
    with socket.create_connection(("127.0.0.1", port), 5) as talk:
        talk.sendall(b"x" * 100_000)  # no request at all: closed, and the agent goes on
    assert process.status() is not None


def test_a_port_that_is_taken_is_a_state_and_no_crash(start: Callable[..., Process]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        process = start(port)
        until(lambda: (now := process.status()) is not None and "in use" in now.metrics)
        assert process.child.poll() is None
    until(lambda: (now := process.status()) is not None and now.metrics == "listening")
    states = [line["state"] for line in process.lines() if line["event"] == "metrics endpoint"]
    assert len(states) == 2, "one line when it was taken, one when it listened"


def test_a_killed_agent_starts_again_over_its_own_remains(start: Callable[..., Process]) -> None:
    first = start()
    until(lambda: (now := first.status()) is not None and now.pipeline.cuts > 2)
    first.end(signal.SIGKILL)
    assert (first.file.parent / "spool" / "status.sock").exists()
    second = start()
    until(lambda: (now := second.status()) is not None and now.pipeline.cuts > 2)
    assert second.end(signal.SIGTERM) == 0


def test_status_shows_a_running_agent_as_table_and_json(start: Callable[..., Process]) -> None:
    process = start()
    until(lambda: process.status() is not None)
    shown = cli("status", str(process.file))
    assert shown.returncode == 0
    assert "w10" in shown.stdout
    plain = cli(
        "status", "--output", "json", "--socket", str(process.file.parent / "spool/status.sock")
    )
    assert AgentStatus.model_validate_json(plain.stdout).agent == "plant1.line1"
    process.end(signal.SIGTERM)
    assert cli("status", str(process.file)).returncode == 1


def test_check_and_run_refuse_a_faulty_file_with_code_2(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("agent: plant1.line1\nupling: {}\n", encoding="utf-8")
    for command in ("check", "run", "test"):
        done = cli(command, str(file))
        assert done.returncode == 2
        assert "upling = : is not a known key" in done.stderr or "upling: is not" in done.stderr
        assert "uplink: is missing" in done.stderr
    told = json.loads(cli("check", str(file), "--output", "json").stdout)
    assert told["sound"] is False
    assert {"where", "value", "why", "remedy"} == set(told["problems"][0])


def test_reading_once_prints_bad_rows_of_a_device_that_is_away(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(FILE.format(dead=free_port(), metrics=0), encoding="utf-8")
    done = cli("test", str(file), "--output", "json")
    assert done.returncode == 1
    (row,) = json.loads(done.stdout)
    assert (row["path"], row["quality"], row["value"]) == ("w10.speed", "bad", None)
    assert not (tmp_path / "spool").exists(), "nothing is spooled, nothing published"
