"""What ingest refuses, postpones and notices: each case of bad input with its answer."""

import struct
import zlib
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import pytest

from cloud import storing
from cloud.admission import WINDOW_FRAMES
from cloud.agents import add, release
from cloud.db import StoreTrouble, Trouble, connect
from cloud.ledger import signed
from protocols import codec
from protocols.codec import Curve
from protocols.events import (
    NAMESPACE,
    Alarm,
    GapEvent,
    NameEvent,
    NameRef,
    PassEvent,
    PassKey,
    event_hash,
    from_us,
)
from protocols.frames import Frame, Kind, Lane, seal
from protocols.notices import Drop, Hello, LaneState, Outage, Release, Status, TagLine
from protocols.receipts import Said
from protocols.retry import Backoff
from protocols.samples import DataType, Sample
from tests.support.frames import AgentVoice, changed, sample
from tests.support.plant_store import NOW_US, Bench

pytestmark = pytest.mark.integration

T0 = 1_790_000_000_000_000
MINUTE_US = 60_000_000


def one_sample(voice: AgentVoice | None = None, value: int = 1) -> Frame:
    return (voice or AgentVoice()).samples([sample("d.x", DataType.INT32, T0, value)])


def gap(number: int, *, station: str = "L1/ST010", site: str = "berlin") -> GapEvent:
    return GapEvent(
        id=uuid5(NAMESPACE, f"gap {number}"),
        site=site,
        at=from_us(T0),
        station=station,
        series=1,
        from_count=number,
        to_count=number,
    )


def letters(bench: Bench) -> list[tuple[str, str, str]]:
    rows = bench.rows("select agent, reason, detail from dead_letter order by dead_letter_id")
    return [(agent, reason, detail) for agent, reason, detail in rows]


async def test_an_unreadable_header_is_a_dead_letter_without_receipt(bench: Bench) -> None:
    good = one_sample()
    for data in (b"", b"hello", b"TLF" + bytes(60), good.sealed[:-1], good.sealed + b"x"):
        bench.source.push("berlin.press1", "live", data)
    bad_crc = bytearray(good.sealed)
    bad_crc[50] ^= 1
    bench.source.push("berlin.press1", "live", bytes(bad_crc))
    await bench.until(lambda: len(bench.source.acknowledged) == 6)
    assert [reason for _, reason, _ in letters(bench)] == ["unreadable"] * 6
    assert bench.source.answers == []
    await bench.send(good)
    assert bench.said(good) == [(Said.STORED, None)]


async def test_i11_an_undecodable_payload_is_rejected_once_and_counted(bench: Bench) -> None:
    frame = changed(one_sample(), payload=b"no arrow at all", raw_len=15, compressed=False)
    await bench.send(frame)
    await bench.send(frame)
    await bench.send(one_sample(AgentVoice(epoch=5)))
    assert bench.rows("select reason, seen, data from dead_letter") == [
        ("rejected", 2, frame.sealed)
    ]
    assert [kind for kind, _ in bench.said(frame)] == [Said.REJECTED, Said.REJECTED]
    assert bench.one("select count(*) from sample") == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"rows": 2}, "1 samples, header says 2"),
        ({"raw_len": 3}, "raw_len|zstd says"),
        ({"sealed_at": NOW_US + 6 * MINUTE_US}, "sealed_at is 360 s ahead"),
        ({"t_max": 2**63 - 1}, "t_max is"),
        ({"t_min": -(2**63)}, "t_min is before the year 1"),
        ({"floor": 2**64 - 1}, "floor 18446744073709551615"),
        ({"seq": 0}, "seq 0"),
        ({"lane": Lane.BACKLOG}, "lane BACKLOG on the topic"),
        ({"kind": Kind.EVENTS}, "EVENTS in lane LIVE"),
    ],
)
async def test_a_header_that_cannot_be_is_rejected(
    bench: Bench, fields: dict[str, Any], says: str
) -> None:
    frame = changed(one_sample(), **fields)
    bench.source.push("berlin.press1", "live", frame.sealed)
    await bench.until(lambda: len(bench.source.acknowledged) == 1)
    ((kind, reason),) = bench.said(frame)
    assert kind is Said.REJECTED
    assert reason is not None
    assert any(part in reason for part in says.split("|"))
    assert bench.one("select count(*) from ledger") == 0


