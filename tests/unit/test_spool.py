"""The spool by example: what goes in comes out, what is damaged is named, the rest goes on."""

from dataclasses import replace

import numpy as np
import pytest

from edge.entries import Key, Stream
from edge.retention import Limits
from edge.spool import Spool
from protocols import codec
from protocols.frames import Kind, Lane, Totals
from protocols.notices import Drop
from protocols.receipts import Said
from tests.support import cuts
from tests.support.spool_case import MIB, NOW_US, Case, notices, opened


@pytest.fixture
def case() -> Case:
    return opened()


def test_a_cut_is_found_again_with_its_state_and_watermark(case: Case) -> None:
    case.write(1, events=1)
    again = Spool(case.store.crash(), "plant1.a", lambda: 99, Limits())
    assert again.recovered.state == {"binder": b"after 1"}
    assert again.recovered.watermark_us == cuts.cut(1).watermark_us
    assert again.recovered.had_spool
    assert again.epoch == 99


def test_a_cut_that_is_not_committed_leaves_nothing_and_no_hole(case: Case) -> None:
    case.write(1)
    case.spool.write(cuts.cut(2, events=3), Lane.LIVE, NOW_US)
    case.spool.rollback()
    case.write(3)
    assert [frame.header.seq for frame in case.frames(Lane.LIVE)] == [1, 2]
    assert case.frames(Lane.EVENTS) == []
    assert case.frames(Lane.LIVE)[1].header.totals == Totals(read=6)


@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "another's"])
def test_a_damaged_entry_is_set_aside_named_and_the_rest_goes_on(case: Case, how: str) -> None:
    for number in (1, 2, 3):
        case.write(number)
    good = case.frames(Lane.LIVE)
    sealed = bytearray(good[1].sealed)
    sealed[-5] ^= 1
    bytes_now = {
        "flipped": bytes(sealed),
        "cut": good[1].sealed[:50],
        "gone": None,
        "another's": good[0].sealed,
    }
    case.store.damage(Key(1, Lane.LIVE, 2), bytes_now[how])
    taken = case.take(Lane.LIVE)
    assert taken.let_go
    assert list(taken.frames) == [good[0], good[2]]
    assert case.frames(Lane.LIVE) == [good[0], good[2]]
    (drop,) = notices(case, Drop)
    assert (drop.from_seq, drop.to_seq, drop.rows, drop.reason) == (2, 2, 3, "damaged")
    assert [one.sealed for one in case.store.aside()] == [bytes_now[how] or b""]
    assert case.spool.counts["frames_damaged"] == 1


def test_a_whole_body_under_a_wrong_number_is_found_again(case: Case) -> None:
    for number in (1, 2):
        case.write(number)
    first, second = case.frames(Lane.LIVE)
    case.store.damage(Key(1, Lane.LIVE, 2), None)
    case.store._now.bodies[Key(1, Lane.LIVE, 66)] = second.sealed
    case.take(Lane.LIVE)
    assert case.frames(Lane.LIVE) == [first, second]
    assert notices(case, Drop) == []


def test_what_no_frame_holds_is_kept_aside_and_counted(case: Case) -> None:
    rng = np.random.default_rng(1)
    noise = tuple(rng.normal(size=200_000) for _ in range(2))
    large = replace(cuts.curve(1), data=noise)
    case.spool.write(replace(cuts.cut(1), curves=(large,)), Lane.LIVE, NOW_US)
    assert [frame.header.kind for frame in case.frames(Lane.LIVE)] == [Kind.SAMPLES]
    (one,) = case.store.aside()
    assert (one.sealed, case.spool.counts["unsealable"]) == (codec.encode_curve(large), 1)
    assert one.why.startswith("too large: curve")


def test_taking_stops_at_the_bytes_that_are_free(case: Case) -> None:
    for number in range(5):
        case.write(number, rows=1000)
    sizes = [len(frame.sealed) + 128 for frame in case.frames(Lane.LIVE)]
    taken = case.spool.take(
        Stream(1, Lane.LIVE),
        1,
        frames_max=9,
        bytes_max=sizes[0] + sizes[1] + 5,
        skip=(),
        now_us=NOW_US,
    )
    assert [frame.header.seq for frame in taken.frames] == [1, 2]
    assert (taken.next_seq, taken.blocked) == (3, True)


def test_taking_says_where_to_go_on(case: Case) -> None:
    for number in range(5):
        case.write(number)

    def take(from_seq: int, frames_max: int, skip: set[int]) -> tuple[list[int], int]:
        taken = case.spool.take(
            Stream(1, Lane.LIVE),
            from_seq,
            frames_max=frames_max,
            bytes_max=MIB,
            skip=skip,
            now_us=NOW_US,
        )
        return [frame.header.seq for frame in taken.frames], taken.next_seq

    assert take(1, 2, set()) == ([1, 2], 3)
    assert take(3, 9, {4}) == ([3, 5], 6)
    assert take(6, 9, set()) == ([], 6)


def test_reading_again_gives_only_what_is_still_new(case: Case) -> None:
    for number in (1, 2, 3):
        case.write(number)
    frames = case.frames(Lane.LIVE)
    case.hear(Said.LOGGED, frames[:1])
    keys = [Key(1, Lane.LIVE, seq) for seq in (1, 2, 3, 4)]
    assert case.spool.read(keys, NOW_US) == frames[1:]
