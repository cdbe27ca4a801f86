"""The import contracts hold what they say: no name in them is stale, and each fails when broken.

import-linter passes silently over a package it was not told of, a forbidden name that does not
exist and a wildcard that matches nothing. Here they are mistakes.
"""

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETTINGS = PROJECT["tool"]["importlinter"]
PACKAGES: list[str] = SETTINGS["root_packages"]
CONTRACTS: dict[str, dict[str, Any]] = {one["id"]: one for one in SETTINGS["contracts"]}
NAMING = ("source_modules", "forbidden_modules", "protected_modules", "allowed_importers",
          "modules", "containers", "ancestors")  # fmt: skip

# Plain vocabulary, the same in every package: wrapping it would only rename it.
WITHOUT_DOOR = frozenset({"numpy", "psutil", "pydantic", "structlog"})

# What breaks each contract: files by path, and nothing else than this contract objects to them.
PLANTED: dict[str, dict[str, str]] = {
    "floors": {"cloud/planted_floors.py": "import edge"},
    "protocols-floors": {"protocols/planted_floor.py": ""},
    "drivers-apart": {
        "protocols/drivers/planted_apart/__init__.py": "import protocols.drivers.planted_near",
        "protocols/drivers/planted_near/__init__.py": "",
    },
    "drivers-at-the-edge": {"cloud/planted_registry.py": "import protocols.registry"},
    "gateway-blind": {"gateway/planted_payload.py": "import protocols.codec"},
    "simulators-blind": {"simulators/planted_blind.py": "import protocols.errors"},
    "pure": {"rules/planted_clock.py": "def now():\n    import time\n    return time"},
    "pure-simulators": {
        "simulators/tags.py": "import simulators.planted_time",
        "simulators/planted_time.py": "import time",
    },
    "pure-drivers": {
        "protocols/drivers/planted_io/__init__.py": "",
        "protocols/drivers/planted_io/areas.py": "import socket",
    },
    "clients-by-registry": {"edge/planted_client.py": "import protocols.drivers.modbus.client"},
    "acyclic": {
        "edge/planted_one.py": "import edge.planted_two",
        "edge/planted_two.py": "import edge.planted_one",
    },
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def test_every_package_is_named_to_every_tool() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(PACKAGES)
    assert found | {"tests"} == set(PROJECT["tool"]["mypy"]["packages"])
    assert found == set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert found == set(PROJECT["tool"]["deptry"]["known_first_party"])


def test_no_code_hides_outside_the_packages() -> None:
    places = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    outside = [
        path
        for path in places
        if path.name not in {*PACKAGES, "tests", "build", "dist"}
        and (path.suffix == ".py" or any(path.rglob("*.py")))
    ]
    assert outside == []


@pytest.mark.parametrize("contract", list(CONTRACTS))
def test_every_name_is_a_module(contract: str, graph: grimp.ImportGraph) -> None:
    libraries = importlib.metadata.packages_distributions().keys() | sys.stdlib_module_names
    unknown = [
        name
        for name in names_of(CONTRACTS[contract])
        if not matches(graph, name) and name.partition(".")[0] not in libraries
    ]
    assert unknown == [], "these names protect nothing"


def names_of(contract: dict[str, Any]) -> Iterator[str]:
    """Every module or wildcard that a contract names."""
    for key in NAMING:
        yield from contract.get(key, [])
    container = next(iter(contract.get("containers", [])), None)
    for layer in contract.get("layers", []):
        for word in layer.replace("|", ":").split(":"):
            yield f"{container}.{word.strip()}" if container else word.strip()
    for ignored in contract.get("ignore_imports", []):
        yield ignored.partition(" -> ")[0]


def matches(graph: grimp.ImportGraph, name: str) -> bool:
    return bool(graph.find_matching_modules(name)) if "*" in name else name in graph.modules


def test_every_library_has_a_door(graph: grimp.ImportGraph) -> None:
    ours = set(PACKAGES)
    doors = {name for one in CONTRACTS.values() for name in one.get("protected_modules", [])}
    used = {name for name in graph.modules if name.partition(".")[0] not in ours}
    libraries = used - sys.stdlib_module_names - WITHOUT_DOOR
    assert libraries - doors == set(), (
        'add to pyproject.toml: [[tool.importlinter.contracts]] id = "door-NAME", '
        'type = "protected", protected_modules = ["NAME"], allowed_importers = [its modules]'
    )


def test_nothing_is_imported_by_a_computed_name() -> None:
    """`import_module` hides an import from every contract; the two places that may are named."""
    found = {
        str(path.relative_to(ROOT))
        for name in PACKAGES
        for path in (ROOT / name).rglob("*.py")
        if calls_import(ast.parse(path.read_text()))
    }
    assert found <= {"threadline/cli.py"}


def calls_import(tree: ast.AST) -> bool:
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return bool(names & {"import_module", "__import__"})


def test_every_contract_has_a_planted_violation() -> None:
    undoored = {name for name in CONTRACTS if not name.startswith("door-")}
    assert undoored == PLANTED.keys()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What lint-imports says of each contract on a copy of the tree with every violation in it."""
    copy = tmp_path_factory.mktemp("planted")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for files in planted().values():
        for path, source in files.items():
            (copy / path).parent.mkdir(exist_ok=True)
            (copy / path).write_text(source + "\n")
    script = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        check=False,
        capture_output=True,
        text=True,
        cwd=copy,
        env={"PYTHONPATH": str(copy), "COLUMNS": "200"},
    )
    assert "Broken contracts" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    return sections(done.stdout)


def planted() -> dict[str, dict[str, str]]:
    """The table above, and for each door a module of the pure core that goes around it."""
    doors = {
        name: f"import {contract['protected_modules'][0]}"
        for name, contract in CONTRACTS.items()
        if name.startswith("door-")
    }
    return PLANTED | {
        name: {f"rules/planted_{name.replace('-', '_')}.py": source}
        for name, source in doors.items()
    }


def sections(output: str) -> dict[str, str]:
    """The text about each broken contract, by the contract's name."""
    lines = output.partition("Broken contracts")[2].splitlines()
    heads = {index: line for index, line in enumerate(lines) if is_head(lines, index)}
    ends = [*list(heads)[1:], len(lines)]
    return {
        head: "\n".join(lines[start:end])
        for (start, head), end in zip(heads.items(), ends, strict=True)
    }


def is_head(lines: list[str], index: int) -> bool:
    below = lines[index + 1] if index + 1 < len(lines) else ""
    return bool(lines[index]) and below == "-" * len(lines[index])


@pytest.mark.slow
@pytest.mark.parametrize("contract", list(CONTRACTS))
def test_a_deliberate_violation_fails(contract: str, verdicts: dict[str, str]) -> None:
    name = CONTRACTS[contract]["name"]
    assert name in verdicts, "import-linter kept this contract on a tree that breaks it"
    culprits = {part for path in planted()[contract] for part in Path(path).with_suffix("").parts}
    named = [word for word in culprits if word.startswith("planted_") and word in verdicts[name]]
    assert named, verdicts[name]
