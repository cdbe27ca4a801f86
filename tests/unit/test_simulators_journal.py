"""The journal reads back what was written, and only what was sent is a response."""

import asyncio
import io
import json
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simulators import journal as records
from simulators.clock import Clock
from simulators.datablocks import BlockImage
from simulators.journal import Journal, Moment, parse_lines, response_head
from simulators.modbuswire import Reading, answer, pack_bits, unpack_bits
from simulators.nodes import fragment_of
from simulators.outgoing import MOST_UNSENT_BYTES, Outgoing
from simulators.plan import Scan
from simulators.registers import RegisterImage
from simulators.s7wire import Block
from simulators.s7wire import answer as s7_answer
from simulators.signals import AnalogSignals
from simulators.tags import Kind, Tag


def journal_and_sink() -> tuple[Journal, io.StringIO]:
    sink = io.StringIO()
    return Journal(Clock(mono_us=lambda: 7, utc_us=lambda: 8), sink), sink


def read_back(journal: Journal, sink: io.StringIO) -> list[records.Record]:
    journal.flush()
    return list(parse_lines(io.StringIO(sink.getvalue())))


def test_every_kind_of_record_reads_back() -> None:
    journal, sink = journal_and_sink()
    head = response_head("c", 1, 2, 3, 4)
    journal.start("plant1", "L1", 5)
    journal.response(head, '"unit":1,"function":3,"start":9,"count":1,"hex":"00ff"')
    journal.response(head, '"items":[[132,1,0,-1,255,"0102"],[132,2,0,3,10,""]]')
    number = journal.node_set(("d.a", "d.b", "d.c"))
    fields = f'"set":{number},"values":[1.5,null,"x"],"statuses":{{"1":2156658688}}'
    journal.response(head, fields)
    write = records.WriteRecord("c", 1, 2, 3, 4, {"d.t": True}, taken=True)
    journal.write(write)
    item = records.ItemRecord(1, "P#S#V", None, "C0001", "unnamed")
    curve = records.CurveRecord("n", "1", [0.0], [0.5], "ab")
    cycle = records.CycleRecord(
        *("L1/X", "a", 3, 1, Moment(1, 2), Moment(3, 4), "pass", 0, "production", 1, item),
        values={"d.a": 1.5},
        curves=(curve,),
        feeds=({"holder": "feeder/F07", "quantity": 1},),
        components=("P#S2#V",),
        plc_times={"t_end": 5},
    )
    journal.cycle(cycle)
    journal.event(Scan.NO_READ, unit=1)
    assert read_back(journal, sink) == [
        records.StartRecord("plant1", "L1", 5, 7, 8),
        records.ModbusResponse("c", 1, 2, 3, 4, 7, 1, 3, 9, 1, b"\x00\xff"),
        records.S7Response(
            *("c", 1, 2, 3, 4, 7),
            (
                records.S7Item(132, 1, 0, -1, 255, b"\x01\x02"),
                records.S7Item(132, 2, 0, 3, 10, b""),
            ),
        ),
        records.OpcuaResponse(
            *("c", 1, 2, 3, 4, 7, ("d.a", "d.b", "d.c"), (1.5, None, "x")), {"d.b": 2156658688}
        ),
        write,
        cycle,
        records.EventRecord("no_read", Moment(7, 8), {"unit": 1}),
    ]


def test_a_line_cut_by_a_crash_is_left_out() -> None:
    journal, sink = journal_and_sink()
    journal.event("born", unit=1)
    journal.event("born", unit=2)
    journal.flush()
    cut = sink.getvalue()[:-5]
    (kept,) = parse_lines(io.StringIO(cut))
    assert isinstance(kept, records.EventRecord)
    assert kept.fields == {"unit": 1}


@given(st.floats() | st.lists(st.floats()) | st.text() | st.binary() | st.booleans())
def test_any_value_is_json(value: float | list[float] | str | bytes) -> None:
    assert json.loads(fragment_of(value), parse_constant=pytest.fail) is not None


