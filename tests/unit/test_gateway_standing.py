"""Healthy means confirmed, not alive; a state is logged once down and once up. In virtual time."""

import asyncio

from structlog.testing import capture_logs

from gateway.metrics import STATES, Metrics
from gateway.standing import STALE_S, Part, Standing
from tests.support.gateway_fakes import LoopClock


def standing() -> Standing:
    made = Standing(LoopClock(), Metrics())
    made.up(Part.KAFKA)
    made.up(Part.BROKER)
    return made


async def test_it_runs_when_both_sides_do() -> None:
    made = Standing(LoopClock(), Metrics())
    assert made.state == "starting"
    made.up(Part.KAFKA)
    assert made.state == "starting"
    made.up(Part.BROKER)
    assert made.state == "running"


async def test_kafkas_trouble_is_told_before_the_brokers() -> None:
    made = standing()
    made.down(Part.BROKER, "broker_down", "b")
    made.down(Part.KAFKA, "kafka_down", "k")
    assert (made.health().state, made.health().reason) == ("kafka_down", "k")
    made.up(Part.KAFKA)
    assert (made.health().state, made.health().reason) == ("broker_down", "b")


async def test_a_state_that_stays_is_logged_once_and_its_reason_kept_fresh() -> None:
    made = standing()
    with capture_logs() as logs:
        for number in range(5):
            made.down(Part.KAFKA, "kafka_down", f"try {number}")
        made.up(Part.KAFKA)
        made.up(Part.KAFKA)
    assert [one["event"] for one in logs] == ["down", "up"]
    made.down(Part.KAFKA, "kafka_down", "try 1")
    made.down(Part.KAFKA, "kafka_down", "try 2")
    assert made.health().reason == "try 2"


async def test_alive_and_not_confirming_is_no_health() -> None:
    made = standing()
    made.took(2)
    await asyncio.sleep(STALE_S + 1)
    assert not made.health().healthy
    assert "2 messages wait" in made.health().reason
    made.wrote(1)
    assert made.health().healthy
    assert made.health().waiting == 1
    made.wrote(1)
    await asyncio.sleep(10 * STALE_S)
    health = made.health()
    assert health.healthy, "nothing to do is health too"
    assert health.age_s == 10 * STALE_S
    assert health.as_json()["last_write_at"] is not None


async def test_the_metrics_follow_the_state() -> None:
    metrics = Metrics()
    made = Standing(LoopClock(), metrics)
    made.down(Part.KAFKA, "topic_missing", "tl.live")
    shown = {
        state: metrics.registry.get_sample_value(
            "threadline_gateway_state", {"threadline_gateway_state": state}
        )
        for state in STATES
    }
    assert [state for state, value in shown.items() if value] == ["topic_missing"]
