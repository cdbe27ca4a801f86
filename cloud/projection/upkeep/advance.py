"""One event: everything that it can affect, found and derived again."""

from collections.abc import Iterable
from uuid import UUID

from cloud.projection.masters import Masters
from cloud.projection.rows import (
    HeadRow,
    LinkRow,
    PassItemRow,
    PassRow,
)
from cloud.projection.upkeep.claims import Stale, derive
from cloud.projection.upkeep.force import turn
from cloud.projection.upkeep.holders import Shifted, met_by, rerun
from cloud.projection.upkeep.identity import Remeant, restate
from cloud.projection.workspace import Workspace
from protocols.events import Event, PassEvent


async def advance(ws: Workspace, event: Event, recorded_seq: int, masters: Masters) -> None:
    """Take one event into the view. An event that is in it already changes nothing."""
    ws.begin(recorded_seq, event)
    turned = await turn(ws, event, recorded_seq)
    if turned is None or not (turned.on or turned.off):
        return
    on = await ws.events([head.event for head in turned.on])
    off = {head.event for head in turned.off}
    shifted = await rerun(ws, on.values(), off, masters.discipline_of)
    speaking = await ws.events(shifted.readers - off)
    met = await met_by(ws, speaking.keys() | on.keys())
    remeant = await restate(ws, {**speaking, **on, **dict.fromkeys(off)}, met)
    stale = await _stale(ws, on, turned.off, shifted, remeant)
    await derive(ws, stale, masters)


async def _stale(
    ws: Workspace,
    on: dict[UUID, Event],
    off: Iterable[HeadRow],
    shifted: Shifted,
    remeant: Remeant,
) -> Stale:
    stale = Stale(mounts=set(shifted.mounts), claimed=set(shifted.readers))
    for head in off:
        if head.pass_id is not None:
            stale.told.setdefault(head.pass_id, None)
        else:
            stale.spoken[head.event] = None
    for event in on.values():
        if isinstance(event, PassEvent):
            stale.told[event.pass_id] = event
        else:
            stale.spoken[event.id] = event
    gone = {head.event for head in off}
    touched = {event for event, _ in remeant.mentions} - gone
    for event in (await ws.events(touched)).values():
        if isinstance(event, PassEvent):
            stale.claimed.add(event.id)
        else:
            stale.spoken.setdefault(event.id, event)
    remounted = {event for event, path in remeant.mentions if path == "what"} - on.keys()
    await _fed(ws, remounted, remeant, stale)
    stale.claimed -= gone
    return stale


async def _fed(ws: Workspace, moves: set[UUID], remeant: Remeant, stale: Stale) -> None:
    """What was taken out of a holder means something else if what was put there does."""
    if not moves:
        return
    stale.mounts |= moves
    links = await ws.read(LinkRow, "event", moves)
    passes = {one.pass_id for one in links if one.pass_id is not None}
    seated = await ws.read(PassItemRow, "item", remeant.items)
    passes |= {one.pass_id for one in seated if one.slot.startswith("seats.")}
    rows = await ws.read(PassRow, "pass_id", passes)
    stale.claimed |= {row.event for row in rows}
