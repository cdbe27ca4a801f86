"""An agent whose machine is set back or copied, its memory and all: the digest tells, nothing goes.

The agent's spool as it is, PostgreSQL and ingest as they are; between them the test carries frames
and receipts by hand, so that each moment is chosen.
"""

import copy
from itertools import count

import pytest

from cloud.agents import add
from cloud.verify.delivery import verify_agent
from edge.entries import State, Stream
from edge.retention import Limits
from edge.spool import Spool
from protocols.frames import Frame, Kind, Lane
from protocols.receipts import Said
from tests.support import cuts
from tests.support.memory_store import MemoryStore
from tests.support.plant_store import Bench

pytestmark = pytest.mark.integration

AGENT = "plant1.a"
NOW_US = 1_790_000_000_000_000
EARLIER = 41_000_000  # cuts, so that their times are not ahead of the test's
ROWS = 3


@pytest.fixture
def bench(bench: Bench) -> Bench:
    add(bench.connection, AGENT, ["**"])
    return bench


class Machine:
    """An agent's spool in its process: `copy` is a snapshot of the machine, memory and disk."""

    def __init__(self) -> None:
        numbers = count(1)
        self.store = MemoryStore()
        self.spool = Spool(self.store, AGENT, lambda: next(numbers) << 32, Limits())

    def copy(self) -> "Machine":
        twin = Machine()
        twin.store = copy.deepcopy(self.store)
        twin.spool = Spool(twin.store, AGENT, lambda: 0xC0DE, Limits())
        draw = iter([0xBEEF, 0xBEE1, 0xBEE2]).__next__
        book, mine = twin.spool._book, self.spool._book
        book._sealer, book._draw_epoch = copy.deepcopy(mine._sealer), draw
        book._safe = book._as_it_is()
        return twin

    def write(self, first: int, last: int) -> None:
        for number in range(first, last):
            cut = cuts.cut(number - EARLIER, cuts.rows(number - EARLIER, ROWS))
            self.spool.write(cut, Lane.LIVE, NOW_US + number)
            self.spool.commit()

    def new(self) -> list[Frame]:
        found: list[Frame] = []
        for held in self.spool.holdings:
            if held.of(State.NEW).frames:
                stream = Stream(*held.stream)
                taken = self.spool.take(
                    stream, 1, frames_max=10_000, bytes_max=2**40, skip=(), now_us=NOW_US
                )
                found += taken.frames
        return found

    async def deliver(self, bench: Bench) -> int:
        """Until nothing is new; how many frames were said to be forked."""
        forked = 0
        while frames := self.new():
            bench.source.answers.clear()
            await bench.send(*frames)
            await bench.until(lambda sent=frames: all(bench.said(one) for one in sent))  # type: ignore[misc]  # its own
            forked += sum(bench.said(one)[0][0] is Said.FORKED for one in frames)
            for receipt in list(bench.source.answers):
                self.spool.settle(receipt, NOW_US)
            self.spool.commit()
        return forked


def values(bench: Bench) -> list[float]:
    return [value for (value,) in bench.rows("select f64 from sample order by f64")]


def written(*numbers: int) -> list[float]:
    return sorted(row + (number - EARLIER) * 10_000.0 for number in numbers for row in range(ROWS))


async def test_i1_a_machine_set_back_with_its_memory_loses_nothing(bench: Bench) -> None:
    machine = Machine()
    machine.write(0, 10)
    await machine.deliver(bench)
    snapshot = machine.copy()
    machine.write(10, 15)
    assert await machine.deliver(bench) == 0
    before = machine.spool.epoch
    machine = snapshot  # the same epoch, the same seqs, other data
    assert machine.spool.epoch == before
    machine.write(20, 25)
    assert {frame.header.seq for frame in machine.new()} == {11, 12, 13, 14, 15}
    assert await machine.deliver(bench) == 5
    assert machine.spool.epoch != before
    assert values(bench) == written(*range(15), *range(20, 25)), "both lives, each once"
    assert len(machine.store.aside()) == 0, "nothing is in quarantine"
    found = verify_agent(bench.connection, AGENT)
    assert found.holds
    assert found.stored == 20 * ROWS
    assert {reason for (reason,) in bench.rows("select reason from dead_letter")} == {"forked"}


async def test_i1_a_copied_machine_and_its_twin_both_go_on(bench: Bench) -> None:
    one = Machine()
    one.write(0, 5)
    await one.deliver(bench)
    two = one.copy()
    for number in range(10, 30, 2):
        one.write(number, number + 1)
        two.write(number + 1, number + 2)
        await one.deliver(bench)
        await two.deliver(bench)
    assert len({one.spool.epoch, two.spool.epoch}) == 2
    assert values(bench) == written(*range(5), *range(10, 30))
    assert verify_agent(bench.connection, AGENT).holds


async def test_i1_events_of_both_lives_are_recorded(bench: Bench) -> None:
    one = Machine()
    one.write(0, 2)
    await one.deliver(bench)
    two = one.copy()
    for machine, number in ((one, 5), (two, 6)):
        machine.spool.write(cuts.bare(number - EARLIER, events=2), Lane.LIVE, NOW_US)
        machine.spool.commit()
    await one.deliver(bench)
    forked = [frame for frame in two.new() if frame.header.kind is Kind.EVENTS]
    assert await two.deliver(bench) == len(forked) == 1
    kinds = bench.rows("select reason from dead_letter")
    assert [reason for (reason,) in kinds] == ["forked"]
