"""Holders and links: which lot a pass took, what was assembled, made, shipped; states; counting."""

from decimal import Decimal
from typing import Any

import pytest

from cloud.projection.holders import Discipline
from cloud.projection.masters import Masters
from cloud.projection.rows import (
    GapRow,
    ItemNameRow,
    LinkRow,
    PassItemRow,
    PassRow,
    Row,
    StateRow,
    TallyRow,
    TraceAlarmRow,
)
from protocols.events import Event
from tests.support.trace import (
    at,
    event,
    holder,
    item_of,
    lot,
    name,
    of,
    pid,
    slot,
    uid,
    view,
    when,
    work,
)

FIFO = Masters(disciplines={"magazine": Discipline.FIFO})


def mount(
    ident: str, minutes: float, lot_: str, to: str = "feeder/F", qty: str | None = None
) -> Event:
    said = None if qty is None else {"value": qty, "uom": "pcs"}
    return event(ident, "move", minutes, what=lot(lot_), to=holder(to), qty=said)


def lots_of(rows: list[Row], count: int) -> list[tuple[str | None, str, Decimal | None]]:
    """Lot, certainty and quantity that a pass took."""
    names = {row.item: row.value for row in of(rows, ItemNameRow)}
    links = [row for row in of(rows, LinkRow) if row.owner == pid(count)]
    found = [(names.get(row.child) if row.child else None, row.certainty, row.qty) for row in links]
    return sorted(found, key=str)


def test_a_pass_took_the_lot_that_was_in_the_feeder() -> None:
    rows = view(
        mount("m1", 0, "L1"),
        work("p", 1, 5, name("A"), feeds=[("feeder/F", "6")]),
        mount("m2", 10, "L2"),
        work("q", 2, 15, name("B"), feeds=[("feeder/F", "6")]),
    )
    assert lots_of(rows, 1) == [("L1", "exact", Decimal(6))]
    assert lots_of(rows, 2) == [("L2", "exact", Decimal(6))]
    parents = {row.owner: row.parent for row in of(rows, LinkRow) if row.relation == "part"}
    assert parents[pid(1)] == item_of(rows, "p", "items.0")
    contents = {
        row.child: (row.from_at, row.to_at)
        for row in of(rows, LinkRow)
        if row.relation == "content"
    }
    assert contents == {
        item_of(rows, "m1", "what"): (when(0), when(10)),
        item_of(rows, "m2", "what"): (when(10), None),
    }


def test_a_late_scan_derives_every_link_again() -> None:
    passes = [work(f"p{i}", i, i, name(f"U{i}"), feeds=[("feeder/F", "1")]) for i in range(1, 9)]
    rows = view(mount("m1", 0, "L1"), *passes, mount("late", 4.5, "L2"))
    assert [lots_of(rows, i)[0][0] for i in range(1, 9)] == ["L1"] * 3 + ["L1"] + ["L2"] * 4
    assert lots_of(rows, 4) == [
        ("L1", "possible", Decimal(1)),
        ("L2", "possible", Decimal(1)),
    ]


def test_an_empty_feeder_is_an_unknown_lot_and_no_missing_link() -> None:
    rows = view(work("p", 1, 5, name("A"), feeds=[("feeder/F", "6")]))
    assert lots_of(rows, 1) == [(None, "unknown", Decimal(6))]


def test_a_mount_taken_back_leaves_the_one_before() -> None:
    rows = view(
        mount("m1", 0, "L1"),
        mount("m2", 3, "L2"),
        work("p", 1, 5, name("A"), feeds=[("feeder/F", "6")]),
        event("no", "void", 9, replaces=["m2"]),
    )
    assert lots_of(rows, 1) == [("L1", "exact", Decimal(6))]


def test_a_queue_is_used_up_by_quantity() -> None:
    rows = view(
        mount("m1", 0, "L1", "magazine/P", "3"),
        mount("m2", 0.5, "L2", "magazine/P", "3"),
        *(work(f"p{i}", i, i * 2, name(f"U{i}"), feeds=[("magazine/P", "2")]) for i in range(1, 5)),
        masters=FIFO,
    )
    assert lots_of(rows, 1) == [("L1", "exact", Decimal(2))]
    assert lots_of(rows, 2) == [("L1", "exact", Decimal(1)), ("L2", "exact", Decimal(1))]
    assert lots_of(rows, 3) == [("L2", "exact", Decimal(2))]
    assert lots_of(rows, 4) == [(None, "unknown", Decimal(2))]


def test_a_queue_of_unknown_quantity_makes_every_lot_in_it_possible() -> None:
    rows = view(
        mount("m1", 0, "L1", "magazine/P"),
        mount("m2", 1, "L2", "magazine/P"),
        work("p", 1, 5, name("A"), feeds=[("magazine/P", "2")]),
        masters=FIFO,
    )
    assert [(one[0], one[1]) for one in lots_of(rows, 1)] == [
        ("L1", "possible"),
        ("L2", "possible"),
    ]


