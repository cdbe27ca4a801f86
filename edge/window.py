"""What the uplink sends next, what is out, what is due again. Pure: time and chance come in.

Rule 1: per lane at most 4 MiB or 256 frames are out; full, nothing of that lane is sent.
Rule 2: the first receipt of any kind that names the digest closes a frame; nothing else does.
Rule 3: control, events, live, backlog; in live the newest epoch first, else the oldest.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge.entries import ENTRY_OVERHEAD_BYTES, Holding, Key, State, Stream
from protocols.frames import HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX, Lane
from protocols.retry import Backoff

FRAMES_MAX: Final = 256
BYTES_MAX: Final = 4 * 1024 * 1024
FRAME_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + HEADER_BYTES_MAX + ENTRY_OVERHEAD_BYTES
PROBE_S: Final = 60.0
PUT_OFF_MAX: Final = 1024
AGAIN_MAX: Final = 64  # read from the spool in one go
ORDER: Final = (Lane.CONTROL, Lane.EVENTS, Lane.LIVE, Lane.BACKLOG)


class Later(Enum):
    """Whom a `later` is about: the whole agent, or a frame that the cloud cannot read yet."""

    AGENT = "agent"
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class Take:
    """Look for new frames of a stream, from a seq on, without those that are out already."""

    stream: Stream
    from_seq: int
    frames_max: int
    bytes_max: int
    skip: frozenset[int]


@dataclass(frozen=True, slots=True)
class Again:
    """Send these once more, if they are still new."""

    keys: tuple[Key, ...]


@dataclass(slots=True)
class _Out:
    digest: int
    size: int
    due_s: float
    tries: int


@dataclass(slots=True)
class _PutOff:
    about: Later
    until_s: float
    tries: int


class Window:
    """One agent's. `resend`: how long a frame waits for any receipt, doubling."""

    def __init__(self, resend: Backoff) -> None:
        self._resend = resend
        self._out: dict[Key, _Out] = {}
        self._frames = dict.fromkeys(ORDER, 0)
        self._bytes = dict.fromkeys(ORDER, 0)
        self._next: dict[Stream, int] = {}
        self._blocked: set[Lane] = set()
        self._soonest_s = math.inf  # nothing is due before; spares looking at every frame
        self._put_off: dict[Key, _PutOff] = {}
        self._heard_s = -math.inf
        self._taken_s = -math.inf
        self._probe_s: float | None = None
        self._rests = False  # nothing was there to ask with

    @property
    def out(self) -> int:
        """Frames sent and not closed."""
        return len(self._out)

    @property
    def paced(self) -> bool:
        """The cloud does not take this agent now: one frame a minute asks again."""
        return self._probe_s is not None

    @property
    def heard_s(self) -> float:
        """When the last receipt closed a frame; minus infinity: never."""
        return self._heard_s

    def frames_out(self, lane: Lane) -> int:
        return self._frames[lane]

    def choose(self, holdings: Sequence[Holding], now_s: float) -> Take | Again | None:
        """What to send now. None: nothing before `wake_s`, a receipt or a new frame."""
        if self._probe_s is not None:
            found = self._probe(holdings) if now_s >= self._probe_s else None
            self._rests = found is None and now_s >= self._probe_s
            return found
        due = self._due(now_s)
        if due:
            return Again(due)
        return self._fresh(holdings, FRAMES_MAX) or self._ripe(now_s)

    def wake_s(self) -> float:
        """When `choose` may answer otherwise by time alone."""
        if self._probe_s is not None:
            return math.inf if self._rests else self._probe_s
        out = (one.due_s for one in self._out.values())
        put_off = (one.until_s for key, one in self._put_off.items() if key not in self._out)
        return min((*out, *put_off), default=math.inf)

    def sent(self, key: Key, digest: int, size: int, now_s: float, draw: float) -> None:
        """A frame went out, for the first time or again; `draw` in [0, 1) spreads its next time."""
        before = self._out.get(key)
        tries = 0 if before is None else before.tries + 1
        if before is None:
            self._frames[key.lane] += 1
            self._bytes[key.lane] += size
        if key in self._put_off:
            held = self._put_off[key]
            held.until_s = now_s + _wait_s(held.about, held.tries + 1)
        due_s = now_s + self._resend.delay_s(tries, draw)
        self._out[key] = _Out(digest, size, due_s, tries)
        self._soonest_s = min(self._soonest_s, due_s)
        if self._probe_s is not None:
            self._probe_s = now_s + PROBE_S

    def looked(self, take: Take, next_seq: int, *, blocked: bool) -> None:
        """All new frames of the stream below `next_seq` are out now."""
        self._next[take.stream] = next_seq
        if blocked:
            self._blocked.add(take.stream.lane)

    def close(self, key: Key, digest: int, now_s: float) -> bool:
        """A receipt named a frame. False: it is not out, or it is another one."""
        found = self._out.get(key)
        if found is None or found.digest != digest:
            return False
        self._forget(key)
        if now_s - self._heard_s > self._resend.first_s:
            self._hurry(now_s)
        self._heard_s = now_s
        return True

    def taken(self, key: Key, now_s: float) -> None:
        """Stored: the cloud takes this agent. That a log took it says nothing of the cloud."""
        self._taken_s = now_s
        self._put_off.pop(key, None)
        if self._probe_s is None:
            return
        self._probe_s = None
        for other, held in list(self._put_off.items()):
            if held.about is Later.AGENT:
                del self._put_off[other]
                self._rewind(other)

    def put_off(self, key: Key, about: Later, now_s: float) -> None:
        """Answered `later`: new again, and to be tried after a minute."""
        self._rests = False
        before = self._put_off.pop(key, None)
        tries = 0 if before is None else before.tries + 1
        self._put_off[key] = _PutOff(about, now_s + _wait_s(about, tries), tries)
        if len(self._put_off) > PUT_OFF_MAX:
            oldest = next(iter(self._put_off))
            del self._put_off[oldest]
            self._rewind(oldest)
        lately = now_s - self._taken_s < PROBE_S and about is Later.FRAME
        if self._probe_s is None and not lately:
            self._probe_s = now_s + PROBE_S

    def gone(self, keys: Iterable[Key]) -> None:
        """The spool has let these go: nothing will be said of them."""
        for key in keys:
            self._put_off.pop(key, None)
            if key in self._out:
                self._forget(key)

    def rewind(self) -> None:
        """Entries became new again without being named: look at everything from the beginning."""
        self._rests = False
        self._next.clear()

    def connection_ended(self) -> None:
        """What was out is new again."""
        for key in self._out:
            self._rewind(key)
        self._out.clear()
        self._rests = False
        self._blocked.clear()
        self._frames = dict.fromkeys(ORDER, 0)
        self._bytes = dict.fromkeys(ORDER, 0)

    def _fresh(self, holdings: Sequence[Holding], frames_max: int) -> Take | None:
        for lane in ORDER:
            frames = min(frames_max, FRAMES_MAX - self._frames[lane])
            size = BYTES_MAX - self._bytes[lane]
            if frames <= 0 or size <= 0 or lane in self._blocked:
                continue
            streams = [one for one in holdings if one.stream.lane is lane]
            for held in reversed(streams) if lane is Lane.LIVE else streams:
                from_seq = max(held.floor, self._next.get(held.stream, 0))
                if held.of(State.NEW).frames and from_seq <= held.head:
                    skip = self._skip(held.stream, from_seq)
                    return Take(held.stream, from_seq, frames, size, skip)
        return None

    def _skip(self, stream: Stream, from_seq: int) -> frozenset[int]:
        return frozenset(
            key.seq
            for keys in (self._out, self._put_off)
            for key in keys
            if key.stream == stream and key.seq >= from_seq
        )

    def _due(self, now_s: float) -> tuple[Key, ...]:
        if now_s < self._soonest_s:
            return ()
        due = [key for key, one in self._out.items() if one.due_s <= now_s]
        if not due:
            self._soonest_s = min((one.due_s for one in self._out.values()), default=math.inf)
        due.sort(key=lambda key: (ORDER.index(key.lane), key.seq))
        return tuple(due[:AGAIN_MAX])

    def _ripe(self, now_s: float) -> Again | None:
        ripe = (
            key
            for key, one in self._put_off.items()
            if one.until_s <= now_s and key not in self._out and self._may_go(key.lane)
        )
        first = next(ripe, None)
        return None if first is None else Again((first,))

    def _may_go(self, lane: Lane) -> bool:
        return self._frames[lane] < FRAMES_MAX and self._bytes[lane] <= BYTES_MAX - FRAME_BYTES_MAX

    def _probe(self, holdings: Sequence[Holding]) -> Take | Again | None:
        """Rather a frame that was never refused: the refused ones may be refused for themselves."""
        fresh = self._fresh(holdings, 1)
        if fresh is not None:
            return fresh
        first = next(iter(self._put_off), None) or next(iter(self._out), None)
        return None if first is None else Again((first,))

    def _hurry(self, now_s: float) -> None:
        """The way is open again: what was lost on it need not wait for its doubled time."""
        self._soonest_s = min(self._soonest_s, now_s + self._resend.first_s)
        for one in self._out.values():
            one.due_s = min(one.due_s, now_s + self._resend.first_s)

    def _rewind(self, key: Key) -> None:
        if key.stream in self._next:
            self._next[key.stream] = min(self._next[key.stream], key.seq)

    def _forget(self, key: Key) -> None:
        found = self._out.pop(key)
        self._frames[key.lane] -= 1
        self._bytes[key.lane] -= found.size
        self._blocked.discard(key.lane)


def _wait_s(about: Later, tries: int) -> float:
    return PROBE_S * 2 ** min(tries, 6) if about is Later.FRAME else PROBE_S
