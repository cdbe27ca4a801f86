"""The whole line for a while: what is stored is what the plant sent and did.

Three protocols at 100 ms, a real broker, a real database, and once a gateway and a real Kafka
between them. The plant's journal is the truth.
"""

import time
from collections.abc import Iterator

import pytest

from tests.support import truth
from tests.support.comparing import Evidence, raw_tags
from tests.support.line import AGENT, Line, seconds_of_life
from tests.support.services import need
from tests.support.stored import rows_of
from threadline.children import Children
from threadline.route import Route

pytestmark = [pytest.mark.system, pytest.mark.integration, pytest.mark.timeout(900)]
# In CI; by hand THREADLINE_SYSTEM_SECONDS=120 is the length that figures are given for.
LIFE_S = {route: seconds_of_life(one) for route, one in {Route.DIRECT: 60, Route.KAFKA: 60}.items()}


@pytest.fixture(scope="module", params=list(Route))
def evidence(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Evidence]:
    """Of a line that has run for a while and was ended cleanly; its servers still answer."""
    for service in ("postgres", "mosquitto", *(["kafka"] if request.param is Route.KAFKA else [])):
        need(service)
    with Children(tmp_path_factory.mktemp("line")) as children:
        line = Line(children, route=request.param)
        line.start_all()
        time.sleep(LIFE_S[request.param])  # the length of the run is the condition
        line.stop_agent_and_drain()
        line.wait_for_view()
        yield Evidence.of(line)


def test_every_reading_of_every_raw_tag_is_stored_once(evidence: Evidence) -> None:
    found = evidence.samples()
    assert found.wrong == []
    assert found.equal > 60 * LIFE_S[evidence.line.route] * 6, (
        "over sixty raw tags, ten times a second on a good day"
    )


def test_every_conditioned_tag_is_what_the_rule_makes_of_its_raw_twin(evidence: Evidence) -> None:
    assert evidence.conditioned() == []


def test_every_cycle_is_a_pass_with_its_values_curves_and_components(evidence: Evidence) -> None:
    found = evidence.passes()
    assert found.wrong == []
    assert found.torn == 0
    assert found.equal > LIFE_S[evidence.line.route] / 2
    assert len(found.units) > LIFE_S[evidence.line.route] / 12


def test_verify_finds_nothing_missing_and_nothing_twice(evidence: Evidence) -> None:
    said = evidence.line.command("verify", AGENT)
    assert "0 missing, 0 duplicate" in said.splitlines()[-1]


def test_the_comparison_itself_can_fail(evidence: Evidence) -> None:
    raw, plain = next(iter(raw_tags(evidence.line.agent_file).items()))
    sent = evidence.sent[plain]
    with evidence.line.database() as database:
        rows = rows_of(database, raw)
    assert truth.compare(raw, sent, rows, []).wrong == []
    assert truth.compare(raw, sent, rows[:40] + rows[41:], []).wrong
    assert truth.compare(raw, sent, [*rows[:40], rows[39], *rows[40:]], []).wrong
