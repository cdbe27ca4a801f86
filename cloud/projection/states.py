"""States of items and passes: each set lasts until it is unset or set again."""

from collections.abc import Iterable, Iterator, Mapping
from uuid import UUID

from cloud.projection.holders import Certainty
from cloud.projection.passes import Meant
from cloud.projection.rows import SaidRow, StateRow
from protocols.events import StateEvent, body


def subjects_of(event: StateEvent, meant: Meant) -> Iterator[SaidRow]:
    """Whom a state event speaks of, as identity says now."""
    if event.pass_ is not None:
        yield SaidRow(event.pass_, event.id, Certainty.EXACT.value, is_pass=True)
    items: dict[UUID, str] = {}
    for i in range(len(event.items)):
        for mention in meant.get((event.id, f"items.{i}"), ()):
            items.setdefault(mention.item, mention.certainty)
    for item, certainty in items.items():
        yield SaidRow(item, event.id, certainty, is_pass=False)


def state_rows(said: Iterable[SaidRow], events: Mapping[UUID, StateEvent]) -> Iterator[StateRow]:
    """The states of one subject, from all that was said of it."""
    ordered = sorted(said, key=lambda one: (events[one.event].at, one.event))
    for i, one in enumerate(ordered):
        later = [events[other.event] for other in ordered[i + 1 :]]
        for state in dict.fromkeys(events[one.event].set_):
            ends = (event for event in later if state in event.unset or state in event.set_)
            yield _row(one, events[one.event], (state, next(ends, None)))


def _row(one: SaidRow, event: StateEvent, span: tuple[str, StateEvent | None]) -> StateRow:
    state, ended_by = span
    return StateRow(
        subject=one.subject,
        item=None if one.is_pass else one.subject,
        pass_id=one.subject if one.is_pass else None,
        state=state,
        from_at=event.at,
        to_at=None if ended_by is None else ended_by.at,
        case_no=event.case,
        reason=event.reason,
        defect=body(event.defect) if event.defect else None,
        by=event.by,
        certainty=one.certainty,
        event=event.id,
    )
