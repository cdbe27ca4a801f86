"""The whole line for minutes: what is stored is what the plant sent, sample by sample.

The plant's journal is the truth. Every reading of a raw tag is compared with it; every conditioned
tag with the slow oracle over its raw twin, which came in the same responses.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from simulators.config import read_plant_file
from simulators.decoding import Decoder
from tests.support import truth
from tests.support.line import AGENT, Line, tags_of
from tests.support.services import need
from tests.support.stored import rows_of, stretches
from threadline.children import Children

pytestmark = [pytest.mark.system, pytest.mark.integration, pytest.mark.timeout(900)]
SECONDS = float(os.environ.get("THREADLINE_SYSTEM_SECONDS", "120"))


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A line that has run for SECONDS and was ended cleanly; its servers still answer."""
    need("postgres")
    need("mosquitto")
    with Children(tmp_path_factory.mktemp("line")) as children:
        line = Line(children)
        line.start_all()
        time.sleep(SECONDS)  # the length of the run is the condition
        line.stop_agent_and_drain()
        line.wait_for_view()
        yield line


@pytest.fixture(scope="module")
def sent(line: Line) -> Mapping[str, list[truth.Answer]]:
    return truth.answers(line.journal(), Decoder(read_plant_file(line.plant)))


def raw_tags(agent_file: Path) -> dict[str, str]:
    """Path of each raw tag → path of the tag on the same address that is conditioned."""
    return {path: path.replace(".raw.", ".", 1) for path in tags_of(agent_file) if ".raw." in path}


def test_every_reading_of_every_raw_tag_is_stored_once(
    line: Line, sent: Mapping[str, list[truth.Answer]]
) -> None:
    found = truth.Comparison()
    with line.database() as database:
        outages = stretches(database, AGENT, "outage")
        for raw, plain in raw_tags(line.agent_file).items():
            found.add(truth.compare(raw, sent[plain], rows_of(database, raw), outages))
    assert found.wrong == []
    assert found.equal >= 50 * SECONDS * 8, "over fifty raw tags ten times a second, nearly"


def test_every_conditioned_tag_is_what_the_rule_makes_of_its_raw_twin(line: Line) -> None:
    configured = tags_of(line.agent_file)
    wrong: list[str] = []
    with line.database() as database:
        anew = [one.to_us for one in stretches(database, AGENT, "outage")]
        for raw, plain in raw_tags(line.agent_file).items():
            deadband, max_time_us = report_of(configured[plain])
            kept = truth.conditioned(rows_of(database, raw), deadband, max_time_us, anew)
            stored = rows_of(database, plain)
            if [(one.time_us, one.value) for one in kept] != [
                (one.time_us, one.value) for one in stored
            ]:
                wrong.append(f"{plain}: {len(kept)} by the rule, {len(stored)} stored")
    assert wrong == []


def test_verify_finds_nothing_missing_and_nothing_twice(line: Line) -> None:
    line.command("verify", AGENT)


def test_a_deleted_sample_and_a_doubled_one_are_found(
    line: Line, sent: Mapping[str, list[truth.Answer]]
) -> None:
    """The comparison itself can fail."""
    raw, plain = next(iter(raw_tags(line.agent_file).items()))
    with line.database() as database:
        rows = rows_of(database, raw)
    assert truth.compare(raw, sent[plain], rows, []).wrong == []
    assert truth.compare(raw, sent[plain], rows[:40] + rows[41:], []).wrong
    assert truth.compare(raw, sent[plain], [*rows[:40], rows[39], *rows[40:]], []).wrong


def report_of(tag: Mapping[str, Any]) -> tuple[float, int]:
    report = tag["report"]
    assert report["on"] == "change", report
    is_number = tag.get("type", "") not in ("bool", "text") and not tag["address"].endswith("bool")
    deadband = float(report.get("deadband", {}).get("absolute", 0.0)) if is_number else 0.0
    return deadband, int(float(report["max_time"].removesuffix("s")) * 1e6)
