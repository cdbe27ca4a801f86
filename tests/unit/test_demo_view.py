"""What the demo shows: figures from two rounds of answers, fitted to the terminal."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from threading import Thread
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from edge.status import (
    AgentStatus,
    DeviceShown,
    GroupShown,
    PipelineShown,
    SpoolShown,
    UplinkShown,
)
from protocols.errors import Disconnected
from threadline.demo.figures import Finished, GatewayTold, Told, figures, newest_finished
from threadline.demo.view import Scene, live, plain
from threadline.demo.watching import ask_gateway

DEVICES = ("st000", "w10", "f07", "r15", "eol30", "p20", "scanner20", "st010")
STATIONS = (
    ("L1/EOL30", ""),
    ("L1/F07-LOAD", ""),
    ("L1/PRESS20", "a"),
    ("L1/PRESS20", "b"),
    ("L1/ROTOR15", ""),
    ("L1/ST000", ""),
    ("L1/ST010", ""),
    ("L1/WIND10", ""),
)


def agent(read: int, finished: int, overruns: int = 0) -> AgentStatus:
    return AgentStatus(
        agent="plant1.line1",
        version="1",
        epoch="0" * 16,
        at="2026-11-22T09:00:00Z",
        started="2026-11-22T09:00:00Z",
        devices=tuple(device(name, finished, overruns) for name in DEVICES),
        pipeline=pipeline(read),
        spool=SpoolShown(
            bytes=5 * 1024**2, waiting_rows={"live": 250, "events": 2}, oldest_age_s=0
        ),
        uplink=UplinkShown(state="connected", connected=True, identity="unproven", counters={}),
        metrics="off",
        restarts={},
    )


def device(name: str, finished: int, overruns: int) -> DeviceShown:
    group = GroupShown(
        group="g",
        interval_ms=100,
        tags=54,
        requests=2,
        scheduled=finished,
        started=finished,
        finished=finished,
        overruns=overruns,
        down=0,
        age_ms=40,
        jitter_p50_ms=1,
        jitter_p99_ms=8,
        duration_p50_ms=3,
        duration_p99_ms=9,
    )
    return DeviceShown(
        device=name,
        state="up",
        reason="",
        since="",
        opened=1,
        failed=0,
        bad_rows=0,
        requests_failed=0,
        facts={},
        groups=(group,),
    )


def pipeline(read: int) -> PipelineShown:
    return PipelineShown(
        read=read,
        derived=0,
        filtered=0,
        discarded=0,
        events=0,
        curves=0,
        alarms=0,
        cuts=0,
        waits_for_spool=0,
        behind_ms=0,
        overrun_batches=0,
        overrun_rows=0,
    )


def station(name: str, nest: str, **changed: Any) -> dict[str, Any]:
    made = {
        "station": name,
        "nest": nest,
        "passes": 20,
        "others": 1,
        "verdicts": {"pass": 17, "fail": 2, "aborted": 1},
        "gaps": 0,
        "last_item": "id",
        "last_scheme": "serial",
        "last_name": "03MV00000018",
        "last_verdict": "pass",
    }
    return made | changed


def told(at_s: float, read: int, finished: int = 0, **changed: Any) -> Told:
    stations = [station(*one) for one in STATIONS]
    overview = {"name": "plant1.line1", "lag_s": 0.25, "rows_per_s": 1180.4}
    return replace(
        Told(at_s, agent(read, finished, 3), overview, stations, {"agent": at_s / 4}), **changed
    )


def test_rates_are_over_the_stretch_between_two_rounds() -> None:
    shown = figures(90.0, told(100.0, 1000, 50), told(104.0, 7000, 90))
    assert shown.elapsed_s == 14.0
    assert shown.read_per_s == 1500.0
    assert shown.stored_per_s == 1180.4
    assert {one.reads_per_s for one in shown.devices} == {10.0}
    assert shown.overruns == 3 * len(DEVICES)
    assert shown.waiting_rows == 252
    assert shown.passes == 21 * len(STATIONS)
    assert shown.finished == 17
    assert {one.others for one in shown.stations} == {2}
    assert shown.cpu_percent == {"agent": 25.0}


def test_an_agent_that_started_again_has_no_rate_yet() -> None:
    assert figures(0.0, told(1.0, 9000), told(2.0, 10)).read_per_s is None


def test_who_is_silent_leaves_a_dash_and_a_reason() -> None:
    silent = Told(5.0, why=("plant1.line1: connection refused",))
    line = plain(Scene("http://x", "env", figures(0.0, told(1.0, 1), silent)))
    assert line == (
        "[00:05]  read -/s  stored -/s  overruns -  spool - rows  lag -  passes -  gaps -"
        "  finished -  (plant1.line1: connection refused)"
    )


def test_the_gateway_has_a_line_where_there_is_one() -> None:
    before = told(1.0, 0, gateway=GatewayTold("running", 100, 0, 0.1))
    now = told(11.0, 0, gateway=GatewayTold("kafka_down", 480, 7, 4.0))
    scene = Scene("http://x", "env", figures(0.0, before, now))
    assert plain(scene).endswith("gateway kafka_down 38 frames/s")
    text = "\n".join(printed(scene, 100, 40))
    assert (
        "gateway kafka_down   carried 38 frames/s   Kafka confirmed 4.0 s ago   waiting 7" in text
    )
    assert "gateway" not in plain(Scene("http://x", "env", figures(0.0, told(1, 0), told(2, 0))))


def test_a_gateway_that_is_unwell_tells_why_it_is() -> None:
    health = json.dumps({"state": "kafka_down", "waiting_messages": 3, "last_write_age_s": 9.5})
    metrics = (
        "# TYPE threadline_gateway_frames_total counter\n"
        'threadline_gateway_frames_total{outcome="carried"} 41.0\n'
        'threadline_gateway_frames_total{outcome="too_large"} 1.0\n'
        'threadline_gateway_frames_created{outcome="carried"} 1.7e+09\n'
    )
    answers = {"/health": (503, health), "/metrics": (200, metrics)}
    with serving(answers) as url:
        assert ask_gateway(url) == GatewayTold("kafka_down", 42, 3, 9.5)
    with pytest.raises(Disconnected, match="does not answer"):
        ask_gateway(url)


@pytest.mark.parametrize(
    ("last", "unit"),
    [
        ({"last_verdict": "pass"}, Finished("id", "serial", "03MV00000018")),
        ({"last_verdict": "fail"}, None),
        ({"last_verdict": "pass", "last_name": None}, None),
    ],
)
def test_a_unit_is_finished_that_passed_the_last_test(
    last: dict[str, Any], unit: Finished | None
) -> None:
    stations = [station("L1/ST000", "", last_name="another"), station("L1/EOL30", "", **last)]
    assert newest_finished(stations) == unit


@contextmanager
def serving(answers: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    """A server of a few fixed pages; its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, text = answers[self.path]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def drawn(width: int, height: int, story: int, why: tuple[str, ...] = ()) -> list[str]:
    shown = figures(0.0, told(1.0, 0), told(62.0, 90_000, why=why))
    lines = [Text(f"story {number} " + "x" * 200) for number in range(story)]
    short = [Text("short"), Text("way"), Text("in")]
    return printed(
        Scene("http://127.0.0.1:40123", ".threadline/demo/env", shown, lines, short), width, height
    )


def printed(scene: Scene, width: int, height: int) -> list[str]:
    out = StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=False)
    console.print(live(scene, width, height))
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (100, 26)])
@pytest.mark.parametrize("why", [(), ("the API answered 503: " + "long " * 40,)])
def test_it_fits_the_terminal(width: int, height: int, why: tuple[str, ...]) -> None:
    lines = drawn(width, height, 100, why)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for word in (
        *DEVICES,
        "PRESS20 a",
        "EOL30",
        "http://127.0.0.1:40123/docs",
        "01:02",
        "demo/env",
    ):
        assert word in text
    assert "units finished" in text


def test_a_story_that_does_not_fit_is_told_short() -> None:
    assert drawn(80, 24, 100)[-3:] == ["short", "way", "in"]
    assert drawn(80, 60, 10)[-1].startswith("story 9")
    assert drawn(80, 22, 100)[-1].startswith("short")
