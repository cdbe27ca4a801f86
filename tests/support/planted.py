"""Bugs on purpose: each breaks one rule of the protocol, in a test run of its own.

A pytest plugin: `THREADLINE_PLANTED=NAME python -m pytest -p tests.support.planted TEST`. The
switch is here and not in the product: what is patched is what a careless change could have written.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition

from cloud import compaction, counting, ingest, ledger, storing
from cloud.db import translated
from cloud.kafka_member import Member
from edge.uplink import Uplink
from gateway import kafka, topics
from protocols.frames import read_header
from protocols.receipts import Receipt, Run, Said
from protocols.topics import FRAME_HEADER

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

    def outcome(entry: ledger.Entry, digests: Mapping[Any, int]) -> ledger.Outcome:
        known = (entry.lane_id, entry.header.seq) in digests
        return ledger.Outcome.REPEAT if known else ledger.Outcome.COMPACTED

    patch.setattr(ledger, "_outcome", outcome)


def ledger_left_out(patch: pytest.MonkeyPatch) -> None:
    """Whatever comes is admitted."""

    async def outcomes(self: ledger.Admission) -> list[ledger.Outcome]:
        return [ledger.Outcome.ADMITTED for _ in self._entries]

    patch.setattr(ledger.Admission, "send", _nothing)
    patch.setattr(ledger.Admission, "outcomes", outcomes)


def admission_after_copy(patch: pytest.MonkeyPatch) -> None:
    """Look first, copy, and write into the ledger last, as if nobody came in between."""
    send, hear = ledger.Admission.send, ledger.Admission.outcomes

    async def outcomes(self: ledger.Admission) -> list[ledger.Outcome]:
        known = await ledger._digests(self._connection, self._entries)
        return [
            ledger._outcome(entry, known)
            if (entry.lane_id, entry.header.seq) in known
            else ledger.Outcome.ADMITTED
            for entry in self._entries
        ]

    real = storing._Transaction._copy

    async def copy(self: Any, rows: Any) -> None:
        await real(self, rows)
        if self._prepared.entries:
            admission = ledger.Admission(self._connection, self._prepared.entries)
            async with self._connection.pipeline():
                await send(admission)
            await hear(admission)

    patch.setattr(ledger.Admission, "send", _nothing)
    patch.setattr(ledger.Admission, "outcomes", outcomes)
    patch.setattr(storing._Transaction, "_copy", copy)


async def _nothing(_: object) -> None:
    """What is left out."""


def compaction_without_lock(patch: pytest.MonkeyPatch) -> None:
    """A lane is compacted while frames of it are being admitted."""
    patch.setattr(compaction, "_LOCK_LANE", "select from lane where lane_id = %s")


def offset_before_commit(patch: pytest.MonkeyPatch) -> None:
    """How far a part was taken is committed first, by itself."""
    real = storing.store

    async def store(
        connection: Any, books: Any, prepared: Any, now: Any, count: Any = None
    ) -> storing.Stored:
        if count is not None and count.moves:
            alone = counting.Counting(connection, count)
            with translated():
                async with connection.pipeline():
                    await alone.send()
                await alone.log_gen()
        return await real(connection, books, prepared, now, count)

    patch.setattr(ingest, "store", store)


def seek_without_identity(patch: pytest.MonkeyPatch) -> None:
    """Reading goes on at the next offset, whatever lies there now."""

    async def compare(self: Any, marks: Mapping[Any, Any], _: object) -> list[Any]:
        for part, mark in marks.items():
            where = TopicPartition(part.topic, part.number)
            self._consumer.seek(where, mark.next_offset)
            self._consumer.resume(where)
        return []

    patch.setattr(Member, "_compare", compare)


def event_time(patch: pytest.MonkeyPatch) -> None:
    """Kafka's records carry the time of what is in them."""
    settings, fill = topics._settings, kafka._fill

    def by_create_time(name: str, in_sync: int) -> Mapping[str, str]:
        return {**settings(name, in_sync), "message.timestamp.type": "CreateTime"}

    def with_event_time(batch: Any, waiting: Any) -> Any:
        append = batch.append

        def dated(*, timestamp: None, headers: Any, **more: Any) -> Any:
            head = dict(headers).get(FRAME_HEADER)
            found = None if head is None else read_header(head)
            at_us = found[0].sealed_at if isinstance(found, tuple) else 0
            return append(timestamp=at_us // 1000 or timestamp, headers=headers, **more)

        batch.append = dated
        return fill(batch, waiting)

    patch.setattr(topics, "_settings", by_create_time)
    patch.setattr(topics, "_of_settings", lambda _: iter(()))
    patch.setattr(kafka, "_fill", with_event_time)


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
    bug.__name__: bug
    for bug in (
        digest_ignored,
        ledger_left_out,
        admission_after_copy,
        compaction_without_lock,
        offset_before_commit,
        seek_without_identity,
        event_time,
        puback_frees,
    )
}
