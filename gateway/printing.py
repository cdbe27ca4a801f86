"""How commands print what they found: a table for people, JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table

PIPE_WIDTH: Final = 200  # of a file or pipe, where nobody sees a line break


def table_of(rows: Sequence[Any], columns: Sequence[str]) -> None:
    """`rows` are dataclasses; the columns named, one line each."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(_shown(getattr(row, column)) for column in columns))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)


def json_of(rows: Sequence[Any]) -> str:
    """All fields of all rows."""
    return json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False)


def _shown(value: Any) -> str:
    """Control characters never reach the terminal."""
    text = "" if value is None else str(value)
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
