"""S7 bytes, as literals: answers, codes, dates and times, texts, what does not fit."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snap7.s7protocol import S7Protocol

from protocols.addressing import Unfit
from protocols.driver import Mode, TagSpec
from protocols.drivers.s7.address import parse
from protocols.drivers.s7.config import S7Connection
from protocols.drivers.s7.decode import encode
from protocols.drivers.s7.planner import make_plan
from protocols.drivers.s7.wire import (
    Refusal,
    decode_read,
    decode_set_up,
    decode_written,
    explain,
    sequence_of,
    with_sequence,
)
from protocols.image import Block
from protocols.reading import Sheet
from protocols.samples import Code, Quality, Sample, Scalar

CONNECTION = S7Connection(host="plc")
FEW = settings(max_examples=60, deadline=None)
DAY_NS = 86_400_000_000_000
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # a PLC's clock has no zone


def block(size: int) -> Block:
    return Block((0x84, 1), 0, size, 0, (), np.zeros(0, np.intp))


def row_of(kind: str, raw: bytes) -> Sample:
    letter = {1: "B", 2: "W", 4: "D"}.get(len(raw), "B") if "[" not in kind else "B"
    plan = make_plan(CONNECTION, [TagSpec("d.t", f"DB1.DB{letter}0:{kind}")], Mode.CYCLIC)
    sheet = Sheet(plan.rows)
    plan.cut(480).decoder.fill(sheet, np.frombuffer(raw, np.uint8))
    return sheet.batch().row(0)


def encoded(kind: str, value: Scalar) -> bytes:
    size = {"INT": "W", "DATE": "W", "S5TIME": "W", "REAL": "D", "TIME": "D", "TOD": "D"}
    letter = "X" if kind == "BOOL" else size.get(kind, "B")
    bit = ".0" if kind == "BOOL" else ""
    return encode(parse(TagSpec("d.t", f"DB1.DB{letter}0{bit}:{kind}")), value, "utf-8")


HEAD = "32030000002a00020030" + "0000"


def test_each_item_has_its_own_code() -> None:
    answer = bytes.fromhex(
        HEAD + "0403" + "ff040018" + "010203" + "00" + "0a000000" + "ff040008" + "07"
    )
    first, second, third = decode_read([block(3), block(9), block(1)], answer)
    assert isinstance(first, np.ndarray)
    assert first.tobytes() == b"\1\2\3"
    assert second == Refusal(0x0A)
    assert isinstance(third, np.ndarray)
    assert third.tobytes() == b"\7"


def test_an_error_of_the_whole_answer_is_everyones() -> None:
    answer = bytes.fromhex("32030000002a00000000" + "8500")
    assert decode_read([block(1), block(2)], answer) == [Refusal(0x8500)] * 2
    assert decode_written(answer) == Refusal(0x8500)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "32",
        "33030000002a000200100000",
        "32010000002a000200100000",
        HEAD + "0501" + "ff040008" + "07",
        HEAD + "0402" + "ff040008" + "07",
        HEAD + "0401" + "ff040010" + "0708",
        HEAD + "0401" + "ff04",
        HEAD + "0401" + "ff040008",
    ],
)
def test_what_is_no_answer_is_said_to_be_none(answer: str) -> None:
    with pytest.raises(ValueError, match=r"S7|answer|asked"):
        decode_read([block(1)], bytes.fromhex(answer))


@FEW
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_an_answer_or_a_value_error(noise: bytes, headed: bool) -> None:  # noqa: FBT001  # drawn
    answer = bytes.fromhex(HEAD + "0402") + noise if headed else noise
    try:
        items = decode_read([block(2), block(3)], answer)
    except ValueError:
        return
    assert [isinstance(i, Refusal) or len(i) == n for i, n in zip(items, (2, 3), strict=True)]


def test_set_up_and_sequence() -> None:
    answer = bytes.fromhex("32030000002a00080000" + "0000" + "f000000100010" + "1e0")
    assert decode_set_up(answer) == 480
    assert sequence_of(answer) == 0x2A
    request = S7Protocol().build_multi_read_request([(0x84, 1, 0, 4)])
    again = with_sequence(request, 0xBEEF)
    assert again[4:6].hex() == "beef"
    assert again[:4] + again[6:] == request[:4] + request[6:]


def test_codes_say_what_to_do() -> None:
    assert "Optimized block access" in explain(0x05)
    assert "Optimized block access" in explain(0x0A)
    assert "PUT/GET" in explain(0x03)
    assert explain(0xEE) == ""
    assert Refusal(0x0A).quality == Quality.BAD_NODE_ID_UNKNOWN


@pytest.mark.parametrize(
    ("kind", "raw", "code"),
    [
        ("DTL", bytes(12), Code.OUT_OF_RANGE),  # never set
        ("DTL", bytes.fromhex("07ea021d07173b3b00000000"), Code.OUT_OF_RANGE),  # 29 February 2026
        ("DTL", bytes.fromhex("07ea0d0107173b3b00000000"), Code.OUT_OF_RANGE),  # month 13
        ("DTL", bytes.fromhex("07ea010107183b3b00000000"), Code.OUT_OF_RANGE),  # hour 24
        ("DTL", bytes.fromhex("07ea0101070000003b9aca00"), Code.OUT_OF_RANGE),  # a second of ns
        ("DTL", bytes.fromhex("08d7010107000000" + "00000000"), Code.OUT_OF_RANGE),  # 2263
        ("DTL", bytes.fromhex("07b10101070000000" + "0000000"), Code.OUT_OF_RANGE),  # 1969
        ("DT", bytes(8), Code.OUT_OF_RANGE),
        ("DT", bytes.fromhex("2a01010000000000"), Code.UNDECODABLE),
        ("S5TIME", bytes.fromhex("0a00"), Code.UNDECODABLE),
        ("S5TIME", bytes.fromhex("00a0"), Code.UNDECODABLE),
        ("TOD", (86_400_000).to_bytes(4, "big"), Code.OUT_OF_RANGE),
        ("LTOD", DAY_NS.to_bytes(8, "big"), Code.OUT_OF_RANGE),
        ("LDT", b"\xff" * 8, Code.OUT_OF_RANGE),
        ("STRING[4]", b"\x04\x05abcd", Code.UNDECODABLE),
        ("STRING[4]", b"\xff\x05abcd", Code.UNDECODABLE),
        ("WSTRING[2]", b"\x00\x02\x00\x03\0a\0b", Code.UNDECODABLE),
    ],
)
def test_what_is_no_value_is_bad_with_a_reason(kind: str, raw: bytes, code: Code) -> None:
    row = row_of(kind, raw)
    assert (row.value, row.code) == (None, code)
    assert row.quality >= Quality.BAD


def test_a_text_is_cut_at_its_own_length() -> None:
    assert row_of("STRING[8]", b"\x08\x03abcdefgh").value == "abc"
    assert row_of("STRING[8]", bytes(10)).value == ""


@FEW
@given(st.datetimes(EPOCH, EPOCH.replace(year=2262, month=4)), st.integers(0, 999))
def test_dtl_round_trips(moment: dt.datetime, ns: int) -> None:
    value = (moment - EPOCH) // dt.timedelta(microseconds=1) * 1000 + ns
    assert row_of("DTL", encoded("DTL", value)).value == value


@FEW
@given(st.datetimes(EPOCH.replace(year=1990), EPOCH.replace(year=2089, month=12)))
def test_dt_round_trips_in_milliseconds(moment: dt.datetime) -> None:
    value = (moment - EPOCH) // dt.timedelta(milliseconds=1) * 1_000_000
    assert row_of("DT", encoded("DT", value)).value == value


@FEW
@given(st.integers(0, 999), st.sampled_from([10, 100, 1_000, 10_000]))
def test_s5time_round_trips(count: int, base_ms: int) -> None:
    value = count * base_ms * 1_000_000
    assert row_of("S5TIME", encoded("S5TIME", value)).value == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT", 32_768),
        ("INT", 1.5),
        ("INT", True),
        ("INT", "1"),
        ("BOOL", 2),
        ("REAL", 1e300),
        ("STRING[2]", "abc"),
        ("STRING[2]", 5),
        ("WSTRING[2]", "abc"),
        ("DT", 0),
        ("DTL", 2**80),
        ("S5TIME", 10_000_000_000_000),
        ("S5TIME", -1),
        ("TOD", DAY_NS),
        ("LTOD", -1),
        ("DATE", 0),
        ("TIME", 2**80),
        ("LTIME", 1.0),
    ],
)
def test_what_does_not_fit_is_not_written(kind: str, value: Scalar) -> None:
    with pytest.raises(Unfit):
        encoded(kind, value)
