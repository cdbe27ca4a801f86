"""The commands of `threadline cloud` as a person calls them: what they print, how they end."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud.db import LockKey, connect
from cloud.sessions import STORE_ID
from protocols.errors import ConfigError
from protocols.samples import DataType
from tests.support.frames import AgentVoice, sample
from tests.support.plant_store import Bench
from threadline.cli import app
from threadline.postgres import Postgres

pytestmark = pytest.mark.integration

T0 = 1_790_000_000_000_000
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(store_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("THREADLINE_CLOUD_DATABASE", store_dsn)

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["cloud", *words])
        if isinstance(done.exception, ConfigError):  # `main` prints it and ends with 2
            return 2, str(done.exception)
        return done.exit_code, done.output

    return call


def listed(run: Run, *words: str) -> list[dict[str, Any]]:
    code, said = run(*words, "--output", "json")
    assert code == 0, said
    found: list[dict[str, Any]] = json.loads(said)
    return found


def test_migrate_says_what_it_did_and_may_be_run_again(
    run: Run, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = postgres_server.create_database("by_command")
    monkeypatch.setenv("THREADLINE_CLOUD_DATABASE", dsn)
    code, said = run("migrate")
    assert code == 0
    assert "applied 0001_store" in said
    assert "storage plain" in said
    assert "Good for a demo and for tests, not for a plant." in said
    code, said = run("migrate")
    assert "0 migrations applied, storage plain" in said
    code, said = run("migrate", "--storage", "timescale")
    assert code == 0, "a database keeps its storage"
    postgres_server.drop_database("by_command")


def test_agents_are_added_changed_and_listed(run: Run) -> None:
    assert run("agents", "add", "berlin.new", "--scope", "L1/**", "--scope", "L2/ST1") == (
        0, "berlin.new added, scope L1/** L2/ST1\n",
    )  # fmt: skip
    assert run("agents", "add", "berlin.new", "--scope", "L3/*")[1].startswith("berlin.new changed")
    (found,) = [one for one in listed(run, "agents", "list") if one["name"] == "berlin.new"]
    assert (found["scope"], found["identity"], found["set_aside_at"]) == (
        ["L3/*"], "unproven", None,
    )  # fmt: skip
    assert "berlin.new" in run("agents", "list")[1]


@pytest.mark.parametrize("name", ["berlin", "Berlin.x", "berlin.", ".x", "a b.c", "x." + "y" * 70])
def test_a_name_that_no_agent_can_have_is_a_mistake(run: Run, name: str) -> None:
    code, said = run("agents", "add", name, "--scope", "**")
    assert code == 2
    assert "is not an agent's name" in said


def test_release_answers_whether_there_was_something_to_release(run: Run, store_dsn: str) -> None:
    assert run("agents", "release", "berlin.press1")[0] == 1
    with connect(store_dsn, application="test") as connection:
        connection.execute("update agent set set_aside_at = now(), set_aside_reason = 'x'")
    assert run("agents", "release", "berlin.press1") == (0, "berlin.press1 goes on\n")
    assert run("agents", "release", "berlin.nobody")[0] == 1


async def test_dead_letters_are_listed_shown_and_saved(
    bench: Bench, run: Run, tmp_path: Path
) -> None:
    nasty = b"\x1b[31mnot a frame\x00"
    bench.source.push("berlin.press1", "live", nasty)
    bench.source.push("turin.oven", "live", b"other")
    await bench.until(lambda: len(bench.source.acknowledged) == 2)
    frame = AgentVoice().notices(1, [])  # type: ignore[arg-type] # samples in the control lane
    await bench.send(frame)

    def look() -> None:
        assert len(listed(run, "dead-letters", "list")) == 3
        rows = listed(run, "dead-letters", "list", "--agent", "berlin.press1")
        assert [one["reason"] for one in rows] == ["rejected", "unreadable"]
        assert (rows[0]["epoch"], rows[0]["lane"], rows[0]["seq"], rows[0]["kind"]) == (
            "fedcba9876543210", "control", 1, "samples",
        )  # fmt: skip
        number = str(rows[1]["dead_letter_id"])
        saved = tmp_path / "letter"
        code, said = run("dead-letters", "show", number, "--save", str(saved))
        assert code == 0
        assert "unreadable" in said
        assert "\x1b" not in said
        assert saved.read_bytes() == nasty
        assert "berlin.press1" in run("dead-letters", "list")[1]
        assert run("dead-letters", "show", "999999")[0] == 2

    await asyncio.to_thread(look)


async def test_compact_says_what_it_moved(bench: Bench, run: Run, store_dsn: str) -> None:
    voice = AgentVoice()
    await bench.send(*(voice.samples([sample("d.x", DataType.INT32, T0, n)]) for n in range(4)))
    bench.connection.execute(
        "update ledger set received_at = now() - interval '20 days', floor = 4"
    )
    code, said = await asyncio.to_thread(run, "compact", "--ledger-keep", "30d")
    assert (code, said) == (0, "0 frames of 0 lanes compacted\n")
    code, said = await asyncio.to_thread(run, "compact", "--output", "json")
    assert (code, json.loads(said)) == (0, {"frames": 3, "lanes": 1, "busy": 0})
    with connect(store_dsn, application="other") as other:
        other.execute("select pg_advisory_lock(%s)", [LockKey.COMPACTION])
        code, said = await asyncio.to_thread(run, "compact")
    assert (code, said) == (1, "another process is compacting\n")
    assert run("compact", "--ledger-keep", "1h")[0] == 2
    assert run("compact", "--ledger-keep", "off")[0] == 2


def test_restored_says_what_the_store_was_and_is(run: Run, store_dsn: str) -> None:
    with connect(store_dsn, application="test") as connection:
        before = connection.execute(STORE_ID).fetchall()[0][0]
        code, said = run("restored")
        after = connection.execute(STORE_ID).fetchall()[0][0]
    assert code == 0
    assert f"This store was {before} and is {after}." in said
    assert before != after


@pytest.mark.parametrize("words", [["migrate"], ["agents", "list"], ["restored"]])
def test_a_database_that_is_away_is_one_line_and_code_2(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("THREADLINE_CLOUD_DATABASE", "postgresql://nobody@127.0.0.1:1/none")
    code, said = run(*words)
    assert code == 2
    assert said.startswith("database_down: ")
    assert len(said.splitlines()) == 1


def test_without_a_database_it_says_how_to_name_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THREADLINE_CLOUD_DATABASE")
    code, said = run("agents", "list")
    assert code == 2
    assert "Give --database or set THREADLINE_CLOUD_DATABASE." in said
