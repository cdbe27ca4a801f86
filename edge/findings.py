"""Mistakes of shape: what pydantic found, in our words, and the data without the faulty parts.

Pure. The second half lets the other checks go on, so that all mistakes are told at once.
"""

import copy
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from edge.config import EdgeConfig
from edge.document import Key, KeyPath

VALUE_CHARACTERS_MAX: Final = 60
_ROUNDS_MAX: Final = 50
_SECRET: Final = ("password", "key_password", "token")
_STAND_INS: Final[Mapping[str, Any]] = {  # so that a file without them is checked further
    "agent": "site.agent",
    "uplink": {"url": "mqtt://localhost"},
    "devices": {},
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, at the keys that lead to it."""

    path: KeyPath
    value: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Shaped:
    """What could be taken of the data. `stations`: place in the file of each station taken."""

    config: EdgeConfig | None
    findings: tuple[Finding, ...] = ()
    stations: tuple[int, ...] = field(default=())


def shape(data: Mapping[str, Any]) -> Shaped:
    """Validate; on mistakes, validate again without them until the rest is sound."""
    rest = copy.deepcopy(dict(data))
    places = list(range(len(_stations(rest))))
    findings: dict[KeyPath, Finding] = {}
    for _ in range(_ROUNDS_MAX):
        try:
            config = EdgeConfig.model_validate(rest)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            paths = [_keys(each, rest) for each in errors]
            found = [
                _finding(each, _in_file(path, places))
                for each, path in zip(errors, paths, strict=True)
            ]
            new = [each for each in found if not follows(each, findings.values())]
            for each in new:
                findings.setdefault(each.path, each)  # a union says one mistake several times
            _cut_out(paths, rest, places)
            continue
        kept = tuple(findings.values())
        return Shaped(config, kept, tuple(places))
    return Shaped(None, tuple(findings.values()))


def follows(finding: Finding, earlier: Iterable[Finding]) -> bool:
    """It is only there because what stood at or below it was faulty and was taken out."""
    depth = len(finding.path)
    return any(each.path[:depth] == finding.path for each in earlier)


def shown(value: object) -> str:
    """A value as a message shows it: short, on one line."""
    if value is None or isinstance(value, dict | list | tuple):
        return ""
    text = str(value) if not isinstance(value, str) or value.isprintable() else repr(value)
    if isinstance(value, bool):
        text = text.lower()
    cut = len(text) > VALUE_CHARACTERS_MAX
    return text[: VALUE_CHARACTERS_MAX - 1] + "…" if cut else text or '""'


# In our words.


def _finding(error: Any, loc: KeyPath) -> Finding:
    if error["type"].startswith("union_tag"):
        loc = (*loc, "protocol")
    last = str(loc[-1]) if loc else ""
    value = "***" if last in _SECRET else shown(_input(error))
    why, remedy = _said(error, last)
    return Finding(loc, "" if error["type"] == "missing" else value, why, remedy)


def _input(error: Any) -> object:
    """Of a union that no member fits, only the tag is of interest."""
    return (error.get("ctx") or {}).get("tag", error.get("input"))


def _said(error: Any, last: str) -> tuple[str, str]:
    """Why, and the way out."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "value_error":
        return _split(str(context.get("error", error["msg"])))
    if kind in _CHOICES:
        return "is not one of the choices", f"Write {context[_CHOICES[kind]]}."
    if kind == "extra_forbidden":
        return "is not a known key", _near(last)
    if kind == "string_pattern_mismatch":
        return "is not written as needed", _PATTERN_REMEDY.get(last, _NAME)
    message = _WHY[kind].format(**context) if kind in _WHY else str(error["msg"])
    remedy = _REMEDY.get(kind, "Correct it.").format(key=last, **context)
    return message[0].lower() + message[1:], remedy


def _split(message: str) -> tuple[str, str]:
    """Our own types say why and the way out in one text."""
    why, *remedy = _BETWEEN.split(message, maxsplit=1)
    way_out = remedy[0].rstrip(".") if remedy else "Correct it"
    return why, f"{way_out[0].upper()}{way_out[1:]}."


_BETWEEN: Final = re.compile(r"\. (?=[A-Z])|; |: (?=a number|write )")
_NAME: Final = "Use letters, digits, _ and -; a tag's name may hold dots."
_PATTERN_PATTERN_REMEDY: Final = {
    "url": "Write mqtt://host:port, or mqtts://host:port with TLS.",
    "listen": "Write host:port, like 127.0.0.1:9464.",
}
_PATTERN_REMEDY: Final = {
    "url": "Write mqtt://host:port, or mqtts://host:port with TLS.",
    "listen": "Write host:port, like 127.0.0.1:9464.",
}
_CHOICES: Final = {
    "literal_error": "expected",
    "enum": "expected",
    "union_tag_invalid": "expected_tags",
}
_WHY: Final = {
    "missing": "is missing",
    "union_tag_not_found": "is missing",
    "greater_than": "is not above {gt}",
    "greater_than_equal": "is below {ge}",
    "less_than": "is not below {lt}",
    "less_than_equal": "is above {le}",
    "string_too_long": "is longer than {max_length} characters",
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "string_type": "is not a text",
    "dict_type": "is not a mapping of keys to values",
    "model_type": "is not a mapping of keys to values",
    "model_attributes_type": "is not a mapping of keys to values",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "path_not_file": "is not a file",
}
_REMEDY: Final = {
    "missing": "Add `{key}:`.",
    "greater_than": "Write more than {gt}.",
    "greater_than_equal": "Write {ge} or more.",
    "less_than": "Write less than {lt}.",
    "less_than_equal": "Write {le} or less.",
    "string_too_long": "Shorten it.",
    "finite_number": "Write a number.",
    "path_not_file": "Put the file there.",
    "union_tag_not_found": "Add `protocol:`.",
    "int_parsing": "Write a whole number.",
    "int_type": "Write a whole number.",
    "float_parsing": "Write a number.",
    "float_type": "Write a number.",
    "int_from_float": "Write a whole number.",
    "bool_parsing": "Write true or false.",
    "bool_type": "Write true or false.",
    "string_type": "Write a text; quote it if it looks like a number.",
    "dict_type": "Write keys and values, indented below this line.",
    "model_type": "Write keys and values, indented below this line.",
    "model_attributes_type": "Write keys and values, indented below this line.",
    "list_type": "Write a list: each entry on a line that begins with `- `.",
    "tuple_type": "Write a list: each entry on a line that begins with `- `.",
    "too_short": "Give at least one.",
    "string_too_short": "Give a text.",
}


def _near(key: str) -> str:
    close = difflib.get_close_matches(key, _known_keys(), 1, 0.7)
    return f"Did you mean {close[0]}?" if close and close[0] != key else "Remove it."


def _known_keys() -> list[str]:
    schema = EdgeConfig.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for part in parts for key in part.get("properties", {})})


