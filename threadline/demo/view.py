"""The demo's picture: figures and one unit's story, as a live table or as plain lines. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from threadline.demo.figures import DeviceLine, Figures, GatewayLine, StationLine

AIRY_FROM_LINES: Final = 36  # a larger terminal has room for more, and for air between the parts
NOTHING: Final = "-"
VERDICTS: Final = {"pass": "green", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Scene:
    """The figures, and the story of a unit, whole and short, as far as one is known.

    `env`: the file that tells a shell how to ask.
    """

    api: str
    env: str
    figures: Figures
    story: Sequence[Text] = ()
    short: Sequence[Text] = ()


def live(scene: Scene, width: int, height: int) -> RenderableType:
    """Everything, cut to the terminal: the story gives way first."""
    shown = scene.figures
    airy = height >= AIRY_FROM_LINES
    top = [_title(scene), *_totals(shown)]
    top += [] if shown.gateway is None else [_gateway(shown.gateway)]
    top += [_line(Text("; ".join(shown.why), "red"))] if shown.why else []
    top += [_cost(shown), _asking(scene)] if airy else []
    tables = (_devices(shown.devices), _stations(shown.stations, width))
    used = len(top) + len(shown.devices) + len(shown.stations) + len(tables)
    air = [Text()] if airy else []
    story = _story(scene, height - used - 3 * len(air))
    return Group(*top, *air, tables[0], *air, tables[1], *air, *story)


def plain(scene: Scene) -> str:
    """One line for a log."""
    shown = scene.figures
    words = [
        f"[{clock(shown.elapsed_s)}]",
        f"read {number(shown.read_per_s)}/s",
        f"stored {number(shown.stored_per_s)}/s",
        f"overruns {number(shown.overruns)}",
        f"spool {number(shown.waiting_rows)} rows",
        f"lag {seconds(shown.lag_s)}",
        f"passes {number(shown.passes)}",
        f"gaps {number(shown.gaps)}",
        f"finished {number(shown.finished)}",
        *(_plain_gateway(shown.gateway) if shown.gateway else []),
        *(f"({one})" for one in shown.why),
    ]
    return "  ".join(words)


def clock(elapsed_s: float) -> str:
    minutes, rest = divmod(int(elapsed_s), 60)
    return f"{minutes:02}:{rest:02}"


def seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f} s"


def size(value: int | None) -> str:
    if value is None:
        return NOTHING
    return f"{value / 1024**2:.1f} MiB" if value >= 1024**2 else f"{value / 1024:.0f} KiB"


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}".replace(",", " ")


def _title(scene: Scene) -> Text:
    text = Text.assemble(("Threadline ", "bold"), clock(scene.figures.elapsed_s), "   ")
    text.append(f"{scene.api}/docs", "cyan")
    text.append("   token in ", "dim")
    text.append(scene.env)
    return _line(text)


def _asking(scene: Scene) -> Text:
    text = Text.assemble(("ask   ", "dim"), f". {scene.env}; threadline trace NAME")
    text.append("   Ctrl-C ends", "dim")
    return _line(text)


def _totals(shown: Figures) -> list[Text]:
    up = shown.uplink == "connected"
    flow = Text.assemble(
        _figure("read", number(shown.read_per_s), "/s"),
        _figure("stored", number(shown.stored_per_s), "/s"),
        _figure("lag", seconds(shown.lag_s)),
        _figure("spool", number(shown.waiting_rows), " rows"),
        ("uplink ", "dim"),
        (shown.uplink, "green" if up else "yellow"),
    )
    made = Text.assemble(
        _figure("passes", number(shown.passes)),
        _figure("gaps", number(shown.gaps)),
        _figure("overruns", number(shown.overruns)),
        _figure("spool file", size(shown.spool_bytes)),
        (number(shown.finished), "bold green"),
        " units finished",
    )
    return [_line(flow), _line(made)]


def _gateway(shown: GatewayLine) -> Text:
    state = (shown.state, "green" if shown.state == "running" else "yellow")
    text = Text.assemble(("gateway ", "dim"), state, "   ")
    text.append_text(_figure("carried", number(shown.frames_per_s), " frames/s"))
    text.append_text(_figure("Kafka confirmed", seconds(shown.age_s), " ago"))
    text.append_text(_figure("waiting", number(shown.waiting)))
    return _line(text)


def _plain_gateway(shown: GatewayLine) -> list[str]:
    state = "" if shown.state == "running" else f" {shown.state}"
    return [f"gateway{state} {number(shown.frames_per_s)} frames/s"]


def _figure(word: str, value: str, unit: str = "") -> Text:
    return Text.assemble((f"{word} ", "dim"), (value, "bold"), unit, "   ")


def _cost(shown: Figures) -> Text:
    text = Text("CPU  ", "dim")
    for name, percent in shown.cpu_percent.items():
        text.append_text(_figure(name, f"{percent:.0f}", " %"))
    return _line(text)


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _devices(lines: Sequence[DeviceLine]) -> Table:
    table = _table("device")
    for name in ("tags", "reads/s", "overruns", "start late", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True, overflow="ellipsis")
    for one in lines:
        table.add_row(
            one.device,
            str(one.tags),
            f"{one.reads_per_s:.1f}",
            Text(number(one.overruns), "yellow" if one.overruns else ""),
            f"{one.late_ms:.1f} ms",
            NOTHING if one.age_ms is None else f"{one.age_ms:.0f} ms",
            Text(one.state, "green" if one.state == "up" else "yellow"),
        )
    return table


def _stations(lines: Sequence[StationLine], width: int) -> Table:
    table = _table("station")
    for name in ("pass", "fail", "other", "gaps"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last unit", no_wrap=True, overflow="ellipsis", max_width=max(20, width - 44))
    for one in lines:
        last = Text.assemble(one.last_name, "  ", (one.last_verdict, _colour(one.last_verdict)))
        gaps = Text(str(one.gaps), "yellow" if one.gaps else "")
        table.add_row(one.place, str(one.passed), str(one.failed), str(one.others), gaps, last)
    return table


def _colour(verdict: str) -> str:
    return VERDICTS.get(verdict, "dim")


def _table(first: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(first, no_wrap=True, min_width=10)
    return table


def _story(scene: Scene, room: int) -> list[Text]:
    """The whole one if there is room for it, else the short one, else what can be shown of that."""
    fits = len(scene.story) <= room
    return [_line(one.copy()) for one in (scene.story if fits else scene.short)[: max(0, room)]]
