"""What every Store does, the one on disk and the one in memory alike."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from edge.entries import Entry, Key, State, Store, Stream, entry_of, whole
from edge.spool_file import SpoolFile
from protocols.frames import Frame, Header, Kind, Lane, seal
from tests.support.memory_store import MemoryStore

NOW_US = 1_800_000_000_000_000
EPOCH = 0xFEDC_BA98_7654_3210  # above 2**63: SQLite's integers are signed
LIVE = Stream(EPOCH, Lane.LIVE)
EVENTS = Stream(EPOCH, Lane.EVENTS)


class Opened:
    """A store that can be opened again, as after a crash of its process."""

    def __init__(self, store: Store, reopen: Callable[[], Store]) -> None:
        self.store = store
        self._reopen = reopen

    def crash(self) -> Store:
        """Without a commit or a close; what another process finds."""
        self.store = self._reopen()
        return self.store


@pytest.fixture(params=["file", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    if request.param == "memory":
        memory = MemoryStore()

        def crash() -> Store:
            nonlocal memory
            memory = memory.crash()
            return memory

        yield Opened(memory, crash)
        return
    path = tmp_path / "spool.db"
    files = [SpoolFile(path)]

    def reopen() -> Store:
        files[-1].close()  # SQLite rolls back what was not committed
        files.append(SpoolFile(path))
        return files[-1]

    yield Opened(files[0], reopen)
    files[-1].close()


def frame(seq: int, stream: Stream = LIVE, payload: bytes = b"", rows: int = 2) -> Frame:
    return seal(
        Header(
            Kind.SAMPLES,
            stream.lane,
            "plant1.a",
            stream.epoch,
            seq,
            rows=rows,
            sealed_at=NOW_US + seq,
            t_min=NOW_US - 10,
            t_max=NOW_US,
        ),
        payload or b"payload %d" % seq,
    )


def found(store: Store, stream: Stream, seq: int) -> Entry:
    entry = store.find(Key(*stream, seq))
    assert entry is not None
    return entry


def seqs(entries: Sequence[Entry]) -> list[int]:
    return [entry.key.seq for entry in entries]


def test_what_was_appended_is_read_back_whole(opened: Opened) -> None:
    frames = [frame(seq) for seq in (1, 2, 3)]
    opened.store.append(frames, NOW_US)
    for one in frames:
        entry = found(opened.store, LIVE, one.header.seq)
        assert entry == entry_of(one, State.NEW, NOW_US)
        assert whole(opened.store.sealed(entry)) == one


def test_a_commit_lasts_and_what_came_after_it_does_not(opened: Opened) -> None:
    opened.store.append([frame(1)], NOW_US)
    opened.store.keep({"binder": b"one"}, 11)
    opened.store.set_note("store_id", "a")
    opened.store.commit()
    opened.store.append([frame(2)], NOW_US)
    opened.store.keep({"binder": b"two"}, 12)
    opened.store.mark([found(opened.store, LIVE, 1)], State.STORED, NOW_US)
    opened.store.set_note("store_id", "b")
    store = opened.crash()
    assert seqs(store.unsent(LIVE, 1, 9, ())) == [1]
    recovered = store.recovered()
    assert (recovered.watermark_us, recovered.state) == (11, {"binder": b"one"})
    assert recovered.had_spool
    assert store.note("store_id") == "a"


def test_a_rollback_is_as_if_nothing_had_been_done(opened: Opened) -> None:
    store = opened.store
    store.append([frame(1)], NOW_US)
    store.commit()
    before = store.holdings()
    store.append([frame(2)], NOW_US)
    store.remove([found(store, LIVE, 1)])
    store.set_aside(Key(*LIVE, 9), 1, b"x", "why", NOW_US)
    store.rollback()
    assert store.holdings() == before
    assert seqs(store.unsent(LIVE, 1, 9, ())) == [1]
    assert (len(store.aside()), store.aside_bytes) == (0, 0)


def test_a_fresh_store_has_nothing_and_says_so(opened: Opened) -> None:
    recovered = opened.store.recovered()
    assert (recovered.watermark_us, dict(recovered.state)) == (None, {})
    assert not recovered.had_spool
    assert opened.store.holdings() == ()
    assert opened.store.find(Key(1, Lane.LIVE, 1)) is None
    assert list(opened.store.unsent(LIVE, 1, 9, ())) == []


def test_states_that_are_no_longer_named_go(opened: Opened) -> None:
    opened.store.keep({"binder": b"1", "stage": b"2"}, 1)
    opened.store.keep({"stage": b"3"}, -5)
    opened.store.commit()
    recovered = opened.crash().recovered()
    assert (dict(recovered.state), recovered.watermark_us) == ({"stage": b"3"}, -5)


def test_unsent_goes_by_seq_and_leaves_out_what_it_is_told(opened: Opened) -> None:
    store = opened.store
    store.append([frame(seq) for seq in range(1, 9)], NOW_US)
    store.append([frame(1, EVENTS)], NOW_US)
    store.mark([found(store, LIVE, 2)], State.LOGGED, NOW_US)
    store.mark([found(store, LIVE, 3)], State.STORED, NOW_US)
    assert seqs(store.unsent(LIVE, 1, 99, ())) == [1, 4, 5, 6, 7, 8]
    assert seqs(store.unsent(LIVE, 4, 3, {5, 6})) == [4, 7, 8]
    assert seqs(store.unsent(LIVE, 1, 2, {1})) == [4, 5]


def test_holdings_count_by_state_and_know_floor_and_head(opened: Opened) -> None:
    store = opened.store
    store.append([frame(seq, rows=seq) for seq in (1, 2, 3)], NOW_US)
    store.mark([found(store, LIVE, 2)], State.LOGGED, NOW_US)
    store.mark([found(store, LIVE, 3)], State.STORED, NOW_US)
    store.commit()
    for again in (False, True):
        now = opened.crash() if again else store
        (held,) = now.holdings()
        assert (held.stream, held.floor, held.head) == (LIVE, 1, 3)
        assert [held.of(state).rows for state in State] == [1, 2, 3]
        assert held.waiting_rows == 3
        assert held.size == sum(found(now, LIVE, seq).size for seq in (1, 2, 3))


def test_the_floor_rises_and_the_head_stays_when_entries_go(opened: Opened) -> None:
    store = opened.store
    store.append([frame(seq) for seq in (1, 2, 3)], NOW_US)
    store.remove([found(store, LIVE, 1), found(store, LIVE, 2)])
    assert [(held.floor, held.head) for held in store.holdings()] == [(3, 3)]
    store.remove([found(store, LIVE, 3)])
    store.commit()
    for now in (store, opened.crash()):
        assert [(held.floor, held.head) for held in now.holdings()] == [(4, 3)]


def test_streams_stand_in_the_order_in_which_they_began(opened: Opened) -> None:
    later = Stream(5, Lane.LIVE)
    opened.store.append([frame(1), frame(1, later), frame(2)], NOW_US)
    opened.store.commit()
    assert [held.stream for held in opened.crash().holdings()] == [LIVE, later]


def test_renewing_makes_new_what_was_said_to_be_safe(opened: Opened) -> None:
    store = opened.store
    store.append([frame(seq) for seq in (1, 2, 3)], NOW_US)
    store.mark([found(store, LIVE, 1)], State.LOGGED, NOW_US)
    store.mark([found(store, LIVE, 2)], State.STORED, NOW_US)
    assert store.renew({State.LOGGED}, NOW_US) == 1
    assert seqs(store.unsent(LIVE, 1, 9, ())) == [1, 3]
    assert store.renew({State.LOGGED, State.STORED}, NOW_US) == 1
    assert seqs(store.unsent(LIVE, 1, 9, ())) == [1, 2, 3]
    (held,) = store.holdings()
    assert held.of(State.NEW).frames == 3


def test_the_oldest_are_those_sealed_first_in_any_stream(opened: Opened) -> None:
    store = opened.store
    store.append([frame(3), frame(1, EVENTS), frame(2, Stream(7, Lane.LIVE))], NOW_US)
    old = store.oldest([State.NEW], [Lane.LIVE], 9)
    assert seqs(old) == [2, 3]
    assert seqs(store.oldest([State.NEW], [Lane.LIVE, Lane.EVENTS], 2)) == [1, 2]
    assert list(store.oldest([State.STORED], [Lane.LIVE], 9)) == []


def test_turned_are_those_that_came_into_a_state_before_a_time(opened: Opened) -> None:
    store = opened.store
    store.append([frame(seq) for seq in (1, 2, 3)], NOW_US)
    for seq in (3, 1, 2):
        store.mark([found(store, LIVE, seq)], State.STORED, NOW_US + 10 - seq)
    assert seqs(store.turned(State.STORED, NOW_US + 9, 9)) == [2, 3]
    assert seqs(store.turned(State.STORED, NOW_US + 99, 1)) == [1]


def test_passed_are_those_logged_of_one_stream_up_to_a_seq_and_before_a_time(
    opened: Opened,
) -> None:
    store = opened.store
    store.append([frame(seq) for seq in (1, 2, 3, 4, 5)] + [frame(1, EVENTS)], NOW_US)
    store.mark([found(store, EVENTS, 1)], State.LOGGED, NOW_US)
    store.mark([found(store, LIVE, seq) for seq in (1, 2, 5)], State.LOGGED, NOW_US)
    store.mark([found(store, LIVE, 3)], State.STORED, NOW_US)
    store.mark([found(store, LIVE, 4)], State.LOGGED, NOW_US + 1)
    assert seqs(store.passed(LIVE, 4, NOW_US + 1, 9)) == [1, 2]
    assert seqs(store.passed(LIVE, 2**63 - 1, NOW_US + 2, 9)) == [1, 2, 4, 5]
    assert seqs(store.passed(LIVE, 5, NOW_US + 2, 3)) == [1, 2, 4]
    assert list(store.passed(Stream(7, Lane.LIVE), 9, NOW_US + 9, 9)) == []


def test_the_quarantine_keeps_bytes_and_reason_until_it_is_told_to_forget(opened: Opened) -> None:
    key = Key(*LIVE, 4)
    opened.store.set_aside(key, EPOCH, b"abc", "rejected: no", NOW_US)
    opened.store.set_aside(key, 2, b"", "damaged", NOW_US + 1)
    opened.store.commit()
    store = opened.crash()
    first, second = store.aside()
    assert (first.key, first.digest, first.sealed, first.why) == (
        key,
        EPOCH,
        b"abc",
        "rejected: no",
    )
    assert (second.at_us, store.aside_bytes) == (NOW_US + 1, 3)
    store.forget_aside([first.number])
    assert [one.number for one in store.aside()] == [second.number]
    assert store.aside_bytes == 0


def test_an_entry_restored_has_the_state_that_it_had(opened: Opened) -> None:
    kept = entry_of(frame(5), State.LOGGED, NOW_US - 7)
    opened.store.restore(kept, frame(5).sealed)
    opened.store.commit()
    assert opened.crash().find(kept.key) == kept


def test_closing_twice_is_harmless(opened: Opened) -> None:
    opened.store.close()
    opened.store.close()
