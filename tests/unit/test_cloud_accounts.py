"""The arithmetic of `verify`: whatever was lost, held back or named, the equation adds up."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.verify.accounts import (
    Account,
    EpochFacts,
    Fate,
    LaneFacts,
    Named,
    Unseen,
    account,
    pieces_of,
)
from protocols.frames import Totals


def lane(*unseen: Unseen, floor: int | None = 1, named: tuple[Named, ...] = ()) -> LaneFacts:
    return LaneFacts(
        "e", "live", has_samples=True, stored_frames=0, unseen=unseen, named=named, floor=floor
    )


def adds_up(found: Account) -> bool:
    right = (
        found.stored
        + found.filtered
        + found.waiting
        + found.rejected
        + found.dropped
        + found.missing
    )
    return found.read + found.derived + found.surplus == right


def test_a_stretch_is_cut_at_the_floor() -> None:
    pieces = pieces_of(lane(Unseen(5, 10, 60), floor=8))
    assert [(one.fate, one.first, one.last) for one in pieces] == [
        (Fate.MISSING, 5, 7),
        (Fate.WAITING, 8, 10),
    ]
    assert sum(one.rows or 0 for one in pieces) == 60


def test_what_was_named_is_taken_out_first() -> None:
    named = (Named(6, 7, 20, Fate.DROPPED), Named(9, 9, 10, Fate.REJECTED))
    pieces = pieces_of(lane(Unseen(5, 10, 60), floor=100, named=named))
    assert [(one.fate, one.first, one.last, one.rows) for one in pieces] == [
        (Fate.MISSING, 5, 5, 30),
        (Fate.DROPPED, 6, 7, 20),
        (Fate.MISSING, 8, 8, 0),
        (Fate.REJECTED, 9, 9, 10),
        (Fate.MISSING, 10, 10, 0),
    ]


def test_a_name_that_reaches_beyond_the_stretch_tells_no_rows() -> None:
    pieces = pieces_of(lane(Unseen(5, 6, 20), floor=100, named=(Named(1, 9, 90, Fate.DROPPED),)))
    assert [(one.fate, one.rows) for one in pieces] == [(Fate.DROPPED, 20)]


def test_everything_let_go_makes_everything_unseen_missing() -> None:
    assert [one.fate for one in pieces_of(lane(Unseen(1, 9, 9), floor=None))] == [Fate.MISSING]


ROWS = 10


@st.composite
def lives(draw: st.DrawFn) -> tuple[EpochFacts, dict[Fate, int], int]:
    """One lane of one epoch: each of its frames got a fate, and what that tells `verify`."""
    fates = draw(st.lists(st.sampled_from([None, *Fate]), min_size=1, max_size=30))
    floor = next((seq for seq in range(len(fates), 0, -1) if fates[seq - 1] is Fate.MISSING), 0) + 1
    fates = [
        Fate.MISSING if fate is Fate.WAITING and seq < floor else fate
        for seq, fate in enumerate(fates, 1)
    ]
    named = tuple(
        Named(seq, seq, ROWS, fate)
        for seq, fate in enumerate(fates, 1)
        if fate in (Fate.REJECTED, Fate.DROPPED, Fate.RELEASED)
    )
    known = [seq for seq, fate in enumerate(fates, 1) if fate is None]
    unseen = [
        Unseen(before + 1, seq - 1, (seq - before - 1) * ROWS)
        for before, seq in zip([0, *known], known, strict=False)
        if seq > before + 1
    ]
    last = known[-1] if known else 0
    if last < len(fates):
        unseen.append(Unseen(last + 1, len(fates), None))
    filtered, discarded = draw(st.integers(0, 50)), draw(st.integers(0, 50))
    totals = Totals(len(fates) * ROWS + filtered + discarded, 0, filtered, discarded)
    facts = LaneFacts(
        "e", "live", has_samples=True, stored_frames=len(known), unseen=tuple(unseen),
        named=named, floor=floor,
    )  # fmt: skip
    epoch = EpochFacts("e", totals, len(known) * ROWS, (facts,))
    return epoch, {fate: fates.count(fate) for fate in Fate}, discarded


@settings(max_examples=40)
@given(lives())
def test_every_fate_is_found_and_the_equation_adds_up(
    life: tuple[EpochFacts, dict[Fate, int], int],
) -> None:
    epoch, fates, discarded = life
    found = account([epoch])
    assert adds_up(found)
    assert {fate: found.frames(fate) for fate in Fate} == fates
    behind = any(one.rows is None for one in epoch.lanes[0].unseen)
    if not behind:  # then every row is told by the frames around it
        both = found.missing + found.waiting
        waits = fates[Fate.WAITING] + fates[Fate.RELEASED]
        assert both == (fates[Fate.MISSING] + waits) * ROWS
        assert found.missing >= fates[Fate.MISSING] * ROWS, "no stretch excuses what is missing"
        assert found.rejected == fates[Fate.REJECTED] * ROWS
        assert found.dropped == fates[Fate.DROPPED] * ROWS + discarded
    if fates[Fate.MISSING] == 0:
        assert found.missing == 0


@settings(max_examples=40)
@given(lives(), st.integers(1, 100))
def test_rows_beyond_what_was_read_are_a_surplus(
    life: tuple[EpochFacts, dict[Fate, int], int], more: int
) -> None:
    epoch = life[0]
    rows = epoch.ledger_rows + sum(life[1].values()) * ROWS + more
    found = account([EpochFacts("e", epoch.totals, rows, ())])
    assert adds_up(found)
    assert found.surplus == more


def test_rows_of_a_lane_that_nobody_told_of_wait() -> None:
    found = account([EpochFacts("e", Totals(30), 10, ())])
    assert (found.stored, found.waiting, found.missing) == (10, 20, 0)
    assert found.frames(Fate.WAITING) == 0
