"""What a hello tells of its spool's past."""

from datetime import UTC, datetime

import pytest

from cloud.lost_spools import earlier_epochs
from protocols.notices import Hello, LaneState

MINE = 2**64 - 1


@pytest.mark.parametrize(
    ("named", "earlier"),
    [((), set()), ((MINE, MINE), set()), ((1, MINE), {1}), ((1, 1, 2**63), {1, 2**63})],
)
def test_the_past_of_a_spool_is_what_it_names_beside_itself(
    named: tuple[int, ...], earlier: set[int]
) -> None:
    lanes = tuple(LaneState(epoch=one, lane=2, floor=1, head=1) for one in named)
    hello = Hello(agent="a.b", epoch=MINE, at=datetime(2026, 1, 1, tzinfo=UTC), lanes=lanes)
    assert earlier_epochs(hello) == earlier
