"""A pass as rows: what the nest did (from its event alone) and whose part it was (claims).

Rule 1: `record_of` needs nothing but the event; only `claims_of` changes when identity does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Final, TypeAlias
from uuid import UUID

from cloud.projection.holders import Certainty, Taken, pass_time_us
from cloud.projection.keys import key_of, line_key
from cloud.projection.rows import LinkRow, MentionRow, PassCurveRow, PassItemRow, PassRow, ValueRow
from cloud.projection.shifts import Calendar, Shift, shift_of
from cloud.projection.statements import slot_places
from protocols.events import Feed, Outcome, PassEvent, Verdict, body, from_us

ROLE_WORK: Final = "work"
ROLE_SAMPLE: Final = "sample"

Meant: TypeAlias = Mapping[tuple[UUID, str], Sequence[MentionRow]]
"""The items that a mention may mean, by event and path."""


@dataclass(frozen=True, slots=True)
class Record:
    row: PassRow
    values: tuple[ValueRow, ...]
    curves: tuple[PassCurveRow, ...]


@dataclass(frozen=True, slots=True)
class Claims:
    items: tuple[PassItemRow, ...]
    links: tuple[LinkRow, ...]


def record_of(event: PassEvent, calendars: Mapping[str, Sequence[Calendar]]) -> Record:
    """What the nest did."""
    return Record(pass_row(event, calendars), tuple(_values(event)), tuple(_curves(event)))


def claims_of(event: PassEvent, met: Mapping[str, tuple[Taken, ...]], meant: Meant) -> Claims:
    """Whose part it was and what went into it, as identity and holders say now."""
    items = tuple(_work(event, meant)) + tuple(_others(event, met, meant))
    parents = _parents(items)
    links = tuple(
        link
        for i, feed in enumerate(event.feeds)
        for link in _links(event, (i, feed), met.get(f"feeds.{i}", ()), parents, meant)
    )
    return Claims(items, links)


def bucket_key(line: UUID, shift: Shift) -> UUID:
    """One counter in one shift."""
    return key_of(
        "bucket", str(line), shift.from_at.isoformat(), shift.to_at.isoformat(), shift.name
    )


def pass_row(event: PassEvent, calendars: Mapping[str, Sequence[Calendar]]) -> PassRow:
    series = f"{event.key.series:016x}"
    line = line_key(event.site, event.station, event.nest, series)
    shift = shift_of(calendars, event.site, from_us(pass_time_us(event)))
    said = body(event)
    return PassRow(
        pass_id=event.pass_id,
        event=event.id,
        site=event.site,
        station=event.station,
        nest=event.nest,
        operation=event.operation,
        series=series,
        count=Decimal(event.key.count),
        counted=event.key.modulus is not None,
        at=event.at,
        started=event.started,
        ended=event.ended,
        ended_by=event.ended_by,
        windows=said["windows"],
        recipe=event.recipe.name if event.recipe else None,
        recipe_revision=event.recipe.revision if event.recipe else None,
        purpose=event.purpose,
        binding_rev=event.binding_rev,
        about_at=event.about.at if event.about else None,
        missing=list(event.missing),
        line=line,
        bucket=bucket_key(line, shift),
    )


def _values(event: PassEvent) -> Iterator[ValueRow]:
    for ordinal, one in enumerate(event.values):
        yield ValueRow(
            pass_id=event.pass_id,
            ordinal=ordinal,
            name=one.name,
            place=one.place,
            num=one.num,
            int_num=None if one.int_ is None else Decimal(one.int_),
            text=one.text,
            flag=one.bool_,
            unit=one.unit,
            low=one.low,
            high=one.high,
            ok=one.ok,
            critical=one.critical,
            quality=one.quality,
            method=one.method,
        )


def _curves(event: PassEvent) -> Iterator[PassCurveRow]:
    for ordinal, one in enumerate(event.curves):
        yield PassCurveRow(
            event.pass_id,
            ordinal,
            one.name,
            one.place,
            one.axis,
            list(one.units),
            one.n,
            one.sha256,
        )


def _work(event: PassEvent, meant: Meant) -> Iterator[PassItemRow]:
    for i, (item, place) in enumerate(zip(event.items, slot_places(event), strict=True)):
        slot = f"items.{i}"
        for mention in meant.get((event.id, slot), ()):
            yield PassItemRow(
                pass_id=event.pass_id,
                slot=slot,
                item=mention.item,
                role=ROLE_WORK,
                place=place,
                verdict=item.verdict,
                how=item.how,
                certainty=mention.certainty,
                defects=[body(one) for one in item.defects],
            )


def _others(
    event: PassEvent, met: Mapping[str, tuple[Taken, ...]], meant: Meant
) -> Iterator[PassItemRow]:
    """What sat in the seats, and what the pass is about."""
    for role in sorted(event.seats):
        slot = f"seats.{role}"
        for item, certainty in _items_of(met.get(slot, ()), meant).items():
            yield _other(event, slot, item, (role, certainty))
    for mention in meant.get((event.id, "about"), ()):
        yield _other(event, "about", mention.item, (ROLE_SAMPLE, mention.certainty))


def _parents(items: Sequence[PassItemRow]) -> list[tuple[UUID, str]]:
    """Each item that was worked, once; where two places claim it, the surer claim counts."""
    found: dict[UUID, str] = {}
    for row in items:
        if row.role == ROLE_WORK and found.get(row.item) != Certainty.EXACT:
            found[row.item] = row.certainty
    return sorted(found.items())


def _other(event: PassEvent, slot: str, item: UUID, said: tuple[str, str]) -> PassItemRow:
    return PassItemRow(
        pass_id=event.pass_id,
        slot=slot,
        item=item,
        role=said[0],
        place="",
        verdict=Verdict.UNKNOWN.value,
        how=Outcome.BOUND.value,
        certainty=said[1],
        defects=[],
    )


def _items_of(taken: Sequence[Taken], meant: Meant) -> dict[UUID, str]:
    """The items that a use of a holder met; the less sure of the two claims counts."""
    found: dict[UUID, str] = {}
    for one in taken:
        if one.source is None:
            continue
        for mention in meant.get((one.source.event, one.source.path), ()):
            found.setdefault(mention.item, less_sure(one.certainty.value, mention.certainty))
    return found


def less_sure(one: str, other: str) -> str:
    return one if one == other else Certainty.POSSIBLE.value


def _links(
    event: PassEvent,
    numbered: tuple[int, Feed],
    taken: Sequence[Taken],
    parents: Sequence[tuple[UUID, str]],
    meant: Meant,
) -> Iterator[LinkRow]:
    """What one feed put into each item. A quantity for several items is nobody's in particular."""
    i, feed = numbered
    for (n, one), (parent, parent_sure) in product(enumerate(taken), parents):
        children: list[tuple[UUID | None, str]] = [*_items_of([one], meant).items()]
        for child, sure in children or [(None, Certainty.UNKNOWN.value)]:
            yield LinkRow(
                link=key_of("feed", str(event.pass_id), str(i), str(n), str(child), str(parent)),
                owner=event.pass_id,
                relation="part",
                child=child,
                parent=parent,
                holder=feed.holder,
                place=f"feeds.{i}",
                qty=one.qty if len(parents) == 1 else None,
                uom=feed.qty.uom if feed.qty else None,
                from_at=from_us(pass_time_us(event)),
                certainty=sure if child is None else less_sure(sure, parent_sure),
                pass_id=event.pass_id,
                event=one.put,
            )
