"""Links that lead back to where they began: nothing can be a part of itself, or made of itself."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final
from uuid import UUID

from cloud.projection.keys import key_of
from cloud.projection.rows import LinkRow, TraceAlarmRow

OWN_PART: Final = "own_part"
_TEXT: Final = "by its links the thing is a part of itself"


def circular(links: Iterable[LinkRow]) -> Iterator[LinkRow]:
    """Those from whose parent the links lead up to their child again, whenever each held."""
    ties = [(one, one.child, one.parent) for one in links]
    above: dict[UUID, set[UUID]] = defaultdict(set)
    below: dict[UUID, set[UUID]] = defaultdict(set)
    for _, child, parent in ties:
        if child is not None and parent is not None:
            above[child].add(parent)
            below[parent].add(child)
    ring_of: dict[UUID, UUID] = {}
    for root in reversed(list(_left(above))):
        if root not in ring_of:
            ring_of.update(dict.fromkeys(_reached(below, root, ring_of), root))
    for one, child, parent in ties:
        if child is not None and parent is not None and ring_of[child] == ring_of[parent]:
            yield one


def own_part_alarm(link: LinkRow) -> TraceAlarmRow:
    assert link.event is not None  # noqa: S101 - only an unknown child has no event
    return TraceAlarmRow(
        alarm=alarm_id(link.link),
        owner=link.event,
        name=OWN_PART,
        at=link.from_at,
        text=_TEXT,
        events=[str(link.event)],
    )


def alarm_id(link: UUID) -> UUID:
    return key_of(OWN_PART, str(link))


def _left(above: Mapping[UUID, Collection[UUID]]) -> Iterator[UUID]:
    """Items in the order in which a walk upward, depth first, is done with them."""
    seen: set[UUID] = set()
    for start in above:
        path = [] if start in seen else [(start, iter(above[start]))]
        seen.add(start)
        while path:
            item, rest = path[-1]
            coming = next((one for one in rest if one not in seen), None)
            if coming is None:
                path.pop()
                yield item
            else:
                seen.add(coming)
                path.append((coming, iter(above.get(coming, ()))))


def _reached(
    below: Mapping[UUID, Collection[UUID]], root: UUID, but: Collection[UUID]
) -> set[UUID]:
    found, waiting = {root}, [root]
    while waiting:
        coming = [
            one for one in below.get(waiting.pop(), ()) if one not in found and one not in but
        ]
        found.update(coming)
        waiting += coming
    return found
