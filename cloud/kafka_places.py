"""Where reading goes on after a part was claimed, and whether its log is the one that was read.

Pure. Rule 1: a log whose own retention took what had been taken, and nothing else, is the same log.
Rule 2: everything that cannot be explained so is another log, and is read from its beginning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cloud.source import Loss, LossKind, Mark, Part, Record, stamp_of

Ends: TypeAlias = Mapping[Part, tuple[int, int]]  # first offset there is, and the next to be given


@dataclass(frozen=True, slots=True)
class Plan:
    """`starts`: where to read on; of what is lost and of what is `doubtful`, if it turns out lost.

    `doubtful`: the last record taken is still there and has to be compared.
    """

    starts: Mapping[Part, int]
    losses: tuple[Loss, ...]
    doubtful: Mapping[Part, Mark]


def plan_of(marks: Mapping[Part, Mark], ends: Ends) -> Plan:
    """By the ends of the logs alone."""
    losses = []
    doubtful = {}
    for part, mark in marks.items():
        loss = _loss_of_range(part, mark, *ends[part])
        if loss is not None:
            losses.append(loss)
        elif mark.stamp is not None and ends[part][0] < mark.next_offset:
            doubtful[part] = mark
    starts = {part: earliest for part, (earliest, _) in ends.items()}
    return Plan(starts, tuple(losses), doubtful)


def loss_of_record(record: Record, mark: Mark) -> Loss | None:
    """`record`: the first that is read from the last one taken on."""
    place = record.place
    if place is None:
        raise ValueError("a record of a log has a place")
    if place.offset == mark.next_offset - 1 and stamp_of(record.agent, place) == mark.stamp:
        return None
    detail = f"at {place.offset} stands another record than the last one taken"
    return Loss(place.part, mark, LossKind.OTHER_RECORD, detail)


def _loss_of_range(part: Part, mark: Mark, earliest: int, end: int) -> Loss | None:
    if mark.stamp is None:
        return None
    if end < mark.next_offset:
        detail = f"the log ends at {end}, {mark.next_offset} records were taken"
        return Loss(part, mark, LossKind.CUT, detail)
    if earliest > mark.next_offset:
        detail = f"the log begins at {earliest}, taken was up to {mark.next_offset}"
        return Loss(part, mark, LossKind.EXPIRED, detail)
    return None
