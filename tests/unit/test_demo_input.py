"""What the demo refuses before it starts anything."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from threadline.children import Children, StackError
from threadline.demo.cli import app
from threadline.demo.files import Places, agent_file_text, example_file


@pytest.mark.parametrize("seconds", ["soon", "0", "-5", "nan", "60s"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, seconds: str) -> None:
    result = CliRunner().invoke(
        app, ["--directory", str(tmp_path / "demo")], env={"DEMO_SECONDS": seconds}
    )
    assert result.exit_code == 2
    assert seconds in result.output
    assert not (tmp_path / "demo").exists()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "thesis.txt"
    kept.write_text("years of work")
    with Children(tmp_path) as children, pytest.raises(StackError, match="choose another"):
        children.wipe()
    assert kept.read_text() == "years of work"


def test_a_directory_of_an_earlier_run_is_emptied(tmp_path: Path) -> None:
    with Children(tmp_path):
        pass
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "data").touch()
    (tmp_path / "elsewhere").symlink_to(tmp_path.parent)
    (tmp_path / "agent.log").touch()
    with Children(tmp_path) as children:
        children.wipe()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["children.json", "lock"]
    assert tmp_path.parent.exists()


PORTS = {
    name: {"host": "127.0.0.1", "port": 20_000 + at}
    | ({"url": f"opc.tcp://127.0.0.1:{20_000 + at}/"} if name in ("r15", "p20") else {})
    for at, name in enumerate(("st000", "w10", "f07", "r15", "p20", "scanner20", "st010", "eol30"))
}


def places(tmp_path: Path, ports: dict[str, dict[str, object]]) -> Places:
    return Places(ports, "mqtt://127.0.0.1:1", tmp_path / "spool", tmp_path / "agent.sock")


def test_the_agents_file_is_the_example_with_other_addresses(tmp_path: Path) -> None:
    example = example_file().read_text("utf-8")
    text = agent_file_text(example, places(tmp_path, PORTS))
    assert "port: 20001" in text
    assert "opc.tcp://127.0.0.1:20003/" in text
    assert "mqtt://127.0.0.1:1" in text
    assert str(tmp_path / "spool") in text
    comments = [line for line in example.splitlines() if line.startswith("- station")]
    assert [line for line in text.splitlines() if line.startswith("- station")] == comments


def test_a_plant_without_a_device_of_the_example_is_named(tmp_path: Path) -> None:
    ports = {name: port for name, port in PORTS.items() if name != "w10"}
    with pytest.raises(StackError, match="w10"):
        agent_file_text(example_file().read_text("utf-8"), places(tmp_path, ports))


def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    with pytest.raises(StackError, match="--directory"):
        agent_file_text(example_file().read_text("utf-8"), places(deep, PORTS))
