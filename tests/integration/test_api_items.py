"""Items and stories over the API: said through it, projected, found by name, told whole."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient

from cloud.api.app import make_app
from cloud.db import Connection, connect, connect_async
from cloud.migrate import migrate
from cloud.projector import work_off
from cloud.storage import Policy, Storage, Wanted, partition_statements
from cloud.tokens import Scope, create_token
from protocols import codec, events

pytestmark = pytest.mark.integration
NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
PASS = events.pass_id("plant1", "L1/ST010", "", 7, 1)
FORCE = np.array([0.0, float("nan"), 8.25])
CURVE = codec.Curve(
    PASS, "force", "1", "way", ("way", "force"), ("mm", "kN"), (np.arange(3.0), FORCE)
)  # fmt: skip
HOSTILE = ["'; drop table item; --", "a\nb/c%d_e\\f", "<b>x</b>", "ü" * 400, "[bold]x[/]"]


def at(seconds: int) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def serial(value: str, issuer: str = "TLD") -> dict[str, str]:
    return {"scheme": "serial", "issuer": issuer, "value": value}


def said() -> list[dict[str, Any]]:
    """A unit is born, gets a lot's wire and a rotor, is measured, packed; others share its name."""
    envelope = {"site": "plant1", "v": 1}
    item = {"ref": serial("S1"), "how": "bound", "verdict": "fail", "defects": [{"code": "17"}]}
    unnamed = {"how": "no_read", "place": "b", "verdict": "pass"}
    record = {
        **envelope, "kind": "pass", "pass_id": str(PASS), "station": "L1/ST010", "at": at(10),
        "operation": "screw", "key": {"series": "07", "count": "1"}, "started": at(10),
        "ended": at(12), "ended_by": "end", "items": [item, unnamed],
        "windows": [{"device": "st010", "from": at(10), "to": at(12)}],
        "feeds": [{"holder": "feeder/F07", "qty": {"value": "0.85", "uom": "kg"}}],
        "values": [
            {"name": "torque", "place": "1", "num": 8.5, "unit": "N.m", "low": 8, "ok": True},
            {"name": "count", "int": str(2**63)},
        ],
        "curves": [{
            "name": "force", "place": "1", "sha256": codec.curve_sha256(CURVE), "n": 3,
            "axis": "way", "units": ["mm", "kN"],
        }],
    }  # fmt: skip
    lines: list[dict[str, Any]] = [
        {**envelope, "kind": "name", "at": at(0), "names": [serial("S1")], "material": "EDU"},
        {**envelope, "kind": "name", "at": at(0), "names": [serial("S1", "OTHER")]},
        {**envelope, "kind": "move", "at": at(1), "what": {"scheme": "lot", "value": "L-77"},
         "to": {"holder": "feeder/F07"}},
        record,
        {**envelope, "kind": "move", "at": at(11), "what": serial("R1"),
         "to": {"pass": str(PASS), "place": ""}, "pass": str(PASS)},
        {**envelope, "kind": "state", "at": at(20), "items": [serial("S1")], "set": ["blocked"]},
    ]  # fmt: skip
    return lines + [
        {**envelope, "kind": "name", "at": at(30), "names": [serial(name)]} for name in HOSTILE
    ]


@pytest.fixture(scope="module", params=["postgres", "pglite"])
def dsn(request: pytest.FixtureRequest) -> str:
    named: str = request.getfixturevalue(request.param)
    return named


@pytest.fixture(scope="module")
def database(dsn: str) -> Iterator[Connection]:
    connection = connect(dsn, application="test")
    if migrate(connection, Wanted.AUTO, Policy(), NOW).storage is Storage.PLAIN:
        for statement in partition_statements(NOW.date()):
            connection.execute(statement)
    connection.execute("insert into site (name) values ('plant1')")
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def client(database: Connection, dsn: str) -> Iterator[TestClient]:
    with TestClient(make_app(dsn), raise_server_exceptions=False) as running:
        answers = running.post("/events", json=said(), headers=token(database, Scope.WRITE))
        assert {one["status"] for one in answers.json()} == {"ok"}, answers.text
        asyncio.run(project(dsn))
        yield running


@pytest.fixture(scope="module")
def reader(database: Connection) -> dict[str, str]:
    return token(database, Scope.READ)


async def project(dsn: str) -> None:
    connection = await connect_async(dsn, application="test")
    while (await work_off(connection)).more:
        pass
    await connection.close()


def token(database: Connection, scope: Scope, sites: list[str] | None = None) -> dict[str, str]:
    secret = create_token(database, str(uuid4()), [scope], sites=sites, lifetime=None)
    return {"Authorization": f"Bearer {secret}"}


def story(client: TestClient, reader: dict[str, str], **asked: str) -> dict[str, Any]:
    found = client.get("/items", params={"name": "S1", "issuer": "TLD"}, headers=reader).json()
    answer = client.get(f"/items/{found['item']['id']}/story", params=asked, headers=reader)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_an_ambiguous_name_is_answered_with_its_candidates(
    client: TestClient, reader: dict[str, str]
) -> None:
    found = client.get("/items", params={"name": "S1"}, headers=reader).json()
    assert found["item"] is None
    assert {one["names"][0]["issuer"] for one in found["candidates"]} == {"TLD", "OTHER"}


