"""The small parts of the edge: clock, channel, catalogue, supervisor, schema, marks."""

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from edge.catalogue import Catalogue, TagFacts
from edge.channel import BEHIND_MAX_S, Answered, Channel, Openings, Polled, Written
from edge.clock import SystemClock, is_set
from edge.stamps import clock_unset
from edge.supervisor import Supervisor
from edge.told import schema_text
from protocols.samples import Code, DataType, Quality, Sample, from_samples
from tests.support.edge_fakes import START_US, LoopClock, batch_of

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "agent-1.json"


class Hands:
    """A wall clock and a monotonic one that a test sets."""

    def __init__(self) -> None:
        self.wall_ns = START_US * 1000
        self.monotonic_ns = 5_000_000_000

    def pass_s(self, seconds: float) -> None:
        self.wall_ns += round(seconds * 1e9)
        self.monotonic_ns += round(seconds * 1e9)


def clocked() -> tuple[Hands, SystemClock]:
    hands = Hands()
    return hands, SystemClock(lambda: hands.wall_ns, lambda: hands.monotonic_ns)


def test_a_clock_that_is_set_back_goes_on_slower_until_both_agree() -> None:
    hands, clock = clocked()
    hands.pass_s(1)
    before = clock.now_us()
    hands.wall_ns -= 2_000_000_000
    seen = []
    for _ in range(30):
        hands.pass_s(1)
        seen.append(clock.now_us())
    assert seen == sorted(seen)
    assert seen[0] - before == 900_000
    assert seen[-1] == hands.wall_ns // 1000, "caught up after twenty seconds"
    assert clock.steps_back == 0


def test_a_clock_that_was_wrong_by_more_than_a_minute_is_followed_at_once() -> None:
    hands, clock = clocked()
    hands.wall_ns -= 3_600_000_000_000
    assert clock.now_us() == hands.wall_ns // 1000
    assert clock.steps_back == 1


def test_a_clock_set_forward_is_followed_at_once() -> None:
    hands, clock = clocked()
    hands.wall_ns += 86_400_000_000_000
    assert clock.now_us() == hands.wall_ns // 1000


def test_a_clock_of_1970_was_never_set() -> None:
    assert not is_set(3_600_000_000)
    assert is_set(START_US)


def test_only_good_rows_are_marked_when_the_clock_is_unset() -> None:
    rows = [
        Sample("p.a", DataType.INT32, 5, 1, 0, None, 5, None),
        Sample("p.b", DataType.INT32, 5, 1, int(Quality.BAD), 7, 5, None),
    ]
    marked = clock_unset(from_samples(rows)).rows()
    assert (marked[0].quality, marked[0].code) == (Quality.UNCERTAIN, Code.CLOCK_UNSET)
    assert (marked[1].quality, marked[1].code) == (Quality.BAD, 7)
    assert [row.value for row in marked] == [1, 1]


async def test_the_channel_lets_go_when_nobody_takes_for_two_seconds() -> None:
    clock = LoopClock()
    openings = Openings()
    channel = Channel(clock, openings)

    def polled() -> Polled:
        ticket = openings.open(clock.now_us())
        return Polled(batch_of({"p.a": 1, "p.b": 2}, clock.now_us()), ticket, clock.now_us())

    channel.say(polled())
    await asyncio.sleep(BEHIND_MAX_S + 0.1)
    lost = polled()
    channel.say(lost)
    channel.say(Written(1))
    answer = Answered(2, (batch_of({"p.c": 1}, 5),), openings.open(clock.now_us()))
    channel.say(answer)
    assert (channel.overrun_batches, channel.overrun_rows) == (1, 2)
    taken = await channel.take(0)
    assert len(taken) == 3, "answers always pass"
    stretch = channel.take_lost()
    assert stretch is not None
    assert (stretch.rows, stretch.from_us) == (2, lost.ticket.opened_us)
    assert channel.take_lost() is None
    channel.say(polled())
    assert channel.overrun_batches == 1, "as soon as somebody takes, it is open again"


async def test_taking_waits_no_longer_than_told() -> None:
    clock = LoopClock()
    channel = Channel(clock, Openings())
    before = clock.monotonic_s()
    assert await channel.take(0.25) == []
    assert clock.monotonic_s() - before == pytest.approx(0.25)


async def test_few_items_are_taken_at_once_so_that_others_get_their_turn() -> None:
    clock = LoopClock()
    channel = Channel(clock, Openings())
    for number in range(100):
        channel.say(Written(number))
    taken = await channel.take(0)
    assert 0 < len(taken) < 100
    assert [item.token for item in taken if isinstance(item, Written)] == list(range(len(taken)))


def test_the_watermark_is_the_oldest_opening() -> None:
    openings = Openings()
    first, second = openings.open(100), openings.open(200)
    assert openings.watermark_us(300) == 100
    openings.close(first)
    openings.close(first)
    assert openings.watermark_us(300) == 200
    openings.close(second)
    assert openings.watermark_us(300) == 300


def test_a_tag_is_declared_again_with_another_type() -> None:
    catalogue = Catalogue({"p.a": TagFacts(unit="bar")})
    first = batch_of({"p.a": 1}, 5)
    assert [line.type for line in catalogue.new_lines(first)] == [DataType.INT32]
    assert not list(catalogue.new_lines(first))
    other = batch_of({"p.a": 1}, 9, DataType.UINT8)
    (line,) = catalogue.new_lines(other)
    assert (line.type, line.unit) == (DataType.UINT8, "bar")


def test_many_dictionaries_are_remembered_within_a_bound() -> None:
    catalogue = Catalogue({})
    for number in range(2000):
        assert len(list(catalogue.new_lines(batch_of({f"p.t{number}": 1}, 5)))) == 1
    assert not list(catalogue.new_lines(batch_of({"p.t0": 1}, 5)))
    assert len(catalogue._dictionaries) <= 256


async def test_the_supervisor_begins_a_task_anew_after_a_bug() -> None:
    clock = LoopClock()
    supervisor = Supervisor(clock, lambda: 0.0)
    begun: list[float] = []

    async def work() -> None:
        begun.append(clock.monotonic_s())
        if len(begun) < 4:
            raise ZeroDivisionError("a bug")

    await supervisor.keep("work", work)
    assert supervisor.restarts == {"work": 3}
    pauses = [b - a for a, b in itertools.pairwise(begun)]
    assert pauses == pytest.approx([0.5, 1.0, 2.0])


async def test_in_tests_a_bug_ends_everything() -> None:
    supervisor = Supervisor(LoopClock(), lambda: 0.0, restarting=False)

    async def work() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        await supervisor.keep("work", work)


def test_the_published_schema_is_that_of_the_code() -> None:
    published = SCHEMA.read_text(encoding="utf-8")
    assert published == schema_text(), "threadline edge schema > docs/schemas/agent-1.json"
    assert json.loads(published)["additionalProperties"] is False
