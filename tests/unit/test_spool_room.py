"""What the spool lets go when there is no room or no time left, and how that is said."""

from itertools import count

import pytest

from edge.entries import Unheld
from edge.retention import Limits
from protocols.events import to_us
from protocols.frames import Lane, Totals
from protocols.notices import Drop, Outage, Release
from protocols.receipts import Said
from tests.support import cuts
from tests.support.spool_case import HOUR_US, MIB, NOW_US, Case, notices, opened


def small(kib: int = 256) -> Case:
    return opened(limits=Limits(bytes_max=kib * 1024))


def fill(case: Case, cuts_written: int, lane: Lane = Lane.BACKLOG, rows: int = 2000) -> list[bool]:
    return [case.write(number, lane, rows=rows) for number in range(cuts_written)]


def test_at_its_limit_the_oldest_backlog_goes_and_a_drop_names_it() -> None:
    case = small()
    told = fill(case, 80)
    dropped = notices(case, Drop)
    assert any(told)
    assert sum(drop.rows for drop in dropped) == case.spool.counts["rows_dropped"] > 0
    assert case.spool.used_bytes <= case.spool._book.limits.bytes_usable
    left = case.frames(Lane.BACKLOG)
    named = {seq for drop in dropped for seq in range(drop.from_seq or 0, (drop.to_seq or 0) + 1)}
    assert named | {frame.header.seq for frame in left} == set(range(1, 81))
    assert max(named) < min(frame.header.seq for frame in left), "oldest first"
    assert all(drop.reason == "spool full" and drop.epoch == 1 for drop in dropped)


def test_backlog_goes_before_live() -> None:
    case = small()
    for number in range(20):
        case.write(number, Lane.LIVE, rows=1000)
    fill(case, 70)
    assert len(case.frames(Lane.LIVE)) == 20
    assert {drop.lane for drop in notices(case, Drop)} == {Lane.BACKLOG}


def test_live_goes_when_there_is_no_backlog() -> None:
    case = small()
    fill(case, 80, Lane.LIVE)
    assert {drop.lane for drop in notices(case, Drop)} == {Lane.LIVE}


def test_kept_stored_goes_first_and_needs_no_notice() -> None:
    case = small(128)
    for number in range(60):
        case.write(number, rows=2000)
        case.hear(Said.STORED, case.frames(Lane.LIVE))
    assert not notices(case, Drop)
    assert not notices(case, Release)
    assert case.spool.counts["frames_freed"] > 0
    assert case.spool.used_bytes <= case.spool._book.limits.bytes_usable


def test_i7_logged_goes_before_anything_new_and_a_release_names_it() -> None:
    case = small(96)
    fill(case, 15)
    case.hear(Said.LOGGED, case.frames(Lane.BACKLOG))
    told = [case.write(number, Lane.BACKLOG, rows=2000) for number in range(15, 25)]
    released = notices(case, Release)
    assert any(told)
    assert sum(one.rows for one in released) == case.spool.counts["rows_released"] > 0
    assert notices(case, Drop) == []
    assert case.spool.counts["rows_dropped"] == 0


@pytest.mark.parametrize("reason", ["unknown_agent", "set_aside"])
def test_i7_while_the_cloud_says_later_nothing_logged_is_let_go_as_safe(reason: str) -> None:
    """Full: what is logged goes in its turn as if it were new, and events wait at the edge."""
    case = small(96)
    for number in range(8):
        case.write(number, Lane.BACKLOG, events=1, rows=2000)
    backlog, events = case.frames(Lane.BACKLOG), case.frames(Lane.EVENTS)
    case.hear(Said.LATER, events[:1], reason=reason)
    case.hear(Said.LOGGED, [*backlog, *events])
    for number in range(8, 30):
        case.write(number, Lane.BACKLOG, rows=2000)
    assert notices(case, Release) == []
    assert {drop.lane for drop in notices(case, Drop)} == {Lane.BACKLOG}
    case.hear(Said.LATER, events, reason=reason)
    assert case.frames(Lane.EVENTS) == events, "each of them waits"
    case.hear(Said.STORED, events[:1])
    case.hear(Said.LOGGED, case.frames(Lane.BACKLOG))
    for number in range(30, 60):
        case.write(number, Lane.BACKLOG, rows=2000)
    assert notices(case, Release) != [], "the cloud takes this agent again"


def test_what_the_cloud_said_of_the_agent_is_remembered_over_a_restart() -> None:
    case = small(96)
    case.write(0)
    case.hear(Said.LATER, case.frames(Lane.LIVE), reason="set_aside")
    again = opened(case.store.crash(), Limits(bytes_max=96 * 1024))
    for number in range(15):
        again.write(number, Lane.BACKLOG, rows=2000)
    again.hear(Said.LOGGED, again.frames(Lane.BACKLOG))
    for number in range(15, 40):
        again.write(number, Lane.BACKLOG, rows=2000)
    assert notices(again, Release) == []


