"""Links that follow from moves and makes: parts, contents of holders, what a thing was made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final
from uuid import UUID

from cloud.projection.holders import Entry
from cloud.projection.keys import amount, key_of
from cloud.projection.passes import Meant, less_sure
from cloud.projection.rows import Json, LinkRow
from protocols.events import MakeEvent, MoveEvent, Portion, body, from_us, to_us

PART: Final = "part"
CONTENT: Final = "content"
MADE_OF: Final = "made_of"


@dataclass(frozen=True, slots=True)
class Joint:
    """One child going into, or out of, one parent by one move."""

    child: UUID
    parent: UUID
    at_us: int
    joins: bool
    event: UUID
    certainty: str
    move: MoveEvent


def joints_of(move: MoveEvent, meant: Meant) -> Iterator[Joint]:
    """The pairs that a move between items ties or unties."""
    for path, joins in (("from", False), ("to", True)):
        for parent in meant.get((move.id, path), ()):
            for child in meant.get((move.id, "what"), ()):
                certainty = less_sure(child.certainty, parent.certainty)
                yield Joint(
                    child.item, parent.item, to_us(move.at), joins, move.id, certainty, move
                )


def part_links(joints: Iterable[Joint]) -> Iterator[LinkRow]:
    """The links of one pair of child and parent: each join lasts to the next parting."""
    ordered = sorted(joints, key=lambda one: (one.at_us, one.joins, one.event))
    for i, one in enumerate(ordered):
        if one.joins:
            parting = next((later for later in ordered[i + 1 :] if not later.joins), None)
            yield _part(one, None if parting is None else parting.at_us)


def content_link(holder: str, entry: Entry, left_us: int | None, meant: Meant) -> Iterator[LinkRow]:
    """A content of a holder, as it was when it was put there, until it left."""
    source = entry.source
    for mention in meant.get((source.event, source.path), ()):
        yield LinkRow(
            link=key_of("content", str(entry.put), holder, str(mention.item)),
            owner=entry.put,
            relation=CONTENT,
            child=mention.item,
            parent=None,
            holder=holder,
            qty=entry.left,
            from_at=from_us(entry.since_us),
            to_at=None if left_us is None else from_us(left_us),
            certainty=mention.certainty,
            event=entry.put,
        )


def made_links(make: MakeEvent, meant: Meant) -> Iterator[LinkRow]:
    """Every output is made of every input."""
    outputs = [(f"outputs.{i}", one) for i, one in enumerate(make.outputs)]
    inputs = [(f"inputs.{i}", one) for i, one in enumerate(make.inputs)]
    for (to_path, output), (from_path, portion) in product(outputs, inputs):
        parents, children = meant.get((make.id, to_path), ()), meant.get((make.id, from_path), ())
        for parent, child in product(parents, children):
            yield LinkRow(
                link=key_of(
                    "made", str(make.id), to_path, from_path, str(parent.item), str(child.item)
                ),
                owner=make.id,
                relation=MADE_OF,
                child=child.item,
                parent=parent.item,
                qty=amount(portion.qty),
                uom=portion.qty.uom if portion.qty else None,
                from_at=make.at,
                child_segment=_segment(portion),
                parent_segment=_segment(output),
                certainty=less_sure(child.certainty, parent.certainty),
                event=make.id,
            )


def _part(one: Joint, left_us: int | None) -> LinkRow:
    move = one.move
    return LinkRow(
        link=key_of("part", str(move.id), str(one.child), str(one.parent)),
        owner=move.id,
        relation=PART,
        child=one.child,
        parent=one.parent,
        place=move.place,
        qty=amount(move.qty),
        uom=move.qty.uom if move.qty else None,
        from_at=from_us(one.at_us),
        to_at=None if left_us is None else from_us(left_us),
        child_segment=body(move.segment) if move.segment else None,
        certainty=one.certainty,
        pass_id=move.pass_,
        event=move.id,
    )


def _segment(portion: Portion) -> Json:
    return body(portion.segment) if portion.segment else None
