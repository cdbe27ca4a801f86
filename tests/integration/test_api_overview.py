"""`/overview` and `/stations` over a real database: figures, sites, and that they stay cheap."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from cloud.api.app import make_app
from cloud.db import Connection, connect
from cloud.migrate import migrate
from cloud.queries import overview
from cloud.storage import Policy, Wanted
from cloud.tokens import Scope, create_token

pytestmark = pytest.mark.integration
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(postgres: str) -> Iterator[Connection]:
    with connect(postgres, application="test") as connection:
        migrate(connection, Wanted.PLAIN, Policy(), NOW)
        connection.execute(_LEDGER)
        connection.execute(_PASSES.replace(":now", f"timestamptz '{NOW.isoformat()}'"))
        yield connection


@pytest.fixture(scope="module")
def client(database: Connection, postgres: str) -> Iterator[TestClient]:
    assert not database.closed  # filled before the application looks
    with TestClient(make_app(postgres), raise_server_exceptions=False) as running:
        yield running


def reader(database: Connection, name: str, sites: list[str] | None = None) -> dict[str, str]:
    secret = create_token(database, name, [Scope.READ], sites=sites, lifetime=None)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def all_sites(database: Connection) -> dict[str, str]:
    return reader(database, "all")


# Two agents. `busy` stores four frames of 100 rows a second, its lane holds an hour of them, and
# told a second ago that 250 rows wait; `quiet` has said hello and nothing since.
_LEDGER = """
    insert into site (name) values ('plant1'), ('plant2');
    insert into agent (site_id, name, scope, epoch, hello_at)
    select site_id, name || case name when 'plant1' then '.busy' else '.quiet' end, '{L1/**}', 7,
           now() from site;
    insert into lane (agent_id, epoch, lane)
    select agent_id, 7, n from agent, unnest('{1,2}'::int[]) n;
    insert into hello (agent_id, epoch, lane, stated_by, floor, head, rows, at)
    select agent_id, 7, 2, 7, 1, 9, 250, now() from agent where name = 'plant1.busy';
    insert into ledger (frame, lane_id, site_id, seq, digest, kind, rows, rows_before, sealed_at,
                        t_min, t_max, floor, watermark, received_at)
    select n, lane_id, site_id, n, n, 1, 100, (n - 1) * 100, at, at, at, 1, at - interval '2 s', at
    from agent join lane using (agent_id), generate_series(1, 14400) n,
         lateral (select now() - (14400 - n) * interval '250 ms' as at) t
    where lane = 2 and name = 'plant1.busy';
"""


def test_an_agents_lag_and_rate_come_from_the_newest_frames(
    client: TestClient, all_sites: dict[str, str]
) -> None:
    answer = client.get("/overview", headers=all_sites).json()
    busy, quiet = answer["agents"]
    assert busy["name"] == "plant1.busy"
    # Filling took a moment, in which nothing was stored: the stretch lost so much of its 400/s.
    since_s = (
        datetime.fromisoformat(answer["at"]) - datetime.fromisoformat(busy["stored_at"])
    ).total_seconds()
    assert busy["rows_per_s"] == pytest.approx(400 * (1 - since_s / overview.LATELY_S), abs=20)
    assert busy["lag_s"] == pytest.approx(2 + since_s, abs=0.01)
    assert busy["waiting_rows"] == 250
    assert (quiet["lag_s"], quiet["rows_per_s"], quiet["stored_at"]) == (None, 0, None)


def test_a_lane_that_catches_up_is_measured_over_what_was_looked_at(
    database: Connection, client: TestClient, all_sites: dict[str, str]
) -> None:
    """A backlog of 1,000 frames in two seconds: more than is looked at, and no rate is lost."""
    with database.transaction(force_rollback=False):
        database.execute(_BACKLOG)
    try:
        quiet = client.get("/overview", headers=all_sites).json()["agents"][1]
    finally:
        database.execute("delete from ledger where frame > 1000000")
    assert quiet["rows_per_s"] == pytest.approx(50_000, rel=0.5)


_BACKLOG = """
    insert into ledger (frame, lane_id, site_id, seq, digest, kind, rows, rows_before, sealed_at,
                        t_min, t_max, floor, received_at)
    select 1000000 + n, lane_id, site_id, n, n, 1, 100, 0, now(), now(), now(), 1,
           clock_timestamp() - (1000 - n) * interval '2 ms'
    from agent join lane using (agent_id), generate_series(1, 1000) n
    where lane = 2 and name = 'plant2.quiet';