def test_the_item_of_a_pass_is_what_its_carrier_held() -> None:
    rows = view(
        event("load", "move", 0, what=name("A"), to=holder("carrier/7")),
        work("p", 1, 5, holder("carrier/7")),
        event("load2", "move", 6, what=name("B"), to=holder("carrier/7")),
        work("q", 2, 7, holder("carrier/7")),
    )
    claims = {row.pass_id: row.item for row in of(rows, PassItemRow)}
    assert claims == {
        pid(1): item_of(rows, "load", "what"),
        pid(2): item_of(rows, "load2", "what"),
    }


def test_an_unnamed_item_on_a_carrier_gets_its_name_stations_later() -> None:
    rows = view(
        work("p0", 1, 0, None, station="L1/ST000"),
        event("load", "move", 1, what=slot(1, station="L1/ST000"), to=holder("carrier/7")),
        work("p1", 2, 5, holder("carrier/7")),
        work("p2", 3, 8, holder("carrier/7")),
        event("laser", "name", 8, item=slot(3), names=[name("A")]),
    )
    assert len({row.item for row in of(rows, PassItemRow)}) == 1


def test_an_empty_carrier_leaves_the_item_unnamed() -> None:
    rows = view(work("p", 1, 5, holder("carrier/7")), work("q", 2, 6, holder("carrier/7")))
    assert len({row.item for row in of(rows, PassItemRow)}) == 2


def test_contents_move_from_holder_to_holder() -> None:
    rows = view(
        event("load", "move", 0, what=name("A"), to=holder("carrier/7")),
        event("swap", "move", 3, what=holder("carrier/7"), to=holder("carrier/8")),
        work("p", 1, 5, holder("carrier/8")),
        work("q", 2, 6, holder("carrier/7")),
    )
    claims = {row.pass_id: row.item for row in of(rows, PassItemRow)}
    assert claims[pid(1)] == item_of(rows, "load", "what")
    assert claims[pid(2)] != claims[pid(1)]


def test_a_component_scanned_in_the_cycle_is_a_part_until_it_is_taken_out() -> None:
    rows = view(
        work("p", 1, 5, name("A")),
        event("scan", "move", 5, what=name("C"), to=slot(1), pass_=str(pid(1))),
        event("out", "move", 20, what=name("C"), from_=name("A")),
        event("again", "move", 30, what=name("C"), to=name("A")),
    )
    links = sorted(
        (row for row in of(rows, LinkRow) if row.relation == "part"), key=lambda row: row.from_at
    )
    assert [(row.from_at, row.to_at) for row in links] == [
        (when(5), when(20)),
        (when(30), None),
    ]
    assert {(row.child, row.parent) for row in links} == {
        (item_of(rows, "scan", "what"), item_of(rows, "p", "items.0"))
    }
    assert [row.pass_id for row in links] == [pid(1), None]


def test_what_was_made_is_linked_to_all_it_was_made_of() -> None:
    rows = view(
        event(
            "mix",
            "make",
            3,
            run="R1",
            inputs=[{"ref": lot("X"), "qty": {"value": "2"}}, {"ref": lot("Y")}],
            outputs=[{"ref": lot("Z"), "segment": {"from": 0, "to": 5}}],
        )
    )
    links = of(rows, LinkRow)
    assert {row.child for row in links} == {
        item_of(rows, "mix", "inputs.0"),
        item_of(rows, "mix", "inputs.1"),
    }
    assert {row.parent for row in links} == {item_of(rows, "mix", "outputs.0")}
    assert {row.relation for row in links} == {"made_of"}
    assert links[0].parent_segment == {"from": 0.0, "to": 5.0, "reversed": False}


def test_seats_say_who_worked_and_with_what() -> None:
    rows = view(
        event("in", "move", 0, what=name("op-9", scheme="operator"), to=holder("seat/ST010-OP")),
        work("p", 1, 5, name("A"), seats={"operator": "seat/ST010-OP", "tool": "seat/ST010-T"}),
    )
    assert {row.role for row in of(rows, PassItemRow)} == {"work", "operator"}


def test_a_state_lasts_until_it_is_unset_or_set_again() -> None:
    rows = view(
        event("b1", "state", 1, items=[name("A")], set_=["blocked"], case="C1"),
        event("b2", "state", 2, items=[name("A")], set_=["blocked"], unset=["released"]),
        event("ok", "state", 3, items=[name("A")], unset=["blocked"], set_=["released"]),
        event("judge", "state", 4, pass_=str(pid(1)), set_=["judged"]),
    )
    spans = {(row.state, row.from_at, row.to_at) for row in of(rows, StateRow)}
    assert spans == {
        ("blocked", when(1), when(2)),
        ("blocked", when(2), when(3)),
        ("released", when(3), None),
        ("judged", when(4), None),
    }


def test_the_closed_pass_replaces_the_open_one() -> None:
    opened = work("open", 1, 5, name("A"), took=None)
    closed = work("closed", 1, 5, name("A"), feeds=[("feeder/F", "1")])
    (row,) = of(view(opened, closed), PassRow)
    assert (row.event, row.ended) == (uid("closed"), when(6))
    (row,) = of(view(opened), PassRow)
    assert row.ended is None
    assert not of(view(opened, closed, event("no", "void", 9, replaces=["closed"])), PassRow)


