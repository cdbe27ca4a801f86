"""Carries the mailbox protocol of `mailbox` out on a device's tags, in the rhythm of PLC scans."""

import asyncio

from simulators.floor import Floor
from simulators.mailbox import Effect, Signal, State, step


class Handshake:
    """One mailbox: who writes data first puts it into the image, then calls `hand_over`."""

    def __init__(self, floor: Floor, station: str, device: str, prefix: str = "") -> None:
        self.device = device
        self.ready = f"{prefix}ready"
        self.taken = f"{prefix}taken"
        self._floor = floor
        self._station = station
        self._state = State.IDLE
        self._over = asyncio.Event()
        self._count = 0

    async def hand_over(self, count: int) -> None:
        """Offers what the device shows and returns when an agent has taken it."""
        self._count = count
        self._over.clear()
        self._tell(Signal.OFFER)
        offered = self._floor.journal.now()
        try:
            async with asyncio.timeout(self._floor.production.handshake_timeout_s):
                await self._over.wait()
        except TimeoutError:
            self._tell(Signal.LATE)
            await self._over.wait()
        self._floor.journal.event(
            "handed_over", station=self._station, count=count, offered_us=offered.mono_us
        )

    def written(self, name: str) -> None:
        """An agent has written a tag of the device: the PLC sees it in its next scan."""
        if name == self.taken:
            loop = asyncio.get_running_loop()
            loop.call_later(self._floor.production.plc_scan_s, self._scan)

    def _scan(self) -> None:
        if self._floor.get(self.device, self.taken):
            self._tell(Signal.TAKEN)

    def _tell(self, signal: Signal) -> None:
        self._state, effect = step(self._state, signal)
        match effect:
            case Effect.RAISE_READY:
                self._floor.put(self.device, {self.taken: False, self.ready: True})
                self._wait_shown("offered")
            case Effect.HOLD_PRODUCTION:
                self._floor.journal.event("hold", station=self._station, count=self._count)
                self._wait_shown("held")
            case Effect.RESET_BOTH:
                self._floor.put(self.device, {self.ready: False, self.taken: False})
                self._floor.tally.waiting.pop(self._station, None)
                self._over.set()
            case Effect.RESET_TAKEN:
                self._floor.put(self.device, {self.taken: False})
                self._floor.journal.event("taken_unasked", station=self._station)

    def _wait_shown(self, state: str) -> None:
        self._floor.tally.waiting[self._station] = {"count": self._count, "state": state}
