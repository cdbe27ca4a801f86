"""The uplink: frames from the spool to the broker, receipts from the broker to the spool.

Rule 1: only a receipt with a frame's own digest changes what becomes of it.
Rule 2: it knows no route: who says what about a frame is the receipt's business.
Rule 3: one log line when the broker goes, one when it is back; what happens between is a state.
"""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import structlog

from edge.entries import Holding, Key
from edge.link import Broker, Link
from edge.settling import OF_AGENT, Settled
from edge.spool import Taken
from edge.window import FRAME_BYTES_MAX, Again, Later, Take, Window
from protocols.driver import Clock
from protocols.errors import Busy, Disconnected, Rejected
from protocols.frames import Frame, Lane
from protocols.receipts import Receipt, Run, Said, decode_receipt
from protocols.retry import Backoff
from protocols.topics import HELLO, LANES, mqtt_topic

UNACKNOWLEDGED_BYTES_MAX: Final = 16 * 1024 * 1024
# What backlog may stand before a live frame on a slow wire: at 1 Mbit/s 256 KiB are two seconds.
BACKLOG_AHEAD_BYTES: Final = 256 * 1024
BACKLOG_AHEAD_FRAMES: Final = 16
HELLO_S: Final = 60.0
STEADY_S: Final = 10.0  # a session that ends sooner is another failed try
REST_S: Final = 0.02
_GONE: Final = (Said.REJECTED, Said.FORKED)
_LANES: Final = frozenset(int(lane) for lane in Lane)
_CHANNELS: Final = {Lane.NONE: HELLO} | {lane: channel for channel, lane in LANES.items()}

log = structlog.get_logger(__name__)


