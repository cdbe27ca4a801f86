"""A measured figure, and the table and file of many."""

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUTPUT = Path("build/bench.json")
WIDTH_MIN = 150
LOAD_MAX = 0.3


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `peer`: what the ratio is to, measured in the same run. Goals fail nothing."""

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    goal: str = ""
    n: int = 1
    spread: str = ""


def of_rounds(
    name: str, values: Sequence[float], unit: str, *, goal: str = "", peer: str = "",
    peers: Sequence[float] | None = None,
) -> Figure:  # fmt: skip
    """Medians of rounds that took turns with their peer; the ratio is the median of the pairs'."""
    ratios = [] if peers is None else [a / b for a, b in zip(values, peers, strict=True)]
    return Figure(
        name,
        statistics.median(values),
        unit,
        peer,
        None if peers is None else statistics.median(peers),
        statistics.median(ratios) if ratios else None,
        goal,
        len(values),
        f"{min(values):.4g} … {max(values):.4g}",
    )


def load_of_machine() -> Figure:
    """Of the minute before. Above the goal others worked too: then only ratios mean something."""
    cores = os.cpu_count() or 1
    goal = f"< {LOAD_MAX:g}"
    return Figure(
        "machine: load average before", os.getloadavg()[0], f"of {cores} cores", goal=goal
    )


def write(figures: Sequence[Figure]) -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps([asdict(one) for one in figures], indent=1) + "\n")


def show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "value", "unit", "beside", "ratio", "goal", "n", "spread")
    for one in figures:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        beside = "" if one.peer_value is None else f"{one.peer} {one.peer_value:.4g}"
        table.add_row(
            one.name, f"{one.value:.4g}", one.unit, beside, ratio, one.goal, str(one.n), one.spread
        )
    console = Console()
    console.width = max(console.width, WIDTH_MIN)  # a file or a pipe claims 80 columns
    console.print(table)
