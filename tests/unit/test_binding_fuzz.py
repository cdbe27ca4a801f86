"""Stations under random trouble: what is told may be less than the truth, never something else.

Each cycle's serial, force, verdict and count belong together; whatever is silent, restarted or
unread, a pass holds only its own, and counted = passes + gaps.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.events import EndedBy, GapEvent, NameEvent, NameRef, PassRef, Verdict
from tests.support.plc import Bench
from tests.support.stations import bench, clamped, dmc, pressed, scanned, screwed, unclamped

SEEDS: Final = st.integers(0, 2**32)
PRESS: Final = frozenset({"p20", "scanner20"})


@dataclass
class Truth:
    """What one cycle of the press truly was."""

    number: int
    scan: str | None
    result: int
    force: float


@dataclass
class Trouble:
    """How the agent is disturbed, drawn anew before every poll."""

    random: Random
    silent: int = 0

    def poll(self, made: Bench, times: int) -> None:
        for _ in range(times):
            self._disturb(made)
            if self.silent:
                self.silent -= 1
                made.poll(1, skip=["p20"])
            else:
                made.poll(1)

    def _disturb(self, made: Bench) -> None:
        chance = self.random.random()
        if chance < 0.01:
            self.silent = self.random.choice([3, 15, 40, 90])
        elif chance < 0.02:
            made.restart(self.random.choice([0.3, 1.0, 4.0, 30.0]), epoch=self.random.randrange(99))
        elif chance < 0.03:
            made.bad = {self.random.choice(["p20.a.cycle_no", "p20.a.done", "p20.oil_temp"])}
        elif chance < 0.06:
            made.bad = set()


def press_shift(seed: int, *, counts_at_end: bool) -> tuple[Bench, dict[int, Truth]]:
    random = Random(seed)  # noqa: S311 - a seeded run of a test
    made = bench(devices=PRESS)
    trouble = Trouble(random)
    made.poll(3)
    truths: dict[int, Truth] = {}
    for number in range(101, 121):
        scan = random.choice([dmc(number)] * 6 + ["NOREAD", None])
        truth = Truth(number, scan, random.choice([1, 2]), 8.0 + number / 100)
        truths[number] = truth
        if truth.scan is not None:
            scanned(made, "a", truth.scan)
        trouble.poll(made, random.randrange(2, 6))
        clamped(made, "a", number - 1 if counts_at_end else number)
        trouble.poll(made, random.randrange(4, 12))
        pressed(made, "a", truth.result, truth.force)
        made.set({"p20.a.cycle_no": number})
        trouble.poll(made, random.randrange(3, 8))
        unclamped(made, "a")
        trouble.poll(made, random.randrange(3, 8))
    made.bad = set()
    made.idle(15)
    return made, truths


def check_press(made: Bench, truths: dict[int, Truth]) -> None:
    passes = made.passes("L1/PRESS20", "a")
    counts = [event.key.count for event in passes]
    missed = [
        count
        for gap in made.events
        if isinstance(gap, GapEvent)
        for count in range(gap.from_count, gap.to_count + 1)
    ]
    assert len({event.key.series for event in passes}) <= 1
    told = sorted(counts + missed)
    assert told == list(range(told[0], told[-1] + 1)), (counts, missed)
    assert set(told) <= set(truths)
    late = {
        event.item.pass_id: event.names[0]
        for event in made.events
        if isinstance(event, NameEvent) and isinstance(event.item, PassRef)
    }
    for event in passes:
        truth = truths[event.key.count]
        (item,) = event.items
        ref = item.ref or late.get(event.pass_id)
        if isinstance(ref, NameRef):
            assert ref.value == f"{truth.number:012}", (event.key.count, ref, item.how)
        if event.ended_by is EndedBy.END:
            assert item.verdict is (Verdict.PASS if truth.result == 1 else Verdict.FAIL)
        else:
            assert item.verdict is Verdict.UNKNOWN
        forces = [value.num for value in event.values if value.name == "force_max"]
        assert forces in ([], [truth.force])


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_a_press_that_counts_at_the_start(seed: int) -> None:
    check_press(*press_shift(seed, counts_at_end=False))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_a_press_that_counts_at_the_end(seed: int) -> None:
    check_press(*press_shift(seed, counts_at_end=True))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_a_hand_shake_loses_nothing_whatever_happens(seed: int) -> None:
    """Restarts anywhere; answers late, failed or lost; taken lost: each result is told."""
    random = Random(seed)  # noqa: S311 - a seeded run of a test
    made = bench(devices=frozenset({"st010"}), auto_read=False, auto_commit=False)
    made.poll(3)
    number = 41
    for _ in range(400):
        if not made.memory["st010.ready"] and random.random() < 0.3:
            number += 1
            screwed(made, number, dmc(number))
        made.poll(1)
        _answer(made, random)
        if random.random() < 0.03:
            made.restart(random.choice([0.3, 2.0, 60.0]))
    ids = {event.pass_id: event for event in made.passes("L1/ST010")}
    assert (
        sorted(event.key.count for event in ids.values()) == list(range(42, number + 1))[: len(ids)]
    )
    assert number - 42 <= len(ids) <= number - 41
    assert not made.of_kind("gap")
    for event in made.passes("L1/ST010"):
        assert event == ids[event.pass_id]  # told again at most word by word
        ref = event.items[0].ref
        assert isinstance(ref, NameRef)
        assert ref.value == f"{event.key.count:012}"


def _answer(made: Bench, random: Random) -> None:
    if made.pending_reads and random.random() < 0.7:
        request = made.pending_reads.pop(0)
        if random.random() < 0.2:
            made.take(made.binder.on_read_failed(request.token, "busy", made.now_us))
        else:
            made.answer(request)
    if made.pending_writes and random.random() < 0.7:
        write = made.pending_writes.pop(0)
        if random.random() < 0.2:
            made.take(made.binder.on_write_failed(write.token, "busy", made.now_us))
        elif random.random() < 0.2:
            made.take(made.binder.on_written(write.token, made.now_us))  # the PLC missed it
        else:
            made.commit(write)
