"""Who is who: names with validity, slots named late, stubs, re-use, conflicts, merges."""

import pytest

from cloud.projection.rows import (
    ItemNameRow,
    ItemRow,
    MentionRow,
    PassItemRow,
    StateRow,
    TraceAlarmRow,
)
from tests.support.trace import event, item_of, lot, name, of, pid, slot, uid, view, when, work


def alarms(rows: object) -> set[str]:
    return {row.name for row in of(rows, TraceAlarmRow)}  # type: ignore[arg-type]  # rows


def test_a_unit_met_before_it_was_born_is_one_item() -> None:
    rows = view(
        work("p", 1, 5, name("A")),
        event("born", "name", 6, names=[name("A")], material="DRIVE", order="O1"),
    )
    (item,) = of(rows, ItemRow)
    assert (item.stub, item.material, item.born_at, item.met_at) == (
        False,
        "DRIVE",
        when(6),
        when(5),
    )
    assert item_of(rows, "p", "items.0") == item_of(rows, "born", "names.0") == item.item


def test_a_missing_birth_leaves_a_stub() -> None:
    (item,) = of(view(work("p", 1, 5, name("A"))), ItemRow)
    assert item.stub
    assert item.born_at is None


def test_names_are_told_apart_by_scheme_issuer_and_value() -> None:
    rows = view(
        work("p", 1, 1, name("A")), work("q", 2, 2, lot("A")), work("r", 3, 3, name("A\x1fB"))
    )
    assert len(of(rows, ItemRow)) == 3


def test_relabelling_ends_one_name_and_adds_one() -> None:
    rows = view(
        event("born", "name", 0, names=[name("OLD")]),
        event("label", "name", 10, ends=[name("OLD")], names=[name("NEW")]),
        work("p", 1, 5, name("OLD")),
        work("q", 2, 15, name("NEW")),
    )
    (item,) = of(rows, ItemRow)
    names = {row.value: (row.valid_from, row.valid_to) for row in of(rows, ItemNameRow)}
    assert names == {"OLD": (when(0), when(10)), "NEW": (when(10), None)}
    assert item_of(rows, "p", "items.0") == item_of(rows, "q", "items.0") == item.item
    assert not alarms(rows)


def test_a_label_put_on_another_thing_is_ordinary() -> None:
    rows = view(
        event("a", "name", 0, names=[name("TRANSFER")]),
        event("b", "name", 1, ends=[name("TRANSFER")], names=[name("LASER1")]),
        event("c", "name", 2, names=[name("TRANSFER")]),
    )
    assert len(of(rows, ItemRow)) == 2
    assert not alarms(rows)


def test_a_name_met_after_scrap_opens_a_new_item_with_alarm() -> None:
    rows = view(
        event("born", "name", 0, names=[name("A")]),
        work("p", 1, 1, name("A")),
        event("scrap", "state", 2, items=[name("A")], set_=["scrapped"]),
        work("q", 2, 3, name("A")),
    )
    old, new = item_of(rows, "p", "items.0"), item_of(rows, "q", "items.0")
    assert old != new
    assert item_of(rows, "scrap", "items.0") == old
    assert alarms(rows) == {"name_reused"}
    ended = {row.item: row.ended_at for row in of(rows, ItemRow)}
    assert ended == {old: when(2), new: None}
    spans = {(row.item, row.valid_from, row.valid_to) for row in of(rows, ItemNameRow)}
    assert spans == {(old, when(0), when(2)), (new, when(3), None)}


def test_what_is_said_of_an_ended_item_opens_nothing() -> None:
    rows = view(
        work("p", 1, 1, name("A")),
        event("scrap", "state", 2, items=[name("A")], set_=["scrapped"]),
        event("recall", "state", 3, items=[name("A")], set_=["recalled"]),
    )
    assert len(of(rows, ItemRow)) == 1
    assert not alarms(rows)


def test_scrap_taken_back_lets_the_name_go_on() -> None:
    rows = view(
        work("p", 1, 1, name("A")),
        event("scrap", "state", 2, items=[name("A")], set_=["scrapped"]),
        event("not", "state", 3, items=[name("A")], unset=["scrapped"]),
        work("q", 2, 4, name("A")),
    )
    (item,) = of(rows, ItemRow)
    assert item.ended_at is None
    (state,) = of(rows, StateRow)
    assert (state.from_at, state.to_at) == (when(2), when(3))


def test_a_name_on_two_live_items_is_a_conflict_and_means_both() -> None:
    rows = view(
        event("a", "name", 0, names=[name("A")]),
        event("b", "name", 1, names=[name("B")]),
        event("slip", "name", 2, item=name("B"), names=[name("A")]),
        work("p", 1, 3, name("A")),
    )
    assert len(of(rows, ItemRow)) == 2
    assert alarms(rows) == {"name_conflict", "ambiguous_name"}
    claims = of(rows, PassItemRow)
    assert [row.certainty for row in claims] == ["possible", "possible"]
    assert {row.item for row in claims} == {row.item for row in of(rows, ItemRow)}


