"""The bridge between a fake broker and a fake Kafka, in virtual time."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.answering import REMEMBERED_MAX
from gateway.bridge import Bridge, Pace
from gateway.metrics import Metrics
from gateway.ports import HELD_BYTES_MAX, Terms, Trouble
from gateway.standing import Standing
from protocols.errors import ConfigError, Disconnected, Problem
from protocols.receipts import decode_receipt
from protocols.topics import DEAD_TOPIC
from tests.support.gateway_fakes import AGENT, FakeIntake, FakeOutlet, LoopClock, frame


@dataclass
class Rig:
    intake: FakeIntake
    outlet: FakeOutlet
    standing: Standing
    metrics: Metrics

    def publish(self, *seqs: int, size: int = 1) -> list[int]:
        return [self.intake.publish("live", frame(seq, bytes(size)).sealed) for seq in seqs]

    def is_subscribed(self) -> bool:
        return self.intake.is_open

    @property
    def written(self) -> list[int]:
        return [one.label.seq for one in self.outlet.written if one.label is not None]

    @property
    def logged(self) -> list[int]:
        """Seqs that `logged` was said of, in order."""
        return [
            run.first + place
            for letter in self.intake.sent
            for run in decode_receipt(letter.receipt).runs
            for place in range(len(run.digests))
        ]

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"threadline_gateway_{name}", labels) or 0.0


@asynccontextmanager
async def running(
    intake: FakeIntake | None = None,
    outlet: FakeOutlet | None = None,
    told: asyncio.Event | None = None,
) -> AsyncIterator[Rig]:
    clock, metrics = LoopClock(), Metrics()
    rig = Rig(intake or FakeIntake(), outlet or FakeOutlet(), Standing(clock, metrics), metrics)
    bridge = Bridge(rig.intake, rig.outlet, rig.standing, metrics, clock, Pace())
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(bridge.run(told or asyncio.Event()))
        await asyncio.sleep(1)
        yield rig
        task.cancel()


async def test_a_frame_is_acknowledged_after_kafka_and_answered() -> None:
    async with running() as rig:
        numbers = rig.publish(1, 2, 3)
        await asyncio.sleep(0.1)
        assert rig.written == [1, 2, 3]
        assert rig.intake.acknowledged == numbers
        assert rig.logged == [1, 2, 3]
        assert len(rig.intake.sent) == 1
        assert rig.standing.state == "running"
        assert rig.value("frames_total", outcome="carried") == 3


async def test_nothing_is_acknowledged_or_answered_before_kafka_confirms() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(1, 2)
        await asyncio.sleep(5)
        assert rig.written == [1, 2]
        assert (rig.intake.acknowledged, rig.intake.sent) == ([], [])
        assert rig.standing.health().waiting == 2


async def test_order_of_acks_holds_when_kafka_confirms_out_of_order() -> None:
    draw = random.Random(3)  # noqa: S311 - an order, no secret
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        numbers = rig.publish(*range(1, 201))
        await asyncio.sleep(0.1)
        records = draw.sample(rig.outlet.written, len(rig.outlet.written))
        while records:
            some, records = records[:7], records[7:]
            rig.outlet.confirm(some)
            await asyncio.sleep(0.02)
            assert rig.intake.acknowledged == numbers[: len(rig.intake.acknowledged)]
        assert rig.intake.acknowledged == numbers
        assert sorted(rig.logged) == list(range(1, 201))


async def test_logged_is_said_at_once_also_of_what_may_not_be_acknowledged_yet() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(1, 2)
        await asyncio.sleep(0.1)
        rig.outlet.confirm(rig.outlet.written[1:])
        await asyncio.sleep(0.1)
        assert (rig.intake.acknowledged, rig.logged) == ([], [2])


async def test_a_dead_letter_is_acknowledged_and_not_answered() -> None:
    async with running() as rig:
        number = rig.intake.publish("live", b"garbage")
        await asyncio.sleep(0.1)
        assert [one.topic for one in rig.outlet.written] == [DEAD_TOPIC]
        assert rig.intake.acknowledged == [number]
        assert rig.intake.sent == []
        assert rig.value("frames_total", outcome="unreadable") == 1


async def test_what_is_no_agents_topic_is_acknowledged_in_its_turn_and_counted() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        (first,) = rig.publish(1)
        foreign = rig.intake.publish("", b"", agent="")
        await asyncio.sleep(0.1)
        assert rig.intake.acknowledged == []
        rig.outlet.confirm(rig.outlet.written)
        await asyncio.sleep(0.1)
        alone = rig.intake.publish("", b"", agent="")
        await asyncio.sleep(0.1)
        assert rig.intake.acknowledged == [first, foreign, alone]
        assert rig.value("ignored_total") == 2


async def test_a_single_copy_is_said_in_every_receipt() -> None:
    async with running(outlet=FakeOutlet(terms=Terms(is_single_copy=True))) as rig:
        rig.publish(1)
        await asyncio.sleep(0.1)
        (letter,) = rig.intake.sent
        assert decode_receipt(letter.receipt).runs[0].reason == "single copy"
        assert rig.value("single_copy") == 1
        rig.outlet.terms = Terms(is_single_copy=False)  # somebody added brokers
        await asyncio.sleep(70)
        rig.publish(2)
        await asyncio.sleep(0.1)
        assert decode_receipt(rig.intake.sent[-1].receipt).runs[0].reason is None
        assert rig.value("single_copy") == 0


FATAL = Trouble("kafka_refused", "OutOfOrderSequenceNumber")


async def test_a_refused_batch_means_a_new_session_and_the_same_records_in_order() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        numbers = rig.publish(1, 2, 3)
        await asyncio.sleep(0.1)
        rig.outlet.confirm(rig.outlet.written[1:2])
        await asyncio.sleep(0.1)
        rig.outlet.fail(FATAL)
        await asyncio.sleep(0.1)
        assert rig.standing.state == "kafka_refused"
        assert rig.intake.acknowledged == []
        rig.outlet.confirms = True
        await asyncio.sleep(2)
        assert rig.written == [1, 2, 3, 1, 3]
        assert rig.intake.acknowledged == numbers
        assert rig.standing.state == "running"
        assert rig.outlet.opened == 2
        assert rig.value("rewritten_total") == 2


async def test_a_confirmation_of_an_ended_session_is_never_an_acknowledgement() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(1)
        await asyncio.sleep(0.1)
        rig.outlet.fail(FATAL)
        rig.outlet.refuses = Trouble("kafka_down", "away")
        await asyncio.sleep(20)
        assert rig.intake.acknowledged == []


async def test_sessions_that_fail_again_and_again_are_tried_ever_more_slowly() -> None:
    async with running(outlet=FakeOutlet(refuses=Trouble("topic_missing", "tl.live"))) as rig:
        await asyncio.sleep(600)
        assert rig.outlet.opened == 0
        assert 30 < rig.outlet.inspected < 60
        assert rig.standing.state == "topic_missing"


async def test_the_broker_is_not_opened_before_kafka_takes_anything() -> None:
    async with running(outlet=FakeOutlet(refuses=Trouble("kafka_down", "refused"))) as rig:
        await asyncio.sleep(60)
        assert rig.intake.opened == 0
        rig.outlet.refuses = None
        await asyncio.sleep(20)
        assert rig.intake.opened == 1
        assert rig.standing.state == "running"


async def test_a_stalled_kafka_is_named_and_the_broker_left_and_all_goes_on_by_itself() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(1, 2)
        await asyncio.sleep(5)
        assert rig.standing.state == "running"
        await asyncio.sleep(10)
        assert rig.standing.state == "kafka_stalled"
        assert not rig.standing.health().healthy
        assert rig.is_subscribed()
        await asyncio.sleep(20)
        assert not rig.is_subscribed()
        assert rig.standing.health().reason.startswith("it answers, but has not confirmed tl.live")
        await asyncio.sleep(300)
        assert (rig.intake.opened, rig.intake.acknowledged) == (1, [])
        rig.outlet.confirm(rig.outlet.written)
        rig.outlet.confirms = True
        await asyncio.sleep(1)
        assert rig.standing.state == "running"
        assert rig.intake.opened == 2
        assert rig.logged == [1, 2]  # also when the connection they came by is gone
        rig.publish(3)
        await asyncio.sleep(0.1)
        assert rig.logged == [1, 2, 3]


async def test_a_lost_kafka_is_named_by_its_reason() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(1)
        rig.outlet.refuses = Trouble("kafka_down", "connection refused")
        await asyncio.sleep(13)
        assert rig.standing.state == "kafka_down"
        assert rig.standing.health().reason == "connection refused"
        assert rig.outlet.is_open  # its writes go on by themselves
        rig.outlet.refuses = None
        rig.outlet.confirm(rig.outlet.written)
        await asyncio.sleep(0.1)
        assert rig.standing.state == "running"


async def test_an_idle_gateway_notices_that_kafka_is_lost_and_back() -> None:
    async with running() as rig:
        rig.outlet.refuses = Trouble("kafka_down", "connection refused")
        await asyncio.sleep(62)
        assert rig.standing.state == "kafka_down"
        rig.outlet.refuses = None
        await asyncio.sleep(12)
        assert rig.standing.state == "running"
        assert rig.outlet.opened == 1


@pytest.mark.parametrize("state", ["topic_missing", "topic_settings"])
async def test_a_topic_that_goes_wrong_ends_the_session_until_it_is_right(state: str) -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(1)
        rig.outlet.refuses = Trouble(state, "tl.live")
        await asyncio.sleep(13)
        assert (rig.standing.state, rig.outlet.is_open) == (state, False)
        rig.outlet.refuses, rig.outlet.confirms = None, True
        await asyncio.sleep(10)
        assert rig.standing.state == "running"
        assert (rig.written, rig.logged) == ([1, 1], [1])


async def test_above_the_bound_nothing_is_taken_and_what_is_held_stays_flat() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(*range(1, 41), size=1024 * 1024)
        await asyncio.sleep(8)
        assert rig.value("held_bytes") < HELD_BYTES_MAX + 1024 * 1024 + 1000
        queued = rig.intake.queued
        assert queued == 40 - rig.value("held_messages")
        rig.outlet.confirms = True
        rig.outlet.confirm(rig.outlet.written)
        await asyncio.sleep(1)
        assert rig.intake.queued == 0
        assert rig.value("held_bytes") == 0
        assert sorted(rig.logged) == list(range(1, 41))


async def test_a_broker_that_comes_and_goes_brings_no_more_than_the_bound_again() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        for turn in range(6):
            rig.publish(*range(turn * 20, turn * 20 + 20), size=1024 * 1024)
            await asyncio.sleep(1)
            rig.intake.cut()
            await asyncio.sleep(3)
        assert rig.value("held_bytes") < 1.5 * HELD_BYTES_MAX
        rig.outlet.confirms = True
        rig.outlet.confirm(rig.outlet.written)
        await asyncio.sleep(3)
        assert rig.intake.is_open


async def test_a_lost_broker_is_named_and_opened_again() -> None:
    async with running() as rig:
        rig.intake.cut("broker stopped")
        await asyncio.sleep(0.1)
        assert rig.standing.state == "broker_down"
        assert rig.standing.health().reason == "broker stopped"
        await asyncio.sleep(2)
        assert (rig.standing.state, rig.intake.opened) == ("running", 2)


async def test_acknowledgements_never_reach_another_connection() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(1)
        await asyncio.sleep(0.1)
        rig.intake.cut()
        await asyncio.sleep(2)
        (second,) = rig.publish(2)
        await asyncio.sleep(0.1)
        rig.outlet.confirm(rig.outlet.written)
        await asyncio.sleep(0.1)
        assert rig.intake.acknowledged == [second]
        assert rig.logged == [1, 2]


async def test_a_broker_that_is_unfit_after_the_start_is_a_state() -> None:
    unfit = ConfigError([Problem("mqtt_host", "b:1883", "the broker speaks no MQTT 5", "Use …")])
    async with running() as rig:
        rig.intake.refuses = unfit
        rig.intake.cut()
        await asyncio.sleep(3)
        assert rig.standing.state == "broker_unfit"
        rig.intake.refuses = None
        await asyncio.sleep(20)
        assert rig.standing.state == "running"


async def test_a_broker_that_refuses_us_is_a_state_of_its_own() -> None:
    async with running(intake=FakeIntake(refuses=Trouble("broker_refused", "no rights"))) as rig:
        assert rig.standing.state == "broker_refused"


@pytest.mark.slow
async def test_what_is_to_be_said_is_remembered_while_the_broker_is_away_up_to_a_bound() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(*range(1, REMEMBERED_MAX + 101))
        await asyncio.sleep(0.5)
        rig.intake.refuses = Disconnected("gone")
        rig.intake.cut()
        rig.outlet.confirm(rig.outlet.written)
        await asyncio.sleep(1)
        rig.intake.refuses = None
        await asyncio.sleep(10)
        assert rig.logged == list(range(101, REMEMBERED_MAX + 101))
        assert rig.value("receipts_lost_total") == 1


async def test_i2_a_resent_frame_is_carried_again_and_answered_again() -> None:
    """Whoever says twice is understood twice: only ingest knows what it has."""
    async with running() as rig:
        for _ in range(2):
            rig.publish(1)
            await asyncio.sleep(0.1)
        assert (rig.written, rig.logged) == ([1, 1], [1, 1])


async def test_cancelled_it_closes_both_sides() -> None:
    async with running() as rig:
        pass
    assert not rig.intake.is_open
    assert not rig.outlet.is_open


@pytest.mark.slow
async def test_at_random_moments_of_failure_every_frame_is_confirmed_before_its_ack() -> None:
    """Chaos: sides fail, Kafka confirms late and out of order; what is logged was confirmed."""
    draw = random.Random(11)  # noqa: S311 - moments, no secret
    outlet = FakeOutlet(confirms=False)
    confirmed: set[int] = set()
    async with running(outlet=outlet) as rig:
        number_of: dict[int, int] = {}
        for seq in range(1, 400):
            number_of[rig.publish(seq)[0]] = seq
            if draw.random() < 0.5:
                some = draw.sample(outlet.written, min(len(outlet.written), 9))
                if outlet.is_open:
                    outlet.confirm(some)
                    confirmed |= {one.label.seq for one in some if one.label is not None}
            if draw.random() < 0.02:
                outlet.fail(FATAL)
            if draw.random() < 0.02:
                rig.intake.cut()
            await asyncio.sleep(draw.random() * 0.3)
            assert set(rig.logged) <= confirmed
            assert {number_of[one] for one in rig.intake.acknowledged} <= confirmed
        outlet.confirms = True
        outlet.fail(FATAL)
        await asyncio.sleep(30)
        assert rig.value("held_bytes") == 0
        assert set(rig.logged) == set(rig.written)


async def test_the_agent_of_the_topic_is_answered_never_the_headers() -> None:
    async with running() as rig:
        rig.intake.publish("live", frame(1, agent="plant1.b").sealed)
        rig.intake.publish("live", frame(2).sealed)
        await asyncio.sleep(0.1)
        assert [letter.agent for letter in rig.intake.sent] == [AGENT]
        with contextlib.suppress(Disconnected):
            await asyncio.sleep(0)


async def test_one_stuck_partition_is_named_while_others_flow_and_the_broker_is_not_left() -> None:
    async with running(outlet=FakeOutlet(confirms=False)) as rig:
        rig.publish(1)
        await asyncio.sleep(0.1)
        for seq in range(2, 60):
            rig.publish(seq)
            await asyncio.sleep(1)
            rig.outlet.confirm(rig.outlet.written[1:])
        assert rig.standing.state == "kafka_stalled"
        assert "tl.live of plant1.a" in rig.standing.health().reason
        assert rig.is_subscribed()
        rig.outlet.confirm(rig.outlet.written)
        await asyncio.sleep(0.1)
        assert rig.standing.state == "running"


async def test_told_to_end_what_is_held_gets_a_moment() -> None:
    told = asyncio.Event()
    async with running(outlet=FakeOutlet(confirms=False), told=told) as rig:
        numbers = rig.publish(1, 2)
        await asyncio.sleep(0.1)
        told.set()
        await asyncio.sleep(0.1)
        rig.publish(3)  # not taken any more: another gateway's
        rig.outlet.confirm(rig.outlet.written)
        await asyncio.sleep(0.5)
        assert rig.intake.acknowledged == numbers
        assert (rig.written, rig.logged) == ([1, 2], [1, 2])
        assert not rig.is_subscribed()


async def test_told_to_end_it_waits_no_longer_than_that() -> None:
    told = asyncio.Event()
    async with running(outlet=FakeOutlet(confirms=False), told=told) as rig:
        rig.publish(1)
        await asyncio.sleep(0.1)
        told.set()
        await asyncio.sleep(3.1)
        assert not rig.is_subscribed()
        assert rig.intake.acknowledged == []
