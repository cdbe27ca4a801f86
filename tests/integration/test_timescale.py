"""Schema and every query on TimescaleDB: it answers what plain PostgreSQL answers, at every stage.

Both are filled with the same plant by the product itself and asked through its own doors: fresh,
with samples in the columnstore, with rows that came late into it, and with the oldest deleted.
The guards at the end fail when the product learns a question that nobody asks here.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from cloud.api.app import make_app
from cloud.cli import app as commands
from cloud.db import connect
from tests.support.timescale import (
    COMPRESSION,
    RETENTION,
    Filled,
    Plain,
    Stage,
    Timescale,
    fill,
    own_database,
)
from tests.support.timescale_questions import routes_of
from tests.support.timescale_sites import Heard, listening, sites
from tests.support.timescale_story import AGENTS, ANALOG, DAYS, KEPT_FROM

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def plain(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return fill(postgres, tmp_path_factory.mktemp("plain"), Plain(), connections=4)


@pytest.fixture(scope="module")
def heard() -> Heard:
    """What TimescaleDB alone was asked."""
    return Heard()


@pytest.fixture(
    scope="module",
    params=["pglite", pytest.param("native", marks=pytest.mark.timescale_native)],
)
def timescale(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, heard: Heard
) -> Iterator[Filled]:
    """In WebAssembly there is one session, so the API gets one connection."""
    directory = tmp_path_factory.mktemp("timescale")
    if request.param == "pglite":
        dsn: str = request.getfixturevalue("pglite")
        with listening(heard):
            filled = fill(dsn, directory, Timescale(), connections=1)
        yield filled
        return
    server: str = request.getfixturevalue("timescale_native")
    with own_database(server, "threadline_test") as own:
        with listening(heard):
            filled = fill(own, directory, Timescale(), connections=4)
        yield filled


def test_samples_live_in_a_hypertable_of_days(timescale: Filled) -> None:
    with connect(timescale.dsn, application="test") as connection:
        storages = connection.execute("select distinct storage from migration").fetchall()
    assert storages == [("timescale",)]
    assert len(timescale.chunks[Stage.FRESH]) == DAYS
    assert not any(chunk.is_compressed for chunk in timescale.chunks[Stage.FRESH])


def test_every_day_goes_into_the_columnstore_and_takes_what_is_late(timescale: Filled) -> None:
    compressed = timescale.chunks[Stage.COMPRESSED]
    assert all(chunk.is_compressed and not chunk.loose_rows for chunk in compressed)
    late = timescale.chunks[Stage.LATE]
    assert all(chunk.is_compressed for chunk in late)
    assert [chunk.loose_rows > 0 for chunk in late] == [True, True, True, False, True]
    again = timescale.chunks[Stage.COMPRESSED_AGAIN]
    assert all(chunk.is_compressed and not chunk.loose_rows for chunk in again)


def test_the_oldest_days_are_dropped_whole(timescale: Filled) -> None:
    before, after = timescale.chunks[Stage.COMPRESSED_AGAIN], timescale.chunks[Stage.DELETED]
    assert [chunk.day for chunk in after] == [chunk.day for chunk in before][-len(after) :]
    assert 0 < len(after) < len(before)


@pytest.mark.parametrize("stage", Stage)
def test_every_answer_is_that_of_plain_postgres(
    plain: Filled, timescale: Filled, stage: Stage
) -> None:
    expected, found = plain.answers[stage], timescale.answers[stage]
    assert found.keys() == expected.keys()
    differ = {
        name: (expected[name], found[name]) for name in expected if found[name] != expected[name]
    }
    assert not differ


def test_both_were_told_the_same_and_said_the_same(plain: Filled, timescale: Filled) -> None:
    assert timescale.once == plain.once


def test_no_answer_is_a_fault(timescale: Filled) -> None:
    """Equal answers prove nothing where both are "the database cannot answer now"."""
    statuses = {
        (stage, name, status)
        for stage, answers in timescale.answers.items()
        for name, said in answers.items()
        for status in _statuses(said)
    }
    assert not [one for one in statuses if one[2] >= 500]
    refused = {
        name: status for stage, name, status in statuses if status >= 400 and stage is Stage.LATE
    }
    assert refused == REFUSED


def test_late_rows_are_found_and_deleted_ones_are_not(timescale: Filled) -> None:
    name = f"samples of {ANALOG[0]}"
    counts = [len(timescale.answers[stage][name]["body"]["samples"]) for stage in Stage]
    fresh, compressed, late, again, deleted = counts
    assert fresh == compressed < late == again
    assert 0 < deleted < fresh


def test_stories_outlive_their_samples(timescale: Filled) -> None:
    late, deleted = (timescale.answers[stage] for stage in (Stage.LATE, Stage.DELETED))
    stories = [name for name in deleted if name.startswith("story of")]
    assert stories
    for name in stories:
        for (before, sampled), (after, bare) in zip(late[name], deleted[name], strict=True):
            assert after == before
            assert bare["body"]["passes"] or not sampled["body"]["passes"]


def test_policies_are_recorded_with_their_ages(timescale: Filled) -> None:
    recorded = {(job.table, job.procedure): job.config for job in timescale.jobs}
    kept = {("sample", RETENTION), ("sample_list", RETENTION)}
    assert recorded.keys() == {("sample", COMPRESSION), *kept}
    assert {recorded[one]["drop_after"] for one in kept} == {"4000 days"}


def test_lists_are_deleted_at_the_age_of_samples(timescale: Filled) -> None:
    again, deleted = (
        timescale.answers[stage]["samples of types.float64[]"]["body"]["samples"]
        for stage in (Stage.COMPRESSED_AGAIN, Stage.DELETED)
    )
    assert 0 < len(deleted) < len(again)
    assert deleted == again[-len(deleted) :]


def test_what_was_deleted_by_age_is_not_missing(timescale: Filled) -> None:
    agent = AGENTS[0][0]
    before, after = (
        timescale.answers[stage][f"verify {agent}"]["said"]
        for stage in (Stage.COMPRESSED_AGAIN, Stage.DELETED)
    )
    assert (before["aged"], before["kept_from"]) == (0, None)
    assert after["aged"] > 0
    assert after["kept_from"].startswith(f"{KEPT_FROM:%Y-%m-%d}T00:00:00")
    assert before["stored"] == after["stored"] + after["aged"]
    told = ("read", "missing", "duplicates", "surplus", "findings", "holds")
    assert [after[name] for name in told] == [before[name] for name in told]


def test_it_stays_known_when_the_policy_is_another(timescale: Filled) -> None:
    agent = AGENTS[0][0]
    before = timescale.answers[Stage.DELETED][f"verify {agent}"]["said"]
    for name in ("verified under another policy", "verified when compacted"):
        after = timescale.once[name]["said"]
        assert after["kept_from"] == before["kept_from"]
        assert after["missing"] == before["missing"]
        assert after["stored"] + after["aged"] == before["stored"] + before["aged"]


def test_every_route_is_asked(timescale: Filled) -> None:
    assert timescale.routes == routes_of(make_app(timescale.dsn))


def test_every_command_is_run(timescale: Filled) -> None:
    assert timescale.commands == (set(_words(get_command(commands))) | {"verify"}) - SERVING


def test_every_place_that_speaks_to_the_database_is_reached(
    timescale: Filled, heard: Heard
) -> None:
    assert timescale.answers
    missed = {str(site) for site in sites().keys() - heard.sites}
    assert {site for site in missed if not site.startswith(KAFKA)} == set(ELSEWHERE)


# Asked to see how they are refused.
REFUSED = {
    "nobody asks": 401,
    "a reader speaks": 403,
    "samples of another site": 403,
    "curve of pass 1": 404,  # what was loaded tells of these two without a curve
    "curve of pass 2": 404,
    "near names": 404,
    "hostile near names": 404,
    "samples of a pass elsewhere": 404,
    "samples of no pass": 404,
    "samples of no tag": 404,
    "story of nobody": 404,
    "no dead letter": 400,
    "samples of two sites": 422,
    "samples with a wrong cursor": 422,
}

# Run until they are ended; their loops run here without a process of their own.
SERVING = {"ingest", "api"}

# Never reached here, and why.
ELSEWHERE: dict[str, str] = {
    "cloud.migrate:_apply:1": "no migration yet that may not run in a transaction",
    **dict.fromkeys(
        (
            "cloud.partitions:_make:1",
            "cloud.partitions:_make:2",
            "cloud.partitions:_make:3",
            "cloud.storage:_drop_before:1",
            "cloud.storage:_drop_before:2",
            "cloud.storage:_drop_before:3",
            "cloud.storage:_drop_before:4",
        ),
        "native partitions, which a hypertable has none of",
    ),
    **dict.fromkeys(
        (f"cloud.compaction:compact_lane:{n}" for n in range(2, 6)),
        "asked by test_compaction.py of TimescaleDB too",
    ),
    "cloud.dead_letters:settle_as_stored:1": "no letter here can be stored after all",
}

# Plain tables of the Kafka route, where no sample is touched: asked with a real Kafka beside.
KAFKA = ("cloud.counting:", "cloud.positions:")


def _words(group: Any, before: str = "") -> Iterator[str]:
    for name, one in getattr(group, "commands", {None: None}).items():
        if one is None:
            yield before.strip()
        else:
            yield from _words(one, f"{before} {name}")


def _statuses(said: Any) -> Iterator[int]:
    """Of the API, and of the command line as if it were one: 0, 1 and 2 are its answers."""
    for one in said if isinstance(said, list) else [said]:
        if isinstance(one, list):
            yield from _statuses(one)
        elif "status" in one:
            yield one["status"]
        else:
            yield {0: 200, 1: 200, 2: 400}.get(one["code"], 500)
