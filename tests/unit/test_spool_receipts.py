"""What becomes of an entry by receipts and by time, and what another store, log or epoch renews."""

from dataclasses import replace

import pytest

from edge.entries import State
from edge.retention import Limits
from edge.settling import ANSWER_US
from edge.spool import Spool
from protocols.frames import Lane
from protocols.receipts import Receipt, Run, Said
from tests.support import cuts
from tests.support.spool_case import HOUR_US, NOW_US, Case, opened


@pytest.fixture
def case() -> Case:
    return opened()


def test_only_its_own_digest_changes_an_entry(case: Case) -> None:
    case.write(1)
    (frame,) = case.frames(Lane.LIVE)
    other = replace(frame, header=replace(frame.header, digest=1))
    for said in (Said.STORED, Said.LOGGED, Said.REJECTED, Said.FORKED, Said.LATER):
        case.hear(said, [other])
    assert case.frames(Lane.LIVE) == [frame]
    assert case.spool.counts["receipts_ignored"] == 5


@pytest.mark.parametrize("said", list(Said))
def test_a_receipt_for_what_is_not_there_is_ignored(case: Case, said: Said) -> None:
    case.write(1)
    (frame,) = case.frames(Lane.LIVE)
    for change in ({"epoch": 12345}, {"seq": 77}, {"lane": Lane.EVENTS}):
        case.hear(said, [replace(frame, header=replace(frame.header, **change))])
    assert case.states(Lane.LIVE) == [State.NEW]


def test_logged_then_stored_then_freed_after_a_while(case: Case) -> None:
    case.write(1)
    frames = case.frames(Lane.LIVE)
    case.hear(Said.LOGGED, frames)
    assert case.states(Lane.LIVE) == [State.LOGGED]
    case.hear(Said.STORED, frames)
    assert case.states(Lane.LIVE) == [State.STORED]
    case.hear(Said.LOGGED, frames)
    assert case.states(Lane.LIVE) == [State.STORED], "a late `logged` takes nothing back"
    case.spool.tidy(NOW_US + 24 * HOUR_US)
    assert case.states(Lane.LIVE) == [State.STORED]
    case.spool.tidy(NOW_US + 24 * HOUR_US + 1)
    assert case.states(Lane.LIVE) == []


def test_a_repeated_receipt_changes_nothing_more(case: Case) -> None:
    case.write(1)
    frames = case.frames(Lane.LIVE)
    case.hear(Said.STORED, frames)
    before = case.spool.holdings
    case.hear(Said.STORED, frames)
    assert case.spool.holdings == before


def test_later_makes_new_what_was_logged_but_not_what_is_stored(case: Case) -> None:
    for number in (1, 2, 3):
        case.write(number)
    first, second, third = case.frames(Lane.LIVE)
    case.hear(Said.LOGGED, [first])
    case.hear(Said.STORED, [second])
    settled = case.hear(Said.LATER, [first, second, third], reason="unknown_agent")
    assert case.states(Lane.LIVE) == [State.NEW, State.STORED, State.NEW]
    assert [key.seq for key in settled.later] == [1, 3]


def test_rejected_goes_into_quarantine_with_its_reason(case: Case) -> None:
    case.write(1)
    (frame,) = case.frames(Lane.LIVE)
    case.hear(Said.REJECTED, [frame], reason="no such type")
    assert case.frames(Lane.LIVE) == []
    (one,) = case.store.aside()
    assert (one.sealed, one.why) == (frame.sealed, "rejected: no such type")
    assert case.spool.counts["rows_rejected"] == 3


def test_the_quarantine_forgets_its_oldest_above_its_limit() -> None:
    case = opened(limits=Limits(bytes_max=16 * 20_000))
    for number in range(30):
        case.write(number, rows=300)
        case.hear(Said.REJECTED, case.frames(Lane.LIVE))
    assert 0 < case.store.aside_bytes <= 20_000
    gone = case.spool.counts["quarantine_forgotten"]
    assert gone > 0
    assert len(case.store.aside()) + gone == 30


def test_i4_another_store_makes_everything_new_kept_stored_included(case: Case) -> None:
    for number in (1, 2, 3):
        case.write(number)
    first, second, _ = case.frames(Lane.LIVE)
    case.hear(Said.LOGGED, [first], store_id="a")
    case.hear(Said.STORED, [second], store_id="a")
    assert case.states(Lane.LIVE) == [State.LOGGED, State.STORED, State.NEW]
    settled = case.spool.settle(Receipt(agent="plant1.a", store_id="b", runs=()), NOW_US)
    assert settled.renewed
    assert case.states(Lane.LIVE) == [State.NEW] * 3