def test_later_of_one_frame_says_nothing_of_the_agent() -> None:
    case = small(96)
    fill(case, 15)
    frames = case.frames(Lane.BACKLOG)
    case.hear(Said.LATER, frames[:1], reason="unknown_version")
    case.hear(Said.LOGGED, frames[1:])
    for number in range(15, 25):
        case.write(number, Lane.BACKLOG, rows=2000)
    assert notices(case, Release) != []


def fill_with_events(case: Case) -> int:
    """Until no more are taken; how many were."""
    for number in count():
        try:
            case.spool.write(cuts.bare(number, events=50), Lane.LIVE, NOW_US)
        except Unheld:
            case.spool.rollback()
            return number * 50
        case.spool.commit()
    raise AssertionError("never full")


def test_i7_what_was_dropped_in_flight_and_is_stored_after_all_stays_dropped() -> None:
    """The cloud has it and a notice names it: verify counts what is stored, once."""
    case = small(96)
    case.write(0, Lane.BACKLOG, rows=2000)
    sent = case.frames(Lane.BACKLOG)
    for number in range(1, 40):
        case.write(number, Lane.BACKLOG, rows=2000)
    before = case.spool.holdings
    settled = case.hear(Said.STORED, sent)
    assert settled.taken == ()
    assert case.spool.holdings == before
    named = {(drop.from_seq, drop.epoch) for drop in notices(case, Drop)}
    assert (1, 1) in named


def test_events_are_never_let_go_and_full_of_them_is_said() -> None:
    case = small(64)
    written = fill_with_events(case)
    assert sum(frame.header.rows for frame in case.frames(Lane.EVENTS)) == written
    assert case.spool.used_bytes < 64 * 1024
    case.hear(Said.STORED, case.frames(Lane.EVENTS))
    case.spool.write(cuts.bare(1, events=50), Lane.LIVE, NOW_US)


def test_full_of_events_samples_are_discarded_and_counted_not_lost() -> None:
    case = small(64)
    fill_with_events(case)
    case.write(1, rows=500)
    assert case.spool.counts["rows_discarded"] == 500
    case.hear(Said.STORED, case.frames(Lane.EVENTS))
    case.write(2)
    (frame,) = case.frames(Lane.LIVE)
    assert frame.header.totals == Totals(read=503, discarded=500)
    (outage,) = notices(case, Outage)
    assert (outage.rows, outage.reason) == (500, "no room in the spool")
    assert to_us(outage.from_time) == cuts.START_US + cuts.STEP_US
    assert to_us(outage.to_time) == cuts.START_US + cuts.STEP_US + 499


def test_a_stretch_without_room_is_said_after_a_restart_too() -> None:
    case = small(64)
    fill_with_events(case)
    case.write(1, rows=500)
    again = opened(case.store.crash(), Limits(bytes_max=MIB), epoch=77)
    again.write(2)
    again.write(3)
    (outage,) = notices(again, Outage)
    assert (outage.rows, outage.reason) == (500, "no room in the spool")
    assert to_us(outage.from_time) == cuts.START_US + cuts.STEP_US
    assert not opened(again.store.crash(), epoch=78).spool._book.gap_us, "said once"


def test_a_gap_that_cannot_be_read_any_more_stops_no_start() -> None:
    case = small(64)
    case.store.set_note("gap", "1 x")
    case.spool.commit()
    again = opened(case.store.crash(), epoch=77)
    again.write(1)
    assert not notices(again, Outage)


def test_a_long_stretch_without_room_is_said_once_a_minute() -> None:
    case = small(64)
    fill_with_events(case)
    for number in range(1000):
        case.write(number, rows=4)
    said = notices(case, Outage)
    assert 3 <= len(said) <= 5, "1,000 cuts are 250 s"
    assert sum(one.rows for one in said) <= case.spool.counts["rows_discarded"] == 4000
    assert sum(one.rows for one in said) >= 3000


def test_what_is_older_than_its_age_goes_and_is_named() -> None:
    case = opened(limits=Limits(bytes_max=64 * MIB, age_max_us=HOUR_US))
    case.write(1, events=1)
    case.write(2)
    settled = case.spool.tidy(NOW_US + 1 + HOUR_US + 1)
    assert settled.let_go
    (drop,) = notices(case, Drop)
    assert (drop.from_seq, drop.to_seq, drop.rows, drop.reason) == (1, 1, 3, "older than max_age")
    assert len(case.frames(Lane.EVENTS)) == 1
    assert [frame.header.seq for frame in case.frames(Lane.LIVE)] == [2]