"""


# Station A: two nests over five days, one pass a minute each; the newest hour has a master, an open
# pass, a fail and a gap of three. B stood still for a week. A second site has one of its own.
_PASSES = """
    create function made(n int8, text) returns uuid language sql immutable
    as 'select md5($1 || $2)::uuid';
    insert into pass (pass_id, event, site, station, nest, operation, series, count, counted, at,
                      ended, windows, purpose, binding_rev, missing, line, bucket)
    select made(n, nest), made(n, nest), 'plant1', 'L1/A', nest, 'op', '', n, true, at, at, '[]',
           case n when 5 then 'master' else 'production' end, '', '[]', made(0, nest), made(0, nest)
    from generate_series(1, 5 * 1440) n, unnest('{a,b}'::text[]) nest,
         lateral (select :now - n * interval '1 min' as at) t;
    insert into pass (pass_id, event, site, station, nest, operation, series, count, counted, at,
                      ended, windows, purpose, binding_rev, missing, line, bucket)
    select made(n, s), made(n, s), p, s, '', 'op', '', n, true, at, at, '[]', 'production', '',
           '[]', made(0, s), made(0, s)
    from (values ('plant1', 'L1/B', 7), ('plant2', 'L9/Z', 0)) v(p, s, days),
         generate_series(1, 3) n,
         lateral (select :now - days * interval '1 day' - n * interval '1 min' as at) t;
    insert into pass_item (pass_id, slot, item, role, place, verdict, how, certainty, defects,
                           known_from, known_to)
    select pass_id, 'items.0', pass_id, 'work', '', case count when 2 then 'fail' else 'pass' end,
           'bound', 'exact', '[]', 1, null from pass;
    insert into pass_item (pass_id, slot, item, role, place, verdict, how, certainty, defects,
                           known_from, known_to)
    select pass_id, 'items.0', pass_id, 'work', '', 'fail', 'bound', 'exact', '[]', 0, 1
    from pass where count = 1;
    insert into pass_item (pass_id, slot, item, role, place, verdict, how, certainty, defects,
                           known_from, known_to)
    select pass_id, 'seats.tool', made(0, 'tool'), 'tool', '', 'pass', 'bound', 'exact', '[]', 1,
           null from pass where count = 1;
    insert into item_name (item, name_key, scheme, issuer, value, valid_from, known_from, known_to)
    select pass_id, pass_id, 'serial', '', station || nest || count, at, 1, null from pass
    union all
    select pass_id, pass_id, 'serial', '', 'once thought so', at, 0, 1 from pass where count = 1;
    insert into gap (event, site, station, nest, series, from_count, to_count, uncovered, at, line,
                     bucket)
    select made(n, 'gap'), 'plant1', 'L1/A', 'b', '', n, n + 2, 3, :now - n * interval '40 min',
           made(0, 'b'), made(0, 'b') from generate_series(1, 5) n;
    analyze pass, pass_item, item_name, gap;
