"""The view kept up event by event is the view of the whole set, whatever the order and batches."""

import os
from collections.abc import Callable, Iterable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.projection.holders import Discipline
from cloud.projection.masters import Masters
from cloud.projection.rows import VIEW, HolderOpRow, Row, TraceAlarmRow
from cloud.projection.upkeep.advance import advance
from cloud.projection.upkeep.prefetch import prefetch
from cloud.projection.whole import project
from cloud.projection.workspace import FEW, Workspace
from protocols.events import Event
from tests.support.trace import Keyed, event, holder, keyed, lot, name, slot, view, work
from tests.support.trace_store import MemoryStore, at_once
from tests.support.trace_worlds import smallest, world

MASTERS = Masters(disciplines={"magazine": Discipline.FIFO})
SEEDS = st.integers(0, 2**32)
WORLDS = int(os.environ.get("THREADLINE_WORLDS", "60"))  # by hand: thousands, after every change


async def keep_up(
    store: MemoryStore, events: Sequence[Event], batch: int, first_seq: int = 1, few: int = FEW
) -> None:
    """Work events off in batches, each with a workspace of its own; seqs begin at `first_seq`."""
    store.known_events.update((one.id, one) for one in events)
    for start in range(0, len(events), batch):
        ws = Workspace(store, few)
        part = events[start : start + batch]
        await prefetch(ws, part, MASTERS)
        for seq, one in enumerate(part, first_seq + start):
            await advance(ws, one, seq, MASTERS)
        await ws.flush()


def kept_up(events: Sequence[Event], batch: int, few: int = FEW) -> MemoryStore:
    store = MemoryStore()
    at_once(keep_up(store, events, batch, few=few))
    return store


@pytest.mark.slow
@settings(max_examples=WORLDS, deadline=None)
@given(SEEDS, st.sampled_from([1, 2, 5, 100]), st.sampled_from([0, 2, FEW]))
def test_i9_every_order_and_batching_gives_the_view_of_the_whole(
    seed: int, batch: int, few: int
) -> None:
    """`few`: from how many statements on a name counts as busy."""

    def differs(events: Sequence[Event]) -> bool:
        return keyed(kept_up(events, batch, few).view()) != keyed(project(events, MASTERS))

    check(shuffled(seed), differs)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([1, 3, 100]))
def test_what_was_known_then_is_the_view_of_what_had_been_recorded(seed: int, batch: int) -> None:
    def differs(events: Sequence[Event]) -> bool:
        store = kept_up(events, batch)
        return any(
            keyed(store.view_as_known_at(seq)) != versioned(project(events[:seq], MASTERS))
            for seq in range(1, len(events) + 1)
        )

    check(shuffled(seed), differs)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_an_event_taken_in_again_changes_nothing(seed: int) -> None:
    events = shuffled(seed)
    store = kept_up(events, 100)
    before, past = keyed(store.view()), list(store.past)
    at_once(keep_up(store, events, 3, first_seq=100))
    assert keyed(store.view()) == before
    assert store.past == past


@pytest.mark.slow
def test_a_late_scan_at_the_far_end_of_history_touches_what_it_changes() -> None:
    """The same lots again and again; a mount said late in between runs until the next mount."""
    store = MemoryStore()
    shift = [
        one
        for n in range(40)
        for one in (
            event(f"m{n}", "move", n * 10, what=lot(f"L{n}"), to=holder("feeder/F")),
            *(
                work(f"p{n}-{i}", n * 10 + i, n * 10 + i, name(f"U{n}-{i}"), feeds=FED)
                for i in range(1, 6)
            ),
        )
    ]
    at_once(keep_up(store, shift, 50))
    store.rows_read = 0
    late = event("late", "move", 42.5, what=lot("LATE"), to=holder("feeder/F"))
    at_once(keep_up(store, [late], 1, first_seq=1000))
    assert store.rows_read < 150  # 4 passes change, a page of the timeline is 16 uses
    assert keyed(store.view()) == keyed(view(*shift, late))


@pytest.mark.slow
def test_what_one_pass_costs_does_not_grow_with_history() -> None:
    store = MemoryStore()
    cost: list[int] = []
    at_once(keep_up(store, [event("m", "move", 0, what=lot("L"), to=holder("feeder/F"))], 1))
    for n in range(1, 100):
        store.rows_read = 0
        made = work(f"p{n}", n, n, name(f"U{n}"), feeds=FED, seats={"tool": "seat/T"})
        at_once(keep_up(store, [made], 1, first_seq=n + 1))
        cost.append(store.rows_read)
    assert max(cost[-20:]) <= max(cost[:20])
    assert len(store.rows[HolderOpRow]) == 1 + 2 * 99


@pytest.mark.slow
def test_a_name_met_hundreds_of_times_costs_no_more() -> None:
    """A carrier with a name of its own is in every pass: only its lookup is read."""
    store = MemoryStore()
    carrier = name("4711", scheme="carrier")
    cost: list[int] = []
    for n in range(1, 100):
        store.rows_read = 0
        at_once(keep_up(store, [work(f"p{n}", n, n, carrier)], 1, first_seq=n))
        cost.append(store.rows_read)
    assert max(cost[-20:]) <= max(cost[1:20])


@pytest.mark.slow
def test_a_lot_scanned_in_every_cycle_costs_no_more() -> None:
    store = MemoryStore()
    cost: list[int] = []
    for n in range(1, 80):
        store.rows_read = 0
        made = work(f"p{n}", n, n, name(f"U{n}"))
        scan = event(f"s{n}", "move", n, what=lot("L"), to=slot(n), material="M6", qty=ONE)
        at_once(keep_up(store, [made, scan], 2, first_seq=2 * n))
        cost.append(store.rows_read)
    assert max(cost[-20:]) <= max(cost[2:20])


@pytest.mark.slow
def test_a_transfer_label_used_again_and_again_costs_little_more() -> None:
    """Each unit bears it until the laser marks it: one more row a use, not all units so far."""
    store = MemoryStore()
    cost: list[int] = []
    label = name("T7", scheme="label")
    for n in range(1, 90):
        minutes = 10 * n
        cycle = [
            event(f"on{n}", "name", minutes, names=[label]),
            work(f"p{n}", 2 * n, minutes + 1, label),
            event(f"laser{n}", "name", minutes + 2, ends=[label], names=[name(f"U{n}")]),
            work(f"q{n}", 2 * n + 1, minutes + 3, name(f"U{n}")),
        ]
        store.rows_read = 0
        at_once(keep_up(store, cycle, 4, first_seq=4 * n, few=20))
        cost.append(store.rows_read - n)  # its lives are told by as many rows
    assert max(cost[-20:]) <= max(cost[20:40])
    assert not [row for row in store.view() if isinstance(row, TraceAlarmRow)]


ONE = {"value": "1"}
FED = [("feeder/F", "1")]


def shuffled(seed: int) -> list[Event]:
    events = world(seed)
    Random(seed).shuffle(events)  # noqa: S311 - an order, not a secret
    return events


def check(events: Sequence[Event], differs: Callable[[Sequence[Event]], bool]) -> None:
    if differs(events):
        told = [one.model_dump_json(exclude_defaults=True) for one in smallest(events, differs)]
        raise AssertionError("\n".join(told))


def versioned(rows: Iterable[Row]) -> Keyed:
    kinds = {kind.TABLE.name for kind in VIEW if kind.TABLE.known}
    return {key: row for key, row in keyed(rows).items() if key[0] in kinds}
