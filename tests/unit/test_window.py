"""What is sent next: order, bounds, what is due again, what waits when the cloud says later."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.entries import Holding, Key, State, Stream, Tally
from edge.window import BYTES_MAX, FRAMES_MAX, PROBE_S, Again, Later, Take, Window
from protocols.frames import Lane
from protocols.retry import Backoff

RESEND = Backoff(first_s=30.0, limit_s=900.0, jitter=0.0)
LANES = (Lane.CONTROL, Lane.EVENTS, Lane.LIVE, Lane.BACKLOG)
SIZE = 1000


def holding(lane: Lane, frames: int, epoch: int = 1, floor: int = 1) -> Holding:
    tallies = {State.NEW: Tally(frames, frames, frames * SIZE)}
    return Holding(Stream(epoch, lane), floor, floor + frames - 1, tallies)


def window() -> Window:
    return Window(RESEND)


def send(
    window: Window, holdings: list[Holding], now_s: float = 0.0, size: int = SIZE
) -> list[Key]:
    """Send whatever the window chooses until it chooses nothing."""
    sent: list[Key] = []
    while (chosen := window.choose(holdings, now_s)) is not None:
        keys = chosen.keys if isinstance(chosen, Again) else of(chosen, holdings)
        for key in keys:
            window.sent(key, key.seq, size, now_s, 0.0)
        sent += keys
        if isinstance(chosen, Take):
            window.looked(chosen, chosen.from_seq + len(keys) + len(chosen.skip), blocked=False)
    return sent


def of(take: Take, holdings: list[Holding]) -> list[Key]:
    (held,) = [one for one in holdings if one.stream == take.stream]
    seqs = [seq for seq in range(take.from_seq, held.head + 1) if seq not in take.skip]
    return [Key(*take.stream, seq) for seq in seqs[: take.frames_max]]


def test_control_events_live_backlog() -> None:
    holdings = [holding(lane, 2) for lane in reversed(LANES)]
    assert [key.lane for key in send(window(), holdings)] == [
        lane for lane in LANES for _ in range(2)
    ]


def test_a_new_epochs_live_goes_before_an_old_ones_and_nothing_else_does() -> None:
    holdings = [holding(lane, 1, epoch) for epoch in (1, 2, 3) for lane in LANES]
    sent = send(window(), holdings)
    by_lane = {lane: [key.epoch for key in sent if key.lane is lane] for lane in LANES}
    assert by_lane[Lane.LIVE] == [3, 2, 1]
    assert by_lane[Lane.EVENTS] == by_lane[Lane.BACKLOG] == by_lane[Lane.CONTROL] == [1, 2, 3]


def test_no_more_frames_than_the_window_until_one_is_closed() -> None:
    full, holdings = window(), [holding(Lane.LIVE, 400)]
    assert [key.seq for key in send(full, holdings)] == list(range(1, FRAMES_MAX + 1))
    assert full.close(Key(1, Lane.LIVE, 7), 7, 1.0)
    assert [key.seq for key in send(full, holdings, 1.0)] == [FRAMES_MAX + 1]


def test_no_more_bytes_than_the_window() -> None:
    full, holdings = window(), [holding(Lane.LIVE, 400)]
    take = full.choose(holdings, 0.0)
    assert isinstance(take, Take)
    assert take.bytes_max == BYTES_MAX
    full.sent(Key(1, Lane.LIVE, 1), 1, BYTES_MAX - 10, 0.0, 0.0)
    full.looked(take, 2, blocked=True)
    assert full.choose(holdings, 0.0) is None, "the next one was too large"
    full.close(Key(1, Lane.LIVE, 1), 1, 1.0)
    assert isinstance(full.choose(holdings, 1.0), Take)


def test_a_full_lane_leaves_the_others_alone() -> None:
    full, holdings = window(), [holding(Lane.LIVE, 400), holding(Lane.BACKLOG, 3)]
    assert sum(key.lane is Lane.BACKLOG for key in send(full, holdings)) == 3


def test_only_the_named_digest_closes() -> None:
    one = window()
    send(one, [holding(Lane.LIVE, 1)])
    assert not one.close(Key(1, Lane.LIVE, 1), 99, 1.0)
    assert one.close(Key(1, Lane.LIVE, 1), 1, 1.0)
    assert not one.close(Key(1, Lane.LIVE, 1), 1, 1.0), "and only once"


def test_without_a_receipt_a_frame_is_due_again_ever_more_rarely() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 1)]
    send(one, holdings)
    times = []
    for _ in range(7):
        now_s = one.wake_s()
        times.append(now_s)
        assert one.choose(holdings, now_s - 0.01) is None
        assert send(one, holdings, now_s) == [Key(1, Lane.LIVE, 1)]
    assert times == [30.0, 90.0, 210.0, 450.0, 930.0, 1830.0, 2730.0]


def test_a_frame_that_was_lost_alone_is_due_while_others_are_answered() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 20)]
    send(one, holdings)
    for seq in range(2, 21):
        one.close(Key(1, Lane.LIVE, seq), seq, seq * 1.0)
    assert send(one, holdings, 30.0) == [Key(1, Lane.LIVE, 1)]


def test_after_a_long_silence_the_first_receipt_hurries_the_rest() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 2)]
    send(one, holdings)
    for now_s in (30.0, 90.0, 210.0):
        send(one, holdings, now_s)
    assert one.wake_s() == 450.0
    one.close(Key(1, Lane.LIVE, 1), 1, 220.0)
    assert one.wake_s() == 250.0


def test_when_the_session_ends_all_that_was_out_is_sent_again() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 3), holding(Lane.EVENTS, 2)]
    first = send(one, holdings)
    one.close(Key(1, Lane.LIVE, 1), 1, 1.0)
    one.connection_ended()
    assert one.out == 0
    again = send(one, [holding(Lane.LIVE, 2, floor=2), holding(Lane.EVENTS, 2)], 2.0)
    assert again == [key for key in first if key != Key(1, Lane.LIVE, 1)]


def test_what_the_spool_let_go_is_forgotten() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 2)]
    send(one, holdings)
    one.gone([Key(1, Lane.LIVE, 1), Key(9, Lane.LIVE, 1)])
    assert one.out == 1


def test_a_rewind_sends_again_but_not_what_is_out() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 3)]
    send(one, holdings)
    one.close(Key(1, Lane.LIVE, 2), 2, 1.0)
    assert send(one, holdings, 1.0) == []
    one.rewind()
    assert send(one, holdings, 1.0) == [Key(1, Lane.LIVE, 2)]


def later(one: Window, key: Key, about: Later, now_s: float) -> None:
    one.close(key, key.seq, now_s)
    one.put_off(key, about, now_s)


def test_an_unknown_agent_sends_one_frame_a_minute_each_time_another() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 300)]
    for key in send(one, holdings):
        later(one, key, Later.AGENT, 1.0)
    assert one.paced
    asked = []
    for minute in range(1, 5):
        now_s = 1.0 + minute * PROBE_S
        assert one.choose(holdings, now_s - 0.01) is None
        (key,) = send(one, holdings, now_s)
        later(one, key, Later.AGENT, now_s)
        asked.append(key.seq)
    assert asked == [257, 258, 259, 260]


def test_once_a_frame_is_taken_everything_goes() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 3)]
    for key in send(one, holdings):
        later(one, key, Later.AGENT, 1.0)
    (key,) = send(one, holdings, 61.0)
    one.close(key, key.seq, 62.0)
    one.taken(key, 62.0)
    assert not one.paced
    rest = {1, 2, 3} - {key.seq}
    assert {key.seq for key in send(one, holdings, 62.0)} >= rest


def test_a_frame_that_the_cloud_cannot_read_waits_alone() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 3)]
    first, second, third = send(one, holdings)
    one.close(second, 2, 1.0)
    one.taken(second, 1.0)
    later(one, first, Later.FRAME, 2.0)
    assert not one.paced
    more = [holding(Lane.LIVE, 5)]
    assert [key.seq for key in send(one, more, 3.0)] == [4, 5]
    one.close(third, 3, 4.0)
    assert one.wake_s() == pytest.approx(33.0), "4 and 5 are due before the minute is over"
    assert first in send(one, more, 62.0)


def test_a_frame_that_stays_unreadable_is_asked_for_ever_more_rarely() -> None:
    one, holdings = window(), [holding(Lane.EVENTS, 2)]
    first, other = send(one, holdings)
    one.close(other, other.seq, 0.0)
    now_s, waits = 0.0, []
    for _ in range(9):
        one.taken(other, now_s)
        later(one, first, Later.FRAME, now_s)
        waits.append(one.wake_s() - now_s)
        now_s = one.wake_s()
        assert send(one, holdings, now_s) == [first]
    assert waits == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, 3840.0, 3840.0]


def test_a_new_session_asks_again_though_nobody_was_put_off() -> None:
    """What was out when the session ended is all that there is to ask with."""
    one, holdings = window(), [holding(Lane.LIVE, 2)]
    first, second = send(one, holdings)
    later(one, first, Later.AGENT, 1.0)
    one.gone([first])
    one.connection_ended()
    assert one.wake_s() == 61.0
    assert send(one, [holding(Lane.LIVE, 1, floor=2)], 61.0) == [second]


def test_who_has_nothing_to_ask_with_rests() -> None:
    one, holdings = window(), [holding(Lane.LIVE, 1)]
    (key,) = send(one, holdings)
    later(one, key, Later.AGENT, 1.0)
    one.gone([key])
    assert one.choose([], 61.0) is None
    assert one.wake_s() == math.inf
    assert len(send(one, [holding(Lane.LIVE, 1, floor=2)], 70.0)) == 1


def test_a_frame_put_off_is_not_ripe_again_right_after_it_was_sent() -> None:
    """A log may take it at once; what the cloud thinks of it comes later."""
    one, holdings = window(), [holding(Lane.EVENTS, 2)]
    first, other = send(one, holdings)
    one.close(other, other.seq, 0.0)
    one.taken(other, 0.0)
    later(one, first, Later.FRAME, 0.0)
    assert send(one, holdings, 60.0) == [first]
    one.close(first, first.seq, 60.1)
    assert one.choose(holdings, 61.0) is None
    assert one.wake_s() == 180.0


def test_when_nothing_is_out_nothing_wakes() -> None:
    assert window().wake_s() == math.inf


class WindowMachine(RuleBasedStateMachine):
    """Every new frame is out, or waits for its turn, or was put off; none is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.window = window()
        self.now_s = 0.0
        self.heads = {Stream(epoch, lane): 0 for epoch in (1, 2) for lane in LANES}
        self.new: set[Key] = set()
        self.out: dict[Key, int] = {}

    def holdings(self) -> list[Holding]:
        held = []
        for stream, head in self.heads.items():
            count = sum(key.stream == stream for key in self.new)
            held.append(Holding(stream, 1, head, {State.NEW: Tally(count, 0, 0)}))
        return held

    @rule(epoch=st.integers(1, 2), lane=st.sampled_from(LANES), count=st.sampled_from([1, 3, 200]))
    def append(self, epoch: int, lane: Lane, count: int) -> None:
        stream = Stream(epoch, lane)
        for _ in range(count):
            self.heads[stream] += 1
            self.new.add(Key(epoch, lane, self.heads[stream]))

    @rule(size=st.sampled_from([100, 50_000, 2_000_000]))
    def send(self, size: int) -> None:
        while (chosen := self.window.choose(self.holdings(), self.now_s)) is not None:
            if isinstance(chosen, Again):
                there = [key for key in chosen.keys if key in self.new]
                self.window.gone(set(chosen.keys) - set(there))
                for key in there:
                    self.go(key, self.out.get(key, size))
                continue
            self.take(chosen, size)

    def take(self, chosen: Take, size: int) -> None:
        free, sent = chosen.bytes_max, 0
        for seq in range(chosen.from_seq, self.heads[chosen.stream] + 1):
            key = Key(*chosen.stream, seq)
            if key not in self.new or seq in chosen.skip:
                continue
            if sent == chosen.frames_max or free < size:
                self.window.looked(chosen, seq, blocked=free < size)
                return
            assert key not in self.out, "sent twice without being due"
            self.go(key, size)
            free, sent = free - size, sent + 1
        self.window.looked(chosen, self.heads[chosen.stream] + 1, blocked=False)

    def go(self, key: Key, size: int) -> None:
        self.window.sent(key, key.seq, size, self.now_s, 0.5)
        self.out[key] = size

    @precondition(lambda self: self.out)
    @rule(data=st.data(), said=st.sampled_from(["taken", "gone", "agent", "frame", "other"]))
    def hear(self, data: st.DataObject, said: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.out)))
        if said == "other":
            assert not self.window.close(key, key.seq + 1, self.now_s)
            return
        assert self.window.close(key, key.seq, self.now_s)
        del self.out[key]
        if said == "taken":
            self.window.taken(key, self.now_s)
            self.new.discard(key)
        elif said == "gone":
            self.window.gone([key])
            self.new.discard(key)
        else:
            about = Later.AGENT if said == "agent" else Later.FRAME
            self.window.put_off(key, about, self.now_s)

    @rule(seconds=st.sampled_from([0.5, 20.0, 100.0, 5000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def session_ends(self) -> None:
        self.window.connection_ended()
        self.out.clear()

    @rule()
    def rewind(self) -> None:
        self.window.rewind()

    @invariant()
    def bounds_hold(self) -> None:
        assert self.window.out == len(self.out)
        for lane in LANES:
            sizes = [size for key, size in self.out.items() if key.lane is lane]
            assert len(sizes) <= FRAMES_MAX
            assert sum(sizes) <= BYTES_MAX

    def teardown(self) -> None:
        """A cloud that takes everything gets everything, in bounded time."""
        for _ in range(400):
            if not self.new:
                return
            self.send(size=100)
            for key in list(self.out):
                self.hear_taken(key)
            self.now_s += PROBE_S
        raise AssertionError(f"never sent: {sorted(self.new)[:5]}")

    def hear_taken(self, key: Key) -> None:
        del self.out[key]
        self.window.close(key, key.seq, self.now_s)
        self.window.taken(key, self.now_s)
        self.new.discard(key)


TestWindowMachine = WindowMachine.TestCase
TestWindowMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@settings(deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_chance_only_shortens_the_wait(draw: float) -> None:
    one = Window(Backoff(first_s=30.0, limit_s=900.0))
    one.sent(Key(1, Lane.LIVE, 1), 1, 10, 0.0, draw)
    assert 20.0 < one.wake_s() <= 30.0
