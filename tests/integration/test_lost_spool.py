"""An agent back without its spool on a real PostgreSQL: told once, and nobody else is accused."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from cloud.ledger import signed
from cloud.verify.delivery import LostSpoolLine, verify_agent
from protocols.events import from_us
from protocols.frames import Frame, Lane
from protocols.notices import Hello, LaneState
from protocols.samples import DataType
from tests.support.compacting import compacted, grow_old
from tests.support.frames import AgentVoice, sample
from tests.support.plant_store import Bench
from threadline.cli import app

pytestmark = pytest.mark.integration

T0 = 1_790_000_000_000_000
SECOND_US = 1_000_000
AGENT = "berlin.press1"
OLD, NEW = 0xFFFF_0000_0000_0001, 0xBBB
METRIC = "threadline_ingest_spools_lost_total"


def sealed(voice: AgentVoice, count: int = 3, *, lane: Lane = Lane.LIVE) -> list[Frame]:
    """A row a second, each in a frame of its own."""
    return [seal(voice, lane) for _ in range(count)]


def seal(voice: AgentVoice, lane: Lane) -> Frame:
    voice.now_us += SECOND_US
    return voice.samples([sample("d.x", DataType.INT32, voice.now_us, 1)], lane=lane)


def hello(voice: AgentVoice, *lanes: LaneState) -> Frame:
    voice.now_us += SECOND_US
    at = from_us(voice.now_us)
    return voice.hello(Hello(agent=voice.agent, epoch=voice.epoch, at=at, lanes=lanes))


def held(voice: AgentVoice, *, lane: Lane = Lane.LIVE, unsent: int = 0) -> LaneState:
    """A lane as the spool names it. `unsent`: frames behind the last that was sent."""
    head = voice.seqs.get(lane, 0)
    return LaneState(epoch=voice.epoch, lane=lane, floor=head + 1, head=head + unsent, rows=unsent)


def back(voice: AgentVoice, epoch: int = NEW, *, after_s: int = 60) -> AgentVoice:
    """The same agent, started again."""
    return AgentVoice(voice.agent, epoch, voice.now_us + after_s * SECOND_US)


def told(bench: Bench) -> Sequence[LostSpoolLine]:
    return verify_agent(bench.connection, AGENT).lost_spools


def assert_nothing_told(bench: Bench) -> None:
    assert bench.one("select count(*) from epoch where lost_after is not null") == 0
    assert bench.one("select count(*) from alarm") == 0
    assert bench.metrics.registry.get_sample_value(METRIC) == 0
    assert told(bench) == ()


async def verify(dsn: str, *words: str) -> tuple[int, str]:
    command = ["verify", AGENT, "--database", dsn, *words]
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    return done.exit_code, done.output


@pytest.fixture
def old() -> AgentVoice:
    return AgentVoice(AGENT, OLD, T0 - 600 * SECOND_US)


async def test_a_lost_spool_is_told_once_and_by_everybody(
    bench: Bench, store_dsn: str, old: AgentVoice
) -> None:
    await bench.send(*sealed(old), *sealed(old, 2, lane=Lane.BACKLOG), hello(old, held(old)))
    lost_after = from_us(old.now_us - SECOND_US)
    new = back(old)
    first = hello(new)
    back_at = from_us(new.now_us)
    with capture_logs() as logs:
        await bench.send(first)
        await bench.send(first, *sealed(new), hello(new, held(new)))
        await bench.until(lambda: any(one["event"] == "spool lost" for one in logs))
    assert [one for one in logs if one["event"] == "spool lost"] == [
        {
            "event": "spool lost", "log_level": "error", "agent": AGENT,
            "lost_after": lost_after.isoformat(), "back_at": back_at.isoformat(),
        }
    ]  # fmt: skip
    assert bench.rows("select epoch, lost_after from epoch order by first_hello_at") == [
        (signed(OLD), None),
        (NEW, lost_after),
    ]
    ((key, severity, at, site, text),) = bench.rows(
        "select key, severity, at, site_id is not null, text from alarm"
    )
    assert (key, severity, at, site) == (f"spool_lost/{AGENT}", "error", back_at, True)
    assert text.startswith(f"{AGENT} came back without its spool: rows read after 20")
    assert bench.metrics.registry.get_sample_value(METRIC) == 1
    code, said = await verify(store_dsn)
    assert (
        f"- came back at {back_at.isoformat()} without its spool: rows read after"
        f" {lost_after.isoformat()} up to then are unknown"
    ) in said.splitlines()
    assert code == 0, "what nobody knows is no number"
    code, said = await verify(store_dsn, "--output", "json")
    found = json.loads(said)
    assert (code, found["holds"]) == (0, True)
    assert found["lost_spools"] == [
        {
            "epoch": f"{NEW:016x}",
            "lost_after": lost_after.isoformat(),
            "back_at": back_at.isoformat(),
        }
    ]


async def test_what_the_lost_spool_had_told_of_is_missing_and_named(
    bench: Bench, old: AgentVoice
) -> None:
    await bench.send(*sealed(old), hello(old, held(old, unsent=2)))
    assert verify_agent(bench.connection, AGENT).frames_waiting == 2
    await bench.send(hello(back(old)))
    found = verify_agent(bench.connection, AGENT)
    assert (found.frames_waiting, found.frames_missing, found.holds) == (0, 2, False)
    assert len(found.lost_spools) == 1


async def test_a_period_that_the_loss_does_not_touch_does_not_tell_of_it(
    bench: Bench, old: AgentVoice
) -> None:
    await bench.send(*sealed(old))
    new = back(old)
    await bench.send(hello(new), *sealed(new))
    ((lost_after, back_at),) = [(one.lost_after, one.back_at) for one in told(bench)]
    some = timedelta(microseconds=1)

    def within(begin: timedelta, end: timedelta) -> int:
        found = verify_agent(bench.connection, AGENT, lost_after + begin, back_at + end)
        return len(found.lost_spools)

    gap = back_at - lost_after
    assert within(some, -some) == 1, "between both"
    assert within(-timedelta(hours=1), -gap + some) == 1
    assert within(-timedelta(hours=1), -gap) == 0
    assert within(gap - some, timedelta(hours=1)) == 1
    assert within(gap, timedelta(hours=1)) == 0


async def test_of_compacted_frames_the_hour_says_up_to_when_they_were_known(
    bench: Bench, store_dsn: str, old: AgentVoice
) -> None:
    """The epoch before last is compacted whole, as nobody names it any more."""
    await bench.send(*sealed(old))
    until = from_us(old.now_us)
    idle = back(old, 0xAAA)
    await bench.send(hello(idle))
    grow_old(bench)
    assert (await compacted(store_dsn)).frames == 3
    assert bench.one("select count(*) from ledger") == 0
    await bench.send(hello(back(idle)))
    assert [(one.epoch, one.lost_after) for one in told(bench)] == [
        (f"{epoch:016x}", until) for epoch in (0xAAA, NEW)
    ]


async def test_a_start_that_nobody_heard_of_hides_no_loss(bench: Bench, old: AgentVoice) -> None:
    """The new spool's first epoch never reached us: to name it is to name no past that we know."""
    await bench.send(*sealed(old))
    unheard = back(old, 0xAAA)
    sealed(unheard)
    new = back(unheard)
    await bench.send(hello(new, held(unheard)))
    assert [one.epoch for one in told(bench)] == [f"{NEW:016x}"]
    await bench.send(hello(back(new, 0xCCC), held(unheard), held(new)))
    assert len(told(bench)) == 1


