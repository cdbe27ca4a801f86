"""The projector, the load and a rebuild on TimescaleDB in WebAssembly: the same view."""

import pytest

from cloud.db import connect_async
from cloud.load import Line, Speaker, Status, take
from cloud.projection.holders import Discipline
from cloud.projection.masters import Masters
from cloud.projection.whole import project
from cloud.rebuild import rebuild
from tests.support.trace import keyed
from tests.support.trace_database import (
    NOW,
    migrate_database,
    read_view,
    record,
    work_off_all,
)
from tests.support.trace_worlds import world

pytestmark = pytest.mark.integration


async def test_the_view_is_that_of_the_whole_set(pglite: str) -> None:
    migrate_database(pglite)
    events = world(4, most=60)
    connection = await connect_async(pglite, application="test")
    try:
        fifo = Line(1, {"kind": "holder", "holder": "magazine", "discipline": "fifo"})
        (answer,) = await take(connection, [fifo], Speaker(), NOW)
        assert answer.status is Status.OK
        await record(connection, *events)
        await work_off_all(connection)
        whole = keyed(project(events, Masters({"magazine": Discipline.FIFO})))
        assert await read_view(connection) == whole
    finally:
        await connection.close()
    done = await rebuild(pglite, lambda _taken, _waiting: None)
    assert (done.events, done.differences) == (len(events), ())
