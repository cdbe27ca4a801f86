"""A YAML 1.2 file as plain data that remembers on which line each value stands. No meaning here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from protocols.errors import ConfigError, Problem

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
_NODES_MAX: Final = 500_000  # a file of aliases of aliases would grow without end
_DEPTH_MAX: Final = 64

Key = str | int
KeyPath = tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """`lines`: from the keys down to a value to its line, counted from 1."""

    name: str
    data: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """`file:line: path` of a value, or of the nearest thing around it."""
        line = self.line(path)
        return f"{self.name}{f':{line}' if line else ''}: {dotted(path)}".rstrip(": ")

    def line(self, path: KeyPath) -> int:
        """0: it stands nowhere in the file."""
        depths = range(len(path), 0, -1)
        return next((self.lines[path[:to]] for to in depths if path[:to] in self.lines), 0)


def dotted(path: KeyPath) -> str:
    """`stations[1].cycle.key`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def read_document(file: Path) -> Document:
    """ConfigError: no such file, not YAML, not a mapping; all keys that stand twice at once."""
    text = _read_text(file)
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True  # they are all told below, not only the first
    try:
        constructor, _ = yaml.get_constructor_parser(text)
        node = constructor.composer.get_single_node()
        places = list(_walk(node)) if node is not None else []
        data = constructor.construct_document(node) if node is not None else {}
    except YAMLError as error:
        raise ConfigError([_syntax(file, error)]) from error
    if not isinstance(data, dict):
        why = "is not a mapping of keys to values"
        raise ConfigError([Problem(str(file), "", why, "Begin with `agent: site.name`.")])
    document = Document(str(file), data, {path: line for path, line, _ in reversed(places)})
    twice = [
        Problem(f"{file}:{line}: {dotted(path)}", "", "stands twice", "Keep one of the two.")
        for path, line, again in places
        if again
    ]
    if twice:
        raise ConfigError(twice)
    return document


def _read_text(file: Path) -> str:
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            why = f"is larger than {FILE_BYTES_MAX} bytes"
            raise ConfigError([Problem(str(file), "", why, "Split the agent into several.")])
        return file.read_text(encoding="utf-8")
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        raise ConfigError(
            [Problem(str(file), "", why, "Name a file that you may read.")]
        ) from error
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 at byte {error.start}"
        raise ConfigError([Problem(str(file), "", why, "Save it as UTF-8.")]) from error


def _syntax(file: Path, error: YAMLError) -> Problem:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
    said = error.problem if isinstance(error, MarkedYAMLError) else str(error)
    why = f"is not YAML: {str(said).splitlines()[0]}"
    return Problem(where, "", why, "Check indentation, quotes and colons near this place.")


def _walk(root: Node) -> Iterator[tuple[KeyPath, int, bool]]:
    """Every value's path and line, and whether its key stood there before."""
    waiting: list[tuple[KeyPath, Node]] = [((), root)]
    visited = 0
    while waiting:
        path, node = waiting.pop()
        visited += 1
        if visited > _NODES_MAX or len(path) > _DEPTH_MAX:
            raise YAMLError("too many values, or too deep: aliases count each time")
        if isinstance(node, MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = str(key.value) if isinstance(key, ScalarNode) else "?"
                below = (*path, name)
                yield below, key.start_mark.line + 1, name in seen
                seen.add(name)
                waiting.append((below, value))
        elif isinstance(node, SequenceNode):
            for at, value in enumerate(node.value):
                yield (*path, at), value.start_mark.line + 1, False
                waiting.append(((*path, at), value))
