"""A shift of all four stations with its troubles: cut or restarted anywhere, told the same."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Rejected
from protocols.events import EndedBy, GapEvent, PassEvent, event_hash
from protocols.samples import SampleBatch, concat, from_samples
from tests.support.plc import Bench
from tests.support.stations import (
    bench,
    clamped,
    dmc,
    loaded,
    marked,
    pressed,
    scanned,
    screwed,
    unclamped,
)

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "binding"
Action = Callable[[Bench], object]

SHIFT: Final[list[Action | int]] = [
    3,
    lambda made: marked(made, 1, dmc(1)),
    2,
    lambda made: loaded(made, 7, "LOT-0001"),
    lambda made: scanned(made, "a", dmc(1)),
    3,
    lambda made: clamped(made, "a", 101),
    2,
    lambda made: scanned(made, "b", "NOREAD"),
    lambda made: screwed(made, 42, dmc(1)),
    2,
    lambda made: clamped(made, "b", 101),
    lambda made: marked(made, 2, "laser off"),
    3,
    lambda made: pressed(made, "a"),
    2,
    lambda made: screwed(made, 45, dmc(2), st010__result__code=2, st010__result__nok_code=112),
    lambda made: unclamped(made, "a"),
    2,
    lambda made: pressed(made, "b", result=2),
    lambda made: scanned(made, "a", dmc(2)),
    3,
    lambda made: clamped(made, "a", 103),
    lambda made: unclamped(made, "b"),
    lambda made: screwed(made, 46, "?", st010__rfid=""),
    3,
    lambda made: made.set({"p20.a.clamped": False}),
    2,
    lambda made: clamped(made, "a", 104),
    lambda made: loaded(made, 9, "label torn"),
    3,
    lambda made: pressed(made, "a", force=99.0),
    3,
    lambda made: screwed(made, 0, dmc(3), st010__master_on=True),
    5,
    lambda made: scanned(made, "b", dmc(7)),
    260,
]


def run(made: Bench, shift: list[Action | int] = SHIFT) -> Bench:
    for action in shift:
        if isinstance(action, int):
            made.poll(action)
        else:
            action(made)
    return made


@pytest.fixture(scope="module")
def told() -> Bench:
    return run(bench())


def hashes(made: Bench) -> list[str]:
    return sorted(event_hash(event) for event in made.events)


def test_the_shift_has_its_troubles(told: Bench) -> None:
    """So that the tests below compare something."""
    kinds = {event.kind for event in told.events}
    assert kinds == {"pass", "gap", "move", "name"}
    assert told.counts("L1/ST010") == [42, 45, 46, 0]
    assert told.counts("L1/PRESS20", "a") == [101, 103, 104]
    ends = [event.ended_by for event in told.passes("L1/PRESS20")]
    assert EndedBy.NEXT_START in ends
    assert len([event for event in told.events if isinstance(event, GapEvent)]) == 3
    assert {alarm.key for alarm in told.alarms} >= {"L1/ST010 unnamed", "L1/ST000 unnamed"}


def test_the_shift_is_told_as_the_golden_file_says(told: Bench) -> None:
    """Ids, times and texts are computed: the same facts say the same in every release."""
    golden = [json.loads(line) for line in (GOLDEN / "shift.jsonl").read_bytes().splitlines()]
    said = [json.loads(line) for line in told.lines()]
    assert [_as_far_as(old, new) for old, new in zip(golden, said, strict=True)] == golden


def _as_far_as(old: Any, new: Any) -> Any:
    """What the old form asks for of the new one, which may have more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {key: _as_far_as(old[key], new.get(key)) for key in old}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_as_far_as(one, other) for one, other in zip(old, new, strict=True)]
    return new


def test_told_twice_the_same(told: Bench) -> None:
    again = run(bench())
    assert again.lines() == told.lines()
    assert again.binder.snapshot() == told.binder.snapshot()
    assert [str(alarm.id) for alarm in again.alarms] == [str(alarm.id) for alarm in told.alarms]


def test_ids_are_unique(told: Bench) -> None:
    assert len({event.id for event in told.events}) == len(told.events)
    assert len({alarm.id for alarm in told.alarms}) == len(told.alarms)


def test_a_state_restored_after_every_step_tells_the_same(told: Bench) -> None:
    made = bench()
    made.each_step = lambda one: one.restart()
    run(made)
    assert made.lines() == told.lines()


def test_a_restart_that_loses_every_request_tells_the_same(told: Bench) -> None:
    """Requests are answered a poll later; each poll ends with a restart in every other run."""
    for phase in (0, 1, 2):
        made = bench(auto_read=False)
        steps = iter(range(10**6))

        def late(one: Bench, steps: Iterator[int] = steps, phase: int = phase) -> None:
            if next(steps) % 7 == phase:
                one.restart()
            elif one.pending_reads:
                one.answer(one.pending_reads.pop(0))

        made.each_step = late
        run(made)
        assert {event.id for event in made.events} == {event.id for event in told.events}


