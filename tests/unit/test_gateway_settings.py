"""Settings of the gateway: where they come from, and every mistake at once."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.kafka_access import Mechanism, Security
from gateway.settings import NEEDED, read_settings
from protocols.errors import ConfigError

WHOLE = {"kafka_bootstrap": "k1:9092,k2:9092", "kafka_group": "plant1"}


def mistakes(
    given: Mapping[str, object], environment: dict[str, str] | None = None, file: Path | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as said:
        read_settings(given, environment or {}, file)
    return [str(one) for one in said.value.problems]


def test_defaults_need_only_kafka_and_the_group() -> None:
    settings = read_settings(WHOLE, {})
    assert (settings.mqtt_host, settings.mqtt_port, settings.metrics_port) == (
        "127.0.0.1", 1883, 9465,
    )  # fmt: skip
    assert settings.kafka.security is Security.PLAINTEXT
    assert settings.mqtt("one").client_id == "one"
    assert settings.mqtt("one").group == "threadline-gateway"


def test_the_command_line_beats_the_environment_and_that_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("mqtt_host: from-file\nmqtt_port: 1\nkafka_bootstrap: f:1\nkafka_group: g\n")
    environment = {
        "THREADLINE_GATEWAY_MQTT_PORT": "2",
        "THREADLINE_GATEWAY_KAFKA_BOOTSTRAP": "e:2",
        "THREADLINE_GATEWAY_CONFIG": str(file),
    }
    settings = read_settings({"kafka_bootstrap": "c:3", "mqtt_host": None}, environment)
    assert (settings.mqtt_host, settings.mqtt_port, settings.kafka_bootstrap) == (
        "from-file", 2, "c:3",
    )  # fmt: skip


def test_what_is_missing_is_said_with_its_meaning() -> None:
    (bootstrap, group) = mistakes({})
    assert "--kafka-bootstrap" in bootstrap
    assert "THREADLINE_GATEWAY_KAFKA_GROUP" in group
    assert "another for each broker" in group
    assert read_settings({}, {}, needed=()).kafka_group is None
    assert NEEDED == ("kafka_bootstrap", "kafka_group")


@pytest.mark.parametrize("wrong", ["kafka", "kafka:", ":9092", "k1:9092;k2:9092", "http://k:9092"])
def test_a_server_is_host_and_port(wrong: str) -> None:
    (said,) = mistakes(WHOLE | {"kafka_bootstrap": wrong})
    assert "is no host:port" in said


@pytest.mark.parametrize("wrong", ["a/b", "+", "#", "", "x" * 300])
def test_a_group_is_one_level_of_a_topic(wrong: str) -> None:
    (said,) = mistakes(WHOLE | {"mqtt_group": wrong})
    assert said.startswith("--mqtt-group")


def test_passwords_need_sasl_and_sasl_needs_passwords() -> None:
    (said,) = mistakes(WHOLE | {"kafka_password": "x"})
    assert "never used with plaintext" in said
    both = mistakes(WHOLE | {"kafka_security": "sasl_ssl"})
    assert [one.split(":")[0] for one in both] == [
        "setting kafka_username", "setting kafka_password",
    ]  # fmt: skip
    settings = read_settings(
        WHOLE
        | {
            "kafka_security": "sasl_ssl", "kafka_username": "u", "kafka_password": "p",
            "kafka_mechanism": "PLAIN",
        },
        {},
    )  # fmt: skip
    assert settings.kafka.mechanism is Mechanism.PLAIN
    assert settings.kafka.password == "p"  # noqa: S105 - a test's
    assert "p'" not in repr(settings.kafka)


def test_certificates_belong_together_and_to_tls() -> None:
    said = mistakes(WHOLE | {"mqtt_certificate": "c.pem", "kafka_key": "k.pem", "kafka_ca": "a"})
    assert any("--mqtt-certificate: needs mqtt_key" in one for one in said)
    assert any("--mqtt-certificate: is never used without mqtt_ca" in one for one in said)
    assert any("--kafka-key: needs kafka_certificate" in one for one in said)
    assert any("--kafka-ca: is never used with plaintext" in one for one in said)


def test_a_password_is_never_shown() -> None:
    said = mistakes(WHOLE | {"mqtt_password": ["secret"]})
    assert "secret" not in "".join(said)


def test_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    for text in ("- a list\n", "a: [\n", "1: x\n"):
        file = tmp_path / "wrong.yaml"
        file.write_text(text)
        (said,) = mistakes(WHOLE, file=file)
        assert said.startswith(str(file))
    (said,) = mistakes(WHOLE, file=tmp_path / "nothing.yaml")
    assert "nothing.yaml" in said
