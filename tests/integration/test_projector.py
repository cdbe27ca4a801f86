"""The projector on a real PostgreSQL: the same view as of the whole set, kept while it runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from cloud import projector as projector_module
from cloud.clock import Clock
from cloud.db import AsyncConnection, connect_async
from cloud.metrics import ProjectorMetrics
from cloud.projection.holders import Discipline
from cloud.projection.masters import Masters
from cloud.projection.rows import VIEW, PassItemRow
from cloud.projection.upkeep.advance import advance
from cloud.projection.whole import project
from cloud.projection.workspace import Workspace
from cloud.projector import Projector, read_lag, work_off
from tests.support.trace import Keyed, event, holder, keyed, lot, name, pid, work
from tests.support.trace_database import (
    migrated_database,
    one,
    read_view,
    record,
    until_position,
    work_off_all,
)
from tests.support.trace_worlds import world
from threadline.postgres import Postgres

pytestmark = pytest.mark.integration

FIFO = Masters(disciplines={"magazine": Discipline.FIFO})
FED = [("feeder/F", "1")]


@pytest.fixture
def dsn(postgres_server: Postgres) -> Iterator[str]:
    with migrated_database(postgres_server) as made:
        yield made


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[AsyncConnection]:
    opened = await connect_async(dsn, application="test")
    yield opened
    await opened.close()


@pytest.mark.parametrize("seed", range(15))
async def test_the_view_is_that_of_the_whole_set(
    connection: AsyncConnection, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random worlds in random orders, recorded and worked off in random pieces."""
    few = partial(Workspace, few=seed % 3)  # every name is a busy one soon
    monkeypatch.setattr(projector_module, "Workspace", few)
    random = Random(seed)  # noqa: S311 - an order, not a secret
    events = world(seed, most=40)
    random.shuffle(events)
    await declare_fifo(connection)
    left = list(events)
    while left:
        size = random.randint(1, 12)
        await record(connection, *left[:size])
        del left[:size]
        await work_off(connection, random.choice([1, 3, 200]))
    await work_off_all(connection)
    assert await read_view(connection) == keyed(project(events, FIFO))
    for seq in random.sample(range(1, len(events) + 1), min(5, len(events))):
        known = await read_view(connection, known_at=seq)
        assert known == versioned(keyed(project(events[:seq], FIFO)))


