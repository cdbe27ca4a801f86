"""The planner: every tag covered, no limit of the PDU exceeded, never more than one a tag."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.driver import Mode, TagSpec
from protocols.drivers.s7.config import S7Connection
from protocols.drivers.s7.planner import S7Plan, make_plan
from protocols.drivers.s7.wire import group
from protocols.reading import Sheet

CONNECTION = S7Connection(host="plc")
FEW = settings(max_examples=25, deadline=None)

addresses = st.builds(
    lambda block, start, kind: f"DB{block}.{kind.format(start)}",
    st.integers(1, 3),
    st.integers(0, 2_000),
    st.sampled_from(
        [
            "DBX{}.3:BOOL",
            "DBB{}:BYTE",
            "DBW{}:INT",
            "DBD{}:REAL",
            "DBB{}:LREAL",
            "DBB{}:DTL",
            "DBB{}:STRING[254]",
            "DBB{}:WSTRING[254]",
            "DBW{}:INT[30]",
        ]
    ),
)
groups = st.lists(addresses, max_size=40)
pdus = st.sampled_from([112, 240, 480, 960])


def planned(texts: list[str], mode: Mode = Mode.CYCLIC) -> S7Plan:
    return make_plan(CONNECTION, [TagSpec(f"d.t{i}", text) for i, text in enumerate(texts)], mode)


@FEW
@given(groups, pdus, st.integers(1, 20))
def test_requests_and_answers_fit_into_the_pdu(texts: list[str], pdu: int, items: int) -> None:
    plan = planned(texts)
    cut = plan.cut(pdu)
    requests = group(cut.blocks, pdu, items)
    asked = [block for request in requests for block in request]
    assert {id(block) for block in asked} == {id(block) for block in cut.blocks}
    for request in requests:
        assert len(request) <= items
        assert 12 + 12 * len(request) <= pdu
        assert 14 + sum(4 + block.size + block.size % 2 for block in request) <= pdu
    covered: dict[int, set[int]] = {}
    for block in cut.blocks:
        for stretch in block.stretches:
            inside = range(max(block.start, stretch.start), min(block.end, stretch.end))
            covered.setdefault(stretch.cell, set()).update(inside)
            assert covered[stretch.cell] <= set(range(stretch.start, stretch.end))
    for cell, part in enumerate(plan.parts):
        start = part.address.start
        assert covered[cell] == set(range(start, start + part.address.size))


@FEW
@given(groups, pdus)
def test_never_more_requests_than_one_a_tag(texts: list[str], pdu: int) -> None:
    requests = len(group(planned(texts).cut(pdu).blocks, pdu, 20))
    alone = sum(len(group(planned([text]).cut(pdu).blocks, pdu, 20)) for text in set(texts))
    assert requests <= alone


@FEW
@given(groups, pdus)
def test_values_come_from_their_own_bytes(texts: list[str], pdu: int) -> None:
    memory = np.random.default_rng(3).integers(0, 256, (4, 4_000), np.uint8)
    plan = planned(texts)
    cut = plan.cut(pdu)
    image = np.zeros(cut.image_bytes, np.uint8)
    for block in cut.blocks:
        image[block.at : block.at + block.size] = memory[block.space[1], block.start : block.end]
    sheet = Sheet(plan.rows)
    cut.decoder.fill(sheet, image)
    for row, spec in zip(sheet.batch().rows(), plan.tags, strict=True):
        alone = planned([spec.address])
        address = alone.parts[0].address
        one = Sheet(alone.rows)
        own = memory[address.block, address.start : address.start + address.size].copy()
        alone.cut(4_000).decoder.fill(one, own)
        expected = one.batch().row(0)
        assert repr((row.value, row.code)) == repr((expected.value, expected.code))


def test_twenty_scattered_tags_are_one_request() -> None:
    scattered = [f"DB1.DBW{i * 100}:INT" for i in range(21)]
    assert planned(scattered[:20]).requests == 1
    assert planned(scattered).requests == 2


def test_what_lies_together_is_one_item() -> None:
    plan = planned([f"DB1.DBD{4 * i}:REAL" for i in range(115)])
    assert (len(plan.cut(480).blocks), plan.requests) == (1, 1)
    assert len(planned([f"DB1.DBD{4 * i}:REAL" for i in range(116)]).cut(480).blocks) == 2


def test_gaps_are_filled_up_to_their_cost() -> None:
    assert len(planned(["DB1.DBW0:INT", "DB1.DBW18:INT"]).cut(480).blocks) == 1
    assert len(planned(["DB1.DBW0:INT", "DB1.DBW20:INT"]).cut(480).blocks) == 2


def test_a_text_longer_than_a_pdu_is_read_in_pieces() -> None:
    plan = planned(["DB1.DBB0:WSTRING[254]", "DB1.DBB0:WSTRING[254]"])
    assert [block.size for block in plan.cut(240).blocks] == [222, 222, 68]
