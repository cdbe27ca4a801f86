"""`logged` names every frame once, in few receipts within their limits."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import Message
from gateway.receipting import SINGLE_COPY, Logged, letters_of, logged_of
from gateway.sorting import sort
from protocols.frames import Label
from protocols.receipts import RECEIPT_FRAMES_MAX, Said, decode_receipt
from tests.support.gateway_fakes import AGENT, frame


def logged(
    seq: int, *, epoch: int = 7, lane: int = 2, digest: int = 0, agent: str = AGENT
) -> Logged:
    return Logged(agent.encode(), Label(1, 1, lane, 100, 1, epoch, seq, digest or seq, agent))


def said(*items: Logged, reason: str | None = None) -> set[tuple[str, int, int, int, int]]:
    """Agent, epoch, lane, seq, digest of everything said; no receipt above its limit."""
    found = []
    for letter in letters_of(items, reason):
        receipt = decode_receipt(letter.receipt)
        assert receipt.agent == letter.agent
        assert (receipt.store_id, receipt.log_gen) == (None, None)
        for run in receipt.runs:
            assert (run.kind, run.reason) == (Said.LOGGED, reason)
            found += [
                (letter.agent, run.epoch, run.lane, seq, digest)
                for seq, digest in enumerate(run.digests, run.first)
            ]
    assert len(found) == len(set(found))
    return set(found)


def test_frames_that_follow_each_other_are_one_run() -> None:
    (letter,) = letters_of([logged(seq) for seq in (3, 1, 2, 9)], None)
    runs = decode_receipt(letter.receipt).runs
    assert [(run.first, len(run.digests)) for run in runs] == [(1, 3), (9, 1)]


def test_256_frames_a_receipt_are_the_most() -> None:
    letters = list(letters_of([logged(seq) for seq in range(1, 602)], None))
    counts = [
        sum(len(run.digests) for run in decode_receipt(letter.receipt).runs) for letter in letters
    ]
    assert counts == [RECEIPT_FRAMES_MAX, RECEIPT_FRAMES_MAX, 89]


def test_a_single_copy_says_so() -> None:
    assert said(logged(1), logged(2), reason=SINGLE_COPY)


def test_a_fork_is_said_of_each_digest() -> None:
    found = said(logged(1, digest=5), logged(1, digest=6), logged(2, digest=7))
    assert {(seq, digest) for *_, seq, digest in found} == {(1, 5), (1, 6), (2, 7)}


items = st.lists(
    st.builds(
        logged,
        st.integers(1, 40),
        epoch=st.integers(1, 2),
        lane=st.integers(1, 4),
        digest=st.integers(1, 3),
        agent=st.sampled_from(["plant1.a", "plant1.b"]),
    ),
    max_size=400,
)


@given(items)
def test_everything_is_said_once_to_its_agent(given_items: list[Logged]) -> None:
    expected = {
        (one.key.decode(), one.label.epoch, one.label.lane, one.label.seq, one.label.digest)
        for one in given_items
    }
    assert said(*given_items) == expected


def test_what_has_no_number_and_what_is_dead_is_not_answered() -> None:
    data = [frame(0).sealed, b"garbage", frame(2**63).sealed, frame(2**63 - 1).sealed]
    records = [sort(Message(AGENT, "live", one, None)) for one in data]
    found = logged_of([record for record in records if record is not None])
    assert [one.label.seq for one in found] == [2**63 - 1]
    assert said(*found)