def put_in(ident: str, minutes: float, child: str, parent: str, **more: Any) -> Event:
    return event(ident, "move", minutes, what=name(child), to=name(parent), **more)


def own_parts(rows: list[Row]) -> set[str]:
    """Events of the links that are on a circle, by their short ids."""
    short = {str(uid(one)): one for one in "abcdm"}
    found = [row for row in of(rows, TraceAlarmRow) if row.name == "own_part"]
    assert all([str(row.owner)] == row.events for row in found)
    return {short[row.events[0]] for row in found}


def test_a_part_of_itself_is_an_alarm() -> None:
    rows = view(put_in("a", 1, "A", "A"), put_in("b", 2, "B", "C"))
    assert own_parts(rows) == {"a"}
    assert len([row for row in of(rows, LinkRow) if row.relation == "part"]) == 2


def test_a_part_of_itself_through_others_is_an_alarm_at_each_link_between() -> None:
    made = event(
        "m", "make", 3, run="R1", inputs=[{"ref": name("C")}], outputs=[{"ref": name("A")}]
    )
    chain = (put_in("a", 1, "A", "B"), put_in("b", 2, "B", "C"))
    aside = (put_in("c", 1, "X", "B"), put_in("d", 4, "C", "Z"))
    assert own_parts(view(*chain, *aside)) == set()
    assert own_parts(view(*chain, *aside, made)) == {"a", "b", "m"}


def test_a_feeder_that_is_fed_into_what_it_holds_is_an_alarm() -> None:
    rows = view(
        event("a", "move", 1, what=name("A"), to=holder("feeder/F")),
        work("p", 1, 5, name("A"), feeds=[("feeder/F", "1")]),
    )
    assert own_parts(rows) == {"a"}


def test_two_things_that_turn_out_to_be_one_are_no_part_of_each_other() -> None:
    one = event("c", "name", 5, item=name("A"), same_as=name("B"))
    assert own_parts(view(put_in("a", 1, "A", "B"))) == set()
    assert own_parts(view(put_in("a", 1, "A", "B"), one)) == {"a"}


def test_a_correction_ends_the_circle() -> None:
    wrong = (put_in("a", 1, "A", "B"), put_in("b", 2, "B", "A"))
    assert own_parts(view(*wrong)) == {"a", "b"}
    assert own_parts(view(*wrong, put_in("c", 2, "D", "A", replaces=["b"]))) == set()


def test_of_two_corrections_the_later_said_wins_with_an_alarm() -> None:
    rows = view(
        work("p", 1, 1, name("A")),
        work("c1", 1, 1, name("B"), replaces=["p"], said_at=at(60)),
        work("c2", 1, 1, name("C"), replaces=["p"], said_at=at(59)),
    )
    assert [row.value for row in of(rows, ItemNameRow)] == ["B"]
    assert [row.name for row in of(rows, TraceAlarmRow)] == ["replaced_twice"]


def test_a_correction_of_a_correction_stands_alone() -> None:
    rows = view(
        work("p", 1, 1, name("A")),
        work("c1", 1, 1, name("B"), replaces=["p"]),
        work("c2", 1, 1, name("C"), replaces=["c1"]),
    )
    assert [row.value for row in of(rows, ItemNameRow)] == ["C"]
    assert not of(rows, TraceAlarmRow)


def test_a_void_cannot_be_taken_back() -> None:
    rows = view(
        work("p", 1, 1, name("A")),
        event("v", "void", 2, replaces=["p"]),
        event("vv", "void", 3, replaces=["v"]),
    )
    assert not of(rows, PassRow)
    assert [row.name for row in of(rows, TraceAlarmRow)] == ["void_of_void"]


def test_events_that_replace_each_other_do_not_both_vanish() -> None:
    rows = view(
        work("a", 1, 1, name("A"), replaces=["b"], said_at=at(1)),
        work("b", 2, 2, name("B"), replaces=["a"], said_at=at(2)),
    )
    assert [row.pass_id for row in of(rows, PassRow)] == [pid(2)]


@pytest.mark.parametrize(("late", "missing"), [([], 3), ([4], 2), ([3, 4, 5], 0)])
def test_a_gap_counts_only_counts_without_a_pass(late: list[int], missing: int) -> None:
    rows = view(
        work("p2", 2, 2, name("B")),
        *(work(f"p{i}", i, i, name(f"U{i}")) for i in late),
        work("p6", 6, 6, name("F")),
        event(
            "gap",
            "gap",
            6,
            station="L1/ST010",
            series="0000000000000007",
            from_count=3,
            to_count=5,
        ),
        event(
            "twice",
            "gap",
            7,
            station="L1/ST010",
            series="0000000000000007",
            from_count=4,
            to_count=5,
        ),
    )
    assert sum(row.uncovered for row in of(rows, GapRow)) == missing
    (tally,) = of(rows, TallyRow)
    assert (tally.passes, tally.gaps) == (2 + len(late), Decimal(missing))
    assert tally.last_count - tally.first_count + 1 == tally.passes + tally.gaps
