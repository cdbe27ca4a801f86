"""Dead letters as people handle them: found, read as far as they can be, tried again, dropped."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud.agents import add, release
from cloud.verify.delivery import verify_agent
from protocols.errors import ConfigError
from protocols.events import GapEvent, event_id, from_us, pass_id
from protocols.frames import Frame, Lane
from protocols.notices import Hello, LaneState
from protocols.receipts import Said
from protocols.samples import DataType
from tests.support.frames import AgentVoice, changed, sample
from tests.support.plant_store import Bench
from threadline.cli import app

pytestmark = pytest.mark.integration

T0 = 1_790_000_000_000_000
Run = Callable[..., Any]


@pytest.fixture
def run(store_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command of the group: its code and what it printed."""
    monkeypatch.setenv("THREADLINE_CLOUD_DATABASE", store_dsn)

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["cloud", "dead-letters", *words])
        if isinstance(done.exception, ConfigError):
            return 2, str(done.exception)
        return done.exit_code, done.output

    async def apart(*words: str) -> tuple[int, str]:
        return await asyncio.to_thread(call, *words)

    return apart


async def listed(run: Run, *words: str) -> list[dict[str, Any]]:
    code, said = await run("list", *words, "--output", "json")
    assert code == 0, said
    found: list[dict[str, Any]] = json.loads(said)
    return found


def outside(voice: AgentVoice) -> Frame:
    """An event of a station that the agent may not speak of."""
    count = voice.seqs.get(Lane.EVENTS, 0)
    gone = GapEvent(
        id=event_id(pass_id("berlin", "L9/ST1", "", 1, count), "gap", 0), site="berlin",
        at=from_us(T0), station="L9/ST1", series=1, from_count=count, to_count=count,
    )  # fmt: skip
    return voice.events([gone])


def one_sample(voice: AgentVoice, value: int = 1) -> Frame:
    return voice.samples([sample("d.x", DataType.INT32, T0, value)])


async def say_head(bench: Bench, voice: AgentVoice) -> None:
    """The spool has let go of what it sent."""
    head = voice.seqs[Lane.EVENTS]
    state = LaneState(epoch=voice.epoch, lane=Lane.EVENTS, floor=head + 1, head=head)
    at = from_us(voice.now_us + 1)
    await bench.send(
        voice.hello(Hello(agent=voice.agent, epoch=voice.epoch, at=at, lanes=(state,)))
    )


async def refused(bench: Bench, frame: Frame) -> int:
    """Send it; the number of the letter that it became."""
    await bench.send(frame)
    assert bench.said(frame)[-1][0] is Said.REJECTED
    number: int = bench.one("select max(dead_letter_id) from dead_letter")
    return number


async def test_they_are_found_by_agent_reason_and_time(bench: Bench, run: Run) -> None:
    voice = AgentVoice()
    await refused(bench, outside(voice))
    bench.source.push("turin.oven", "live", b"no frame")
    await bench.until(lambda: bench.one("select count(*) from dead_letter") == 2)
    bench.connection.execute(
        "update dead_letter set last_at = '2026-03-01T12:00Z' where agent = 'turin.oven'"
    )
    assert [one["reason"] for one in await listed(run)] == ["rejected", "unreadable"]
    assert [one["agent"] for one in await listed(run, "--agent", "turin.oven")] == ["turin.oven"]
    assert [one["seq"] for one in await listed(run, "--reason", "rejected")] == [1]
    assert len(await listed(run, "--since", "2026-03-01T12:00")) == 2
    assert len(await listed(run, "--since", "2026-03-01T12:00:01")) == 1
    assert len(await listed(run, "--since", "1h")) == 1
    assert await listed(run, "--agent", "berlin.nobody") == []
    code, said = await run("list")
    assert code == 0
    assert "unreadable" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("list", "--reason", "ugly"), "Known are: unreadable, rejected"),
        (("list", "--since", "yesterday"), "is no duration like 90d"),
        (("show", "77"), "there is no dead letter 77"),
        (("show", "x"), "unable to parse string as an integer"),
        (("retry", "77"), "77: no such dead letter"),
        (("retry",), "give numbers, or --agent, --reason, --since; not both"),
        (("retry", "1", "--agent", "a.b"), "not both"),
        (("drop", "77"), "there is no dead letter 77"),
        (("drop",), "give numbers"),
    ],
)
async def test_what_cannot_be_is_said(run: Run, words: tuple[str, ...], says: str) -> None:
    code, said = await run(*words)
    assert code == 2
    assert says in " ".join(said.replace("│", " ").split())