async def test_frames_of_the_new_epoch_before_its_hello_change_nothing(
    bench: Bench, old: AgentVoice
) -> None:
    await bench.send(*sealed(old))
    until = from_us(old.now_us)
    new = back(old)
    said = hello(new)
    await bench.send(*sealed(new))
    assert told(bench) == ()
    await bench.send(said)
    assert [one.lost_after for one in told(bench)] == [until]


async def test_a_spool_lost_twice_is_told_twice(bench: Bench, old: AgentVoice) -> None:
    await bench.send(*sealed(old))
    new = back(old)
    await bench.send(hello(new), *sealed(new))
    newer = back(new, 0xCCC)
    await bench.send(hello(newer))
    assert [one.epoch for one in told(bench)] == [f"{NEW:016x}", f"{0xCCC:016x}"]
    assert bench.one("select count(distinct id) from alarm") == 2


async def test_another_agents_past_is_nobodys(bench: Bench, old: AgentVoice) -> None:
    await bench.send(*sealed(old))
    await bench.send(hello(AgentVoice("berlin.press2", NEW, old.now_us + SECOND_US)))
    assert_nothing_told(bench)


async def test_a_restart_and_a_fork_name_their_past(bench: Bench, old: AgentVoice) -> None:
    await bench.send(*sealed(old))  # its hello was never heard
    new = back(old)
    await bench.send(hello(new, held(old)), *sealed(new))
    forked = back(new, 0xCCC, after_s=0)
    await bench.send(hello(forked, held(new, unsent=2), held(forked)), *sealed(forked))
    assert_nothing_told(bench)


async def test_a_first_start_and_those_that_died_early_lose_nothing(
    bench: Bench, old: AgentVoice
) -> None:
    await bench.send(hello(old))
    again = back(old)
    await bench.send(hello(again), *sealed(again), hello(again, held(again)))
    assert_nothing_told(bench)


async def test_a_first_hello_that_its_successors_frames_overtook_is_no_loss(
    bench: Bench, old: AgentVoice
) -> None:
    """Topics of a log are read at their own speeds."""
    first = hello(old)
    mine = sealed(old)
    new = back(old)
    second = hello(new, held(old))
    await bench.send(*mine, *sealed(new))
    await bench.send(first)
    await bench.send(second)
    assert_nothing_told(bench)