async def test_a_seq_that_no_receipt_can_name_is_a_dead_letter(bench: Bench) -> None:
    await bench.send(changed(one_sample(), seq=2**64 - 1))
    assert [reason for _, reason, _ in letters(bench)] == ["rejected"]
    assert bench.source.answers == []


async def test_agent_time_ahead_is_refused_and_everything_older_kept(bench: Bench) -> None:
    voice = AgentVoice()
    ahead = NOW_US + 6 * MINUTE_US
    late = voice.samples([sample("d.x", DataType.INT32, ahead, 1)])
    hidden = changed(late, t_min=T0, t_max=T0, seq=2)  # the header says nothing of it
    old = AgentVoice(epoch=2).samples([sample("d.x", DataType.INT32, 0, 1)])
    await bench.send(late, hidden, old)
    assert bench.said(late)[0][0] is Said.REJECTED
    assert bench.said(hidden)[0][0] is Said.REJECTED
    assert bench.said(old) == [(Said.STORED, None)]
    assert bench.one("select extract(year from time)::int from sample") == 1970


async def test_a_device_clock_in_2099_is_refused_as_time_and_kept_as_device_time(
    bench: Bench,
) -> None:
    year_2099 = 4_070_908_800_000_000
    wrong = AgentVoice(epoch=1).samples(
        [Sample("d.x", DataType.INT32, year_2099, 1, 0, None, T0, None)]
    )
    right = AgentVoice(epoch=2).samples(
        [Sample("d.x", DataType.INT32, T0, 1, 0x40000000, None, T0, year_2099)]
    )
    await bench.send(wrong, right)
    assert bench.said(wrong)[0][0] is Said.REJECTED
    assert bench.rows("select extract(year from device_time)::int, quality from sample") == [
        (2099, 0x40000000)
    ]


async def test_a_frame_of_too_many_days_is_rejected(bench: Bench) -> None:
    rows = [sample("d.x", DataType.INT32, T0 - day * 86_400_000_000, 1) for day in range(70)]
    many = AgentVoice(epoch=1).samples(rows)
    some = AgentVoice(epoch=2).samples(rows[:60])
    await bench.send(many, some)
    assert bench.said(many)[0][0] is Said.REJECTED
    assert bench.one("select count(*) from sample") == 60


async def test_a_foreign_identity_is_rejected_to_the_agent_of_the_topic(bench: Bench) -> None:
    frame = one_sample(AgentVoice("turin.oven"))
    await bench.send(frame, agent="berlin.press1")
    assert letters(bench) == [
        ("berlin.press1", "rejected", "frame of 'turin.oven' on the topic of 'berlin.press1'")
    ]
    assert [receipt.agent for receipt in bench.source.answers] == ["berlin.press1"]


async def test_an_unknown_agent_waits_and_is_taken_once_added(bench: Bench, store_dsn: str) -> None:
    frame = one_sample(AgentVoice("berlin.new"))
    await bench.send(frame)
    assert bench.said(frame) == [(Said.LATER, "unknown_agent")]
    assert bench.one("select count(*) from ledger") == 0
    with connect(store_dsn, application="test") as connection:
        add(connection, "berlin.new", ["**"])

    async def taken() -> bool:
        await bench.send(frame)
        return (Said.STORED, None) in bench.said(frame)

    for _ in range(1000):
        if await taken():
            break
    assert bench.said(frame)[-1] == (Said.STORED, None)


@pytest.mark.parametrize(("offset", "value"), [(3, 2), (4, 77), (5, 9)])
async def test_a_newer_version_waits_with_an_alarm(bench: Bench, offset: int, value: int) -> None:
    data = bytearray(one_sample().sealed)
    data[offset] = value  # major, kind, lane
    head_len = struct.unpack_from("<H", data, 8)[0]
    struct.pack_into("<I", data, head_len - 4, zlib.crc32(bytes(data[: head_len - 4])))
    bench.source.push("berlin.press1", "live", bytes(data))
    bench.source.push("berlin.press1", "live", bytes(data))
    await bench.until(lambda: len(bench.source.acknowledged) == 2)
    runs = [run for receipt in bench.source.answers for run in receipt.runs]
    assert {(run.kind, run.reason) for run in runs} == {(Said.LATER, "unknown_version")}
    assert bench.rows("select key, severity from alarm") == [
        ("unknown_version/berlin.press1", "warning")
    ]
    assert bench.one("select count(*) from dead_letter") == 0