async def test_filters_that_fit_nothing_say_so(run: Run) -> None:
    assert await run("drop", "--agent", "berlin.nobody") == (
        1,
        "no dead letter is open that fits\n",
    )


async def test_a_letter_is_shown_with_header_and_payload(bench: Bench, run: Run) -> None:
    voice = AgentVoice()
    rows = [sample(f"d.x{n}", DataType.FLOAT64, T0 + n, n / 2) for n in range(30)]
    number = await refused(bench, changed(voice.samples(rows), rows=31))
    code, said = await run("show", str(number))
    assert code == 0
    assert "30 samples, header says 31" in said
    assert "fedcba9876543210" in said
    assert "payload, 30 lines" in said
    assert "2026-09-21T14:13:20.000001Z d.x1 float64 = 0.5 0x00000000" in said
    assert "… 10 more" in said
    found = json.loads((await run("show", str(number), "--output", "json"))[1])
    assert (found["seq"], found["unfolded"]["header"]["rows"]) == (1, 31)
    assert found["unfolded"]["header"]["totals"]["read"] == 30
    assert len(found["unfolded"]["payload"]) == 20


async def test_what_cannot_be_read_is_shown_as_far_as_it_can(bench: Bench, run: Run) -> None:
    torn = changed(one_sample(AgentVoice()), payload=b"\x00 torn", raw_len=6, compressed=False)
    number = await refused(bench, torn)
    code, said = await run("show", str(number))
    assert code == 0
    assert "sealed_at" in said
    assert "cannot be read further" in said
    assert "00 20 74 6f 72 6e" in said
    bench.source.push("berlin.press1", "live", b"\xff" * 100)
    await bench.until(lambda: bench.one("select count(*) from dead_letter") == 2)
    code, said = await run("show", str(number + 1))
    assert code == 0
    assert "header" not in said.splitlines()
    assert "cannot be read further: unreadable header" in said
    assert "ff ff and 36 bytes more" in said


async def test_once_the_cause_is_gone_a_retry_stores_it(bench: Bench, run: Run) -> None:
    voice = AgentVoice()
    number = await refused(bench, outside(voice))
    assert (await run("retry", str(number)))[0] == 1, "the cause is still there"
    assert bench.rows("select seen, settled from dead_letter") == [(2, None)], "it is counted"
    await say_head(bench, voice)
    assert verify_agent(bench.connection, voice.agent).frames_rejected == 1
    add(bench.connection, voice.agent, ["L1/**", "L9/**"])
    code, said = await run("retry", str(number), "--output", "json")
    assert (code, json.loads(said)) == (
        0, [{"dead_letter_id": number, "fate": "stored", "detail": ""}],
    )  # fmt: skip
    assert bench.rows("select kind, epoch = (select epoch from lane), lane, seq from event") == [
        ("gap", True, 1, 1)
    ], "under the identity that it always had"
    assert await listed(run) == []
    assert [one["settled"] for one in await listed(run, "--all")] == ["stored"]
    assert verify_agent(bench.connection, voice.agent).frames_rejected == 0
    assert await run("retry", str(number)) == (0, f"{number}: stored before\n")
    assert bench.one("select count(*) from event") == 1


