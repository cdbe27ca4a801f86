"""What docs/operations.md says of each loss, done: Kafka's log, the broker's queue, the database.

Each is lost while it alone holds something, and brought back by the words of the page. In the end
what is stored is what the plant sent, to the last reading: the agent had kept it all.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.comparing import Evidence
from tests.support.kafka_client import ends
from tests.support.line import AGENT, Line
from tests.support.services import need
from threadline.children import Children
from threadline.route import Route

pytestmark = [pytest.mark.system, pytest.mark.integration, pytest.mark.timeout(600)]
LIVE = "tl.live"
APART_S = float(os.environ.get("THREADLINE_LOSS_SECONDS", "4"))


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """Of a line that lost one server after the other and was ended cleanly."""
    for service in ("postgres", "mosquitto", "kafka"):
        need(service)
    with Children(tmp_path_factory.mktemp("losses")) as children:
        line = Line(children, route=Route.KAFKA)
        line.start_all()
        time.sleep(APART_S)  # the plant works; so long as it likes
        lose_the_log(line)
        time.sleep(APART_S)
        lose_the_queue(line)
        time.sleep(APART_S)
        lose_the_database(line)
        time.sleep(APART_S)
        line.wait(lambda: line.agent_status().uplink.connected, "the uplink to come back")
        line.stop_agent_and_drain()
        line.wait_for_view()
        yield Evidence.of(line)


def lose_the_log(line: Line) -> None:
    """I3: what was logged and not yet taken is gone, and new records stand at the old offsets."""
    line.kill("ingest")
    taken = line.one(
        "select next_offset from kafka_position where topic = %s order by 1 desc", LIVE
    )
    assert taken > 0
    line.wait(lambda: at(line) > taken + 8, "frames that are in Kafka alone")
    line.wait(lambda: waiting(line) > 0, "frames that are logged and not stored")
    line.kill("kafka")
    line.kafka.wipe()
    line.restart("kafka")
    line.make_topics()
    line.wait(lambda: at(line) > taken + 8, "the new log to stand where the old one was read")
    line.restart("ingest")
    line.wait(lambda: line.one("select gen from kafka_log") > 0, "ingest to see another log")


def lose_the_queue(line: Line) -> None:
    """I2: the broker has said PUBACK, holds what nobody has taken, and loses it."""
    line.send("gateway1", signal.SIGSTOP)
    published = line.agent_status().uplink.counters["frames_sent"]
    line.wait(
        lambda: line.agent_status().uplink.counters["frames_sent"] > published + 8,
        "frames that the broker alone has",
    )
    line.kill("broker")
    for file in (line.directory / "mosquitto").glob("*.db"):
        file.unlink()
    line.restart("broker")
    line.send("gateway1", signal.SIGCONT)


def lose_the_database(line: Line) -> None:
    """I4: it comes back as it was some seconds ago, and does not know it."""
    data, backup = line.directory / "postgres", line.directory / "backup"
    line.postgres.stop()
    subprocess.run(["cp", "-a", str(data), str(backup)], check=True)
    line.restart("postgres")
    before = line.one("select count(*) from ledger")
    line.wait(lambda: line.one("select count(*) from ledger") > before + 8, "frames said stored")
    line.kill("postgres")
    shutil.rmtree(data)
    backup.rename(data)
    line.restart("postgres")
    line.command("cloud", "restored")


def at(line: Line) -> int:
    """How many live frames are in the log: one agent, so one partition has them all."""
    return max(ends(line.kafka.bootstrap, LIVE).values())


def waiting(line: Line) -> int:
    return line.agent_status().uplink.counters.get("frames_logged", 0)


def test_i3_i2_i4_every_reading_is_stored_once_whatever_server_was_lost(evidence: Evidence) -> None:
    found = evidence.samples()
    assert found.wrong == []
    assert evidence.outages == [], "the agent read on all the time"
    assert found.equal > 1000


def test_no_pass_is_lost_with_a_server(evidence: Evidence) -> None:
    found = evidence.passes()
    assert found.wrong == []
    assert (found.torn, found.in_gap) == (0, 0)


def test_verify_finds_nothing_missing_and_nothing_twice(evidence: Evidence) -> None:
    said = evidence.line.command("verify", AGENT)
    assert "0 missing, 0 duplicate" in said.splitlines()[-1]


def test_the_agent_was_told_of_another_log_and_of_another_store(evidence: Evidence) -> None:
    assert evidence.line.one("select gen from kafka_log") >= 1