# Without the faulty parts.


def _keys(error: Any, data: Any) -> KeyPath:
    """Pydantic's way to a mistake, without what it adds for members of unions."""
    here = data
    found: list[Key] = []
    for key in error["loc"]:
        if not isinstance(here, dict | list):
            break
        if isinstance(here, list) or key in here:
            found.append(key)
            here = here[key]
    return (*found, error["loc"][-1]) if error["type"] == "missing" else tuple(found)


def _in_file(path: KeyPath, places: list[int]) -> KeyPath:
    """Stations that were cut out moved those behind them."""
    if len(path) > 1 and path[0] == "stations" and isinstance(path[1], int):
        return (path[0], places[path[1]], *path[2:])
    return path


def _cut_out(paths: Iterable[KeyPath], data: dict[str, Any], places: list[int]) -> None:
    stations: set[int] = set()
    for path in paths:
        at = path[1] if len(path) > 1 and path[0] == "stations" else None
        if isinstance(at, int) and not _is_plain_key(path[2:], data["stations"][at]):
            stations.add(at)
        else:
            _remove(path, data)
    for at in sorted(stations, reverse=True):
        del data["stations"][at], places[at]


def _is_plain_key(path: KeyPath, station: Any) -> bool:
    """A key that can go and leave something behind in which no place moves."""
    around: Any = None
    here: Any = station
    for key in path:
        around = here
        if isinstance(here, list) is not isinstance(key, int):
            return False
        if isinstance(here, dict) and key not in here:
            return False
        here = here[key]
    return isinstance(around, dict) and len(around) > 1


def _remove(path: KeyPath, data: dict[str, Any]) -> None:
    """Take the value away; what is missing, or was the last of its kind, takes its parent."""
    if len(path) <= 1:
        _stand_in(path, data)
        return
    around: Any = data
    for key in path[:-1]:
        there = isinstance(around, list) or (isinstance(around, dict) and key in around)
        around = around[key] if there else None
    if not isinstance(around, dict) or path[-1] not in around or len(around) == 1:
        _remove(path[:-1], data)
    else:
        del around[path[-1]]


def _stand_in(path: KeyPath, data: dict[str, Any]) -> None:
    for key in path:
        data.pop(str(key), None)
        if key in _STAND_INS:
            data[str(key)] = copy.deepcopy(_STAND_INS[str(key)])


def _stations(data: Mapping[str, Any]) -> list[Any]:
    found = data.get("stations")
    return found if isinstance(found, list) else []
