"""A dead letter shown: every kind in words, any bytes without a crash."""

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.letters.unfolding import BYTES_MAX, LINES_MAX, unfold
from protocols.codec import Curve
from protocols.events import GapEvent, from_us
from protocols.frames import Frame, Kind
from protocols.notices import Hello, Outage
from protocols.samples import DataType
from tests.support.frames import AgentVoice, changed, sample

T0 = 1_790_000_000_000_000
VOICE = AgentVoice()
GAP = GapEvent(
    id=UUID(int=1), site="berlin", at=from_us(T0), station="L1/ST1", series=1, from_count=1,
    to_count=2,
)  # fmt: skip
CURVE = Curve(
    UUID(int=2), "force", "p1", "s", ("s", "f"), ("mm", "N"), (np.arange(9.0), np.zeros(9))
)
OUTAGE = Outage(from_time=from_us(T0), to_time=from_us(T0 + 1), reason="restart")
FRAMES: list[tuple[Frame, str]] = [
    (VOICE.samples([sample("d.x", DataType.TEXT, T0, "ü")]), "d.x text = 'ü' 0x00000000"),
    (VOICE.events([GAP]), '"station":"L1/ST1"'),
    (VOICE.curve(CURVE), "force at p1 of pass"),
    (VOICE.notices(Kind.OUTAGE, [OUTAGE]), '"reason":"restart"'),
    (VOICE.hello(Hello(agent=VOICE.agent, epoch=1, at=from_us(T0))), '"agent":"berlin.press1"'),
]


@pytest.mark.parametrize(("frame", "says"), FRAMES)
def test_every_kind_is_shown(frame: Frame, says: str) -> None:
    found = unfold(frame.sealed)
    assert found.trouble is None
    assert found.header is not None
    assert found.header["kind"] == frame.header.kind.name.lower()
    assert found.header["digest"] == f"{frame.header.digest:016x}"
    assert says in "\n".join(found.payload)


def test_a_long_payload_is_cut_and_counted() -> None:
    rows = [sample("d.x", DataType.INT8, T0 + n, n) for n in range(100)]
    found = unfold(AgentVoice().samples(rows).sealed)
    assert (len(found.payload), found.lines) == (LINES_MAX, 100)


def test_a_newer_version_shows_what_stays_for_ever() -> None:
    sealed = bytearray(FRAMES[0][0].sealed)
    sealed[3] = 9
    found = unfold(bytes(sealed))
    assert found.header is not None
    assert (found.header["major"], found.header["epoch"]) == (9, f"{VOICE.epoch:016x}")
    assert found.trouble == "this program does not know wire major 9"


def test_times_that_no_calendar_has_are_numbers() -> None:
    found = unfold(changed(FRAMES[0][0], t_min=-(2**63), t_max=2**63 - 1).sealed)
    assert found.header is not None
    assert (found.header["watermark"], found.header["t_max"]) == ("no promise", f"{2**63 - 1} µs")


@given(
    st.sampled_from([frame.sealed for frame, _ in FRAMES]),
    st.integers(0, 10_000),
    st.integers(0, 255),
    st.integers(0, 400),
)
def test_damaged_frames_are_shown_as_far_as_they_go(
    sealed: bytes, place: int, value: int, cut: int
) -> None:
    damaged = bytearray(sealed)
    damaged[place % len(sealed)] = value
    found = unfold(bytes(damaged[: len(sealed) - cut % len(sealed)]))
    assert found.header is not None or found.trouble is not None


@given(st.binary(max_size=300))
def test_any_bytes_are_shown(data: bytes) -> None:
    found = unfold(data)
    assert found.trouble is not None
    assert len(found.payload[0]) < 3 * BYTES_MAX + 40