class SlowPeer(asyncio.Transport):
    """A transport whose peer reads when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0
        self.reads = True
        self.aborted = False

    def write(self, data: object) -> None:
        self.unread += 0 if self.reads else len(bytes(data))  # type: ignore[call-overload]  # bytes

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (0, None)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def test_a_response_is_sent_when_the_buffer_has_drained() -> None:
    peer, sent = SlowPeer(), list[int]()
    outgoing = Outgoing(peer)
    outgoing.send(b"x", lambda: sent.append(1))
    peer.reads = False
    outgoing.send(b"x", lambda: sent.append(2))
    outgoing.send(b"x", lambda: sent.append(3))
    assert sent == [1]
    peer.unread = 0
    outgoing.drained()
    assert sent == [1, 2, 3]


def test_what_a_lost_connection_left_was_never_sent() -> None:
    peer, sent = SlowPeer(), list[int]()
    peer.reads = False
    outgoing = Outgoing(peer)
    outgoing.send(b"x", lambda: sent.append(1))
    outgoing.lost()
    outgoing.drained()
    assert sent == []


def test_a_peer_that_never_reads_is_dropped() -> None:
    peer = SlowPeer()
    peer.reads = False
    outgoing = Outgoing(peer)
    for _ in range(MOST_UNSENT_BYTES // 65_536 + 1):
        outgoing.send(bytes(65_536))
    assert peer.aborted


@given(st.lists(st.booleans()))
def test_bits_pack_and_unpack(bits: list[bool]) -> None:
    raw = bytes(bits)
    assert unpack_bits(pack_bits(raw), len(raw)) == raw


@given(st.binary(min_size=1, max_size=253))
@example(b"\x0f\x00\x00\x00\x01")  # to write coils, and none there
def test_any_modbus_request_is_answered(pdu: bytes) -> None:
    image = RegisterImage(1, "ABCD")
    image.place([Tag("a", Kind.BOOL, written=True), Tag("b", Kind.INT32), Tag("c", Kind.UINT16)])
    before = bytes(image.tables["holding"])
    result = answer(image, pdu)
    assert 2 <= len(result.pdu) <= 253
    assert result.pdu[0] & 0x7F == pdu[0] & 0x7F
    assert bytes(image.tables["holding"]) == before, "no tag there may be written"
    if isinstance(result, Reading) and not result.exception:
        assert result.pdu[2:] == result.raw


ITEMS = st.tuples(
    st.sampled_from([1, 2, 4, 8, 0x1C]),
    st.integers(0, 600),
    st.integers(0, 3),
    st.sampled_from([0x84, 0x83]),
    st.integers(0, 200),
)


@given(
    st.sampled_from([0x04, 0x05, 0xF0, 0x1A]),
    st.lists(ITEMS, max_size=25),
    st.binary(max_size=64),
    st.integers(0, 8),
)
def test_any_s7_request_is_answered_or_refused(
    function: int, items: list[tuple[int, int, int, int, int]], data: bytes, cut: int
) -> None:
    image = BlockImage()
    image.place([Tag("ready", Kind.BOOL), Tag("taken", Kind.BOOL, written=True)], 1)
    image.place([Tag("v", Kind.FLOAT64, count=70)], 2)
    asked = b"".join(
        struct.pack(">BBBBHHB", 0x12, 10, 0x10, size, count, block, area) + bit.to_bytes(3, "big")
        for size, count, block, area, bit in items
    )
    parameters = bytes([function, len(items)]) + asked
    head = struct.pack(">BBHHHH", 0x32, 1, 0, 7, len(parameters), len(data))
    request = head + parameters + data
    before = bytes(image.blocks[2]), bytes([image.blocks[1][0] & 0xFD])
    blocks = {number: Block("d", image, number) for number in (1, 2)}
    try:
        result = s7_answer(blocks, request[: len(request) - cut], 240, lambda _: None)
    except ValueError:
        return
    assert len(result.pdu) <= 240
    assert result.pdu[4:6] == b"\0\x07"
    assert (bytes(image.blocks[2]), bytes([image.blocks[1][0] & 0xFD])) == before


def test_signals_depend_on_seed_and_tick_alone() -> None:
    tags = [Tag("f", Kind.FLOAT32), Tag("i", Kind.INT16), Tag("b", Kind.BOOL)]
    one, two = AnalogSignals(1, "d", tags), AnalogSignals(1, "d", tags)
    assert [list(one.at(t)) for t in (5, 900, 2)] == [list(two.at(t)) for t in (5, 900, 2)]
    assert list(one.at(5)) != list(AnalogSignals(2, "d", tags).at(5))
    floats = [dict(one.at(tick))["f"] for tick in range(100)]
    assert len(set(floats)) == 100, "every tick shows another value"
