"""Recorded samples from a file as `GET /samples` gives it in CSV. Reads, never judges."""

import ast
import csv
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from protocols.errors import ConfigError, Problem
from protocols.events import to_us
from protocols.samples import DataType, Sample, Scalar, Value, ValueClass

COLUMNS: Final = ("time", "path", "type", "value", "quality", "code", "agent_time", "device_time")
_NEEDED: Final = COLUMNS[:5]
_PROBLEMS_MAX: Final = 20
_INTEGERS: Final = (ValueClass.I64, ValueClass.U64)


def read_samples(file: Path) -> list[Sample]:
    """In order of agent time. ConfigError: no such file, other columns, rows of other things."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    try:
        with file.open(encoding="utf-8", newline="") as text:
            rows = csv.DictReader(text)
            missing = [name for name in _NEEDED if name not in (rows.fieldnames or ())]
            if missing:
                why = f"has no column {', '.join(missing)}"
                remedy = "Take it from GET /samples as CSV."
                raise ConfigError([Problem(str(file), "", why, remedy)])
            for row in rows:
                try:
                    samples.append(_sample(row))
                except (ValueError, TypeError, SyntaxError) as error:
                    where = f"{file}:{rows.line_num}"
                    problems.append(Problem(where, row["path"] or "", str(error), "Correct it."))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problem = Problem(str(file), "", f"cannot be read: {error}", "Name a CSV file.")
        raise ConfigError([problem]) from error
    if problems:
        raise ConfigError(problems[:_PROBLEMS_MAX])
    return sorted(samples, key=lambda sample: sample.agent_time_us)


def _sample(row: Mapping[str, str | None]) -> Sample:
    time_us = _us(row["time"])
    type_ = DataType(row["type"] or "")
    code, agent, device = (row.get(name) for name in COLUMNS[5:])
    return Sample(
        path=row["path"] or "",
        type=type_,
        time_us=time_us or 0,
        value=_value(row["value"], type_),
        quality=int(row["quality"] or 0),
        code=int(code) if code else None,
        agent_time_us=_us(agent) or time_us or 0,
        device_time_us=_us(device),
    )


def _us(text: str | None) -> int | None:
    return to_us(datetime.fromisoformat(text)) if text else None


def _value(text: str | None, type_: DataType) -> Value:
    """As written by the API: an empty cell is no value, or an empty text."""
    if text is None or (not text and type_ is not DataType.TEXT):
        return None
    return _list(text, type_) if type_.is_array else _scalar(text, type_)


def _scalar(text: str, type_: DataType) -> Scalar:
    kind = type_.value_class
    if kind is ValueClass.BOOL:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() == "true"
    if kind in _INTEGERS:
        return int(text)
    return float(text) if kind is ValueClass.F64 else text


def _list(text: str, type_: DataType) -> Value:
    found: Any = ast.literal_eval(text)
    if not isinstance(found, list):
        raise ValueError(f"{text[:40]!r} is no list")  # noqa: TRY004 - told like any other cell
    return [_scalar(str(one), type_.element) for one in found]
