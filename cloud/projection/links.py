"""Links that follow from moves and makes: parts, contents of holders, what a thing was made of."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import product
from typing import Final
from uuid import UUID

from cloud.projection.holders import Entry
from cloud.projection.keys import amount, key_of
from cloud.projection.passes import Meant, less_sure
from cloud.projection.rows import JointRow, Json, LinkRow
from protocols.events import MakeEvent, MoveEvent, Portion, body, from_us

PART: Final = "part"
CONTENT: Final = "content"
MADE_OF: Final = "made_of"
TIES: Final = "to"
UNTIES: Final = "from"


def joints_of(move: MoveEvent, meant: Meant) -> Iterator[JointRow]:
    """The pairs that a move between items ties or unties."""
    for path in (TIES, UNTIES):
        for parent in meant.get((move.id, path), ()):
            for child in meant.get((move.id, "what"), ()):
                yield JointRow(
                    pair=key_of("pair", str(child.item), str(parent.item)),
                    event=move.id,
                    path=path,
                    child=child.item,
                    parent=parent.item,
                    certainty=less_sure(child.certainty, parent.certainty),
                )


def part_links(joints: Iterable[JointRow], moves: Mapping[UUID, MoveEvent]) -> Iterator[LinkRow]:
    """The links of one pair of child and parent: each tie lasts to the next untying."""
    ordered = sorted(joints, key=lambda one: (moves[one.event].at, one.path, one.event))
    for i, one in enumerate(ordered):
        if one.path == TIES:
            untying = next((later for later in ordered[i + 1 :] if later.path == UNTIES), None)
            until = None if untying is None else moves[untying.event].at
            yield _part(one, moves[one.event], until)


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


def _part(one: JointRow, move: MoveEvent, until: datetime | None) -> LinkRow:
    return LinkRow(
        link=key_of("part", str(move.id), str(one.child), str(one.parent)),
        owner=move.id,
        relation=PART,
        child=one.child,
        parent=one.parent,
        place=move.place,
        qty=amount(move.qty),
        uom=move.qty.uom if move.qty else None,
        from_at=move.at,
        to_at=until,
        child_segment=body(move.segment) if move.segment else None,
        certainty=one.certainty,
        pass_id=move.pass_,
        event=move.id,
    )


def _segment(portion: Portion) -> Json:
    return body(portion.segment) if portion.segment else None