@pytest.mark.parametrize("at_poll", range(1, 37, 3))
def test_a_hand_shake_goes_on_after_an_outage(told: Bench, at_poll: int) -> None:
    """Whatever was under way: each result is told, none twice, none changed but for times."""
    made = bench()
    polls = iter(range(10**6))

    def stop(one: Bench) -> None:
        if next(polls) == at_poll * 6:
            one.restart(1.0, epoch=8)

    made.each_step = stop
    run(made)
    assert _facts(made, "L1/ST010") == _facts(told, "L1/ST010")
    assert _facts(made, "L1/F07-LOAD") == _facts(told, "L1/F07-LOAD")
    assert _facts(made, "L1/ST000") == _facts(told, "L1/ST000")
    counted = made.counts("L1/PRESS20", "a")
    missing = {101, 102, 103, 104} - set(counted)
    assert len(counted) == len(set(counted))
    assert missing == {
        count
        for gap in made.events
        if isinstance(gap, GapEvent) and (gap.station, gap.nest) == ("L1/PRESS20", "a")
        for count in range(gap.from_count, gap.to_count + 1)
    }


def _facts(made: Bench, station: str) -> list[Any]:
    return [
        (event.pass_id, [one.ref for one in event.items], event.values, event.curves, event.missing)
        for event in made.passes(station)
    ]


def test_a_running_cycle_goes_on_after_an_outage_and_says_what_it_lacks() -> None:
    made = bench()
    made.poll(3)
    scanned(made, "a", dmc(1))
    made.poll(3)
    clamped(made, "a", 101)
    made.poll(5)
    made.restart(3.0, epoch=8)
    made.poll(5)
    pressed(made, "a")
    made.poll(5)
    (event,) = made.passes("L1/PRESS20")
    assert (event.key.count, event.ended_by) == (101, EndedBy.END)
    assert event.items[0].ref is not None
    assert "oil_temp" in event.missing
    assert len(event.curves) == 1


def test_a_cycle_that_ended_in_the_outage_is_closed_and_counted() -> None:
    made = bench()
    made.poll(3)
    clamped(made, "a", 101)
    made.poll(5)
    clamped(made, "a", 104)
    made.restart(30.0, epoch=8)
    made.poll(10)
    pressed(made, "a")
    made.poll(10)
    first, second = made.passes("L1/PRESS20")
    assert (first.key.count, first.ended_by) == (101, EndedBy.RESTART)
    assert (second.key.count, second.started) == (104, None)
    (gap,) = made.of_kind("gap")
    assert isinstance(gap, GapEvent)
    assert (gap.from_count, gap.to_count) == (102, 103)


def split_by(seed: int) -> Callable[[SampleBatch], list[SampleBatch]]:
    """Cuts every batch anywhere, joins nothing, and mixes in batches of nobody's tags."""
    random = Random(seed)  # noqa: S311 - a seeded shuffle of a test

    def split(batch: SampleBatch) -> list[SampleBatch]:
        rows = len(batch)
        cuts = sorted({0, rows, *(random.randrange(rows + 1) for _ in range(random.randrange(4)))})
        parts = [batch.take(np.arange(start, end)) for start, end in pairwise(cuts)]
        other = [from_samples([]), concat(parts).take(np.arange(0))]
        return [*parts[:1], *other, *parts[1:]]

    return split


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32))
def test_how_rows_are_cut_into_batches_does_not_matter(told: Bench, seed: int) -> None:
    made = run(bench(split=split_by(seed)))
    assert hashes(made) == hashes(told)


def test_the_state_is_small(told: Bench) -> None:
    assert len(told.binder.snapshot()) < 12_000


@pytest.mark.parametrize(
    "state",
    [b"", b"{}", b"[]", b'{"revision":2}', b'{"revision":1,"edges":{"x":{"open":7}}}', b"\xff"],
)
def test_a_state_that_is_none_is_rejected(state: bytes) -> None:
    with pytest.raises(Rejected):
        bench().binder.restore(state)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_state_or_rejected(state: bytes) -> None:
    try:
        bench().binder.restore(state)
    except Rejected:
        return


def test_a_state_of_other_stations_is_taken_as_far_as_it_goes(told: Bench) -> None:
    state = json.loads(told.binder.snapshot())
    state["mailboxes"]["L1/GONE"] = {}
    state["pasts"]["gone.tag"] = [[1, 2, 0]]
    made = bench()
    made.binder.restore(json.dumps(state).encode())
    made.now_us = told.now_us
    made.memory |= told.memory
    made.poll(3)
    assert not [event for event in made.events if isinstance(event, PassEvent)]
