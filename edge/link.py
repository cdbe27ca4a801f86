"""The port between the uplink and a broker: one session, thrown away when it ends.

Rule 1: nothing is published but inside a session; what it did not carry is forgotten with it.
Rule 2: an acknowledgement by the broker is flow control only: it says nothing about any frame.
"""

from typing import Protocol


class Link(Protocol):
    """One session, subscribed to the agent's receipts. Disconnected from any call: it has ended."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand over for sending, at least once, not retained."""

    @property
    def unacknowledged_bytes(self) -> int:
        """Handed over and not yet acknowledged by the broker."""

    async def flowed(self) -> None:
        """Return when something was acknowledged since the last return."""

    async def receive(self) -> bytes:
        """The next message on the receipts' topic."""

    async def close(self) -> None:
        """End the session, sending what was handed over if that is quick. Safe twice."""


class Broker(Protocol):
    """Where sessions come from."""

    async def open(self) -> Link:
        """Disconnected(reason): unreachable, or it refuses; the reason is for people."""

    @property
    def identity(self) -> str:
        """`proven` when the session shows a client certificate, else `unproven`."""