async def test_half_of_a_hundred_rejected_sets_the_agent_aside_until_released(
    bench: Bench, store_dsn: str
) -> None:
    voice = AgentVoice()
    bad = [changed(one_sample(voice), rows=9) for _ in range(WINDOW_FRAMES // 2 + 1)]
    await bench.send(*bad)
    good = one_sample(voice)
    await bench.send(good)
    assert bench.said(good) == [(Said.LATER, "set_aside")]
    other = one_sample(AgentVoice("turin.oven", epoch=77))
    await bench.send(other)
    assert bench.said(other) == [(Said.STORED, None)]
    assert bench.one("select count(*) from alarm where key = 'set_aside/berlin.press1'") == 1
    with connect(store_dsn, application="test") as connection:
        assert release(connection, "berlin.press1")
        assert not release(connection, "berlin.press1")
    for _ in range(1000):
        await bench.send(good)
        if bench.said(good)[-1] == (Said.STORED, None):
            break
    assert bench.said(good)[-1] == (Said.STORED, None)


async def test_half_of_a_hundred_is_still_borne(bench: Bench) -> None:
    voice = AgentVoice()
    await bench.send(*[changed(one_sample(voice), rows=9) for _ in range(WINDOW_FRAMES // 2)])
    good = one_sample(voice)
    await bench.send(good)
    assert bench.said(good) == [(Said.STORED, None)]


async def test_text_with_nul_is_rejected_and_as_bytes_kept(bench: Bench) -> None:
    as_bytes = AgentVoice(epoch=1).samples([sample("d.t", DataType.TEXT, T0, b"a\x00b")])
    await bench.send(as_bytes)
    assert bench.rows("select text, bytes from sample") == [(None, b"a\x00b")]
    as_text = AgentVoice(epoch=2).samples([sample("d.t", DataType.TEXT, T0, "a\x00b")])
    await bench.send(as_text)
    assert bench.said(as_text)[0][0] is Said.REJECTED


async def test_events_are_recorded_with_where_they_came_from(bench: Bench) -> None:
    voice = AgentVoice()
    frame = voice.events([gap(1), gap(2)])
    await bench.send(frame)
    rows = bench.rows(
        "select e.id, e.kind, e.site, e.body, e.hash, e.epoch, e.lane, e.seq, l.seq, a.name"
        " from event e join ledger l using (frame) join agent a using (agent_id)"
        " order by recorded_seq"
    )
    for row, event in zip(rows, (gap(1), gap(2)), strict=True):
        assert row[:3] == (event.id, "gap", "berlin")
        assert row[3]["from_count"] == str(event.from_count)
        assert row[4:] == (event_hash(event), signed(voice.epoch), 1, 1, 1, "berlin.press1")


async def test_an_event_again_is_a_repeat_and_with_other_words_a_conflict(bench: Bench) -> None:
    voice = AgentVoice()
    await bench.send(voice.events([gap(1)]))
    later = gap(1).model_copy(update={"seen": from_us(T0 + 5)})  # `seen` is not what it says
    again = voice.events([later, gap(2)])
    other = voice.events([gap(3), gap(1).model_copy(update={"reason": "another"})])
    await bench.send(again, other)
    assert [bench.said(frame) for frame in (again, other)] == [[(Said.STORED, None)]] * 2
    assert bench.one("select count(*) from event") == 3
    assert bench.rows("select reason, data from dead_letter") == [("id_conflict", other.sealed)]
    assert bench.rows("select key, severity from alarm") == [(f"id_conflict/{gap(1).id}", "error")]
    sample_of = bench.metrics.registry.get_sample_value
    assert sample_of("threadline_ingest_events_total", {"outcome": "repeat"}) == 1
    assert sample_of("threadline_ingest_events_total", {"outcome": "conflict"}) == 1


@pytest.mark.parametrize(
    "event",
    [gap(1, station="L2/ST010"), gap(1, site="turin"), gap(1, station="L1")],
    ids=["station", "site", "no line"],
)
async def test_an_event_outside_the_scope_is_rejected(bench: Bench, event: GapEvent) -> None:
    frame = AgentVoice().events([event])
    await bench.send(frame)
    assert bench.said(frame)[0][0] is Said.REJECTED
    assert bench.one("select count(*) from event") == 0


async def test_a_strange_serial_is_stored_as_it_is(bench: Bench) -> None:
    value = "a'b\"c\n\\/ü" + "9" * 1000
    event = NameEvent(
        id=uuid5(NAMESPACE, "x"),
        site="berlin",
        at=from_us(T0),
        names=(NameRef(scheme="serial", value=value),),
    )
    await bench.send(AgentVoice().events([event]))
    assert bench.one("select body->'names'->0->>'value' from event") == value


async def test_a_value_that_only_the_database_refuses_rejects_its_frame_alone(bench: Bench) -> None:
    """Class 22: NUL in a key of a JSON object is no text that jsonb can hold."""
    voice = AgentVoice()
    bad_event = PassEvent(
        id=uuid5(NAMESPACE, "p"),
        site="berlin",
        at=from_us(T0),
        pass_id=uuid5(NAMESPACE, "pass"),
        station="L1/ST010",
        key=PassKey(series=1, count=1),
        seats={"a\x00b": "x"},
    )
    good, bad, also_good = one_sample(voice), voice.events([bad_event]), voice.events([gap(1)])
    await bench.send(good, bad, also_good)
    assert bench.said(good) == [(Said.STORED, None)]
    assert bench.said(also_good) == [(Said.STORED, None)]
    ((kind, reason),) = bench.said(bad)
    assert kind is Said.REJECTED
    assert reason is not None
    assert reason.startswith("22")
    assert [reason for _, reason, _ in letters(bench)] == ["rejected"]
    assert bench.one("select count(*) from ledger") == 2
    assert bench.standing.state == "running"


async def test_declarations_open_versions_and_keep_their_timeline(bench: Bench) -> None:
    voice = AgentVoice()
    since = from_us(T0)
    lines = [
        TagLine(path="d.x", since=since, type=DataType.FLOAT32, unit="N.m", station="L1/ST010"),
        TagLine(path="d.x", since=since + timedelta(hours=1), type=DataType.FLOAT32, unit="kN.m"),
    ]
    await bench.send(voice.samples([sample("d.x", DataType.FLOAT32, T0, 1.0)]))
    await bench.send(voice.notices(Kind.TAGS, lines))
    assert bench.rows(
        "select t.path, t.type, l.unit from tag_line l join tag t using (tag) order by since"
    ) == [("d.x", "float32", "N.m"), ("d.x", "float32", "kN.m")]
    outside = voice.notices(Kind.TAGS, [lines[0].model_copy(update={"station": "L9/ST1"})])
    await bench.send(outside)
    assert bench.said(outside)[0][0] is Said.REJECTED


async def test_stretches_curves_and_alarms_are_kept(bench: Bench) -> None:
    voice = AgentVoice()
    start, end = from_us(T0), from_us(T0 + 1_000_000)
    outage = Outage(from_time=start, to_time=end, reason="restart")
    drop = Drop(
        lane=3, from_time=start, to_time=end, from_seq=2, to_seq=4, epoch=9, reason="full", rows=7
    )
    gone = Release(lane=2, from_time=start, to_time=end, from_seq=1, to_seq=1, reason="full")
    curve = Curve(
        UUID(int=5), "force_way", "a", "mm", ("way", "force"), ("mm", "kN"),
        (np.array([0.0, 0.5, 1.0]), np.array([1.0, np.nan, -3.0])),
    )  # fmt: skip
    alarm = Alarm(
        id=UUID(int=6), key="k" * 2000, state="raised", severity="warning", at=start, text="t",
        source="edge",
    )  # fmt: skip
    await bench.send(
        voice.notices(Kind.OUTAGE, [outage]),
        voice.notices(Kind.DROP, [drop]),
        voice.notices(Kind.RELEASE, [gone]),
        voice.curve(curve),
        voice.curve(curve, lane=Lane.BACKLOG),
        voice.alarms([alarm]),
    )
    query = "select kind, epoch, lane, from_seq, to_seq, rows from stretch order by kind"
    assert bench.rows(query) == [
        ("drop", 9, 3, 2, 4, 7),
        ("outage", signed(voice.epoch), 0, None, None, 0),
        ("release", signed(voice.epoch), 2, 1, 1, 0),
    ]  # fmt: skip
    ((pass_id, sha256, n, columns, data),) = bench.rows(
        "select pass_id, sha256, n, columns, data from curve"
    )
    assert (pass_id, sha256, n, columns) == (
        UUID(int=5), codec.curve_sha256(curve), 3, ["way", "force"],
    )  # fmt: skip
    back = np.frombuffer(data, "<f8").reshape(2, n)
    np.testing.assert_array_equal(back, np.array(curve.data))
    assert bench.rows("select id, agent_id is not null from alarm") == [(UUID(int=6), True)]


async def test_hello_is_always_answered_with_the_state(bench: Bench) -> None:
    voice = AgentVoice()
    await bench.send(one_sample(voice), one_sample(voice))
    lane = LaneState(epoch=voice.epoch, lane=2, floor=1, head=2, rows=0)
    hello = Hello(agent=voice.agent, epoch=voice.epoch, at=from_us(T0), version="1", lanes=(lane,))
    before = len(bench.source.answers)
    await bench.send(voice.hello(hello))
    (receipt,) = bench.source.answers[before:]
    assert receipt.store_id
    assert [(run.kind, run.lane, run.first, run.digests) for run in receipt.runs] == [
        (Said.STATE, 0, 0, ()),
        (Said.STATE, 2, 2, ()),
    ]
    assert bench.rows(
        "select version, identity, epoch from agent where name = 'berlin.press1'"
    ) == [("1", "unproven", signed(voice.epoch))]
    stranger = AgentVoice("berlin.nobody")
    unknown = Hello(agent="berlin.nobody", epoch=stranger.epoch, at=from_us(T0))
    await bench.send(stranger.hello(unknown))
    (run,) = bench.source.answers[-1].runs
    assert (run.kind, run.reason) == (Said.STATE, "unknown_agent")


async def test_the_store_id_changes_when_a_backup_came_back(bench: Bench) -> None:
    voice = AgentVoice()
    hello = Hello(agent=voice.agent, epoch=voice.epoch, at=from_us(T0))
    await bench.send(voice.hello(hello))
    first = bench.source.answers[-1].store_id
    await bench.send(voice.hello(hello))
    assert bench.source.answers[-1].store_id == first
    bench.rows("update store set restored = restored + 1 returning restored")
    await bench.send(voice.hello(hello))
    assert bench.source.answers[-1].store_id != first


async def test_status_is_kept_as_the_latest(bench: Bench) -> None:
    voice = AgentVoice()
    for at, read in ((T0 + 2, 20), (T0 + 1, 10)):
        status = Status(agent=voice.agent, epoch=voice.epoch, at=from_us(at), read=read)
        await bench.send(voice.status(status))
    assert bench.rows("select epoch, read from status") == [(signed(voice.epoch), 20)]


async def test_two_processes_of_one_name_are_noticed(bench: Bench) -> None:
    old, new = AgentVoice(epoch=1), AgentVoice(epoch=2)

    async def says(voice: AgentVoice, at: int, lanes: tuple[LaneState, ...] = ()) -> None:
        hello = Hello(agent=voice.agent, epoch=voice.epoch, at=from_us(at), lanes=lanes)
        await bench.send(voice.hello(hello))

    await bench.send(one_sample(old), one_sample(old))
    await says(old, T0)
    await says(new, T0 + 10, (LaneState(epoch=1, lane=2, floor=1, head=2, rows=0),))
    assert bench.one("select count(*) from alarm") == 0, "a restart alone is no conflict"
    beyond = one_sample(old)
    await bench.until(lambda: True)
    for _ in range(1000):  # until the agents were read again
        await bench.send(beyond)
        beyond = one_sample(old)
        if bench.one("select count(*) from alarm"):
            break
    assert bench.rows("select key from alarm") == [("identity_conflict/berlin.press1",)]
    bench.rows("delete from alarm returning id")
    await says(old, T0 + 20)
    assert bench.rows("select key from alarm") == [("identity_conflict/berlin.press1",)]


async def test_one_path_of_two_agents_is_an_alarm_and_rejects_nothing(bench: Bench) -> None:
    one, two = AgentVoice("berlin.press1"), AgentVoice("berlin.press2")
    frames = [
        voice.samples([sample("shared.x", DataType.INT32, T0 + at, at) for at in span])
        for voice, span in ((one, (0, 50)), (two, (30, 80)))
    ]
    await bench.send(*frames)
    assert [bench.said(frame) for frame in frames] == [[(Said.STORED, None)]] * 2
    assert bench.rows("select key from alarm") == [("path_shared/berlin.press1/berlin.press2",)]


async def test_a_tag_that_moved_to_another_agent_is_no_alarm(bench: Bench) -> None:
    one, two = AgentVoice("berlin.press1"), AgentVoice("berlin.press2")
    await bench.send(
        one.samples([sample("moved.x", DataType.INT32, T0 + at, at) for at in (0, 50)]),
        two.samples([sample("moved.x", DataType.INT32, T0 + at, at) for at in (60, 80)]),
    )
    assert bench.one("select count(*) from alarm") == 0


async def test_i6_a_seq_inside_a_compacted_range_is_refused_with_an_alarm(bench: Bench) -> None:
    voice = AgentVoice()
    first = one_sample(voice)
    await bench.send(first)
    bench.rows(
        "insert into ledger_range (lane_id, seq_from, seq_to)"
        " select lane_id, 2, 9 from lane returning lane_id"
    )
    inside, after = changed(first, seq=5), changed(first, seq=10)
    await bench.send(inside, after)
    assert bench.said(inside) == [(Said.REJECTED, "compacted")]
    assert bench.said(after) == [(Said.STORED, None)]
    assert [reason for _, reason, _ in letters(bench)] == ["compacted"]
    assert bench.rows("select key from alarm") == [("compacted/berlin.press1",)]


async def test_i14_a_bomb_is_refused_before_it_is_unpacked(bench: Bench) -> None:
    raw = bytes(16 * 1024 * 1024)
    packed = codec.compress(raw)
    header = one_sample().header
    frame = seal(
        type(header)(
            Kind.SAMPLES, Lane.LIVE, header.agent, 1, 1, rows=1, sealed_at=T0, t_min=T0, t_max=T0,
            raw_len=1000, compressed=True,
        ),
        packed,
    )  # fmt: skip
    await bench.send(frame)
    assert bench.said(frame)[0][0] is Said.REJECTED


async def test_dead_letters_of_one_agent_are_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.dead_letters.LETTERS_OF_AGENT_MAX", 3)
    for number in range(5):
        bench.source.push("berlin.press1", "live", b"bad %d" % number)
        await bench.until(lambda n=number: len(bench.source.acknowledged) == n + 1)  # type: ignore[misc] # its own number
    bench.source.push("berlin.press1", "live", b"bad 0")
    await bench.until(lambda: len(bench.source.acknowledged) == 6)
    assert bench.rows("select data, seen from dead_letter order by dead_letter_id") == [
        (b"bad 0", 2), (b"bad 1", 1), (b"bad 2", 1),
    ]  # fmt: skip
    value = bench.metrics.registry.get_sample_value
    assert value("threadline_ingest_dead_letters_without_room_total") == 2


async def test_dead_letters_of_strangers_share_one_bound(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.dead_letters.LETTERS_OF_AGENT_MAX", 3)
    for number in range(5):
        bench.source.push(f"stranger.n{number}", "live", b"bad")
    bench.source.push("berlin.press1", "live", b"bad")
    await bench.until(lambda: len(bench.source.acknowledged) == 6)
    assert [agent for agent, _, _ in letters(bench)] == [
        "stranger.n0", "stranger.n1", "stranger.n2", "berlin.press1",
    ]  # fmt: skip


async def test_a_database_in_trouble_does_not_count_a_rejected_frame_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an agent would be set aside because its cloud was away."""
    real = storing.prepare
    failures = iter(range(WINDOW_FRAMES))

    async def prepare(*arguments: Any) -> storing.Prepared:
        if next(failures, None) is not None and next(failures, None) is not None:
            raise StoreTrouble(Trouble.BLOCKED, "for a moment")
        return await real(*arguments)

    monkeypatch.setattr("cloud.ingest.prepare", prepare)
    monkeypatch.setattr(bench.ingest._sessions, "_backoff", Backoff(0.0, 0.0))
    voice = AgentVoice()
    bad = changed(one_sample(voice), rows=9)
    await bench.send(bad)
    good = one_sample(voice)
    await bench.send(good)
    assert bench.said(good) == [(Said.STORED, None)]