"""
HOUR = {"from": (NOW - timedelta(hours=1)).isoformat(), "to": NOW.isoformat()}


def stations(client: TestClient, headers: dict[str, str], **asked: str) -> list[dict[str, Any]]:
    answer = client.get("/stations", params=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def test_a_nest_shows_what_it_made_in_the_stretch(
    client: TestClient, all_sites: dict[str, str]
) -> None:
    a, b, still, other = stations(client, all_sites, **HOUR)
    assert a == {
        "site": "plant1",
        "station": "L1/A",
        "nest": "a",
        "passes": 59,
        "others": 1,
        "verdicts": {"pass": 58, "fail": 1},
        "gaps": 0,
        "last_at": (NOW - timedelta(minutes=1)).isoformat().replace("+00:00", "Z"),
        "last_verdict": "pass",
        "last_item": str(UUID(md5(b"1a").hexdigest())),  # noqa: S324 - an id
        "last_scheme": "serial",
        "last_name": "L1/Aa1",
    }
    assert (b["nest"], b["passes"], b["gaps"]) == ("b", 59, 3)
    assert (still["station"], still["passes"], still["verdicts"]) == ("L1/B", 0, {})
    assert still["last_name"] == "L1/B1"
    assert (other["site"], other["passes"]) == ("plant2", 3)


def test_the_stretch_counts_from_and_not_to(client: TestClient, all_sites: dict[str, str]) -> None:
    minute = NOW - timedelta(minutes=10)
    asked = {"from": minute.isoformat(), "to": (minute + timedelta(minutes=2)).isoformat()}
    a = stations(client, all_sites, **asked)[0]
    assert (a["passes"], a["last_name"]) == (2, "L1/Aa9")


def test_a_token_of_a_site_sees_its_own(client: TestClient, database: Connection) -> None:
    second = reader(database, "second", ["plant2"])
    assert [one["station"] for one in stations(client, second, **HOUR)] == ["L9/Z"]
    agents = client.get("/overview", headers=second).json()["agents"]
    assert [one["name"] for one in agents] == ["plant2.quiet"]


@pytest.mark.parametrize(
    "asked",
    [
        {"from": "yesterday"},
        {"from": "2026-11-22T09:00:00"},
        {"from": "2026-11-22T10:00:00Z", "to": "2026-11-22T09:00:00Z"},
        {"from": "9999-12-31T23:59:59Z"},
    ],
)
def test_a_time_that_cannot_be_used_is_refused(
    client: TestClient, all_sites: dict[str, str], asked: dict[str, str]
) -> None:
    answer = client.get("/stations", params=asked, headers=all_sites)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_edges_of_time_are_no_fault(client: TestClient, all_sites: dict[str, str]) -> None:
    asked = {"from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z"}
    assert stations(client, all_sites, **asked) == []
    assert stations(client, all_sites, to="0001-01-01T00:00:00Z") == []
    for to in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        answer = client.get("/stations", params={"to": to}, headers=all_sites)
        assert answer.status_code in (200, 422), answer.text


def test_a_stretch_with_too_many_passes_is_refused_with_where_it_can_begin(
    client: TestClient, database: Connection, all_sites: dict[str, str]
) -> None:
    """Three days of 400,000: the last two can be counted at once. Only the tallies are asked."""
    database.execute(_TALLIES, {"first": NOW - timedelta(days=3), "many": 400_000})
    try:
        asked = {"from": (NOW - timedelta(days=3)).isoformat(), "to": NOW.isoformat()}
        answer = client.get("/stations", params=asked, headers=all_sites)
        assert answer.status_code == 422, answer.text
        first = (NOW - timedelta(days=2)).isoformat()
        assert answer.json()["countable_from"] == first
        assert f"Ask from {first} on" in answer.json()["detail"]
        assert stations(client, all_sites, **{**asked, "from": first})
        other = reader(database, "third", ["plant2"])
        assert stations(client, other, **asked), "the passes of others do not count"
    finally:
        database.execute("delete from tally")


_TALLIES = """
    insert into tally (bucket, site, station, nest, series, shift, shift_from, shift_to, passes,
                       gaps, first_count, last_count, counted)
    select gen_random_uuid(), 'plant1', 'L1/A', '', '', 'day', at, at + interval '1 day', %(many)s,
           0, 1, 1, true
    from generate_series(%(first)s, %(first)s + interval '2 days', interval '1 day') at
"""


def test_a_nest_that_stood_still_is_shown_beside_the_one_that_did_not(
    client: TestClient, database: Connection, all_sites: dict[str, str]
) -> None:
    made = UUID(int=7)
    database.execute(_STILL, {"id": made, "at": NOW - timedelta(days=9)})
    try:
        nests = [one["nest"] for one in stations(client, all_sites, **HOUR)[:3]]
        assert nests == ["a", "b", "still"]
    finally:
        database.execute("delete from pass where pass_id = %s", [made])


_STILL = """
    insert into pass (pass_id, event, site, station, nest, operation, series, count, counted, at,
                      windows, purpose, binding_rev, missing, line, bucket)
    values (%(id)s, %(id)s, 'plant1', 'L1/A', 'still', 'op', '', 1, true, %(at)s, '[]',
            'production', '', '[]', %(id)s, %(id)s)
"""


def test_nobody_sees_it_without_a_token(client: TestClient) -> None:
    assert client.get("/overview").status_code == 401
    assert client.get("/stations").status_code == 401


def test_neither_reads_a_table_from_end_to_end(database: Connection) -> None:
    """What they cost must not grow with what was ever stored."""
    asked = {"sites": None, "since": NOW - timedelta(hours=1), "until": NOW}
    plan = explained(database, overview._STATIONS, asked)
    assert "Index" in plan
    for table in ("pass", "pass_item", "item_name"):
        assert f"Seq Scan on {table}" not in plan, plan
    bounds = {"lanes": overview.LANES_MAX, "frames": overview.FRAMES_MAX, "lately": 10.0}
    plan = explained(database, overview._STORED, {"agents": ["plant1.busy"], **bounds})
    assert "Seq Scan on ledger" not in plan, plan


def explained(database: Connection, query: str, asked: dict[str, Any]) -> str:
    rows = database.execute("explain " + query, asked).fetchall()
    return "\n".join(line for (line,) in rows)
