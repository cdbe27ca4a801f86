"""The API over a real database: who may ask, samples in pages, and hostile questions."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from cloud.api.app import make_app
from cloud.db import Connection, connect
from cloud.migrate import migrate
from cloud.storage import Policy, Wanted
from cloud.tokens import Scope, create_token, list_tokens, revoke_token

pytestmark = pytest.mark.integration
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
HOUR = {"from": NOW.isoformat(), "to": (NOW + timedelta(hours=1)).isoformat()}
ROWS = 25


@pytest.fixture(scope="module")
def database(postgres: str) -> Iterator[Connection]:
    connection = connect(postgres, application="test")
    migrate(connection, Wanted.PLAIN, Policy(), NOW)
    connection.execute(_FILL, {"now": NOW, "rows": ROWS})
    yield connection
    connection.close()


_FILL = """
    insert into site (name) values ('plant1'), ('plant2');
    insert into agent (site_id, name, scope)
    select site_id, name || '.line1', '{L1/**}' from site;
    insert into tag (site_id, path, type) select site_id, 'd.' || t, t from site,
        unnest(array['float64', 'int64', 'uint64', 'bool', 'text', 'bytes', 'datetime']) t
    where name = 'plant1';
    insert into tag (site_id, path, type) select site_id, 'd.float64', 'float64' from site
    where name = 'plant2';
    create table sample_test partition of sample for values from ('2026-11-22') to ('2026-11-23');
"""


@pytest.fixture(scope="module")
def client(database: Connection, postgres: str) -> Iterator[TestClient]:
    insert = (
        "insert into sample (time, frame, tag, f64, i64, text, bytes, quality) "
        "select %s, %s, tag, %s, %s, %s, %s, %s from tag where path = %s and site_id = %s"
    )
    for row in range(ROWS):
        at = NOW + timedelta(seconds=row // 5)
        values = (at, row // 3, row / 2, None, None, None, None, "d.float64", 1)
        database.execute(insert, values)
    for path, column, value in (
        ("d.int64", 3, -(2**63)),
        ("d.uint64", 3, -1),
        ("d.bool", 3, 1),
        ("d.text", 4, "it's ;-- \u00fc"),
        ("d.bytes", 5, b"\x00\xff"),
        ("d.datetime", 3, 1_795_339_800_123_456_789),
    ):
        values_of: list[Any] = [NOW, 1, None, None, None, None, 0x80310000, path, 1]
        values_of[column] = value
        database.execute(insert, values_of)
    with TestClient(make_app(postgres), raise_server_exceptions=False) as running:
        yield running


@pytest.fixture(scope="module")
def reader(database: Connection) -> dict[str, str]:
    secret = create_token(database, "reader", [Scope.READ], sites=None, lifetime=None)
    return {"Authorization": f"Bearer {secret}"}


def pages(client: TestClient, reader: dict[str, str], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    asked: dict[str, Any] = {"tag": "d.float64", "site": "plant1", "limit": limit, **HOUR}
    while True:
        answer = client.get("/samples", params=asked, headers=reader).json()
        found += answer["samples"]
        if answer["next"] is None:
            return found
        assert len(answer["samples"]) == limit
        asked["after"] = answer["next"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 24, 25, 1000])
def test_pages_of_any_size_hold_every_row_once(
    client: TestClient, reader: dict[str, str], limit: int
) -> None:
    assert [one["value"] for one in pages(client, reader, limit)] == [n / 2 for n in range(ROWS)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int64", "-9223372036854775808"),
        ("uint64", "18446744073709551615"),
        ("bool", True),
        ("text", "it's ;-- ü"),
        ("bytes", "00ff"),
        ("datetime", "2026-11-22T09:30:00.123456789Z"),
    ],
)
def test_a_value_is_shown_exactly(
    client: TestClient, reader: dict[str, str], kind: str, value: object
) -> None:
    answer = client.get("/samples", params={"tag": f"d.{kind}", **HOUR}, headers=reader)
    (row,) = answer.json()["samples"]
    assert (row["type"], row["value"], row["quality"]) == (kind, value, 0x80310000)


def test_csv_and_arrow_hold_the_same_rows(client: TestClient, reader: dict[str, str]) -> None:
    asked = {"tag": "d.float64", "site": "plant1", "limit": "4", **HOUR}
    text = client.get("/samples", params={**asked, "format": "csv"}, headers=reader)
    arrow = client.get("/samples", params={**asked, "format": "arrow"}, headers=reader)
    with pa.ipc.open_stream(io.BytesIO(arrow.content)) as stream:
        table = stream.read_all()
    lines = [line.split(",")[3] for line in text.text.splitlines()[1:]]
    assert lines == table.column("value").to_pylist() == ["0.0", "0.5", "1.0", "1.5"]
    assert text.headers["x-next-after"] == arrow.headers["x-next-after"]


@pytest.mark.parametrize("token", [None, "", "tl_no", b"tl_\x00".decode(), "x" * 500])
def test_nobody_gets_in_without_a_token(client: TestClient, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = client.get("/agents", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_of_a_site_sees_that_site_only(client: TestClient, database: Connection) -> None:
    secret = create_token(database, "second", [Scope.READ], sites=["plant2"], lifetime=None)
    headers = {"Authorization": f"Bearer {secret}"}
    assert {one["site"] for one in client.get("/agents", headers=headers).json()} == {"plant2"}
    assert {one["site"] for one in client.get("/tags", headers=headers).json()} == {"plant2"}
    asked = {"tag": "d.float64", "site": "plant1", **HOUR}
    assert client.get("/samples", params=asked, headers=headers).status_code == 403
    assert (
        client.get("/samples", params={"tag": "d.int64", **HOUR}, headers=headers).status_code
        == 404
    )


def test_a_token_ends(client: TestClient, database: Connection) -> None:
    secret = create_token(database, "short", [Scope.READ], sites=None, lifetime=timedelta(hours=1))
    headers = {"Authorization": f"Bearer {secret}"}
    assert create_token(database, "short", [Scope.READ], sites=None, lifetime=None) is None
    assert client.get("/agents", headers=headers).status_code == 200
    assert revoke_token(database, "short")
    assert client.get("/agents", headers=headers).status_code == 401
    assert secret is not None
    assert all(secret not in str(row) for row in list_tokens(database))
    expired = create_token(database, "old", [Scope.READ], sites=None, lifetime=timedelta(0))
    headers = {"Authorization": f"Bearer {expired}"}
    assert client.get("/agents", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (404, {"tag": "nothing"}),
        (404, {"tag": "'; drop table sample; --"}),
        (422, {"tag": "d.float64"}),
        (422, {"tag": "d\x00"}),
        (422, {"tag": "x" * 300}),
        (422, {"tag": "d.int64", "from": "yesterday"}),
        (422, {"tag": "d.int64", "from": "2026-11-22T09:00:00"}),
        (422, {"tag": "d.int64", "limit": "0"}),
        (422, {"tag": "d.int64", "limit": "99999999"}),
        (422, {"tag": "d.int64", "after": "nonsense"}),
        (422, {"tag": "d.int64", "format": "xml"}),
        (422, {"tag": "d.int64", "surprise": "1"}),
        (422, {}),
    ],
)
def test_a_hostile_question_is_answered_with_what_is_wrong(
    client: TestClient, reader: dict[str, str], status: int, asked: dict[str, str]
) -> None:
    answer = client.get("/samples", params={**HOUR, **asked}, headers=reader)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_the_page_of_the_api_needs_no_internet(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "https://" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200
