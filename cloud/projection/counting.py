"""Cycles counted = passes + gaps: what each counter did in each shift, as the events tell it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from cloud.projection.keys import line_key
from cloud.projection.passes import bucket_key
from cloud.projection.rows import GapRow, PassRow, TallyRow
from cloud.projection.shifts import Calendar, Shift, shift_of
from protocols.events import GapEvent


def gap_row(event: GapEvent, calendars: Mapping[str, Sequence[Calendar]]) -> GapRow:
    """A gap as it was said; `uncovered` is what `uncover` makes of it."""
    series = f"{event.series:016x}"
    line = line_key(event.site, event.station, event.nest, series)
    low, high = sorted((Decimal(event.from_count), Decimal(event.to_count)))
    return GapRow(
        event=event.id,
        site=event.site,
        station=event.station,
        nest=event.nest,
        series=series,
        from_count=low,
        to_count=high,
        uncovered=high - low + 1,
        at=event.at,
        from_at=event.from_at,
        to_at=event.to_at,
        reason=event.reason,
        line=line,
        bucket=bucket_key(line, shift_of(calendars, event.site, event.at)),
    )


def free_stretches(gaps: Iterable[GapRow]) -> dict[UUID, list[tuple[Decimal, Decimal]]]:
    """For each gap of one counter the counts that no gap before it has, as closed ranges."""
    found: dict[UUID, list[tuple[Decimal, Decimal]]] = {}
    taken_to: Decimal | None = None
    for gap in sorted(gaps, key=lambda one: (one.from_count, one.to_count, one.event)):
        low = gap.from_count if taken_to is None else max(gap.from_count, taken_to + 1)
        found[gap.event] = [(low, gap.to_count)] if low <= gap.to_count else []
        taken_to = gap.to_count if taken_to is None else max(taken_to, gap.to_count)
    return found


def width(stretches: Iterable[tuple[Decimal, Decimal]]) -> Decimal:
    return sum((high - low + 1 for low, high in stretches), Decimal(0))


def tallies(
    passes: Iterable[PassRow],
    gaps: Iterable[GapRow],
    calendars: Mapping[str, Sequence[Calendar]],
) -> Iterator[TallyRow]:
    """One row for each counter and shift that anything happened in."""
    buckets: dict[UUID, tuple[list[PassRow], list[GapRow]]] = defaultdict(lambda: ([], []))
    for one in passes:
        buckets[one.bucket][0].append(one)
    for gap in gaps:
        buckets[gap.bucket][1].append(gap)
    for own, missed in buckets.values():
        yield tally(own, missed, calendars)


def tally(
    passes: Sequence[PassRow], gaps: Sequence[GapRow], calendars: Mapping[str, Sequence[Calendar]]
) -> TallyRow:
    """One bucket; there is at least one pass or gap."""
    any_of: PassRow | GapRow = passes[0] if passes else gaps[0]
    counts = [one.count for one in passes]
    counts += [count for gap in gaps for count in (gap.from_count, gap.to_count)]
    shift = _shift(any_of, calendars)
    return TallyRow(
        bucket=any_of.bucket,
        site=any_of.site,
        station=any_of.station,
        nest=any_of.nest,
        series=any_of.series,
        shift=shift.name,
        shift_from=shift.from_at,
        shift_to=shift.to_at,
        passes=len(passes),
        gaps=sum((gap.uncovered for gap in gaps), Decimal(0)),
        first_count=min(counts),
        last_count=max(counts),
        counted=all(one.counted for one in passes),
    )


def _shift(row: PassRow | GapRow, calendars: Mapping[str, Sequence[Calendar]]) -> Shift:
    at = (row.started or row.at) if isinstance(row, PassRow) else row.at
    return shift_of(calendars, row.site, at)