class Source(Protocol):
    """The spool as the uplink sees it. Busy from any call: not now."""

    @property
    def holdings(self) -> Sequence[Holding]: ...

    async def take(self, request: Take) -> Taken: ...

    async def read(self, keys: Sequence[Key]) -> Sequence[Frame]:
        """Those that are still new and whole."""

    async def settle(self, receipt: Receipt) -> Settled: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the uplink tries again."""

    reconnect: Backoff = field(default_factory=Backoff)
    resend: Backoff = field(default_factory=lambda: Backoff(first_s=30.0, limit_s=900.0))
    hello_s: float = HELLO_S


class Uplink:
    """One agent's way up; belongs to one loop. `draw` gives random numbers in [0, 1)."""

    def __init__(
        self,
        agent: str,
        broker: Broker,
        source: Source,
        clock: Clock,
        draw: Callable[[], float],
        pace: Pace | None = None,
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.make_hello: Callable[[], Frame | None] = lambda: None
        self._agent = agent
        self._broker = broker
        self._source = source
        self._clock = clock
        self._draw = draw
        self._pace = pace or Pace()
        self._window = Window(self._pace.resend)
        self._wake = asyncio.Event()
        self._link: Link | None = None
        self._state = "connecting"
        self._up = True  # so that a broker that is away at the start is said once
        self._since_s = 0.0
        self.counts: Counter[str] = Counter()

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def state(self) -> str:
        """Named, for people and metrics."""
        if self._link is None:
            return self._state
        if self._window.paced:
            return "paced: the cloud does not take this agent yet"
        return "silent: no receipts" if self._is_silent() else "connected"

    @property
    def idle(self) -> bool:
        """Nothing is out and nothing waits to go out."""
        return self._window.out == 0 and self._next() is None

    @property
    def live_in_flight(self) -> int:
        return self._window.frames_out(Lane.LIVE)

    def wake(self) -> None:
        """The spool holds something else than before."""
        self._wake.set()

    def rewind(self) -> None:
        """Entries may be new again without a name."""
        self._window.rewind()
        self._wake.set()

    def say(self, notice: Frame) -> None:
        """Publish an unsequenced frame if there is a session, else let it go."""
        if self._link is not None:
            try:
                self._publish(self._link, notice)
            except Disconnected:
                return  # the session's own tasks are told too, and say so

    async def run(self) -> None:
        """Keep a session for ever; ends by cancellation only."""
        attempt = 0
        while True:
            try:
                link = await self._broker.open()
            except Disconnected as gone:
                self._went_down(gone.reason)
            else:
                self._went_down(await self._serve(link))
                if self._clock.monotonic_s() - self._since_s > STEADY_S:
                    attempt = 0
            await asyncio.sleep(self._pace.reconnect.delay_s(attempt, self._draw()))
            attempt += 1

    async def _serve(self, link: Link) -> str:
        """Use one session up; why it ended."""
        self._came_up(link)
        reason = "session ended"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(link))
                tasks.create_task(self._listen(link))
                tasks.create_task(self._greet(link))
                tasks.create_task(self._follow(link))
        except* Disconnected as gone:
            reason = _first_reason(gone)
        finally:
            self._link = None
            self._window.connection_ended()
            self.on_change()
            await link.close()
        return reason

    async def _send(self, link: Link) -> None:
        while True:
            chosen = self._next()
            if chosen is None or link.unacknowledged_bytes >= _ahead_max(chosen):
                await self._rest(self._window.wake_s())
                continue
            try:
                await self._carry(link, chosen)
            except Busy as busy:
                await asyncio.sleep(busy.retry_after_s)

    async def _carry(self, link: Link, chosen: Take | Again) -> None:
        if isinstance(chosen, Take):
            asked = _a_little(chosen) if chosen.stream.lane is Lane.BACKLOG else chosen
            taken = await self._source.take(asked)
            for frame in taken.frames:
                self._go(link, frame)
            blocked = taken.blocked and asked.bytes_max == chosen.bytes_max
            self._window.looked(chosen, taken.next_seq, blocked=blocked)
            return
        frames = await self._source.read(chosen.keys)
        for frame in frames:
            self._go(link, frame)
            self.counts["frames_resent"] += 1
        self._window.gone(set(chosen.keys) - {_key(frame) for frame in frames})

    def _go(self, link: Link, frame: Frame) -> None:
        self._publish(link, frame)
        size = len(frame.head) + len(frame.payload)
        now_s = self._clock.monotonic_s()
        self._window.sent(_key(frame), frame.header.digest, size, now_s, self._draw())

    def _publish(self, link: Link, frame: Frame) -> None:
        link.publish(mqtt_topic(self._agent, _CHANNELS[frame.header.lane]), frame.sealed)
        self.counts["frames_sent"] += 1
        self.counts["bytes_sent"] += len(frame.head) + len(frame.payload)

    async def _listen(self, link: Link) -> None:
        while True:
            data = await link.receive()
            try:
                receipt = decode_receipt(data)
            except Rejected:
                self.counts["receipts_unreadable"] += 1
                continue
            if receipt.agent != self._agent:
                self.counts["receipts_foreign"] += 1
                continue
            self.counts["receipts"] += 1
            await self._hear(receipt)

    async def _hear(self, receipt: Receipt) -> None:
        for run in receipt.runs:
            self._close(run)
        settled = await self._settle(receipt)
        for key in settled.taken:
            self._window.taken(key, self._clock.monotonic_s())
        for run in receipt.runs:
            if run.kind is Said.LATER:
                self._put_off(run, frozenset(settled.later))
        if settled.renewed:
            self._window.rewind()
        self._wake.set()

    def _close(self, run: Run) -> None:
        now_s = self._clock.monotonic_s()
        for key, digest in _named(run):
            if self._window.close(key, digest, now_s) and run.kind in _GONE:
                self._window.gone((key,))

    async def _settle(self, receipt: Receipt) -> Settled:
        while True:
            try:
                return await self._source.settle(receipt)
            except Busy as busy:
                await asyncio.sleep(busy.retry_after_s)

    def _put_off(self, run: Run, keys: frozenset[Key]) -> None:
        about = Later.AGENT if (run.reason or "").startswith(OF_AGENT) else Later.FRAME
        now_s = self._clock.monotonic_s()
        for key, _ in _named(run):
            if key in keys:
                self._window.put_off(key, about, now_s)

    async def _greet(self, link: Link) -> None:
        while True:
            hello = self.make_hello()
            if hello is not None:
                self._publish(link, hello)
            await asyncio.sleep(self._pace.hello_s)

    async def _follow(self, link: Link) -> None:
        while True:
            await link.flowed()
            self._wake.set()

    def _next(self) -> Take | Again | None:
        return self._window.choose(self._source.holdings, self._clock.monotonic_s())

    async def _rest(self, until_s: float) -> None:
        """Until there may be something to send: by a wake or by time."""
        rest_s = max(REST_S, until_s - self._clock.monotonic_s())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if rest_s == math.inf else rest_s):
                await self._wake.wait()
        self._wake.clear()

    def _is_silent(self) -> bool:
        heard_s = max(self._window.heard_s, self._since_s)
        quiet_s = self._clock.monotonic_s() - heard_s
        return self._window.out > 0 and quiet_s > self._pace.resend.first_s

    def _came_up(self, link: Link) -> None:
        self._link = link
        self._since_s = self._clock.monotonic_s()
        self.counts["sessions"] += 1
        if not self._up:
            self._up = True
            log.info("connected to the broker")
        self._wake.set()
        self.on_change()

    def _went_down(self, reason: str) -> None:
        self._state = reason if reason.startswith("refused") else f"disconnected: {reason}"
        if self._up:
            self._up = False
            log.warning("the broker is away", reason=reason)


def _ahead_max(chosen: Take | Again) -> int:
    backlog = isinstance(chosen, Take) and chosen.stream.lane is Lane.BACKLOG
    return BACKLOG_AHEAD_BYTES if backlog else UNACKNOWLEDGED_BYTES_MAX


def _a_little(chosen: Take) -> Take:
    return replace(
        chosen,
        frames_max=min(chosen.frames_max, BACKLOG_AHEAD_FRAMES),
        bytes_max=min(chosen.bytes_max, FRAME_BYTES_MAX),
    )


def _named(run: Run) -> Iterator[tuple[Key, int]]:
    """Frames of a run, with the digest that it names; none of a lane that we do not have."""
    if run.lane in _LANES:
        for seq, digest in enumerate(run.digests, run.first):
            yield Key(run.epoch, Lane(run.lane), seq), digest


def _key(frame: Frame) -> Key:
    return Key(frame.header.epoch, frame.header.lane, frame.header.seq)


def _first_reason(group: BaseExceptionGroup[Disconnected]) -> str:
    for error in group.exceptions:
        if isinstance(error, Disconnected):
            return error.reason
        return _first_reason(error)
    return "session ended"
