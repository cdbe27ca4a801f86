"""The uplink on a network that loses, repeats, delays and ends, with a cloud that says anything.

Whatever happens: an entry is stored exactly if a `stored` with its own digest came, and once the
network is whole again every entry comes to rest, each sealed byte as it was written.
"""

import asyncio
import random
from dataclasses import dataclass, field

import async_solipsism
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.entries import Key, State
from edge.uplink import Uplink
from protocols.frames import Frame, Lane
from protocols.receipts import Receipt, Run, Said, encode_receipt
from tests.support import cuts
from tests.support.edge_fakes import LoopClock
from tests.support.fake_broker import FakeBroker
from tests.support.inline_spool import InlineSpool

LOSE = st.sampled_from([0.0, 0.2, 0.6])
STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 4), st.sampled_from([Lane.LIVE, Lane.BACKLOG])),
    st.tuples(st.just("wait"), st.sampled_from([0.05, 5.0, 40.0, 400.0])),
    st.tuples(st.just("cut")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("store")),
)


@dataclass
class Cloud:
    """Takes frames that the network did not lose, once each by identity, and answers in its way."""

    broker: FakeBroker
    chance: random.Random
    lose: float
    whole: bool = False
    lives: int = 1
    taken: dict[Key, int] = field(default_factory=dict)
    told: set[tuple[str | None, Key, int]] = field(default_factory=set)

    @property
    def store_id(self) -> str:
        return f"life {self.lives}"

    def on_frame(self, frame: Frame) -> None:
        if frame.header.seq == 0 or (not self.whole and self.chance.random() < self.lose):
            return
        said = self.judge(frame)
        receipt = Receipt(agent="plant1.a", store_id=self.store_id, runs=(_run(frame, said),))
        for _ in range(1 if self.whole else self.chance.choice([0, 1, 1, 2])):
            delay_s = 0.01 if self.whole else self.chance.choice([0.01, 1.0, 60.0])
            loop = asyncio.get_running_loop()
            loop.call_later(delay_s, self.tell, receipt, frame, said)

    def judge(self, frame: Frame) -> Said:
        if not self.whole:
            word = self.chance.choice([Said.STORED, Said.STORED, Said.LOGGED, Said.LATER])
            if word is not Said.STORED:
                return word
        key = _key(frame)
        if self.taken.setdefault(key, frame.header.digest) != frame.header.digest:
            return Said.FORKED
        return Said.STORED

    def tell(self, receipt: Receipt, frame: Frame, said: Said) -> None:
        if self.broker.link is not None:
            if said is Said.STORED:
                self.told.add((receipt.store_id, _key(frame), frame.header.digest))
            self.broker.deliver(encode_receipt(receipt))


@dataclass
class Story:
    steps: list[tuple[object, ...]]
    lose: float
    seed: int

    async def play(self) -> None:
        clock = LoopClock()
        self.spool, self.broker = InlineSpool(clock), FakeBroker()
        chance = random.Random(self.seed)  # noqa: S311 - a test's
        self.cloud = Cloud(self.broker, chance, self.lose)
        self.broker.on_frame = self.cloud.on_frame
        self.uplink = Uplink("plant1.a", self.broker, self.spool, clock, chance.random)
        self.spool.on_change = self.uplink.wake
        self.number = 0
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.uplink.run())
            for step in self.steps:
                await self.do(*step)
                self.check()
            await self.make_whole()
            task.cancel()

    async def do(self, what: object, *more: object) -> None:
        match what, more:
            case "write", (int(count), Lane() as lane):
                for _ in range(count):
                    self.number += 1
                    self.spool.write(cuts.cut(self.number, events=self.number % 2), lane)
            case "wait", (float(seconds),):
                await asyncio.sleep(seconds)
            case "cut", ():
                self.broker.cut()
            case "restart", ():
                self.spool.restart()
            case "store", ():
                self.cloud.lives += 1  # restored from a backup that had nothing of it
                self.cloud.taken.clear()
            case _:
                raise AssertionError(what)

    def check(self) -> None:
        for key, state in self.spool.states().items():
            entry = self.spool.store.find(key)
            assert entry is not None
            if state is State.STORED:
                assert (self.spool.store.note("store_id"), key, entry.digest) in self.cloud.told

    async def make_whole(self) -> None:
        self.cloud.whole = True
        self.broker.cut()
        await asyncio.sleep(4 * 3600)
        states = self.spool.states()
        waiting = [key for key, state in states.items() if state is State.NEW]
        assert waiting == [], "somebody is still waiting four hours later"
        self.check()
        sealed: dict[Key, bytes] = {}
        for frame in self.broker.frames():
            assert sealed.setdefault(_key(frame), frame.sealed) == frame.sealed
        assert set(states) <= set(sealed)


def _key(frame: Frame) -> Key:
    return Key(frame.header.epoch, frame.header.lane, frame.header.seq)


def _run(frame: Frame, said: Said) -> Run:
    header = frame.header
    return Run(
        epoch=header.epoch,
        lane=header.lane,
        kind=said,
        first=header.seq,
        digests=(header.digest,),
        reason="unknown_agent" if said is Said.LATER else None,
    )


@given(st.lists(STEP, max_size=12), LOSE, st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_every_entry_comes_to_rest_and_only_by_its_own_receipt(
    steps: list[tuple[object, ...]], lose: float, seed: int
) -> None:
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(Story(steps, lose, seed).play())
