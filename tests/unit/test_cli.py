"""The root of the command line: lists without importing, loads on call, names what is missing."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from protocols.errors import ConfigError, Problem
from threadline import cli
from threadline.cli import ENTRIES, Entry

ROOT = Path(cli.__file__).parents[1]
HEAVY = ("asyncua", "fastapi", "numpy", "paho", "psycopg", "pyarrow", "pydantic", "structlog")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "threadline", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


def test_help_lists_every_entry_and_imports_no_heavy_library() -> None:
    script = (
        "import json, sys\n"
        "from threadline.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    )
    *shown, modules = done.stdout.splitlines()
    assert not set(json.loads(modules)) & {*HEAVY, "cloud", "edge", "simulators"}
    for name, entry in ENTRIES.items():
        line = next(line for line in shown if line.lstrip("│ ").startswith(f"{name} "))
        assert entry.help.split()[0] in line


@pytest.mark.parametrize("name", list(ENTRIES))
def test_every_entry_is_an_app_without_completion_of_its_own(name: str) -> None:
    module, attribute = ENTRIES[name].target.split(":")
    app = getattr(importlib.import_module(module), attribute)
    assert isinstance(app, typer.Typer)
    names = {parameter.name for parameter in typer.main.get_command(app).params}
    assert not names & {"install_completion", "show_completion"}, "Typer(add_completion=False)"


def test_no_cli_module_is_forgotten() -> None:
    listed = {entry.target.split(":")[0] for entry in ENTRIES.values()}
    written = {f"{path.parent.name}.cli" for path in ROOT.glob("*/cli.py")} - {"threadline.cli"}
    assert written <= listed, "add a row to ENTRIES in threadline/cli.py"


NEEDY = """
import typer
app = typer.Typer(add_completion=False)
@app.command()
def run() -> None:
    import {library}
"""


def rooted(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> typer.Typer:
    """A root whose only command is the given module."""
    (folder / "needy.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "needy", raising=False)
    monkeypatch.setattr(cli, "ENTRIES", {"needy": Entry("needy:app", "edge", "Needs something.")})
    return cli.app


@pytest.mark.parametrize("when", ["as it loads", "as it runs"])
def test_a_missing_extra_is_answered_with_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    needs = "import nobody_has_this" if when == "as it loads" else NEEDY
    app = rooted(tmp_path, monkeypatch, needs.format(library="nobody_has_this"))
    result = CliRunner().invoke(app, ["needy"])
    assert result.exit_code == 2
    assert "pip install 'threadline[edge]'" in result.output
    assert "nobody_has_this" in result.output


def test_a_missing_module_of_ours_is_a_bug_and_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = rooted(tmp_path, monkeypatch, NEEDY.format(library="protocols.not_there"))
    result = CliRunner().invoke(app, ["needy"])
    assert isinstance(result.exception, ModuleNotFoundError)


def test_every_mistake_in_a_configuration_is_printed_and_the_code_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [Problem(f"agent.yaml: tags.{name}", "x", "is unknown", "Remove it.") for name in "ab"]

    def refuse(**_: object) -> None:
        raise ConfigError(wrong)

    monkeypatch.setattr(cli, "app", refuse)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines() == [str(problem) for problem in wrong]


def test_an_unknown_word_is_wrong_input() -> None:
    result = CliRunner().invoke(cli.app, ["edgy"])
    assert result.exit_code == 2
    assert "edgy" in result.output
