"""docs/reliability.md names tests: each is there, every interleaving has one, every bug its own."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.integration.test_planted import CAUGHT_BY

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
INTERLEAVINGS = [f"I{number}" for number in range(1, 15)]


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_every_test_on_the_page_is_there() -> None:
    assert [f"{path}::{name}" for path, name in NAMED if name not in names_in(path)] == []


def test_every_interleaving_has_a_test_that_carries_its_id() -> None:
    rows = dict(re.findall(r"^\| (I\d+) \|.*\| (`.*`) \|$", PAGE, re.MULTILINE))
    assert list(rows) == INTERLEAVINGS
    without = [one for one in INTERLEAVINGS if not re.search(rf"_{one.lower()}_", rows[one])]
    assert without == []


def test_every_planted_bug_is_on_the_page_with_the_test_that_finds_it() -> None:
    bugs = PAGE[PAGE.index("## Planted bugs") :]
    assert [test for test, _ in CAUGHT_BY.values() if f"`{test}`" not in bugs] == []
