"""Every failure that aiokafka knows ends at the gateway's doors: a new one fails here first."""

import inspect
import logging

import pytest
from aiokafka import errors

from gateway import kafka_access
from gateway.kafka_access import FAILURES, hush, translated, trouble_of
from gateway.metrics import STATES
from gateway.ports import Trouble


def kafka_errors() -> list[type[Exception]]:
    return [
        one
        for one in vars(errors).values()
        if inspect.isclass(one) and issubclass(one, Exception) and one.__module__ == errors.__name__
    ]


def test_every_exception_of_aiokafka_is_translated() -> None:
    found = kafka_errors()
    assert len(found) > 100
    assert [one for one in found if not issubclass(one, FAILURES)] == []


@pytest.mark.parametrize(
    "kind",
    [one for one in kafka_errors() if one is not errors.BrokerResponseError],  # never itself
    ids=lambda kind: kind.__name__,
)
def test_every_translation_is_a_state_that_the_metrics_know(kind: type[Exception]) -> None:
    with pytest.raises(Trouble) as said, translated():
        raise kind.__new__(kind, "planted")
    assert said.value.state in STATES
    assert said.value.reason


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (errors.KafkaConnectionError("gone"), "kafka_down"),
        (TimeoutError(), "kafka_down"),
        (OSError("no route"), "kafka_down"),
        (errors.SaslAuthenticationFailed("no"), "kafka_refused"),
        (errors.TopicAuthorizationFailedError("tl.live"), "not_authorised"),
        (errors.ClusterAuthorizationFailedError(), "not_authorised"),
        (errors.UnknownTopicOrPartitionError(), "topic_missing"),
        (errors.MessageSizeTooLargeError(), "topic_settings"),
        (errors.OutOfOrderSequenceNumber(), "kafka_refused"),
        (errors.UnknownProducerId(), "kafka_refused"),
    ],
)
def test_what_a_failure_is_called(error: Exception, state: str) -> None:
    assert trouble_of(error).state == state


def test_why_a_connection_failed_is_told_though_the_library_only_logs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_access._murmurs, "cause", None)
    hush()
    refused = errors.SaslAuthenticationFailed("wrong password")
    logging.getLogger("aiokafka").error('Unable connect to "%s:%s": %s', "host", 9092, refused)
    trouble = trouble_of(errors.KafkaConnectionError("Unable to bootstrap"))
    assert (trouble.state, trouble.reason) == ("kafka_refused", str(refused))


def test_a_bug_is_no_trouble() -> None:
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError
