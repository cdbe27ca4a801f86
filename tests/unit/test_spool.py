"""The spool by example: what an entry becomes, what is let go and how that is said."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import pytest

from edge.entries import Key, State, Stream, Unheld
from edge.retention import Limits
from edge.settling import ANSWER_US, Settled
from edge.spool import Spool, Taken
from protocols import codec
from protocols.events import to_us
from protocols.frames import Frame, Kind, Lane, Totals
from protocols.notices import Drop, Outage, Release, decode_notice
from protocols.receipts import Receipt, Run, Said
from tests.support import cuts
from tests.support.memory_store import MemoryStore

MIB = 1024 * 1024
NOW_US = cuts.START_US
HOUR_US = 3_600_000_000
ALL = (Lane.CONTROL, Lane.EVENTS, Lane.LIVE, Lane.BACKLOG)


def epochs() -> Callable[[], int]:
    numbers = count(1)
    return lambda: next(numbers)


@dataclass
class Case:
    store: MemoryStore
    spool: Spool

    def write(self, number: int, lane: Lane = Lane.LIVE, events: int = 0, rows: int = 3) -> bool:
        cut = cuts.cut(number, cuts.rows(number, rows), events=events)
        written = self.spool.write(cut, lane, NOW_US + number)
        self.spool.commit()
        return written.let_go

    def take(self, lane: Lane, epoch: int | None = None, now_us: int = NOW_US) -> Taken:
        return self.spool.take(
            Stream(self.spool.epoch if epoch is None else epoch, lane),
            1,
            frames_max=10_000,
            bytes_max=1024 * MIB,
            skip=(),
            now_us=now_us,
        )

    def frames(self, lane: Lane, epoch: int | None = None) -> list[Frame]:
        return list(self.take(lane, epoch).frames)

    def hear(
        self,
        said: Said,
        frames: Iterable[Frame],
        *,
        store_id: str = "a",
        log_gen: int | None = None,
        reason: str | None = None,
    ) -> Settled:
        settled = self.spool.settle(receipt(said, frames, store_id, log_gen, reason), NOW_US)
        self.spool.commit()
        return settled

    def states(self, lane: Lane) -> list[State]:
        held = [one for one in self.spool.holdings if one.stream.lane is lane]
        entries = (
            self.store.find(Key(*one.stream, seq))
            for one in held
            for seq in range(one.floor, one.head + 1)
        )
        return [entry.state for entry in entries if entry is not None]


def receipt(
    said: Said,
    frames: Iterable[Frame],
    store_id: str | None = "a",
    log_gen: int | None = None,
    reason: str | None = None,
) -> Receipt:
    runs = tuple(
        Run(
            epoch=frame.header.epoch,
            lane=frame.header.lane,
            kind=said,
            first=frame.header.seq,
            digests=(frame.header.digest,),
            reason=reason,
        )
        for frame in frames
    )
    return Receipt(agent="plant1.a", store_id=store_id, log_gen=log_gen, runs=runs)


def opened(store: MemoryStore | None = None, limits: Limits | None = None) -> Case:
    store = store or MemoryStore()
    return Case(store, Spool(store, "plant1.a", epochs(), limits or Limits(bytes_max=64 * MIB)))


@pytest.fixture
def case() -> Case:
    return opened()


def notices(case: Case, kind: type[Drop] | type[Release]) -> list[Drop | Release]:
    wanted = Kind.DROP if kind is Drop else Kind.RELEASE
    return [
        decode_notice(kind, line)
        for frame in case.frames(Lane.CONTROL)
        if frame.header.kind is wanted
        for line in codec.decode_lines(codec.payload_of(frame))
    ]


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
    assert notices(case, Drop) == notices(case, Release) == []
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
    (outage,) = outages(case)
    assert (outage.rows, outage.reason) == (500, "no room in the spool")
    assert to_us(outage.from_time) == cuts.START_US + cuts.STEP_US
    assert to_us(outage.to_time) == cuts.START_US + cuts.STEP_US + 499


def test_a_long_stretch_without_room_is_said_once_a_minute() -> None:
    case = small(64)
    fill_with_events(case)
    for number in range(1000):
        case.write(number, rows=4)
    said = outages(case)
    assert 3 <= len(said) <= 5, "1,000 cuts are 250 s"
    assert sum(one.rows for one in said) <= case.spool.counts["rows_discarded"] == 4000
    assert sum(one.rows for one in said) >= 3000


def outages(case: Case) -> list[Outage]:
    return [
        decode_notice(Outage, line)
        for frame in case.frames(Lane.CONTROL)
        if frame.header.kind is Kind.OUTAGE
        for line in codec.decode_lines(codec.payload_of(frame))
    ]


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
