"""How commands print what they found: a table for people, JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

from rich.box import HEAVY_HEAD, Box
from rich.console import Console
from rich.table import Table

WIDE: Final = 200  # columns of a file or pipe, where nobody sees a line break


def table_of(rows: Sequence[Any], columns: Sequence[str], box: Box | None = HEAVY_HEAD) -> None:
    """`rows` are dataclasses; the columns named, one line each. `box` None: no lines around."""
    table = Table(*columns, box=box)
    for row in rows:
        table.add_row(*(shown(getattr(row, column)) for column in columns))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def json_of(rows: Sequence[Any]) -> str:
    """All fields of all rows."""
    found = [{one.name: plain(getattr(row, one.name)) for one in fields(row)} for row in rows]
    return json.dumps(found, indent=2, ensure_ascii=False)


def plain(value: Any) -> Any:
    """What JSON can hold."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return list(value) if isinstance(value, tuple) else value


def shown(value: Any) -> str:
    """What a cell of a table shows; control characters never reach the terminal."""
    if value is None:
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(plain(value))
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
