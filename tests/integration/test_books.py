"""What ingest remembers of the database's ids, when there is more of it than it may remember."""

from collections.abc import AsyncIterator

import pytest

from cloud import ledger, tags
from cloud.db import AsyncConnection, connect_async
from cloud.ledger import LaneBook
from cloud.tags import TagBook
from protocols.samples import DataType, Tag

pytestmark = pytest.mark.integration

A, B, C = (Tag(path, DataType.INT32) for path in ("a", "b", "c"))


@pytest.fixture
async def connection(store_dsn: str) -> AsyncIterator[AsyncConnection]:
    made = await connect_async(store_dsn, application="test")
    yield made
    await made.close()


async def number_of(connection: AsyncConnection, query: str) -> int:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_full_book_of_lanes_knows_all_that_is_asked_for(
    connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LANES_KEPT_MAX", 2)
    agent = await number_of(connection, "select min(agent_id) from agent")
    first, second, third = ((agent, 7, lane) for lane in (1, 2, 3))
    book = LaneBook()
    await book.learn(connection, [first, second])
    before = book.lane_id(second)
    await book.learn(connection, [second, third])
    assert book.lane_id(second) == before
    assert book.lane_id(third) not in (0, before)
    with pytest.raises(KeyError):
        book.lane_id(first)


@pytest.mark.parametrize("is_used", [False, True])
async def test_a_full_book_of_tags_knows_all_that_is_asked_for(
    connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch, *, is_used: bool
) -> None:
    """Also of a dictionary that was translated before."""
    monkeypatch.setattr(tags, "TAGS_KEPT_MAX", 2)
    site = await number_of(connection, "select min(site_id) from site")
    book = TagBook()
    both = (A, B)
    await book.learn(connection, [(site, both)])
    before = [book.tag_id(site, tag) for tag in both]
    if is_used:
        book.map_of(site, both)
    await book.learn(connection, [(site, both), (site, (C,))])
    assert book.map_of(site, both).ids.tolist() == before
    assert book.tag_id(site, C) not in before
