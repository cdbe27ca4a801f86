"""What a failing disk comes to, on a disk in memory that fails when it is told."""

from collections.abc import Sequence
from itertools import count

import pytest
from structlog.testing import capture_logs

from edge.entries import Broken, Entry, NoSpace, State, Store, whole
from edge.keeper import (
    BROKEN,
    DISK_FULL,
    EVENTS_FULL,
    LOOK_AGAIN_S,
    OK,
    RETRY_S,
    Keeper,
    Kept,
    News,
    Offer,
)
from edge.retention import Limits
from edge.spool import Spool
from protocols.errors import Busy
from protocols.frames import Frame, Kind, Lane
from tests.support import cuts
from tests.support.memory_store import MemoryStore

MIB = 1024 * 1024


class Hands:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.s = 1000.0

    def now_us(self) -> int:
        return cuts.START_US + round(self.s * 1e6)

    def monotonic_s(self) -> float:
        return self.s


class MemoryDisk:
    """`ballast`: bytes given back once; `fails`: how often no other file can be had."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ballast = 0
        self.room = False
        self.fails = 0
        self.reopened = 0

    def reopen(self) -> tuple[Store, Sequence[Entry]]:
        if self.fails:
            self.fails -= 1
            raise Broken("still failing")
        self.reopened += 1
        self.store = self.store.crash()
        return self.store, ()

    def relieve(self) -> int:
        given, self.ballast = self.ballast, 0
        if self.store.room_bytes is not None:
            self.store.room_bytes += given
        return given

    def prepare(self) -> bool:
        if self.room:
            self.store.room_bytes = None
        return self.room


class Case:
    def __init__(self, limits: Limits | None = None) -> None:
        numbers = count(1)
        self.clock, self.disk = Hands(), MemoryDisk()
        self.spool = Spool(
            self.disk.store, "p.a", lambda: next(numbers), limits or Limits(bytes_max=8 * MIB)
        )
        self.keeper = Keeper(self.spool, self.disk, self.clock, lambda _: Lane.BACKLOG)
        self.number = 0

    def write(self, rows: int = 100, events: int = 1) -> list[Kept]:
        self.number += 1
        return self.again(rows, events)

    def again(self, rows: int = 100, events: int = 1) -> list[Kept]:
        cut = cuts.cut(self.number, cuts.rows(self.number, rows), events=events)
        return self.keeper.write([Offer(cut, self.clock.now_us())])

    def rows(self, kind: Kind = Kind.SAMPLES) -> int:
        return sum(frame.header.rows for frame in self.frames() if frame.header.kind is kind)

    def frames(self) -> list[Frame]:
        store = self.spool.store
        return [
            frame
            for held in store.holdings()
            for entry in store.unsent(held.stream, 1, 10**6, ())
            if (frame := whole(store.sealed(entry))) is not None
        ]

    def end_the_room(self, more: int = 0) -> None:
        """The disk is full from now on, but for so many bytes."""
        self.disk.store.room_bytes = self.disk.store.bytes_on_disk + more


@pytest.fixture
def case() -> Case:
    return Case()


def test_all_is_well(case: Case) -> None:
    assert case.write() == [Kept(1)]
    assert (case.keeper.state, case.rows(), case.rows(Kind.EVENTS)) == (OK, 100, 1)
    assert case.keeper.take_news() == News()


def test_on_a_full_disk_the_ballast_goes_first(case: Case) -> None:
    for _ in range(5):
        case.write()
    case.end_the_room()
    case.disk.ballast = 100_000
    assert case.write() == [Kept(1)]
    assert case.keeper.state == DISK_FULL
    assert case.rows() == 600, "nothing had to go"
    assert case.spool.counts["rows_dropped"] == 0


def test_then_the_oldest_samples_go_by_name(case: Case) -> None:
    for _ in range(400):
        case.write(rows=1500)
    case.end_the_room()
    assert case.write(rows=1500) == [Kept(1)]
    assert case.keeper.state == DISK_FULL
    assert case.spool.counts["rows_dropped"] > 0
    assert case.rows() + case.spool.counts["rows_dropped"] == 401 * 1500
    assert case.rows(Kind.EVENTS) == 401
    assert any(frame.header.kind is Kind.DROP for frame in case.frames())
    assert case.keeper.take_news().let_go


def test_then_the_cuts_own_samples_and_never_its_events(case: Case) -> None:
    case.write(rows=0)
    case.end_the_room(more=700)
    assert case.write(rows=5000) == [Kept(1)]
    assert (case.rows(), case.rows(Kind.EVENTS)) == (0, 2)
    assert case.spool.counts["rows_discarded"] == 5000
    assert case.keeper.take_news().let_go


def test_what_has_no_room_at_all_waits_and_is_kept_later(case: Case) -> None:
    case.write(rows=0)
    case.end_the_room()
    assert case.write(rows=10) == []
    assert case.keeper.retry_at_s == case.clock.s + RETRY_S
    case.disk.store.room_bytes = None
    case.clock.s += RETRY_S
    assert case.again(rows=10) == [Kept(1)]
    assert (case.rows(), case.rows(Kind.EVENTS)) == (10, 2)


def test_the_cuts_behind_one_that_waits_wait_too(case: Case) -> None:
    case.write(rows=0)
    case.end_the_room()
    offers = [Offer(cuts.cut(n, events=1), case.clock.now_us()) for n in (5, 6, 7)]
    assert case.keeper.write(offers) == []
    case.disk.store.room_bytes = None
    assert case.keeper.write(offers) == [Kept(3)]
    seqs = [frame.header.seq for frame in case.frames() if frame.header.lane is Lane.EVENTS]
    assert seqs == [1, 2, 3, 4]


def test_a_disk_that_has_room_again_is_asked_now_and_then_and_said_once(case: Case) -> None:
    with capture_logs() as lines:
        case.write()
        case.end_the_room(more=3000)
        for _ in range(20):
            case.write(rows=3000)
            case.clock.s += 0.25
        assert case.keeper.state == DISK_FULL
        case.disk.room = True
        case.clock.s += LOOK_AGAIN_S
        case.write()
        assert case.keeper.state == OK
    assert [line["event"] for line in lines] == [
        "the spool cannot take everything",
        "the spool takes everything again",
    ]


def test_full_of_events_is_another_state(case: Case) -> None:
    case = Case(Limits(bytes_max=64 * 1024))
    while case.write(rows=0, events=40):
        pass
    assert case.keeper.state == EVENTS_FULL
    case.keeper.do(lambda spool: spool.store.remove(spool.store.oldest(list(State), list(Lane), 9)))
    assert case.again(rows=0, events=40) == [Kept(1)]
    assert case.keeper.state == OK


def test_a_broken_file_is_left_and_the_cut_is_kept_in_another(case: Case) -> None:
    case.write()
    first = case.disk.store
    first.broken = True
    assert case.write() == [Kept(1)]
    assert case.disk.reopened == 1
    assert case.spool.store is not first
    assert case.keeper.state == OK
    seqs = [frame.header.seq for frame in case.frames() if frame.header.kind is Kind.SAMPLES]
    assert seqs == [1, 2]
    news = case.keeper.take_news()
    assert (news.rolled_back, news.let_go) == (True, True)


def test_while_there_is_no_file_nothing_is_kept_and_jobs_are_told_so(case: Case) -> None:
    case.write()
    case.disk.store.broken = True
    case.disk.fails = 2
    assert case.write() == []
    assert case.keeper.state == BROKEN
    with pytest.raises(Busy):
        case.keeper.do(lambda spool: spool.epoch)
    case.keeper.commit()
    assert case.again() == [Kept(1)]
    assert (case.rows(), case.keeper.state) == (200, OK)


def test_a_job_that_finds_no_room_is_undone_and_asked_again_later(case: Case) -> None:
    case.write()

    def fails(spool: Spool) -> None:
        spool.store.set_note("a", "b")
        raise NoSpace("full")

    with pytest.raises(Busy, match="full"):
        case.keeper.do(fails)
    assert case.spool.store.note("a") is None
    assert case.keeper.state == DISK_FULL
    assert case.keeper.take_news().rolled_back


def test_a_job_with_a_bug_is_undone_and_raises_it(case: Case) -> None:
    def fails(spool: Spool) -> None:
        spool.store.set_note("a", "b")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        case.keeper.do(fails)
    assert case.spool.store.note("a") is None
    assert case.write() == [Kept(1)]


def test_what_a_job_did_is_committed_soon(case: Case) -> None:
    case.write()
    case.keeper.do(lambda spool: spool.store.set_note("a", "b"))
    assert case.clock.s < case.keeper.lazy_at_s <= case.clock.s + 0.1
    case.keeper.commit()
    assert case.disk.store.crash().note("a") == "b"
    assert case.keeper.lazy_at_s > case.clock.s + 1e6


def test_a_cut_with_a_bug_is_told_so_and_the_others_are_kept(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = case.spool.write

    def fails_at_six(cut: object, lane: Lane, now_us: int) -> object:
        if getattr(cut, "state", {}).get("binder") == b"after 6":
            raise ZeroDivisionError
        return write(cut, lane, now_us)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(case.spool, "write", fails_at_six)
    offers = [Offer(cuts.cut(n, events=1), case.clock.now_us()) for n in (5, 6, 7)]
    with capture_logs():
        kept = case.keeper.write(offers)
    assert [one.why_not is None for one in kept] == [True, False, True]
    assert case.rows(Kind.EVENTS) == 2
