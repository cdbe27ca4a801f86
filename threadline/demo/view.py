"""The demo's picture: figures and one unit's story, as a live table or as plain lines. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from threadline.demo.figures import DeviceLine, Figures, StationLine

FIXED_LINES: Final = 7  # title, address, totals, two headings, the story's and a free one
_NONE: Final = "-"


@dataclass(frozen=True, slots=True)
class Scene:
    """What stays the same while figures change, and the story as far as one is known."""

    agent: str
    api: str
    figures: Figures
    story: Sequence[Text] = ()


def live(scene: Scene, width: int, height: int) -> RenderableType:
    """Everything, cut to the terminal: the story gives way first."""
    shown = scene.figures
    room = height - FIXED_LINES - len(shown.devices) - len(shown.stations)
    parts: list[RenderableType] = [_title(scene), _totals(shown), _devices(shown.devices)]
    parts += [_stations(shown.stations, width), *_story(scene.story, room)]
    return Group(*parts)


def plain(scene: Scene) -> str:
    """One line for a log."""
    shown = scene.figures
    words = [
        f"[{clock(shown.elapsed_s)}]",
        f"read {_number(shown.read_per_s)}/s",
        f"stored {_number(shown.stored_per_s)}/s",
        f"overruns {_number(shown.overruns)}",
        f"spool {_number(shown.waiting_rows)} rows",
        f"lag {seconds(shown.lag_s)}",
        f"passes {_number(shown.passes)}",
        f"gaps {_number(shown.gaps)}",
        f"finished {_number(shown.finished)}",
        *(f"({one})" for one in shown.why),
    ]
    return "  ".join(words)


def clock(elapsed_s: float) -> str:
    minutes, rest = divmod(int(elapsed_s), 60)
    return f"{minutes:02}:{rest:02}"


def seconds(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1f} s"


def size(value: int | None) -> str:
    if value is None:
        return _NONE
    return f"{value / 1024**2:.1f} MiB" if value >= 1024**2 else f"{value / 1024:.0f} KiB"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.0f}".replace(",", " ")


def _title(scene: Scene) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("Threadline", "bold")
    text.append(f"  {scene.agent}  {clock(scene.figures.elapsed_s)}   trace API ")
    text.append(f"{scene.api}/docs", "cyan underline")
    text.append("   Ctrl-C ends", "dim")
    return text


def _totals(shown: Figures) -> Table:
    table = Table.grid(padding=(0, 2))
    units = f"{_number(shown.finished)} units finished"
    row = [
        f"read {_number(shown.read_per_s)}/s",
        f"stored {_number(shown.stored_per_s)}/s",
        f"lag {seconds(shown.lag_s)}",
        f"spool {_number(shown.waiting_rows)} rows, {size(shown.spool_bytes)}",
    ]
    table.add_row(*row, Text(shown.uplink, "green" if shown.uplink == "connected" else "yellow"))
    table.add_row(
        f"passes {_number(shown.passes)}",
        f"gaps {_number(shown.gaps)}",
        _alarming("overruns ", shown.overruns),
        Text(units, "bold"),
        Text(" ".join(shown.why), "red"),
    )
    return table


def _alarming(word: str, value: int | None) -> Text:
    return Text(f"{word}{_number(value)}", "red" if value else "")


def _devices(lines: Sequence[DeviceLine]) -> Table:
    table = _table()
    table.add_column("device", no_wrap=True)
    for name in ("tags", "reads/s", "overruns", "late p99", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for one in lines:
        table.add_row(
            one.device,
            str(one.tags),
            f"{one.reads_per_s:.1f}",
            _alarming("", one.overruns),
            f"{one.late_ms:.1f} ms",
            _NONE if one.age_ms is None else f"{one.age_ms:.0f} ms",
            Text(one.state, "green" if one.state == "open" else "yellow"),
        )
    return table


def _stations(lines: Sequence[StationLine], width: int) -> Table:
    table = _table()
    table.add_column("station", no_wrap=True)
    for name in ("pass", "fail", "others", "gaps"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last unit", no_wrap=True, overflow="ellipsis", max_width=max(20, width - 44))
    for one in lines:
        last = Text(one.last_name)
        last.append(f"  {one.last_verdict}", VERDICTS.get(one.last_verdict, "dim"))
        gaps = Text(str(one.gaps), "yellow" if one.gaps else "")
        table.add_row(one.place, str(one.passed), str(one.failed), str(one.others), gaps, last)
    return table


VERDICTS: Final = {"pass": "green", "fail": "red"}


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim", pad_edge=False)


def _story(lines: Sequence[Text], room: int) -> list[RenderableType]:
    """As many lines as there is room for; the last one says that there is more."""
    if room <= 0 or not lines:
        return []
    shown = list(lines[:room])
    if len(lines) > room:
        shown[-1] = Text("  …")
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
    return list(shown)
