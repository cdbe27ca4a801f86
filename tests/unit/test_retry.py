"""Tries that fail in a row wait longer and longer; one that lasted is forgiven."""

from protocols.retry import Backoff, Tries

BACKOFF = Backoff(first_s=1.0, limit_s=4.0, jitter=0.5)


def test_tries_that_fail_at_once_wait_longer_and_longer() -> None:
    tries = Tries(BACKOFF, lasting_s=30.0)
    pauses = []
    for now_s in range(5):
        tries.begin(now_s)
        pauses.append(tries.pause_s(now_s + 30.0, draw=0.0))
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_one_that_lasted_begins_the_count_anew() -> None:
    tries = Tries(BACKOFF, lasting_s=30.0)
    tries.begin(0.0)
    assert tries.pause_s(1.0, draw=0.0) == 1.0
    tries.begin(10.0)
    assert tries.pause_s(40.1, draw=0.0) == 1.0
    tries.begin(50.0)
    assert tries.pause_s(51.0, draw=1.0) == 1.0, "the second in a row, cut by half"
