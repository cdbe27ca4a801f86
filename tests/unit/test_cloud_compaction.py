"""Ranges of seqs: nothing is forgotten, nothing is made up, as few as there can be."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cloud.compaction import Run, join, runs_of

SEQS = st.sets(st.integers(1, 60), max_size=40)


def seqs(runs: list[Run]) -> list[int]:
    return [seq for run in runs for seq in range(run.first, run.last + 1)]


@given(SEQS)
def test_runs_hold_what_was_given(given_seqs: set[int]) -> None:
    assert seqs(runs_of(sorted(given_seqs))) == sorted(given_seqs)


@given(SEQS, SEQS)
def test_joined_runs_hold_both_and_none_touches_the_next(one: set[int], two: set[int]) -> None:
    found = join(runs_of(one), runs_of(two))
    assert seqs(found) == sorted(one | two)
    assert all(a.last + 1 < b.first for a, b in pairwise(found))