def test_the_receipt_that_tells_of_another_store_counts_for_its_own_frames(case: Case) -> None:
    for number in (1, 2):
        case.write(number)
    frames = case.frames(Lane.LIVE)
    case.hear(Said.STORED, frames, store_id="a")
    case.hear(Said.STORED, frames[:1], store_id="b")
    assert case.states(Lane.LIVE) == [State.STORED, State.NEW]


def test_the_store_is_remembered_over_a_restart(case: Case) -> None:
    case.write(1)
    case.hear(Said.STORED, case.frames(Lane.LIVE), store_id="a")
    again = opened(case.store.crash())
    assert not again.spool.settle(Receipt(agent="p", store_id="a", runs=()), NOW_US).renewed
    assert again.spool.settle(Receipt(agent="p", store_id="b", runs=()), NOW_US).renewed


def test_i3_another_log_makes_new_what_was_only_logged(case: Case) -> None:
    for number in (1, 2):
        case.write(number)
    first, second = case.frames(Lane.LIVE)
    case.hear(Said.STORED, [second], log_gen=1)
    case.hear(Said.LOGGED, [first])
    assert case.hear(Said.STATE, [], log_gen=1).renewed is False
    assert case.hear(Said.STATE, [], log_gen=2).renewed
    assert case.states(Lane.LIVE) == [State.NEW, State.STORED]


def test_i3_an_older_word_of_the_log_makes_nothing_new_again(case: Case) -> None:
    """Two ingests answer: one before it knew of the raise, and later than the other."""
    for number in (1, 2):
        case.write(number)
    first, second = case.frames(Lane.LIVE)
    case.hear(Said.STORED, [second], log_gen=2)
    case.hear(Said.LOGGED, [first])
    assert not case.hear(Said.STATE, [], log_gen=1).renewed
    assert not case.hear(Said.STATE, [], log_gen=2).renewed
    assert case.states(Lane.LIVE) == [State.LOGGED, State.STORED]


def test_another_store_counts_its_logs_for_itself(case: Case) -> None:
    case.write(1)
    frames = case.frames(Lane.LIVE)
    case.hear(Said.STORED, frames, store_id="a", log_gen=5)
    assert case.hear(Said.STATE, [], store_id="b", log_gen=1).renewed
    case.hear(Said.LOGGED, frames)
    assert case.hear(Said.STATE, [], store_id="b", log_gen=2).renewed
    assert case.states(Lane.LIVE) == [State.NEW]


def test_a_gateway_knows_no_store(case: Case) -> None:
    case.write(1)
    frames = case.frames(Lane.LIVE)
    case.hear(Said.STORED, frames, store_id="a")
    assert not case.hear(Said.LOGGED, frames, store_id="b", log_gen=9).renewed
    assert case.states(Lane.LIVE) == [State.STORED]


def test_what_is_logged_and_passed_by_what_is_stored_is_asked_for_again(case: Case) -> None:
    """The receipt came while the agent was away: nobody says it a second time by himself."""
    for number in (1, 2, 3, 4):
        case.write(number)
    frames = case.frames(Lane.LIVE)
    case.hear(Said.LOGGED, frames)
    case.hear(Said.STORED, frames[1:2])
    told = Receipt(agent="plant1.a", store_id="a", runs=(head_of(case, 3),))
    assert not case.spool.settle(told, NOW_US + ANSWER_US).renewed, "it may be on its way"
    assert case.spool.settle(told, NOW_US + ANSWER_US + 1).renewed
    assert case.states(Lane.LIVE) == [State.NEW, State.STORED, State.NEW, State.LOGGED]
    assert case.spool.counts["frames_asked_again"] == 2
    case.hear(Said.STORED, [frames[0], frames[2]])
    assert case.states(Lane.LIVE) == [State.STORED, State.STORED, State.STORED, State.LOGGED]


