"""Acknowledged in order of receipt, whatever the order of confirmation."""

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.held import Held
from gateway.ports import Message, Record
from gateway.sorting import sort
from tests.support.gateway_fakes import frame


def record(number: int) -> Record:
    found = sort(Message("plant1.a", "live", frame(number).sealed, number))
    assert found is not None
    return found


def numbers(messages: object) -> list[object]:
    return [message.token for message in messages]  # type: ignore[attr-defined] # a sequence of them


@given(st.integers(1, 60), st.randoms(use_true_random=False), st.integers(1, 10))
def test_order_of_acks_is_order_of_receipt(count: int, draw: random.Random, at_once: int) -> None:
    held, records = Held(), [record(number) for number in range(1, count + 1)]
    held.add([one.message for one in records], records, 0.0)
    order = draw.sample(records, count)
    released: list[object] = []
    confirmed: set[object] = set()
    while order:
        some, order = order[:at_once], order[at_once:]
        held.confirm(some, 1.0)
        confirmed |= {one.message.token for one in some}
        released += numbers(held.release())
        assert released == list(range(1, len(released) + 1))
        assert len(released) + 1 not in confirmed
    assert released == list(range(1, count + 1))
    assert (held.size, held.messages, held.unconfirmed) == (0, 0, ())


def test_what_is_not_confirmed_can_be_written_again_in_order() -> None:
    held, records = Held(), [record(number) for number in range(1, 6)]
    held.add([one.message for one in records], records, 0.0)
    held.confirm([records[3], records[1]], 1.0)
    assert held.unconfirmed == (records[0], records[2], records[4])
    held.confirm([records[1]], 1.0)  # said twice
    assert len(held.unconfirmed) == 3


def test_a_message_without_a_record_waits_only_for_those_before() -> None:
    held, first = Held(), record(1)
    foreign = Message("", "", b"", 2, is_done=True)
    held.add([first.message, foreign], [first], 0.0)
    assert list(held.release()) == []
    held.confirm([first], 1.0)
    assert numbers(held.release()) == [1, 2]


def test_size_is_of_what_is_not_released() -> None:
    held, records = Held(), [record(number) for number in range(1, 4)]
    held.add([one.message for one in records], records, 0.0)
    size = len(records[0].message.data)
    assert held.size == 3 * size
    held.confirm(records[1:], 1.0)
    assert list(held.release()) == []
    assert held.size == 3 * size
    held.confirm(records[:1], 1.0)
    held.release()
    assert held.size == 0


def test_waiting_counts_from_the_last_confirmation() -> None:
    held, records = Held(), [record(number) for number in range(1, 3)]
    assert held.waiting_s(9.0) == 0.0
    held.add([one.message for one in records], records, 10.0)
    assert held.waiting_s(13.0) == 3.0
    held.confirm(records[:1], 14.0)
    assert held.waiting_s(15.0) == 1.0
    held.confirm(records[1:], 16.0)
    assert held.waiting_s(99.0) == 0.0
