"""Header and seal: round trips, and any damage is Rejected or Newer, nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Rejected
from protocols.frames import Frame, Header, Kind, Lane, Newer, Totals, seal, split

U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    totals = draw(st.none() | st.builds(Totals, U64, U64, U64, U64))
    return Header(
        draw(st.sampled_from(Kind)),
        draw(st.sampled_from(Lane)),
        draw(st.from_regex(r"[a-z0-9.-]{1,63}", fullmatch=True)),
        draw(U64),
        draw(U64),
        draw(U64),
        draw(st.integers(0, 2**32 - 1)),
        draw(U64),
        *draw(st.tuples(I64, I64, I64, I64)),
        raw_len=draw(st.integers(0, 16 * 1024 * 1024)),
        compressed=draw(st.booleans()),
        totals=totals,
    )


@given(headers(), st.binary(max_size=300))
def test_a_sealed_frame_reads_back(header: Header, payload: bytes) -> None:
    frame = seal(header, payload)
    assert split(frame.sealed) == frame


@given(st.binary(max_size=400))
def test_any_bytes_are_a_frame_or_rejected(data: bytes) -> None:
    try:
        split(b"TLF\x01" + data)
    except Rejected:
        return


@given(headers(), st.binary(max_size=50), st.data())
def test_a_damaged_frame_is_never_taken(
    header: Header, payload: bytes, data: st.DataObject
) -> None:
    sealed = bytearray(seal(header, payload).sealed)
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    try:
        found = split(bytes(sealed))
    except Rejected:
        return
    assert isinstance(found, Newer), "only another major can look whole"
    assert at == 3


def test_a_newer_major_is_named_with_its_identity() -> None:
    sealed = bytearray(seal(Header(Kind.SAMPLES, Lane.LIVE, "p.a", 7, 9), b"x").sealed)
    sealed[3] = 2
    found = split(bytes(sealed))
    assert isinstance(found, Newer)
    assert (found.epoch, found.seq, found.major) == (7, 9, 2)


def test_an_extension_that_must_be_understood_is_newer() -> None:
    header = Header(Kind.SAMPLES, Lane.LIVE, "p.a", 7, 9, unknown_extensions=((0x8001, b"?"),))
    assert isinstance(split(seal(header, b"").sealed), Newer)
    ignorable = Header(Kind.SAMPLES, Lane.LIVE, "p.a", 7, 9, unknown_extensions=((0x0042, b"?"),))
    assert isinstance(split(seal(ignorable, b"").sealed), Frame)


@pytest.mark.parametrize("agent", ["", "A", "a/b", "x" * 64])
def test_a_wrong_agent_id_cannot_be_sealed(agent: str) -> None:
    with pytest.raises(ValueError, match="agent id"):
        seal(Header(Kind.SAMPLES, Lane.LIVE, agent, 1, 1), b"")
