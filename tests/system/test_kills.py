"""Every part killed (-9), stopped and continued, every wire cut and hung, at moments of a seed.

What is stored plus the declared outages is what the plant sent; nothing is there twice. No pass is
missing at a station with a hand-shake; elsewhere a missing one is a counted gap. Both routes.
THREADLINE_KILL_SEEDS=1,2,3 runs more than the one seed.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.blows import plan, strike
from tests.support.comparing import WAS_DOWN, Evidence
from tests.support.line import AGENT, Line, seconds_of_life
from tests.support.links import Links
from tests.support.services import need
from threadline.children import Children
from threadline.route import Route

pytestmark = [pytest.mark.system, pytest.mark.integration, pytest.mark.timeout(1200)]
# In CI; by hand THREADLINE_SYSTEM_SECONDS=120 is the length that figures are given for.
LIFE_S = {route: seconds_of_life(one) for route, one in {Route.DIRECT: 75, Route.KAFKA: 90}.items()}
SEEDS = [int(one) for one in os.environ.get("THREADLINE_KILL_SEEDS", "1").split(",")]
STOP_SEEN_US = 3_000_000
REPORT = Path("build/kills.txt")


@pytest.fixture(
    scope="module",
    params=[(route, seed) for route in Route for seed in SEEDS],
    ids=lambda one: f"{one[0]}-{one[1]}",
)
def evidence(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Evidence]:
    """Of a line that was ill-treated for a while, then left alone and ended cleanly."""
    route, seed = request.param
    for service in ("postgres", "mosquitto", *(["kafka"] if route is Route.KAFKA else [])):
        need(service)
    with Children(tmp_path_factory.mktemp("kills")) as children, Links() as links:
        line = Line(children, seed=4711 + seed, route=route, links=links, gateways=2)
        line.start_all()
        steps = plan(seed, LIFE_S[route], line.parts, tuple(links.all))
        strike(line, steps, LIFE_S[route])
        line.wait(lambda: line.agent_status().uplink.connected, "the uplink to come back")
        line.stop_agent_and_drain()
        line.wait_for_view()
        found = Evidence.of(line)
        report(f"{route} {seed}", found)
        yield found


def report(run: str, found: Evidence) -> None:
    """One line a seed, with the outages of the agent."""
    samples, passes = found.samples(), found.passes()
    outages = ", ".join(f"{(one.to_us - one.from_us) / 1e6:.2f} s" for one in found.outages)
    REPORT.parent.mkdir(exist_ok=True)
    with REPORT.open("a") as lines:
        lines.write(
            f"{run}: {samples.equal} samples equal, {samples.in_outage} in declared outages,"
            f" {samples.timed_out} timed out, {len(samples.wrong)} wrong; {passes.equal} passes"
            f" equal, {passes.torn} torn by an outage, {passes.unseen} unseen in a pause,"
            f" {passes.in_gap} in counted gaps,"
            f" {len(passes.wrong)} wrong; outages {outages}\n"
        )


def test_stored_and_declared_outages_are_what_was_sent(evidence: Evidence) -> None:
    found = evidence.samples()
    assert found.wrong == []
    assert found.equal > 60 * LIFE_S[evidence.line.route] * 4


def test_conditioning_goes_on_over_every_kill(evidence: Evidence) -> None:
    assert evidence.conditioned() == []


def test_no_pass_is_lost_where_there_is_a_hand_shake(evidence: Evidence) -> None:
    found = evidence.passes()
    assert found.wrong == []
    assert found.equal > LIFE_S[evidence.line.route] / 4


def test_no_pass_and_no_event_is_there_twice(evidence: Evidence) -> None:
    twice = evidence.line.rows(
        "select station, nest, series, count from pass group by 1, 2, 3, 4 having count(*) > 1"
    )
    assert twice == []


def test_every_start_of_the_agent_declares_its_outage(evidence: Evidence) -> None:
    """One that was killed before it polled leaves its stretch to the next."""
    epochs = evidence.line.one("select count(distinct epoch) from lane")
    assert 1 <= sum(one.reason == WAS_DOWN for one in evidence.outages) == epochs - 1
    assert all(one.to_us - one.from_us < 60e6 for one in evidence.outages)


def test_every_long_stop_of_the_agent_is_a_declared_outage(evidence: Evidence) -> None:
    """Also if it was killed while it stood still."""
    for pause in evidence.line.agent_pauses:
        if pause.to_us - pause.from_us > STOP_SEEN_US:
            middle_us = pause.from_us + STOP_SEEN_US // 2
            assert any(one.from_us <= middle_us <= one.to_us for one in evidence.outages), pause


def test_verify_finds_nothing_missing_and_nothing_twice(evidence: Evidence) -> None:
    said = evidence.line.command("verify", AGENT)
    assert "0 missing, 0 duplicate" in said.splitlines()[-1]
