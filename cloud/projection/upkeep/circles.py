"""Keeps up the alarms about things that are a part of themselves, after links have changed.

A circle through a link lies wholly above its parent and wholly below its child: the side with less
is read. Nearly always that is nothing, for what a pass makes goes into something else only later.
"""

from collections.abc import Iterable
from uuid import UUID

from cloud.projection.circles import alarm_id, circular, own_part_alarm
from cloud.projection.rows import LinkRow, TraceAlarmRow
from cloud.projection.workspace import Workspace


async def find_circles(ws: Workspace, old: Iterable[LinkRow], new: Iterable[LinkRow]) -> None:
    """`old`, `new`: links as they stood and as they stand now, in the workspace already."""
    before, after = {one.link: one for one in old}, {one.link: one for one in new}
    changed = [
        one
        for one in (*before.values(), *after.values())
        if before.get(one.link) != after.get(one.link) and one.child and one.parent
    ]
    if not changed:
        return
    for link in after.keys() - before.keys():  # nobody warned of a link that did not stand
        ws.know_empty(TraceAlarmRow, "alarm", alarm_id(link))
    around = await _around(ws, changed)
    links = {one.link for one in (*around, *changed)}
    stood = await ws.read(TraceAlarmRow, "alarm", map(alarm_id, links))
    ws.replace(stood, map(own_part_alarm, circular(around)))


async def _around(ws: Workspace, changed: Iterable[LinkRow]) -> list[LinkRow]:
    """All links on one side of the changed ones, and those of the changed that stand."""
    links = {one.link: one for one in changed}
    found = await _above(ws, {one.parent for one in links.values() if one.parent})
    if found is None:
        found = await _below(ws, {one.child for one in links.values() if one.child})
    standing = await ws.read(LinkRow, "owner", {one.owner for one in links.values()})
    found |= {one.link: one for one in standing if one.link in links}
    return list(found.values())


async def _above(ws: Workspace, items: set[UUID]) -> dict[UUID, LinkRow] | None:
    """None: one of the items above went into too many."""
    found: dict[UUID, LinkRow] = {}
    seen: set[UUID] = set()
    while items:
        seen |= items
        links, busy = await ws.read_few(LinkRow, "child", items)
        if busy:
            return None
        found |= {one.link: one for one in links}
        items = {one.parent for one in links if one.parent} - seen
    return found


async def _below(ws: Workspace, items: set[UUID]) -> dict[UUID, LinkRow]:
    found: dict[UUID, LinkRow] = {}
    seen: set[UUID] = set()
    while items:
        seen |= items
        links = await ws.read(LinkRow, "parent", items)
        found |= {one.link: one for one in links}
        items = {one.child for one in links if one.child} - seen
    return found
