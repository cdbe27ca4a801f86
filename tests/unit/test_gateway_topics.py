"""What is wrong with topics, each with the command that repairs it."""

from collections.abc import Mapping

import pytest

from gateway.topics import (
    RETENTION_MS,
    TOPICS,
    Cluster,
    Topic,
    findings,
    terms_of,
    wanted,
)

GOOD = {
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": "3145728",
    "cleanup.policy": "delete",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
}


def cluster(
    changed: Mapping[str, str] | None = None,
    *,
    name: str = "tl.live",
    replicas: int = 3,
    in_sync: int = 3,
    makes_topics: bool | None = False,
) -> Cluster:
    """Good, but for what is changed of one topic."""
    topics = {one: Topic(one, 12, 3, 3, GOOD) for one in TOPICS}
    topics[name] = Topic(name, 12, replicas, in_sync, {**GOOD, **(changed or {})})
    return Cluster(3, makes_topics, topics)


def test_a_good_cluster_has_nothing_to_be_said_of_it() -> None:
    assert findings(cluster()) == []
    assert not terms_of(cluster()).is_single_copy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message.timestamp.type", "CreateTime"),
        ("max.message.bytes", "1048588"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
    ],
)
def test_i5_a_wrong_setting_is_a_fault_and_the_remedy_is_a_command(name: str, value: str) -> None:
    (found,) = findings(cluster({name: value}))
    assert found.state == "topic_settings"
    assert (found.where, found.value) == (f"tl.live: {name}", value)
    command = f"kafka-configs --alter --topic tl.live --add-config {name}={GOOD[name]}"
    assert found.remedy == command


def test_a_missing_topic_names_the_command_that_makes_it() -> None:
    found = findings(Cluster(3, makes_topics=False, topics={}))
    assert [one.where for one in found] == list(TOPICS)
    assert {one.state for one in found} == {"topic_missing"}
    assert all("threadline gateway topics create" in one.remedy for one in found)


def test_topics_that_make_themselves_are_a_fault() -> None:
    (found,) = findings(cluster(makes_topics=True))
    assert found.state == "topic_settings"
    assert findings(cluster(makes_topics=None)) == []  # it may be none of our business


@pytest.mark.parametrize(("replicas", "in_sync_min"), [(2, "2"), (3, "1"), (1, "1")])
def test_fewer_copies_than_a_plant_needs_are_a_warning(replicas: int, in_sync_min: str) -> None:
    few = cluster({"min.insync.replicas": in_sync_min}, replicas=replicas, in_sync=replicas)
    (found,) = findings(few)
    assert found.state is None
    assert "single copy" in found.why
    assert terms_of(few).is_single_copy


def test_copies_of_receipts_and_dead_letters_are_not_what_logged_means() -> None:
    few = cluster({"min.insync.replicas": "1"}, name="tl.receipts", replicas=1, in_sync=1)
    assert not terms_of(few).is_single_copy
    assert len(findings(few)) == 1


def test_more_in_sync_than_there_can_be_is_a_fault() -> None:
    found = findings(cluster({"min.insync.replicas": "2"}, replicas=1, in_sync=1))
    assert [one.state for one in found] == ["topic_settings", None]


def test_too_few_in_sync_now_is_named() -> None:
    (found,) = findings(cluster(in_sync=1))
    assert found.state == "kafka_stalled"


def test_an_unclean_leader_is_a_warning() -> None:
    (found,) = findings(cluster({"unclean.leader.election.enable": "true"}))
    assert found.state is None
    assert "false" in found.remedy


def test_faults_come_before_warnings() -> None:
    found = findings(
        cluster({"cleanup.policy": "compact", "min.insync.replicas": "1"}, name="tl.backlog")
    )
    assert [one.state for one in found] == ["topic_settings", None]


@pytest.mark.parametrize(
    ("brokers", "replicas", "expected"),
    [(1, None, (1, "1")), (2, None, (2, "2")), (5, None, (3, "2")), (5, 5, (5, "2"))],
)
def test_what_is_made_is_what_is_asked_for(
    brokers: int, replicas: int | None, expected: tuple[int, str]
) -> None:
    made = wanted(Cluster(brokers, makes_topics=False, topics={}), 24, replicas)
    assert [one.name for one in made] == list(TOPICS)
    for one in made:
        assert (one.partitions, one.replicas) == (24, expected[0])
        assert one.settings["min.insync.replicas"] == expected[1]
        assert one.settings["retention.ms"] == str(RETENTION_MS[one.name])
    there = {
        one.name: Topic(one.name, one.partitions, one.replicas, one.replicas, one.settings)
        for one in made
    }
    found = findings(Cluster(brokers, makes_topics=False, topics=there))
    assert [one for one in found if one.state is not None] == []


def test_what_is_there_is_not_made_again() -> None:
    assert wanted(cluster()) == []


def test_receipts_are_kept_a_day_frames_a_week_dead_letters_a_month() -> None:
    days = {name: ms // 86_400_000 for name, ms in RETENTION_MS.items()}
    assert days == {
        "tl.events": 7, "tl.live": 7, "tl.backlog": 7, "tl.control": 7, "tl.receipts": 1,
        "tl.dead": 30,
    }  # fmt: skip