async def test_all_that_fit_are_tried_each_for_itself(bench: Bench, run: Run) -> None:
    voice = AgentVoice()
    numbers = [await refused(bench, outside(voice)) for _ in range(3)]
    torn = changed(one_sample(AgentVoice(epoch=5)), payload=b"x", raw_len=1, compressed=False)
    bad = await refused(bench, torn)
    add(bench.connection, voice.agent, ["**"])
    code, said = await run("retry", "--agent", voice.agent)
    assert code == 1
    assert [line.split(",")[0] for line in said.splitlines()] == [
        *(f"{number}: stored" for number in numbers), f"{bad}: refused again",
    ]  # fmt: skip
    assert bench.one("select count(*) from event") == 3


async def test_a_retry_meets_the_ledger_as_any_frame_does(bench: Bench, run: Run) -> None:
    first, other = one_sample(AgentVoice(), 1), one_sample(AgentVoice(), 2)
    await bench.send(first)
    await bench.send(other)
    number = bench.one("select dead_letter_id from dead_letter where reason = 'forked'")
    assert await run("retry", str(number)) == (
        1, f"{number}: refused again, forked: another frame of this identity is stored\n",
    )  # fmt: skip
    bench.connection.execute("insert into ledger_range select lane_id, 1, 1 from lane")
    bench.connection.execute("delete from ledger")
    code, said = await run("retry", str(number))
    assert (code, said) == (
        1, f"{number}: refused again, compacted: a frame of this seq was taken long ago\n",
    )  # fmt: skip
    assert bench.one("select count(*) from sample") == 1


async def test_a_foreign_identity_stays_foreign(bench: Bench, run: Run) -> None:
    frame = one_sample(AgentVoice("berlin.press2"))
    await bench.send(frame, agent="berlin.press1")
    number = bench.one("select dead_letter_id from dead_letter")
    code, said = await run("retry", str(number))
    assert code == 1
    assert "frame of 'berlin.press2' on the topic of 'berlin.press1'" in said


async def test_a_frame_on_the_wrong_topic_stays_on_it(bench: Bench, run: Run) -> None:
    frame = one_sample(AgentVoice())
    bench.source.push("berlin.press1", "backlog", frame.sealed)
    await bench.until(lambda: bench.said(frame) != [])
    code, said = await run("retry", str(bench.one("select dead_letter_id from dead_letter")))
    assert code == 1
    assert "lane LIVE on the topic 'backlog'" in said


async def test_an_agent_that_is_set_aside_has_to_wait(bench: Bench, run: Run) -> None:
    number = await refused(bench, outside(AgentVoice()))
    bench.connection.execute("update agent set set_aside_at = now(), scope = '{**}'")
    assert await run("retry", str(number)) == (1, f"{number}: later, set_aside\n")
    release(bench.connection, "berlin.press1")
    assert await run("retry", str(number)) == (0, f"{number}: stored\n")


async def test_what_was_dropped_is_gone_and_stays_rejected(bench: Bench, run: Run) -> None:
    voice = AgentVoice()
    frame = outside(voice)
    number = await refused(bench, frame)
    assert await run("drop", str(number)) == (0, f"{number}: dropped\n")
    assert bench.rows("select length(data), settled, reason from dead_letter") == [
        (0, "dropped", "rejected")
    ]
    assert await run("drop", str(number)) == (1, f"{number}: was dropped before\n")
    assert await run("retry", str(number)) == (
        1, f"{number}: its bytes are gone, somebody dropped them\n",
    )  # fmt: skip
    assert "its bytes were dropped" in (await run("show", str(number)))[1]
    assert await listed(run) == []
    await say_head(bench, voice)
    assert verify_agent(bench.connection, voice.agent).frames_rejected == 1
    await bench.send(frame)
    assert [(one["seen"], one["size"] > 0) for one in await listed(run)] == [(2, True)], "anew"


async def test_dropped_ones_make_room_for_others(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.dead_letters.LETTERS_OF_AGENT_MAX", 2)
    voice = AgentVoice()
    for _ in range(3):
        await bench.send(outside(voice))
    assert [one["seq"] for one in await listed(run)] == [2, 1]
    await run("drop", "--agent", voice.agent)
    await bench.send(outside(voice))
    assert [one["seq"] for one in await listed(run)] == [4]