def test_two_births_of_two_materials_are_two_items() -> None:
    rows = view(
        event("a", "name", 0, names=[name("1")], material="ROTOR"),
        event("b", "name", 1, names=[name("1")], material="STATOR"),
    )
    assert {row.material for row in of(rows, ItemRow)} == {"ROTOR", "STATOR"}
    assert "name_conflict" in alarms(rows)


def test_same_as_makes_two_items_one_and_settles_the_conflict() -> None:
    rows = view(
        event("a", "name", 0, names=[name("A")]),
        event("b", "name", 1, names=[name("B")]),
        event("slip", "name", 2, item=name("B"), names=[name("A")]),
        event("same", "name", 9, item=name("A", minutes=0), same_as=name("B")),
    )
    assert len(of(rows, ItemRow)) == 1
    assert not alarms(rows)
    assert len({row.item for row in of(rows, MentionRow)}) == 1


def test_every_member_leads_to_the_item() -> None:
    """An id handed out before two were found to be one is still there."""
    apart = view(work("p", 1, 1, name("A")), work("q", 2, 2, name("B")))
    handed_out = {row.item for row in of(apart, ItemRow)}
    together = view(
        work("p", 1, 1, name("A")),
        work("q", 2, 2, name("B")),
        event("same", "name", 3, item=name("A"), same_as=name("B")),
    )
    (item,) = of(together, ItemRow)
    assert {row.item for row in of(together, MentionRow) if row.member in handed_out} == {item.item}
    assert handed_out <= {row.member for row in of(together, MentionRow)}


def test_an_id_handed_out_before_the_birth_came_is_a_member() -> None:
    early = view(work("p", 1, 5, name("A")))
    (stub,) = of(early, ItemRow)
    late = view(work("p", 1, 5, name("A")), event("born", "name", 0, names=[name("A")]))
    (born,) = of(late, ItemRow)
    assert born.item != stub.item
    assert {row.item for row in of(late, MentionRow) if row.member == stub.item} == {born.item}


def test_an_unnamed_item_is_named_later_by_one_event() -> None:
    rows = view(
        work("p", 1, 1, None),
        event("bind", "name", 30, item=slot(1), names=[name("A")]),
        work("q", 2, 5, name("A"), station="L1/ST020"),
    )
    (item,) = of(rows, ItemRow)
    assert {row.item for row in of(rows, PassItemRow)} == {item.item}
    (label,) = of(rows, ItemNameRow)
    assert label.valid_from == when(1)


def test_an_unnamed_item_named_as_one_that_was_scrapped_since_joins_it() -> None:
    rows = view(
        event("born", "name", 0, names=[name("A")]),
        work("p", 1, 1, None),
        event("scrap", "state", 5, items=[name("A")], set_=["scrapped"]),
        event("bind", "name", 30, item=slot(1), names=[name("A")]),
    )
    assert len(of(rows, ItemRow)) == 1
    assert not alarms(rows)


def test_a_slot_named_before_its_pass_is_known() -> None:
    rows = view(event("bind", "name", 30, item=slot(1), names=[name("A")]))
    (item,) = of(rows, ItemRow)
    assert [row.value for row in of(rows, ItemNameRow)] == ["A"]
    assert not item.stub


def test_two_unnamed_passes_are_two_items() -> None:
    assert len(of(view(work("p", 1, 1, None), work("q", 2, 1, None)), ItemRow)) == 2


def test_the_last_word_on_a_fact_counts_and_a_move_only_fills_in() -> None:
    rows = view(
        event("a", "name", 0, names=[lot("L")], material="M6", qty={"value": "500", "uom": "pcs"}),
        event("mount", "move", 1, what=lot("L"), to={"holder": "feeder/F"}, material="M8"),
        event("b", "name", 2, item=lot("L"), revision="B"),
    )
    (item,) = of(rows, ItemRow)
    assert (item.material, item.revision, str(item.qty), item.uom) == ("M6", "B", "500", "pcs")
    assert item.kind == "lot"


@pytest.mark.parametrize("taken", [True, False])
def test_a_correction_moves_one_claim(taken: bool) -> None:  # noqa: FBT001 - a parameter of the test
    wrong = work("p", 1, 1, name("A"))
    events = [wrong, work("fix", 1, 1, name("B"), replaces=["p"], said_at="2026-03-03T00:00:00Z")]
    if taken:
        events.append(event("no", "void", 9, replaces=["fix"]))
    rows = view(*events)
    (label,) = of(rows, ItemNameRow)
    assert label.value == ("A" if taken else "B")
    assert {row.pass_id for row in of(rows, PassItemRow)} == {pid(1)}
    assert uid("p") != uid("fix")