def test_a_story_holds_passes_values_components_and_states(
    client: TestClient, reader: dict[str, str]
) -> None:
    told = story(client, reader)
    (record,) = told["passes"]
    assert (record["verdict"], record["attempt"], record["defects"]) == (
        "fail", 1, [{"code": "17", "place": ""}],
    )  # fmt: skip
    assert [(one["name"], one["place"], one["value"]) for one in record["values"]] == [
        ("torque", "1", 8.5),
        ("count", "", str(2**63)),
    ]
    assert {one["item"]["names"][0]["value"] for one in told["components"]} == {"L-77", "R1"}
    assert [one["state"] for one in told["states"]] == ["blocked"]
    assert told["complete"]["events_behind"] == 0


def test_a_curve_is_announced_and_then_arrives(
    client: TestClient, database: Connection, reader: dict[str, str]
) -> None:
    path = f"/passes/{PASS}/curves/force?place=1"
    assert story(client, reader)["complete"]["curves_missing"] == 1
    assert client.get(path, headers=reader).status_code == 404
    data = b"".join(column.astype("<f8").tobytes() for column in CURVE.data)
    database.execute(
        "insert into curve (pass_id, name, place, sha256, site_id, axis, columns, units, n, data,"
        " frame) values (%s, 'force', '1', %s, 1, 'way', '{way,force}', '{mm,kN}', 3, %s, 1)",
        (PASS, codec.curve_sha256(CURVE), data),
    )
    assert client.get(path, headers=reader).json()["points"] == [[0, 1, 2], [0, None, 8.25]]
    told = story(client, reader, curves="true")
    assert told["complete"]["curves_missing"] == 0
    assert told["passes"][0]["curves"][0]["points"] == [[0, 1, 2], [0, None, 8.25]]


def test_samples_of_a_pass_begin_with_what_was_there_before(
    client: TestClient, database: Connection, reader: dict[str, str]
) -> None:
    database.execute("insert into tag (site_id, path, type) values (1, 'st010.t', 'float32');")
    for seconds, value in ((5, 1.0), (9, 2.0), (11, 3.0), (12, 4.0), (13, 5.0)):
        database.execute(
            "insert into sample (time, tag, frame, f64) select %s, tag, 1, %s from tag"
            " where path = 'st010.t'",
            (NOW + timedelta(seconds=seconds), value),
        )
    (tag,) = client.get(f"/passes/{PASS}/samples", headers=reader).json()
    assert [row[1] for row in tag["samples"]] == [2.0, 3.0, 4.0]
    assert story(client, reader, samples="true")["passes"][0]["samples"] == [tag]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_stored_as_it_is_and_found(
    client: TestClient, reader: dict[str, str], name: str
) -> None:
    found = client.get("/items", params={"name": name}, headers=reader).json()
    assert found["item"]["names"][0]["value"] == name


def test_an_unknown_name_is_answered_with_near_ones(
    client: TestClient, reader: dict[str, str]
) -> None:
    answer = client.get("/items", params={"name": "'; drop"}, headers=reader)
    assert answer.status_code == 404
    assert answer.json()["near"] == [HOSTILE[0]]


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\x00b"])
def test_a_name_that_cannot_be_is_refused(
    client: TestClient, reader: dict[str, str], name: str
) -> None:
    assert client.get("/items", params={"name": name}, headers=reader).status_code == 422


@pytest.mark.parametrize(
    "path", ["/items/7/story", f"/items/{UUID(int=1)}/story", "/passes/x/samples"]
)
def test_what_is_not_there_is_a_problem(
    client: TestClient, reader: dict[str, str], path: str
) -> None:
    answer = client.get(path, headers=reader)
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_another_sites_token_sees_none_of_it(client: TestClient, database: Connection) -> None:
    other = token(database, Scope.READ, ["plant2"])
    assert client.get("/items", params={"name": "S1"}, headers=other).status_code == 404
    assert client.get(f"/passes/{PASS}/samples", headers=other).status_code == 404
    assert client.get(f"/passes/{PASS}/curves/force?place=1", headers=other).status_code == 404


def test_saying_it_again_changes_nothing_and_a_wrong_line_keeps_none_out(
    client: TestClient, database: Connection
) -> None:
    writer = token(database, Scope.WRITE)
    wrong = {"kind": "move", "site": "plant1", "at": "yesterday"}
    answers = client.post("/events", json=[said()[2], wrong], headers=writer).json()
    assert [one["status"] for one in answers] == ["repeat", "refused"]
    assert {one["field"] for one in answers[1]["faults"]} >= {"at", "what"}


def test_who_may_only_read_or_speaks_for_another_site_is_refused(
    client: TestClient, database: Connection, reader: dict[str, str]
) -> None:
    assert client.post("/events", json=said()[:1], headers=reader).status_code == 403
    other = token(database, Scope.WRITE, ["plant2"])
    (answer,) = client.post("/events", json=said()[:1], headers=other).json()
    assert answer["status"] == "refused"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"[]", b'[{"kind":"\\u0000"}]'])
def test_a_body_that_is_no_list_of_events_is_a_problem(
    client: TestClient, database: Connection, body: bytes
) -> None:
    answer = client.post("/events", content=body, headers=token(database, Scope.WRITE))
    refused = answer.status_code == 422 or answer.json()[0]["status"] == "refused"
    assert refused, answer.text
