"""Receipts within their limits, ledger ids, standing, settings: the small deciding parts."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cloud.clock import Clock
from cloud.ledger import signed, unsigned
from cloud.metrics import STATES, Metrics
from cloud.receipting import Answer, receipts_of
from cloud.settings import CloudSettings, read_settings
from cloud.standing import STALE_S, Standing
from cloud.storage import Policy, version_of
from cloud.tags import UseBook
from protocols.errors import ConfigError
from protocols.receipts import RECEIPT_BYTES_MAX, Said, decode_receipt, encode_receipt

SAID = st.sampled_from([Said.STORED, Said.REJECTED, Said.FORKED, Said.LATER])
ANSWERS = st.lists(
    st.builds(
        Answer,
        st.sampled_from(["a.b", "c.d"]),
        st.integers(0, 3),
        st.integers(1, 3),
        st.integers(1, 600),
        st.integers(0, 2**64 - 1),
        SAID,
        st.none() | st.text(max_size=300),
    ),
    max_size=400,
)


@settings(max_examples=20)
@given(ANSWERS)
def test_every_answer_is_in_a_receipt_once_and_every_receipt_within_its_limits(
    answers: list[Answer],
) -> None:
    said = []
    for receipt in receipts_of(answers, "store"):
        raw = encode_receipt(receipt)
        assert len(raw) <= RECEIPT_BYTES_MAX
        back = decode_receipt(raw)
        assert back == receipt
        said += [
            (back.agent, run.epoch, run.lane, run.first + at, digest, run.kind, run.reason)
            for run in back.runs
            for at, digest in enumerate(run.digests)
        ]
    wanted = {
        (a.agent, a.epoch, a.lane, a.seq, a.digest, a.said,
         None if a.reason is None else a.reason[:200])
        for a in answers
    }  # fmt: skip
    assert set(said) == wanted
    assert len(said) == len(set(answers))


def test_frames_that_follow_each_other_share_a_run() -> None:
    answers = [Answer("a.b", 1, 2, seq, seq, Said.STORED) for seq in range(1, 301)]
    runs = [run for receipt in receipts_of(answers, "s") for run in receipt.runs]
    assert [(run.first, len(run.digests)) for run in runs] == [(1, 256), (257, 44)]


def test_states_have_runs_without_digests() -> None:
    answers = [Answer("a.b", 1, lane, 7, None, Said.STATE) for lane in (0, 2)]
    (receipt,) = receipts_of(answers, "s")
    assert [(run.lane, run.first, run.digests) for run in receipt.runs] == [(0, 7, ()), (2, 7, ())]


def test_what_cannot_be_answered_is_not() -> None:
    assert receipts_of([Answer("a.b", 1, 2, 2**63, 1, Said.REJECTED)], "s") == []


@given(st.integers(0, 2**64 - 1))
def test_two_complement_there_and_back(number: int) -> None:
    assert -(2**63) <= signed(number) < 2**63
    assert unsigned(signed(number)) == number


@dataclass(frozen=True)
class HandClock(Clock):
    time_s: list[float] = field(default_factory=lambda: [0.0])

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.time_s[0])

    def monotonic_s(self) -> float:
        return self.time_s[0]


def test_one_line_down_and_one_up() -> None:
    states: list[str] = []
    with capture_logs() as lines:
        standing = Standing(HandClock(), states.append)
        standing.up("database")
        for reason in ("refused", "refused again", "still"):
            standing.down("database", "database_down", reason)
        standing.down("database", "database_full", "no space")
        standing.up("database")
        standing.up("database")
    assert states == ["running", "database_down", "database_full", "running"]
    assert [line["event"] for line in lines] == ["up", "down", "down", "up"]


def test_health_is_a_confirmed_write_not_a_living_process() -> None:
    clock = HandClock()
    standing = Standing(clock)
    assert standing.health().state == "starting"
    standing.up("database")
    assert standing.health().healthy, "nothing waits"
    standing.took(3)
    clock.time_s[0] += STALE_S + 1
    health = standing.health()
    assert not health.healthy
    assert "3 records wait" in health.reason
    standing.wrote(2)
    clock.time_s[0] += STALE_S - 1
    assert standing.health().healthy
    clock.time_s[0] += 2
    assert not standing.health().healthy, "one still waits since the last write"
    standing.wrote(1)
    clock.time_s[0] += 10 * STALE_S
    health = standing.health()
    assert (health.healthy, health.waiting, health.age_s) == (True, 0, 10 * STALE_S)
    standing.down("broker", "broker_down", "refused")
    assert not standing.health().healthy


def test_every_state_has_its_metric() -> None:
    metrics = Metrics()
    for state in STATES:
        metrics.state.state(state)
    assert b"threadline_ingest_state" in metrics.page().body


def test_settings_come_from_options_then_environment_then_file(tmp_path: Path) -> None:
    file = tmp_path / "cloud.yaml"
    file.write_text("database: from-file\nmqtt_port: 1\nmqtt_host: from-file\nkeep_samples: 90d\n")
    environment = {"THREADLINE_CLOUD_MQTT_PORT": "2", "THREADLINE_CLOUD_MQTT_HOST": "from-env",
                   "THREADLINE_CLOUD_CONFIG": str(file), "CLOUD_SDK_VERSION": "528"}  # fmt: skip
    found = read_settings({"mqtt_port": 3, "database": None}, environment)
    assert (found.dsn, found.mqtt_port, found.mqtt_host) == ("from-file", 3, "from-env")
    assert found.policy == Policy(timedelta(days=7), timedelta(days=90))


def test_every_mistake_in_the_settings_at_once(tmp_path: Path) -> None:
    file = tmp_path / "cloud.yaml"
    file.write_text("mqtt_port: 70000\nkeep_samples: soon\nbroker: x\n")
    environment = {"THREADLINE_CLOUD_STORAGE": "oracle", "THREADLINE_CLOUD_SPEED": "1"}
    with pytest.raises(ConfigError) as was:
        read_settings({}, environment, file)
    said = "\n".join(str(problem) for problem in was.value.problems)
    assert f"{file}: mqtt_port = 70000" in said
    assert f"{file}: keep_samples = 'soon': is no duration like 90d" in said
    assert f"{file}: broker: is not a setting. Known are: " in said
    assert "THREADLINE_CLOUD_SPEED: is not a setting" in said
    assert "THREADLINE_CLOUD_STORAGE = 'oracle'" in said
    assert (
        "setting database: is not given. Give --database or set THREADLINE_CLOUD_DATABASE." in said
    )
    assert len(was.value.problems) == 6


@pytest.mark.parametrize("keep", ["23h", "0s"])
def test_a_ledger_kept_for_less_than_agents_keep_is_a_mistake(keep: str) -> None:
    with pytest.raises(ConfigError, match=r"--ledger-keep = .* is less than 1d"):
        read_settings({"database": "x", "ledger_keep": keep}, {})


def test_compaction_can_be_put_off() -> None:
    settings = read_settings({"database": "x"}, {"THREADLINE_CLOUD_LEDGER_KEEP": "off"})
    assert settings.ledger_keep is None


def test_a_secret_is_never_printed() -> None:
    settings = CloudSettings.model_validate({"database": "postgresql://a:secret@b/c"})
    assert "secret" not in repr(settings)
    with pytest.raises(ConfigError) as was:
        read_settings({"database": 5, "mqtt_password": ["secret"]}, {})
    assert "secret" not in str(was.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00", "1: x\n"])
def test_a_file_that_holds_no_settings_is_a_mistake(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cloud.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"cloud\.yaml"):
        read_settings({"database": "x"}, {}, file)


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Give a readable file"):
        read_settings({"database": "x"}, {}, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "version"), [("2.18.0", (2, 18, 0)), ("2.23.0-dev", (2, 23, 0)), ("2.18", (2, 18))]
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_use_is_written_at_most_once_a_minute_and_tag() -> None:
    book = UseBook()
    ids = np.array([5, 900], np.int32)
    minute = 60_000_000
    assert list(book.unwritten(1, ids, (0, 10))) == [5, 900]
    assert list(book.unwritten(1, ids, (10, minute))) == []
    assert list(book.unwritten(1, ids[:1], (0, minute + 11))) == [5]
    assert list(book.unwritten(1, ids, (0, minute + 11))) == [900]
    assert list(book.unwritten(1, ids, (-minute - 1, 0))) == [5, 900]
    assert list(book.unwritten(2, ids, (0, 10))) == [5, 900], "another agent"
    book.clear()
    assert list(book.unwritten(2, ids, (0, 10))) == [5, 900]
