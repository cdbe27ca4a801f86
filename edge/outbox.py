"""The outbox: cuts to sealed frames to the spool to the uplink, put together and watched over.

Rule 1: it decides nothing about frames: sealing, spool and window do.
Rule 2: what it has to say of itself (alarms, hello, status) goes the way of everything else.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from edge.cut import Cut, Handover, OutboxStatus, Recovered
from edge.entries import Entry, Holding, Key
from edge.keeper import OK
from edge.link import Broker
from edge.retention import Limits
from edge.settling import Settled
from edge.spool import Spool, Taken
from edge.spool_folder import SpoolFolder
from edge.supervisor import Supervisor
from edge.uplink import Pace, Uplink
from edge.window import Take
from edge.writer import Writer
from protocols.driver import Clock
from protocols.errors import Busy
from protocols.events import NAMESPACE, Alarm, AlarmState, Severity, from_us
from protocols.frames import Frame, Header, Kind, Lane, seal
from protocols.notices import Hello, LaneState, Notice, Status, encode_notice
from protocols.receipts import Receipt

TIDY_S: Final = 5.0
DRAIN_S: Final = 5.0
YEAR_S: Final = 365.25 * 86_400
HELLO_LANES_MAX: Final = 4096  # about 120 bytes each; a notice holds 1 MiB

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """What the agent's file says.

    `drain_s`: at a stop, how long frames may still be sent. `restarting`: the uplink begins again
    after a bug; tests want it to end instead.
    """

    agent: str
    folder: Path
    limits: Limits
    version: str = ""
    pace: Pace | None = None
    drain_s: float = DRAIN_S
    restarting: bool = True


@dataclass(frozen=True, slots=True)
class Chance:
    """Random numbers: an epoch of 64 bits, and in [0, 1)."""

    epoch: Callable[[], int]
    draw: Callable[[], float]


def open_outbox(
    settings: OutboxSettings, broker: Broker, clock: Clock, chance: Chance
) -> "SpoolOutbox":
    """Open the spool, on the running loop. ConfigError: it cannot be used."""
    folder = SpoolFolder(settings.folder, clock.now_us)
    opened = folder.open()
    spool = Spool(opened.store, settings.agent, chance.epoch, settings.limits)
    if not spool.recovered.had_spool:
        log.warning(
            "no spool was here: a first start, or all that an earlier one had not sent is lost",
            folder=str(settings.folder),
        )
    writer = Writer(spool, folder, clock)
    return SpoolOutbox(settings, writer, broker, clock, chance.draw, opened.lost)


class SpoolOutbox:
    """An Outbox on a spool and a broker. `lost`: what a damaged file could not give back."""

    def __init__(
        self,
        settings: OutboxSettings,
        writer: Writer,
        broker: Broker,
        clock: Clock,
        draw: Callable[[], float],
        lost: Sequence[Entry] = (),
    ) -> None:
        self.on_report_all: Callable[[], None] = _nothing
        self.on_forked: Callable[[], None] = _nothing
        self._settings = settings
        self._writer = writer
        self._broker = broker
        self._clock = clock
        self._source = _Source(writer, clock, self._settled)
        self._uplink = Uplink(settings.agent, broker, self._source, clock, draw, settings.pace)
        self._uplink.make_hello = self._hello
        self._uplink.on_change = self._source.note_change
        self._supervisor = Supervisor(clock, draw, restarting=settings.restarting)
        writer.connected = lambda: self._uplink.connected
        writer.live_in_flight = lambda: self._uplink.live_in_flight
        writer.on_standing = self._stood
        writer.on_rolled_back = self._uplink.rewind
        writer.on_let_go = self._let_go
        self._lost = lost
        self._since_s = clock.monotonic_s()
        self._alarms: list[Alarm] = []
        self._raised: str | None = None
        self._running = False
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    @property
    def recovered(self) -> Recovered:
        return self._writer.recovered

    @property
    def epoch(self) -> int:
        return self._writer.standing.epoch

    @property
    def holdings(self) -> Sequence[Holding]:
        return self._writer.standing.holdings

    async def emptied(self) -> None:
        """Return once nothing waits: each entry is stored, in quarantine, or named in a notice."""
        await self._source.synced()
        while any(held.waiting_frames for held in self.holdings):
            await self._source.changed()

    def put(self, cut: Cut) -> Handover:
        handover = self._writer.put(self._with_alarms(cut))
        self._alarms.clear()
        return handover

    async def room(self) -> None:
        await self._writer.room()

    def send_notice(self, notice: Status) -> None:
        self._uplink.say(self._unsequenced(Kind.STATUS, notice))

    async def run(self) -> None:
        self._running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._supervisor.keep("uplink", self._uplink.run))
                tidying = tasks.create_task(self._tidy())
                watching = tasks.create_task(self._writer.watch())
                await self._stopping.wait()
                await self._drain()
                sending.cancel()
                tidying.cancel()
                watching.cancel()
        finally:
            await self._writer.stop()
            self._stopped.set()

    async def drain_and_stop(self) -> None:
        self._stopping.set()
        if self._running:
            await self._stopped.wait()
        else:
            await self._writer.stop()

    def status(self) -> OutboxStatus:
        standing = self._writer.standing
        waiting = dict.fromkeys((Lane.EVENTS, Lane.LIVE, Lane.BACKLOG, Lane.CONTROL), 0)
        for held in standing.holdings:
            waiting[held.stream.lane] += held.waiting_rows
        return OutboxStatus(
            standing.bytes_on_disk,
            waiting,
            standing.oldest_age_us / 1e6 if any(waiting.values()) else 0.0,
            self._uplink.connected,
            self._uplink.state,
            self._broker.identity,
            {
                **standing.counts,
                **self._uplink.counts,
                "spool_bytes_written": standing.bytes_written,
                "uplink_restarts": self._supervisor.restarts["uplink"],
            },
            standing.state,
            self._written_tb_a_year(standing.bytes_written),
        )

    def _written_tb_a_year(self, written: int) -> float:
        lasted_s = self._clock.monotonic_s() - self._since_s
        return written / lasted_s * YEAR_S / 1e12 if lasted_s > 0 else 0.0

    async def _drain(self) -> None:
        """Commit what was put; then send while there is a session and somebody answers."""
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._source.synced()
                while self._uplink.connected and not self._uplink.idle:
                    await self._source.changed()
        except TimeoutError:
            pass  # the spool keeps it for the next start
        self._uplink.say(self._hello())  # how the spool is left

    async def _tidy(self) -> None:
        while True:
            try:
                if self._lost:
                    await self._source.declare(self._lost)
                    self._lost = ()
                    self.on_report_all()
                self._settled(await self._source.tidy())
            except Busy:
                pass  # the next time
            await asyncio.sleep(TIDY_S)

    def _settled(self, settled: Settled) -> None:
        if settled.renewed:
            self._uplink.rewind()
        if settled.let_go:
            self.on_report_all()
        if settled.forked:
            self.on_forked()

    def _let_go(self) -> None:
        self.on_report_all()

    def _stood(self) -> None:
        self._uplink.wake()
        self._source.note_change()
        self._watch(self._writer.standing.state)

    def _watch(self, state: str) -> None:
        """One alarm when the spool cannot take everything, and its end."""
        key = None if state == OK else f"spool/{state.replace(' ', '_')}"
        if key == self._raised:
            return
        if self._raised is not None:
            self._alarms.append(self._alarm(self._raised, AlarmState.CLEARED, "takes everything"))
        if key is not None:
            self._alarms.append(self._alarm(key, AlarmState.RAISED, state))
        self._raised = key

    def _alarm(self, key: str, state: AlarmState, what: str) -> Alarm:
        now_us = self._clock.now_us()
        name = f"{self._settings.agent}\x1f{self.epoch:016x}\x1f{key}\x1f{state}\x1f{now_us}"
        return Alarm(
            id=uuid.uuid5(NAMESPACE, name),
            key=key,
            state=state,
            severity=Severity.ERROR,
            at=from_us(now_us),
            text=f"The spool of {self._settings.agent}: {what}.",
            source=self._settings.agent,
        )

    def _with_alarms(self, cut: Cut) -> Cut:
        return replace(cut, alarms=(*cut.alarms, *self._alarms)) if self._alarms else cut

    def _hello(self) -> Frame:
        lanes = [
            LaneState(
                epoch=held.stream.epoch,
                lane=held.stream.lane,
                floor=held.floor,
                head=held.head,
                rows=held.waiting_rows,
            )
            for held in self._writer.standing.holdings[-HELLO_LANES_MAX:]
        ]
        hello = Hello(
            agent=self._settings.agent,
            epoch=self.epoch,
            at=from_us(self._clock.now_us()),
            version=self._settings.version,
            identity=self._broker.identity,
            lanes=tuple(lanes),
            single_copy=self._writer.standing.single_copy or None,
        )
        return self._unsequenced(Kind.HELLO, hello)

    def _unsequenced(self, kind: Kind, notice: Notice) -> Frame:
        raw = encode_notice(notice)
        now_us = self._clock.now_us()
        header = Header(
            kind,
            Lane.NONE,
            self._settings.agent,
            self.epoch,
            0,
            rows=1,
            sealed_at=now_us,
            t_min=now_us,
            t_max=now_us,
            raw_len=len(raw),
        )
        return seal(header, raw)


class _Source:
    """The spool in its thread, as the uplink wants it."""

    def __init__(self, writer: Writer, clock: Clock, on_settled: Callable[[Settled], None]) -> None:
        self._writer = writer
        self._clock = clock
        self._on_settled = on_settled
        self._changes = asyncio.Event()

    @property
    def holdings(self) -> Sequence[Holding]:
        return self._writer.standing.holdings

    async def take(self, request: Take) -> Taken:
        now_us = self._clock.now_us()

        def take(spool: Spool) -> Taken:
            return spool.take(
                request.stream,
                request.from_seq,
                frames_max=request.frames_max,
                bytes_max=request.bytes_max,
                skip=request.skip,
                now_us=now_us,
            )

        taken = await self._writer.do(take)
        if taken.let_go:
            self._on_settled(Settled(let_go=True))
        return taken

    async def read(self, keys: Sequence[Key]) -> Sequence[Frame]:
        now_us = self._clock.now_us()
        return await self._writer.do(lambda spool: spool.read(keys, now_us))

    async def settle(self, receipt: Receipt) -> Settled:
        now_us = self._clock.now_us()

        def settle(spool: Spool) -> Settled:
            settled = spool.settle(receipt, now_us)
            if settled.forked:  # a new epoch must last before anybody is told of it
                spool.commit()
            return settled

        settled = await self._writer.do(settle)
        self._on_settled(settled)
        return settled

    async def tidy(self) -> Settled:
        now_us = self._clock.now_us()
        return await self._writer.do(lambda spool: spool.tidy(now_us))

    async def declare(self, lost: Sequence[Entry]) -> None:
        now_us = self._clock.now_us()
        await self._writer.do(lambda spool: spool.declare(lost, now_us))

    async def synced(self) -> None:
        """Return once every cut put so far is committed."""
        while self._writer.waiting:
            await self.changed()

    async def changed(self) -> None:
        self._changes.clear()
        await self._changes.wait()

    def note_change(self) -> None:
        self._changes.set()


def _nothing() -> None:
    """Nobody listens."""
