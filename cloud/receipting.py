"""What is answered to frames, as receipts within their limits. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from protocols.receipts import RECEIPT_FRAMES_MAX, Receipt, Run, Said, pages

REASON_CHARS_MAX: Final = 200
RUNS_MAX: Final = 32  # with reasons that JSON makes six times longer, still below 64 KiB

_SEQ_END: Final = 2**63


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of one frame. `agent` is the topic's. Of `state`, `digest` is None."""

    agent: str
    epoch: int
    lane: int
    seq: int
    digest: int | None
    said: Said
    reason: str | None = None


def receipts_of(
    answers: Iterable[Answer], store_id: str | None, log_gen: int | None = None
) -> list[Receipt]:
    """Every answer once, frames that follow each other in one run.

    A seq above 2^63 cannot be answered; no agent of ours ever counts so far.
    """
    ordered = sorted({answer for answer in answers if answer.seq < _SEQ_END}, key=_order)
    found = []
    for agent, mine in groupby(ordered, key=lambda answer: answer.agent):
        found += [
            Receipt(agent=agent, store_id=store_id, log_gen=log_gen, runs=runs)
            for runs in pages(_runs(mine), RUNS_MAX)
        ]
    return found


def _order(answer: Answer) -> tuple[str, int, int, str, str, int, int]:
    reason, digest = answer.reason or "", answer.digest or 0
    return (answer.agent, answer.epoch, answer.lane, answer.said, reason, answer.seq, digest)


def _runs(answers: Iterable[Answer]) -> Iterator[Run]:
    run: list[Answer] = []
    for answer in answers:
        if run and not _continues(run, answer):
            yield _run(run)
            run = []
        run.append(answer)
    yield _run(run)


def _continues(run: Sequence[Answer], answer: Answer) -> bool:
    last = run[-1]
    same = (last.epoch, last.lane, last.said, last.reason) == (
        answer.epoch,
        answer.lane,
        answer.said,
        answer.reason,
    )
    has_digests = answer.digest is not None and len(run) < RECEIPT_FRAMES_MAX
    return same and has_digests and answer.seq == last.seq + 1


def _run(answers: Sequence[Answer]) -> Run:
    first = answers[0]
    reason = None if first.reason is None else first.reason[:REASON_CHARS_MAX]
    digests = tuple(answer.digest for answer in answers if answer.digest is not None)
    return Run(
        epoch=first.epoch,
        lane=first.lane,
        kind=first.said,
        first=first.seq,
        digests=digests,
        reason=reason,
    )
