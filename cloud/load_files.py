"""Files of masters and events: JSON lines, or YAML as a list or in named sections.

Rule 1: a line that cannot be parsed is a line with a fault, not the end of the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cloud.load import Line
from protocols.errors import ConfigError, Problem
from protocols.events import EVENT_BYTES_MAX

YAML_BYTES_MAX: Final = 64 * 1024 * 1024
SECTIONS: Final = {
    "materials": "material",
    "bom": "bom",
    "routes": "route",
    "characteristics": "characteristic",
    "station_tags": "station_tag",
    "holders": "holder",
    "calendars": "calendar",
    "events": None,
}


def read_lines(file: Path) -> Iterator[Line]:
    """Numbered from 1: lines of JSON, records of YAML. ConfigError: no such file, no YAML."""
    if file.suffix in (".yaml", ".yml"):
        yield from _of_yaml(file)
    else:
        yield from _of_json_lines(file)


def _of_json_lines(file: Path) -> Iterator[Line]:
    try:
        with file.open("rb") as opened:
            number = 0
            while line := opened.readline(EVENT_BYTES_MAX + 2):
                number += 1
                whole = line.endswith(b"\n") or len(line) <= EVENT_BYTES_MAX
                yield _parsed(number, line) if whole else _too_long(number, opened)
    except OSError as error:
        raise _unusable(file, str(error), "Give a readable file.") from error


def _parsed(number: int, line: bytes) -> Line:
    if not line.strip():
        return Line(number, None, "is empty")
    try:
        return Line(number, _JSON.validate_json(line))
    except ValueError as error:
        return Line(number, None, f"is no JSON: {error}")


def _too_long(number: int, opened: Any) -> Line:
    while rest := opened.readline(EVENT_BYTES_MAX):
        if rest.endswith(b"\n"):
            break
    return Line(number, None, f"has more than {EVENT_BYTES_MAX} bytes")


def _of_yaml(file: Path) -> Iterator[Line]:
    try:
        if file.stat().st_size > YAML_BYTES_MAX:
            raise _unusable(file, f"has over {YAML_BYTES_MAX} bytes", "Write JSON lines.")
        found = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(file, str(error), "Give a readable file in UTF-8.") from error
    except YAMLError as error:
        raise _unusable(file, f"is no YAML: {error}", "Write a list of records.") from error
    records = found if isinstance(found, list) else list(_of_sections(file, found))
    for number, said in enumerate(records, 1):
        yield Line(number, said)


def _of_sections(file: Path, found: Any) -> Iterator[Any]:
    if not isinstance(found, dict):
        raise _unusable(file, "holds no records", f"Write a list, or sections: {_KNOWN}.")
    for name, records in found.items():
        if name not in SECTIONS:
            raise _unusable(file, f"has an unknown section {name!r}", f"Known are: {_KNOWN}.")
        if not isinstance(records, list):
            raise _unusable(file, f"section {name} is no list", "Begin each record with `-`.")
        for said in records:
            fits = isinstance(said, dict) and SECTIONS[name] is not None
            yield {"kind": SECTIONS[name], **said} if fits else said


def _unusable(file: Path, why: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(str(file), "", why, remedy)])


_JSON: Final[TypeAdapter[Any]] = TypeAdapter(Any)
_KNOWN: Final = ", ".join(SECTIONS)
