"""Loading on a real PostgreSQL: each line answered, the same file twice the same."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud.cli import app
from cloud.db import AsyncConnection, connect_async
from cloud.load import Line, Speaker, Status, take
from cloud.masters import read_masters
from cloud.projection.holders import Discipline
from tests.support.trace import T0, at, holder, lot, name, slot, uid
from tests.support.trace_database import migrated_database, one
from threadline.postgres import Postgres

pytestmark = pytest.mark.integration

NOW = T0 + timedelta(days=1)
MOUNT = {"kind": "move", "site": "werk1", "at": at(1), "what": lot("L1"), "to": holder("feeder/F")}
MAGAZINE = {"kind": "holder", "holder": "magazine", "discipline": "fifo"}
CALENDAR = {
    "kind": "calendar",
    "site": "werk1",
    "zone": "Europe/Berlin",
    "shifts": [{"name": "early", "start": "06:00"}, {"name": "late", "start": "14:00"}],
}


@pytest.fixture
def dsn(postgres_server: Postgres) -> Iterator[str]:
    with migrated_database(postgres_server) as made:
        yield made


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[AsyncConnection]:
    opened = await connect_async(dsn, application="test")
    yield opened
    await opened.close()


async def said(
    connection: AsyncConnection,
    *lines: Any,
    speaker: Speaker = Speaker(),  # noqa: B008 - immutable
) -> list[tuple[Status, list[str]]]:
    numbered = [Line(number, line) for number, line in enumerate(lines, 1)]
    answers = await take(connection, numbered, speaker, NOW)
    assert [answer.number for answer in answers] == [line.number for line in numbered]
    return [(answer.status, [fault.field for fault in answer.faults]) for answer in answers]


async def test_every_line_is_answered_and_a_bad_one_keeps_no_other_out(
    connection: AsyncConnection,
) -> None:
    answers = await said(
        connection,
        MAGAZINE,
        MOUNT,
        {**MOUNT, "what": {"scheme": "lot"}, "colour": "red"},
        {**MOUNT, "kind": "teleport"},
        "not an object",
        {**MOUNT, "at": "2099-01-01T00:00:00Z"},
        {"kind": "void", "site": "werk1", "at": at(2)},
        {**MOUNT, "id": "not-a-uuid"},
        {**CALENDAR, "zone": "Mars/Base"},
        {**MOUNT, "kind": ["move"]},
    )
    assert [status for status, _ in answers] == [Status.OK] * 2 + [Status.REFUSED] * 8
    faults = [fields for _, fields in answers]
    assert "what.NameRef.value" in faults[2]
    assert "colour" in faults[2]
    assert faults[3] == ["kind"]
    assert faults[5] == ["at"]
    assert faults[7] == ["id"]
    assert faults[8] == ["zone"]
    assert await one(connection, "select count(*) from event") == 1


async def test_the_same_again_is_a_repeat(connection: AsyncConnection) -> None:
    lines = [MAGAZINE, CALENDAR, MOUNT, {**MOUNT, "id": str(uid("mine")), "at": at(2)}]
    assert [status for status, _ in await said(connection, *lines)] == [Status.OK] * 4
    assert [status for status, _ in await said(connection, *lines)] == [Status.REPEAT] * 4
    twice = await said(connection, {**MOUNT, "at": at(9)}, {**MOUNT, "at": at(9)})
    assert [status for status, _ in twice] == [Status.OK, Status.REPEAT]
    assert await one(connection, "select count(*) from event") == 3


async def test_the_same_said_by_somebody_else_is_a_repeat(connection: AsyncConnection) -> None:
    line = {**MOUNT, "id": str(uid("mine"))}
    first = await said(connection, line, MOUNT, speaker=Speaker(by="anna"))
    again = await said(connection, line, MOUNT, speaker=Speaker(by="bert"))
    assert [status for status, _ in first + again] == [Status.OK] * 2 + [Status.REPEAT] * 2
    assert await one(connection, "select distinct by from event") == "anna"
    assert await one(connection, "select said_at from event limit 1") == NOW


async def test_an_id_with_another_content_is_refused(connection: AsyncConnection) -> None:
    line = {**MOUNT, "id": str(uid("mine"))}
    await said(connection, line)
    assert await said(connection, {**line, "what": lot("L2")}) == [(Status.REFUSED, ["id"])]
    both = [{**line, "id": str(uid("other")), "what": lot(one_)} for one_ in ("X", "Y")]
    assert [status for status, _ in await said(connection, *both)] == [Status.OK, Status.REFUSED]


async def test_a_changed_master_is_replaced(connection: AsyncConnection) -> None:
    await said(connection, MAGAZINE)
    assert await said(connection, {**MAGAZINE, "discipline": "single"}) == [(Status.CHANGED, [])]
    later = {**MAGAZINE, "valid_from": "2026-06-01T00:00:00Z"}
    assert await said(connection, later) == [(Status.OK, [])]
    masters = await read_masters(connection)
    assert masters.discipline_of("magazine/P20-a") is Discipline.FIFO
    assert await one(connection, "select count(*) from holder") == 2


async def test_a_number_that_nothing_can_hold_is_refused_alone(connection: AsyncConnection) -> None:
    odd = {
        "kind": "pass",
        "site": "werk1",
        "at": at(1),
        "pass_id": str(uid("p")),
        "station": "L1/ST010",
        "key": {"series": "0000000000000007", "count": 1},
        "values": [{"name": "torque", "num": float("inf")}],
    }
    huge = {**odd, "values": [], "curves": [{"name": "c", "sha256": "0" * 64, "n": 2**60}]}
    answers = await said(connection, odd, MOUNT, huge)
    assert [status for status, _ in answers] == [Status.REFUSED, Status.OK, Status.REFUSED]


async def test_a_speaker_speaks_for_its_own_sites_only(connection: AsyncConnection) -> None:
    speaker = Speaker(by="token", sites=["werk2"], may_say_masters=False)
    answers = await said(connection, MOUNT, {**MOUNT, "site": "werk2"}, MAGAZINE, speaker=speaker)
    assert answers == [(Status.REFUSED, ["site"]), (Status.OK, []), (Status.REFUSED, ["kind"])]


async def test_every_kind_of_master_and_event_can_be_said(connection: AsyncConnection) -> None:
    common = {"site": "werk1", "at": at(3)}
    answers = await said(
        connection,
        {"kind": "material", "material": "DRIVE", "item_kind": "unit"},
        {"kind": "bom", "material": "DRIVE", "child": "M6", "qty": "6", "uom": "pcs"},
        {"kind": "route", "material": "DRIVE", "operation": "screw", "position": 10},
        {"kind": "characteristic", "name": "torque", "aliases": ["md"], "unit": "N.m", "high": 9},
        {"kind": "station_tag", "site": "werk1", "station": "L1/ST010", "tag": "st010.torque"},
        MAGAZINE,
        CALENDAR,
        {**common, "kind": "name", "names": [name("A")], "material": "DRIVE"},
        {**common, "kind": "state", "items": [name("A")], "set": ["blocked"], "reason": "why"},
        {**common, "kind": "make", "run": "r", "inputs": [], "outputs": [{"ref": lot("X")}]},
        {**common, "kind": "void", "replaces": [str(uid("x"))]},
        {**common, "kind": "move", "what": name("C"), "to": slot(1)},
        {
            **common,
            "kind": "gap",
            "station": "L1/ST010",
            "series": "0000000000000007",
            "from_count": 1,
            "to_count": 2,
        },
    )
    assert [status for status, _ in answers] == [Status.OK] * 13


def test_load_answers_each_line_and_is_safe_to_run_again(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "masters.jsonl"
    lines = [MAGAZINE, MOUNT, {**MOUNT, "kind": "teleport"}]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    runner = CliRunner()
    first = runner.invoke(app, ["load", str(file), "--database", dsn])
    assert first.exit_code == 2, first.output
    assert "line 3: teleport kind: is none of" in first.stderr
    assert "3 lines: 2 ok, 0 repeat, 0 changed, 1 refused" in first.stdout
    again = runner.invoke(app, ["load", str(file), "--database", dsn, "--output", "json"])
    answers = [json.loads(line) for line in again.stdout.splitlines()]
    assert [answer["status"] for answer in answers] == ["repeat", "repeat", "refused"]


def test_load_without_a_database_is_one_line_and_code_2(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}")
    done = CliRunner().invoke(
        app, ["load", str(file), "--database", "postgresql://127.0.0.1:1/nothing"]
    )
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
