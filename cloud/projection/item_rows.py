"""Items and their names as rows, once it is settled who is who."""

import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

from cloud.projection.lives import Life, Lives, Place
from cloud.projection.rows import ItemNameRow, ItemRow
from cloud.projection.statements import Facts
from protocols.events import Purpose, from_us

LOT_SCHEMES: Final = frozenset({"lot", "batch", "charge", "coil", "reel"})
CONTAINER_SCHEMES: Final = frozenset(
    {"sscc", "grai", "box", "pallet", "carrier", "rack", "crate", "tray", "truck"}
)


def item_row(lives: Lives, root: int) -> ItemRow:
    item = lives[root]
    facts = _merged(item.facts)
    return ItemRow(
        item=lives.id_of(root),
        kind=_kind_of({life.name[0].lower() for life in lives.of(root)}),
        material=facts.material,
        revision=facts.revision,
        order_no=facts.order_no,
        qty=facts.qty,
        uom=facts.uom,
        purpose=facts.purpose or Purpose.PRODUCTION.value,
        expiry=None if facts.expiry_us is None else from_us(facts.expiry_us),
        born_at=None if item.born_us is None else from_us(item.born_us),
        ended_at=None if item.ended_us is None else from_us(item.ended_us),
        met_at=from_us(item.first[2]),
        stub=item.stub,
    )


def name_rows(lives: Lives) -> Iterator[ItemNameRow]:
    for key, every in lives.by_key.items():
        by_item: dict[UUID, list[Life]] = defaultdict(list)
        for life in every:
            if not lives[life.item].foreign:
                by_item[lives.id_of(life.item)].append(life)
        for item, own in by_item.items():
            for start_us, end_us in _joined(own):
                valid_to = None if end_us is None else from_us(end_us)
                yield ItemNameRow(item, key, *own[0].name, from_us(start_us), valid_to)


def _merged(facts: Iterable[tuple[Place, Facts]]) -> Facts:
    """The last word on each; what came along with a move only where nobody else said it."""
    merged = Facts()
    for _, one in sorted(facts, key=lambda pair: (not pair[1].weak, pair[0])):
        merged = Facts(
            material=one.material or merged.material,
            revision=one.revision or merged.revision,
            qty=merged.qty if one.qty is None else one.qty,
            uom=one.uom or merged.uom,
            order_no=one.order_no or merged.order_no,
            purpose=one.purpose or merged.purpose,
            expiry_us=merged.expiry_us if one.expiry_us is None else one.expiry_us,
        )
    return merged


def _kind_of(schemes: set[str]) -> str:
    if schemes & CONTAINER_SCHEMES:
        return "container"
    return "lot" if schemes & LOT_SCHEMES else "unit"


def _joined(lives: Iterable[Life]) -> list[tuple[int, int | None]]:
    """Stretches that overlap are one."""
    joined: list[tuple[int, int | None]] = []
    for life in sorted(lives, key=operator.attrgetter("from_us")):
        start_us, end_us = joined[-1] if joined else (0, 0)
        apart = end_us is not None and end_us <= life.from_us != start_us
        if not joined or apart:
            joined.append((life.from_us, life.to_us))
        else:
            ends = None if end_us is None or life.to_us is None else max(end_us, life.to_us)
            joined[-1] = (start_us, ends)
    return joined
