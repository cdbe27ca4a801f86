"""Schema and every query on TimescaleDB: it answers what plain PostgreSQL answers, at every stage.

Both are filled with the same plant by the product itself and asked through its own doors: fresh,
with samples in the columnstore, with rows that came late into it, and with the oldest deleted.
The guards at the end fail when the product learns a question that nobody asks here.
"""

from collections.abc import Iterator

import pytest
import typer

from cloud.api.app import make_app
from cloud.cli import app as commands
from cloud.db import connect
from tests.support.services import need
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
from tests.support.timescale_questions import QUESTIONS, routes_of
from tests.support.timescale_sites import Heard, Site, listening, sites
from tests.support.timescale_story import ANALOG, DAYS

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def plain(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return fill(postgres, tmp_path_factory.mktemp("plain"), Plain(), connections=4)


@pytest.fixture(scope="module")
def heard() -> Heard:
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
    with listening(heard):
        if request.param == "pglite":
            dsn: str = request.getfixturevalue("pglite")
            yield fill(dsn, directory, Timescale(), connections=1)
        else:
            server: str = request.getfixturevalue("timescale_native")
            with own_database(server, "threadline_test") as dsn:
                yield fill(dsn, directory, Timescale(), connections=4)


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
    for stage, answers in timescale.answers.items():
        for name, said in answers.items():
            faults = [
                one
                for one in _each(said)
                if one.get("status", 200) >= 500 or one.get("code", 0) > 2
            ]
            assert not faults, f"{stage}: {name}"


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
    recorded = {job.procedure: job.config for job in timescale.jobs}
    assert recorded.keys() == {COMPRESSION, RETENTION}
    assert recorded[RETENTION]["drop_after"] == "4000 days"


def test_every_route_is_asked(timescale: Filled) -> None:
    assert timescale.routes == routes_of(make_app(timescale.dsn))


def test_every_command_is_run(timescale: Filled) -> None:
    assert timescale.commands == (set(_words(commands)) | {"verify"}) - SERVING


def test_every_place_that_speaks_to_the_database_is_reached(
    timescale: Filled, heard: Heard
) -> None:
    assert timescale.answers
    missed = sites().keys() - heard.sites
    assert {str(site) for site in missed} == set(ELSEWHERE)


# Run until they are ended; their loops run here without a process of their own.
SERVING = {"ingest", "api"}

# Never reached here, and why.
ELSEWHERE: dict[str, str] = {
    "cloud.migrate:_apply:1": "no migration yet that may not run in a transaction",
}


def _words(group: typer.Typer) -> Iterator[str]:
    for one in group.registered_commands:
        yield one.name or one.callback.__name__.replace("_", "-")
    for inner in group.registered_groups:
        for word in _words(inner.typer_instance):
            yield f"{inner.name} {word}"


def _each(said: object) -> Iterator[dict[str, object]]:
    if isinstance(said, list):
        for one in said:
            yield from _each(one)
    elif isinstance(said, dict):
        yield said
