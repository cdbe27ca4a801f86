"""Every rule of the protocol is held by a test: with the rule broken, that test fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.planted import BUG, BUGS
from tests.support.services import need

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
RUN_S = 240

# Bug → the test that must fail, and the services that it runs on.
CAUGHT_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "digest_ignored": (
        "tests/integration/test_ingest.py::test_i1_the_same_identity_with_other_bytes_is_a_fork",
        ("postgres",),
    ),
    "ledger_left_out": (
        "tests/integration/test_ingest.py::test_the_same_frame_twice_is_stored_once_and_answered_twice",
        ("postgres",),
    ),
    "admission_after_copy": (
        "tests/integration/test_ingest_trouble.py::test_i6_two_ingests_of_the_same_frames_store_each_once",
        ("postgres",),
    ),
    "compaction_without_lock": (
        "tests/integration/test_compaction.py::test_i6_compaction_races_an_admission",
        ("postgres",),
    ),
    "offset_before_commit": (
        "tests/integration/test_kafka_ingest.py::test_what_was_read_and_not_stored_is_read_again",
        ("postgres", "kafka"),
    ),
    "seek_without_identity": (
        (
            "tests/integration/test_kafka_replaced.py"
            "::test_i3_another_record_in_the_last_ones_place_though_the_topic_is_the_same"
        ),
        ("postgres", "kafka"),
    ),
    "event_time": (
        (
            "tests/integration/test_gateway_retention.py"
            "::test_i5_a_backlog_of_last_week_outlives_a_retention_that_deletes_by_event_time"
        ),
        ("kafka",),
    ),
    "puback_frees": (
        "tests/unit/test_uplink.py::test_i2_a_broker_that_acknowledges_changes_nothing",
        (),
    ),
}


def test_every_bug_has_its_test() -> None:
    assert CAUGHT_BY.keys() == BUGS.keys()


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_planted_bug_is_found(bug: str) -> None:
    test, services = CAUGHT_BY[bug]
    for service in services:
        need(service)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider",
         "-p", "tests.support.planted", test],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, BUG: bug, "PYTHONPATH": str(ROOT)},
        timeout=RUN_S,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    failed = re.findall(r"^FAILED (\S+?)(?:\[.*)?(?: - .*)?$", done.stdout, re.MULTILINE)
    assert set(failed) == {test}, done.stdout
    assert "AssertionError" in done.stdout, "it failed, but not for what it asserts"
