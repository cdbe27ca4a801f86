"""Bugs on purpose: each breaks one rule of the protocol, in a test run of its own.

A pytest plugin: `THREADLINE_PLANTED=NAME python -m pytest -p tests.support.planted TEST`. The
switch is here and not in the product: what is patched is what a careless change could have written.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from cloud import ledger, storing
from edge.uplink import Uplink
from protocols.receipts import Receipt, Run, Said

BUG = "THREADLINE_PLANTED"


def pytest_configure(config: pytest.Config) -> None:
    name = os.environ.get(BUG)
    if name not in BUGS:
        raise pytest.UsageError(f"{BUG}={name}: one of {', '.join(BUGS)} is needed")
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    BUGS[name](patch)


def digest_ignored(patch: pytest.MonkeyPatch) -> None:
    """The same identity is a repeat, whatever it holds."""

    def outcome(entry: ledger.Entry, admitted: set[int], digests: Mapping[Any, int]) -> object:
        if entry.frame in admitted:
            return ledger.Outcome.ADMITTED
        known = (entry.lane_id, entry.header.seq) in digests
        return ledger.Outcome.REPEAT if known else ledger.Outcome.COMPACTED

    patch.setattr(ledger, "_outcome", outcome)


def ledger_left_out(patch: pytest.MonkeyPatch) -> None:
    """Whatever comes is admitted."""

    async def admit(_: object, entries: Sequence[object]) -> list[ledger.Outcome]:
        return [ledger.Outcome.ADMITTED for _ in entries]

    patch.setattr(storing, "admit", admit)


def admission_after_copy(patch: pytest.MonkeyPatch) -> None:
    """Look first, copy, and write into the ledger last, as if nobody came in between."""

    async def look(connection: Any, entries: Sequence[ledger.Entry]) -> list[ledger.Outcome]:
        keys = await ledger._digests(connection, entries)
        return [ledger._outcome(entry, _absent(entries, keys), keys) for entry in entries]

    def _absent(entries: Sequence[ledger.Entry], keys: Mapping[Any, int]) -> set[int]:
        return {one.frame for one in entries if (one.lane_id, one.header.seq) not in keys}

    real = storing._Transaction._copy

    async def copy(self: Any, admitted: Sequence[ledger.Entry]) -> None:
        await real(self, admitted)
        if admitted:
            await ledger.admit(self._connection, admitted)

    patch.setattr(storing, "admit", look)
    patch.setattr(storing._Transaction, "_copy", copy)


def puback_frees(patch: pytest.MonkeyPatch) -> None:
    """What the broker took is held to be stored."""
    published: list[Any] = []
    publish, carry = Uplink._publish, Uplink._carry

    def noticing(self: Uplink, link: Any, frame: Any) -> None:
        publish(self, link, frame)
        published.append(frame.header)

    async def settling(self: Uplink, link: Any, chosen: Any) -> None:
        await carry(self, link, chosen)
        runs = [
            Run(epoch=one.epoch, lane=int(one.lane), kind=Said.STORED, first=one.seq,
                digests=(one.digest,))
            for one in published
        ]  # fmt: skip
        published.clear()
        await self._hear(Receipt(agent=self._agent, store_id=None, runs=tuple(runs)))

    patch.setattr(Uplink, "_publish", noticing)
    patch.setattr(Uplink, "_carry", settling)


# Name in the environment → what it patches.
BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "digest_ignored": digest_ignored,
    "ledger_left_out": ledger_left_out,
    "admission_after_copy": admission_after_copy,
    "puback_frees": puback_frees,
}
