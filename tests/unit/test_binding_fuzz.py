"""Stations under random trouble: what is told may be less than the truth, never something else.

Each cycle's serial, force, verdict and count belong together; whatever is silent, restarted or
unread, a pass holds only its own, and counted = passes + gaps.
"""

from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.events import NameRef
from tests.support.plc import Bench
from tests.support.presses import check, shift
from tests.support.stations import bench, dmc, screwed

SEEDS: Final = st.integers(0, 2**32)


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_a_press_that_counts_at_the_start(seed: int) -> None:
    check(*shift(seed, counted=True, counts_at_end=False))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_a_press_that_counts_at_the_end(seed: int) -> None:
    check(*shift(seed, counted=True, counts_at_end=True))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_a_press_that_nobody_counts(seed: int) -> None:
    check(*shift(seed, counted=False))


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
