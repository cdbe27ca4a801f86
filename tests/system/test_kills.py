"""Agent, ingest, broker and database killed (-9) at seeded random moments, and started again.

What is stored plus the declared outages is what the plant sent; nothing is there twice. No pass is
missing at a station with a hand-shake; elsewhere a missing one is a counted gap.
THREADLINE_KILL_SEEDS=1,2,3 runs more than the one seed.
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.comparing import Evidence
from tests.support.line import AGENT, Line
from tests.support.services import need
from threadline.children import Children

pytestmark = [pytest.mark.system, pytest.mark.integration, pytest.mark.timeout(1200)]
SECONDS = float(os.environ.get("THREADLINE_SYSTEM_SECONDS", "120"))
SEEDS = [int(one) for one in os.environ.get("THREADLINE_KILL_SEEDS", "1").split(",")]
PARTS = ("agent", "ingest", "broker", "postgres")
KILLS_PER_PART = 2
REPORT = Path("build/kills.txt")


@pytest.fixture(scope="module", params=SEEDS)
def evidence(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Evidence]:
    """Of a line that was ill-treated for SECONDS, then left alone and ended cleanly."""
    need("postgres")
    need("mosquitto")
    with Children(tmp_path_factory.mktemp("kills")) as children:
        line = Line(children, seed=4711 + request.param)
        line.start_all()
        ill_treat(line, random.Random(request.param))  # noqa: S311 - a test's dice
        line.wait(lambda: line.agent_status().uplink.connected, "the uplink to come back")
        line.stop_agent_and_drain()
        line.wait_for_view()
        found = Evidence.of(line)
        report(request.param, found)
        yield found


def ill_treat(line: Line, draw: random.Random) -> None:
    """Kill, wait a moment, start again, in an order and at times that the seed decides."""
    victims = list(PARTS) * KILLS_PER_PART
    draw.shuffle(victims)
    moments = sorted(draw.uniform(0.1, 0.85) * SECONDS for _ in victims)
    begun = time.monotonic()
    for victim, moment in zip(victims, moments, strict=True):
        time.sleep(max(0.0, begun + moment - time.monotonic()))  # the moment is the condition
        line.kill(victim)
        time.sleep(draw.uniform(0.0, 2.0))  # as is the time it is away
        line.restart(victim)
    time.sleep(max(0.0, begun + SECONDS - time.monotonic()))


def report(seed: int, found: Evidence) -> None:
    """One line a seed, with the outage of each start of the agent."""
    samples, passes = found.samples(), found.passes()
    outages = ", ".join(f"{(one.to_us - one.from_us) / 1e6:.2f} s" for one in found.outages)
    REPORT.parent.mkdir(exist_ok=True)
    with REPORT.open("a") as lines:
        lines.write(
            f"seed {seed}: {samples.equal} samples equal, {samples.in_outage} in declared outages,"
            f" {samples.timed_out} timed out, {len(samples.wrong)} wrong; {passes.equal} passes"
            f" equal, {passes.torn} torn by an outage, {passes.in_gap} in counted gaps,"
            f" {len(passes.wrong)} wrong; outages {outages}\n"
        )


def test_stored_and_declared_outages_are_what_was_sent(evidence: Evidence) -> None:
    found = evidence.samples()
    assert found.wrong == []
    assert found.equal > 60 * SECONDS * 4


def test_conditioning_goes_on_over_every_kill(evidence: Evidence) -> None:
    assert evidence.conditioned() == []


def test_no_pass_is_lost_where_there_is_a_hand_shake(evidence: Evidence) -> None:
    found = evidence.passes()
    assert found.wrong == []
    assert found.equal > SECONDS / 4


def test_no_pass_and_no_event_is_there_twice(evidence: Evidence) -> None:
    twice = evidence.line.rows(
        "select station, nest, series, count from pass group by 1, 2, 3, 4 having count(*) > 1"
    )
    assert twice == []


def test_every_start_of_the_agent_declares_its_outage(evidence: Evidence) -> None:
    """One that was killed before it polled leaves its stretch to the next."""
    epochs = evidence.line.one("select count(distinct epoch) from lane")
    assert 1 <= len(evidence.outages) == epochs - 1
    assert all(one.to_us - one.from_us < 60e6 for one in evidence.outages)


def test_verify_finds_nothing_missing_and_nothing_twice(evidence: Evidence) -> None:
    said = evidence.line.command("verify", AGENT)
    assert "0 missing, 0 duplicate" in said.splitlines()[-1]