async def test_the_projector_follows_at_once(dsn: str, connection: AsyncConnection) -> None:
    async with running(dsn):
        await record(connection, event("m", "move", 0, what=lot("L"), to=holder("feeder/F")))
        await until_position(connection, 1)
        delays = []
        for n in range(40):
            made = work(f"p{n}", n, n, name(f"U{n}"), feeds=FED)
            started_s = asyncio.get_running_loop().time()
            await record(connection, made)
            await until_position(connection, n + 2)
            delays.append(asyncio.get_running_loop().time() - started_s)
    assert sorted(delays)[len(delays) // 2] < 0.2


async def test_two_projectors_take_turns(dsn: str, connection: AsyncConnection) -> None:
    events = world(3, most=60)
    async with running(dsn), running(dsn):
        for made in events:
            await record(connection, made)
        await until_position(connection, len(events))
    assert await read_view(connection) == keyed(project(events, Masters()))


async def test_what_a_dead_projector_had_not_committed_is_worked_off_again(
    connection: AsyncConnection,
) -> None:
    events = world(11, most=60)
    await record(connection, *events)
    await work_off(connection, 3)

    async def die_in_a_batch() -> None:
        async with connection.transaction():
            await work_off(connection, 5)
            raise _Killed

    with pytest.raises(_Killed):
        await die_in_a_batch()
    assert await one(connection, "select position from projection") == 3
    await work_off_all(connection)
    assert await read_view(connection) == keyed(project(events, Masters()))


async def test_an_event_that_a_bug_keeps_out_is_named_and_the_others_go_on(
    connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = work("bad", 2, 2, name("B"))
    events = [work("p", 1, 1, name("A")), bad, work("q", 3, 3, name("C"))]

    async def stumble(ws: object, made: object, *rest: object) -> None:
        if made == bad:
            raise ZeroDivisionError("a bug")
        await advance(ws, made, *rest)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(projector_module, "advance", stumble)
    await record(connection, *events)
    worked = await work_off(connection)
    assert (worked.events, worked.skipped, worked.position) == (2, 1, 3)
    assert await one(connection, "select event from projection_skipped") == bad.id
    good = [made for made in events if made != bad]
    assert await read_view(connection) == keyed(project(good, Masters()))


async def test_a_bug_in_everything_stands_still_instead_of_skipping_all(
    connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(projector_module, "advance", stumble)
    await record(connection, *(work(f"p{n}", n, n, name(f"U{n}")) for n in range(60)))
    with pytest.raises(ZeroDivisionError):
        await work_off(connection)
    assert await one(connection, "select count(*) from projection_skipped") <= 20


async def test_new_masters_come_in_where_nothing_was_made_with_old_ones(
    connection: AsyncConnection,
) -> None:
    first = work("p", 1, 1, name("A"), feeds=[("magazine/OLD", "1")])
    await record(connection, first)
    assert not (await work_off(connection)).masters_pending
    await connection.execute(
        "insert into holder (holder, valid_from, discipline)"
        " values ('magazine/OLD', now(), 'fifo'), ('magazine/NEW', now(), 'fifo')"
    )
    put = event("m", "move", 2, what=lot("L"), to=holder("magazine/NEW"), qty={"value": "1"})
    events = [
        put,
        work("q", 2, 3, name("B"), feeds=[("magazine/NEW", "1")]),
        work("r", 3, 4, name("C"), feeds=[("magazine/NEW", "1")]),
    ]
    await record(connection, *events)
    assert (await work_off(connection)).masters_pending
    masters = Masters(disciplines={"magazine/NEW": Discipline.FIFO})
    assert await read_view(connection) == keyed(project([first, *events], masters))


async def test_odd_names_are_kept_as_they_are(connection: AsyncConnection) -> None:
    values = ["x" * 2048, "€" * 2048, 'a"b\\c\n\td', "'; drop table item; --", "\x1f", "{NULL}", ""]
    events = [
        work(f"p{n}", n, n, name(value), feeds=[("feeder/" + value[:2000], "1e50")])
        for n, value in enumerate(values[:-1])
    ]
    await record(connection, *events)
    await work_off(connection)
    assert await one(connection, "select count(*) from projection_skipped") == 0
    assert await read_view(connection) == keyed(project(events, Masters()))


async def test_the_balance_follows_the_counter_from_shift_to_shift(
    connection: AsyncConnection,
) -> None:
    gap = {"station": "L1/ST010", "series": "0000000000000007", "from_count": 4, "to_count": 5}
    day = 24 * 60
    await record(
        connection,
        *(work(f"p{n}", n, n, name(f"U{n}")) for n in (1, 2, 3)),
        event("g", "gap", day, **gap),
        work("p6", 6, day + 5, name("U6")),
        work("p8", 8, day + 6, name("U8")),
    )
    await work_off(connection)
    cursor = await connection.execute(
        "select counted, passes, gaps from balance order by shift_from"
    )
    assert [tuple(map(int, row)) for row in await cursor.fetchall()] == [(3, 3, 0), (5, 2, 2)]


async def test_attempts_are_told_by_order(connection: AsyncConnection) -> None:
    events = [
        work("late", 9, 30, name("A"), verdict="pass"),
        work("early", 8, 10, name("A"), verdict="fail"),
        work("other", 7, 20, name("A"), station="L1/ST020"),
    ]
    await record(connection, *events)
    await work_off(connection)
    cursor = await connection.execute("select pass_id, attempt, verdict from attempt")
    assert set(await cursor.fetchall()) == {
        (pid(8), 1, "fail"),
        (pid(9), 2, "pass"),
        (pid(7, station="L1/ST020"), 1, "pass"),
    }


async def test_what_one_pass_costs_does_not_grow_with_history(connection: AsyncConnection) -> None:
    await record(connection, event("m", "move", 0, what=lot("L"), to=holder("feeder/F")))
    await work_off(connection)
    cost = []
    for n in range(1, 120):
        await record(connection, work(f"p{n}", n, n, name(f"U{n}"), feeds=FED))
        cost.append((await work_off(connection)).rows_read)
    assert max(cost[-20:]) <= max(cost[:20])
    assert await one(connection, "select count(*) from pass_item") == 119


async def test_the_lag_is_told(connection: AsyncConnection) -> None:
    assert (await read_lag(connection, 0)).events == 0
    await record(connection, work("p", 1, 1, name("A")))
    lag = await read_lag(connection, 0)
    assert lag.events == 1
    assert 0 <= lag.age_s < 60


class _Killed(Exception):
    pass


class running:  # noqa: N801 - reads as a word
    """A projector for the time of a block."""

    def __init__(self, dsn: str) -> None:
        metrics = ProjectorMetrics(CollectorRegistry())
        self._projector = Projector(dsn, Clock(), metrics)
        self._tasks = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        await self._tasks.__aenter__()
        self._task = self._tasks.create_task(self._projector.run())

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._tasks.__aexit__(None, None, None)


async def declare_fifo(connection: AsyncConnection) -> None:
    await connection.execute(
        "insert into holder (holder, valid_from, discipline) values ('magazine', now(), 'fifo')"
    )


def versioned(rows: Keyed) -> Keyed:
    kinds = {kind.TABLE.name for kind in VIEW if kind.TABLE.known}
    assert PassItemRow.TABLE.name in kinds
    return {key: row for key, row in rows.items() if key[0] in kinds}
