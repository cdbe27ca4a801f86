"""Balances kept up: passes and gaps of each counter and shift."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from cloud.projection.counting import free_stretches, gap_row, tally, width
from cloud.projection.rows import GapRow, PassRow, TallyRow
from cloud.projection.shifts import Calendar
from cloud.projection.workspace import Workspace
from protocols.events import GapEvent

Calendars = Mapping[str, Sequence[Calendar]]


async def recount(
    ws: Workspace,
    before: Sequence[PassRow],
    after: Sequence[PassRow],
    gaps: Iterable[GapEvent | UUID],
    calendars: Calendars,
) -> None:
    """Passes as they were and are; gap events in force, or the ids of those that no longer are."""
    gaps = list(gaps)
    ids = [one if isinstance(one, UUID) else one.id for one in gaps]
    old_gaps = await ws.read(GapRow, "event", ids)
    new_gaps = [gap_row(one, calendars) for one in gaps if isinstance(one, GapEvent)]
    ws.replace(old_gaps, new_gaps)
    lines = {one.line for one in (*before, *after)} | {one.line for one in (*old_gaps, *new_gaps)}
    covered = await _cover(ws, lines)
    buckets = {row.bucket for row in (*old_gaps, *new_gaps, *covered)}
    buckets |= await _count(ws, before, after, calendars)
    for bucket in buckets:
        await _recount(ws, bucket, calendars)


async def _cover(ws: Workspace, lines: Iterable[UUID]) -> list[GapRow]:
    """Take the passes out of the gaps of some counters; the gaps that changed."""
    changed: list[GapRow] = []
    gaps = await ws.read(GapRow, "line", lines)
    for line in {gap.line for gap in gaps}:
        own = [gap for gap in gaps if gap.line == line]
        free = free_stretches(own)
        for gap in own:
            uncovered = width(free[gap.event])
            for low, high in free[gap.event]:
                uncovered -= await ws.count_passes(line, low, high)
            if uncovered != gap.uncovered:
                changed.append(replace(gap, uncovered=uncovered))
    for gap in changed:
        ws.put(gap)
    return changed


async def _count(
    ws: Workspace, before: Sequence[PassRow], after: Sequence[PassRow], calendars: Calendars
) -> set[UUID]:
    """Add passes to their shifts; what is more than adding is left to be counted again."""
    were = {row.pass_id: row for row in before}
    again = {row.bucket for row in before if row.pass_id not in {one.pass_id for one in after}}
    for row in after:
        old = were.get(row.pass_id)
        if old is None:
            await _add(ws, row, calendars)
        elif _counted_as(old) != _counted_as(row):
            again |= {old.bucket, row.bucket}
    return again


def _counted_as(row: PassRow) -> tuple[UUID, Decimal, bool]:
    return row.bucket, row.count, row.counted


async def _add(ws: Workspace, row: PassRow, calendars: Calendars) -> None:
    one = tally([row], [], calendars)
    for known in await ws.read(TallyRow, "bucket", [row.bucket]):
        one = replace(
            known,
            passes=known.passes + 1,
            first_count=min(known.first_count, row.count),
            last_count=max(known.last_count, row.count),
            counted=known.counted and row.counted,
        )
    ws.put(one)


async def _recount(ws: Workspace, bucket: UUID, calendars: Calendars) -> None:
    passes = await ws.read(PassRow, "bucket", [bucket])
    gaps = await ws.read(GapRow, "bucket", [bucket])
    old = await ws.read(TallyRow, "bucket", [bucket])
    ws.replace(old, [tally(passes, gaps, calendars)] if passes or gaps else [])