def test_what_waits_in_other_lanes_hides_nothing_that_is_asked_for_again(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log behind a slow cloud holds much backlog that was sealed long before what is live."""
    monkeypatch.setattr("edge.settling.PAGE", 2)
    for number in (1, 2, 3):
        case.write(number, lane=Lane.BACKLOG)
    case.write(4)
    case.hear(Said.LOGGED, case.frames(Lane.BACKLOG))
    case.hear(Said.LOGGED, case.frames(Lane.LIVE))
    told = Receipt(agent="plant1.a", store_id="a", runs=(head_of(case, 1),))
    assert case.spool.settle(told, NOW_US + ANSWER_US + 1).renewed
    assert case.states(Lane.LIVE) == [State.NEW]


def head_of(case: Case, seq: int) -> Run:
    return Run(epoch=case.spool.epoch, lane=int(Lane.LIVE), kind=Said.STATE, first=seq)


def test_logged_expires(case: Case) -> None:
    case.write(1)
    case.hear(Said.LOGGED, case.frames(Lane.LIVE))
    assert not case.spool.tidy(NOW_US + 84 * HOUR_US).renewed
    assert case.spool.tidy(NOW_US + 84 * HOUR_US + 1).renewed
    assert case.states(Lane.LIVE) == [State.NEW]


def test_i1_forked_opens_a_new_epoch_and_appends_exactly_those_again(case: Case) -> None:
    for number in (1, 2, 3):
        case.write(number, events=1)
    live, events = case.frames(Lane.LIVE), case.frames(Lane.EVENTS)
    settled = case.hear(Said.FORKED, [live[1], events[1]])
    assert settled.forked
    assert case.spool.epoch == 2
    assert case.frames(Lane.LIVE, 1) == [live[0], live[2]]
    assert case.frames(Lane.EVENTS, 1) == [events[0], events[2]]
    (again,) = case.frames(Lane.LIVE)
    assert (again.payload, again.header.seq) == (live[1].payload, 1)
    assert [frame.payload for frame in case.frames(Lane.EVENTS)] == [events[1].payload]


def test_a_second_receipt_about_the_forked_epoch_opens_no_third(case: Case) -> None:
    for number in (1, 2):
        case.write(number)
    first, second = case.frames(Lane.LIVE)
    assert case.hear(Said.FORKED, [first]).forked
    case.write(3)
    assert not case.hear(Said.FORKED, [second]).forked
    assert case.spool.epoch == 2
    assert [frame.payload for frame in case.frames(Lane.LIVE)][::2] == [
        first.payload,
        second.payload,
    ]


def test_nothing_is_promised_while_forked_entries_wait(case: Case) -> None:
    """A frame that comes again has its old times: an earlier promise would be a lie."""
    for number in (1, 2):
        case.write(number)
    first, second = case.frames(Lane.LIVE)
    case.hear(Said.FORKED, [first])
    case.write(3)
    case.hear(Said.FORKED, [second])
    case.write(4)
    headers = [frame.header for frame in case.frames(Lane.LIVE)]
    for at, header in enumerate(headers):
        assert all(later.t_min >= header.watermark for later in headers[at + 1 :])
    assert headers[-1].watermark == cuts.cut(4).watermark_us


def test_a_fork_of_what_a_former_process_left_needs_a_promise_broken_nowhere(case: Case) -> None:
    case.write(1)
    old = case.frames(Lane.LIVE)
    again = Case(store := case.store.crash(), Spool(store, "plant1.a", lambda: 50, Limits()))
    again.write(2)
    numbers = iter([51])
    again.spool._book._draw_epoch = lambda: next(numbers)
    again.hear(Said.FORKED, old)
    assert again.spool.epoch == 51, "epoch 50 has promised that nothing so old would come"
    assert [frame.payload for frame in again.frames(Lane.LIVE)] == [old[0].payload]


def test_a_stale_floor_is_never_stated(case: Case) -> None:
    case.write(1)
    case.write(2)
    case.hear(Said.REJECTED, case.frames(Lane.LIVE)[:1])
    case.write(3)
    assert [frame.header.floor for frame in case.frames(Lane.LIVE)] == [1, 2]


def test_single_copies_are_counted_once_for_the_epoch(case: Case) -> None:
    for number in range(3):
        case.write(number)
    first, second, third = case.frames(Lane.LIVE)
    case.hear(Said.LOGGED, [first, second], reason="single copy")
    case.hear(Said.LOGGED, [first], reason="single copy")
    case.hear(Said.LOGGED, [third])
    assert case.spool.single_copy == 2
    case.hear(Said.FORKED, [third])
    assert case.spool.single_copy == 0, "another epoch"
