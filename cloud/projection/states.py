"""States of items and passes: each set lasts until it is unset or set again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from cloud.projection.holders import Certainty
from cloud.projection.passes import Meant
from cloud.projection.rows import StateRow
from protocols.events import StateEvent, body, from_us, to_us


@dataclass(frozen=True, slots=True)
class Said:
    """One state event about one subject."""

    subject: UUID
    certainty: str
    event: StateEvent
    is_pass: bool = False


def subjects_of(event: StateEvent, meant: Meant) -> Iterator[Said]:
    """Whom a state event speaks of, as identity says now."""
    if event.pass_ is not None:
        yield Said(event.pass_, Certainty.EXACT.value, event, is_pass=True)
    items: dict[UUID, str] = {}
    for i in range(len(event.items)):
        for mention in meant.get((event.id, f"items.{i}"), ()):
            items.setdefault(mention.item, mention.certainty)
    for item, certainty in items.items():
        yield Said(item, certainty, event)


def state_rows(said: Iterable[Said]) -> Iterator[StateRow]:
    """The states of one subject, from all that was said of it."""
    ordered = sorted(said, key=lambda one: (to_us(one.event.at), one.event.id))
    for i, one in enumerate(ordered):
        for state in dict.fromkeys(one.event.set_):
            later = (other.event for other in ordered[i + 1 :])
            ends = (event for event in later if state in event.unset or state in event.set_)
            yield _row(one, state, next(ends, None))


def _row(one: Said, state: str, ended_by: StateEvent | None) -> StateRow:
    event = one.event
    return StateRow(
        subject=one.subject,
        item=None if one.is_pass else one.subject,
        pass_id=one.subject if one.is_pass else None,
        state=state,
        from_at=from_us(to_us(event.at)),
        to_at=None if ended_by is None else from_us(to_us(ended_by.at)),
        case_no=event.case,
        reason=event.reason,
        defect=body(event.defect) if event.defect else None,
        by=event.by,
        certainty=one.certainty,
        event=event.id,
    )
