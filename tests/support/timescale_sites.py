"""Every place where the product speaks SQL, and which of them were reached.

A place is a call of `execute`, `executemany`, `copy` or `notifies` in the package `cloud`.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

import cloud

SPEAKING: Final = ("execute", "executemany", "copy", "notifies")
_HOME: Final = Path(str(cloud.__file__)).parent
_SPOKEN_BY: Final = (
    psycopg.Connection,
    psycopg.Cursor,
    psycopg.AsyncConnection,
    psycopg.AsyncCursor,
)


@dataclass(frozen=True, order=True)
class Site:
    """One call. `number`: the how manieth of its function, so that a name outlives other edits."""

    module: str
    function: str
    number: int

    def __str__(self) -> str:
        return f"{self.module}:{self.function}:{self.number}"


@dataclass
class Heard:
    """Lines of `cloud` that spoke SQL, and the texts that they sent."""

    lines: set[tuple[Path, int]] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)

    @property
    def sites(self) -> set[Site]:
        return {
            site
            for site, (file, first, last) in sites().items()
            if any(one == file and first <= line <= last for one, line in self.lines)
        }


def sites() -> dict[Site, tuple[Path, int, int]]:
    """All of them, with file, first and last line."""
    found: dict[Site, tuple[Path, int, int]] = {}
    for file in sorted(_HOME.rglob("*.py")):
        module = ".".join(file.relative_to(_HOME.parent).with_suffix("").parts)
        counts: dict[str, int] = {}
        for function, call in _calls(ast.parse(file.read_text("utf-8"))):
            number = counts[function] = counts.get(function, 0) + 1
            span = (file, call.lineno, call.end_lineno or call.lineno)
            found[Site(module, function, number)] = span
    return found


@contextmanager
def listening(heard: Heard) -> Iterator[None]:
    """Note who calls psycopg until the block ends. The calls themselves go on as they are."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in _SPOKEN_BY:
            for verb in SPEAKING:
                if verb in vars(kind):
                    patch.setattr(kind, verb, _noting(vars(kind)[verb], heard))
        yield


def _noting(real: Callable[..., Any], heard: Heard) -> Callable[..., Any]:
    def spoken(*given: Any, **named: Any) -> Any:
        caller = sys._getframe(1)
        file = Path(caller.f_code.co_filename)
        if file.is_relative_to(_HOME):
            heard.lines.add((file, caller.f_lineno))
            if len(given) > 1 and isinstance(given[1], str):
                heard.texts.add(given[1])
        return real(*given, **named)

    return spoken


def _calls(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.Call]]:
    for node in ast.iter_child_nodes(tree):
        within = function
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = f"{function}.{node.name}".lstrip(".")
        if isinstance(node, ast.Call) and _speaks(node.func):
            yield within, node
        yield from _calls(node, within)


def _speaks(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and called.attr in SPEAKING
