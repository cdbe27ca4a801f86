"""`logged`: what Kafka has, said to the agents in few receipts. Pure.

Frames that follow each other in an epoch and lane are one run; at most 256 frames a receipt.
Rule 1: only confirmed frames with a number are named; a dead letter is ingest's to answer.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from gateway.ports import Letter, Record
from protocols.frames import Label
from protocols.receipts import RECEIPT_FRAMES_MAX, Receipt, Run, Said, encode_receipt, pages

SINGLE_COPY: Final = "single copy"
RUNS_MAX: Final = 64  # of one receipt, far below its limit in bytes
_SEQ_END: Final = 2**63  # no honest agent counts so far, and no receipt can name more


@dataclass(frozen=True, slots=True)
class Logged:
    """A frame that Kafka has. `key`: the agent."""

    key: bytes
    label: Label


def logged_of(records: Iterable[Record]) -> list[Logged]:
    """Of confirmed records, those that are answered. They no longer hold the payloads."""
    return [
        Logged(record.key, record.label)
        for record in records
        if record.label is not None and 0 < record.label.seq < _SEQ_END
    ]


def letters_of(logged: Iterable[Logged], reason: str | None) -> Iterator[Letter]:
    """Every frame once. `reason`: said of each, as SINGLE_COPY."""
    mine: defaultdict[bytes, list[Label]] = defaultdict(list)
    for one in logged:
        mine[one.key].append(one.label)
    for key, labels in mine.items():
        agent = key.decode()
        for runs in pages(_runs(labels, reason), RUNS_MAX):
            receipt = Receipt(agent=agent, store_id=None, runs=runs)
            yield Letter(agent, encode_receipt(receipt))


def _runs(labels: Iterable[Label], reason: str | None) -> Iterator[Run]:
    named = sorted({(one.epoch, one.lane, one.seq, one.digest) for one in labels})
    numbered = enumerate(named)
    for (epoch, lane, _), group in groupby(numbered, key=_stretch):
        frames = [one for _, one in group]
        for start in range(0, len(frames), RECEIPT_FRAMES_MAX):
            page = frames[start : start + RECEIPT_FRAMES_MAX]
            digests = tuple(digest for *_, digest in page)
            yield Run(
                epoch=epoch,
                lane=lane,
                kind=Said.LOGGED,
                first=page[0][2],
                digests=digests,
                reason=reason,
            )


def _stretch(numbered: tuple[int, tuple[int, int, int, int]]) -> tuple[int, int, int]:
    """Equal for frames that follow each other: seq and position grow alike."""
    position, (epoch, lane, seq, _) = numbered
    return epoch, lane, seq - position
