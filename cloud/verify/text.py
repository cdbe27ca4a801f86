"""The proof in words: the equation, what is behind its numbers, one line to end with. Pure."""

import json
from dataclasses import asdict
from typing import Final

from cloud.verify.delivery import END, Delivery
from cloud.verify.station import Collection
from protocols.printing import plain, shown

_ROW_FATES: Final = ("filtered", "waiting", "rejected", "dropped", "missing")
_FRAME_FATES: Final = ("stored", "waiting", "rejected", "dropped", "missing")


def json_of(found: Delivery | Collection) -> str:
    """All that was found, and whether it holds."""
    told = asdict(found) | {"holds": found.holds}
    return json.dumps(told, indent=2, ensure_ascii=False, default=plain)


def delivery_text(found: Delivery) -> str:
    """The equation, what is behind its numbers, and one line to end with."""
    how = "counted in the table" if found.counted_in_table else "the ledger's word"
    rows, frames = (
        " + ".join(f"{name} {getattr(found, prefix + name)}" for name in names)
        for prefix, names in (("", _ROW_FATES), ("frames_", _FRAME_FATES))
    )
    aged = f" + aged {found.aged}" if found.aged else ""
    lines = [
        f"read {found.read} + derived {found.derived}",
        f"  = stored {found.stored}{aged} + {rows}   (stored is {how})",
        f"frames: {frames}",
    ]
    if found.aged and found.kept_from is not None:
        lines.append(
            f"- aged: {found.aged} rows were stored in frames older than keep_samples, not looked"
            f" at: samples before {found.kept_from.isoformat()} are deleted"
        )
    lines += [f"- {shown(str(finding))}" for finding in found.findings]
    lines += [
        f"- outage {one.from_time.isoformat()} to {one.to_time.isoformat()}: {shown(one.reason)}"
        for one in found.outages
    ]
    lines += [
        f"- came back at {one.back_at.isoformat()} without its spool: rows read after"
        f" {one.lost_after.isoformat()} up to then are unknown"
        for one in found.lost_spools
    ]
    if found.is_widened:
        begin, end = found.from_at.isoformat(), found.to_at.isoformat()
        lines.append(f"- of compacted frames whole hours are known: {begin} to {end}")
    if found.frames_released:
        lines.append(
            f"- {found.released} rows in {found.frames_released} frames that wait were released:"
            " logged, let go by the spool, not stored yet"
        )
    if found.single_copy:
        lines.append(f"- logged: single copy, of {found.single_copy} frames")
    if not found.totals_stated:
        lines.append("- some frames state no totals: read is what their frames hold")
    if found.surplus:
        lines.append(f"- {found.surplus} rows more than were read")
    unseen = f", {found.aged} too old to look at" if found.aged else ""
    lines.append(
        f"{found.agent}: {found.stored} stored, {found.missing} missing,"
        f" {found.duplicates} duplicate{unseen}"
    )
    return "\n".join(lines)


def collection_text(found: Collection) -> str:
    """What is behind the table, and one line to end with."""
    lines = [
        f"- nest {shown(one.nest)!r}: neither pass nor gap for {shown(one.missing_counts)}"
        for one in found.series
        if one.missing
    ]
    if found.counter is not None:
        lines.append(
            f"- {shown(found.counter.path)} counted {found.counter.counted} cycles,"
            f" passes and gaps are {found.counter.told}, just counted {found.counter.settling}"
        )
    if found.to_at < END:
        lines.append(f"- up to {found.to_at.isoformat()}")
    counted, passes, gaps, missing, doubled = (
        sum(getattr(one, name) for one in found.series)
        for name in ("counted", "passes", "gaps", "missing", "doubled")
    )
    lines.append(
        f"{found.site} {found.station}: counted {counted} = passes {passes} + gaps {gaps},"
        f" {missing} missing, {doubled} duplicate"
    )
    return "\n".join(lines)
