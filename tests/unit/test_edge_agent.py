"""The agent's life in virtual time: it tells, stops cleanly, and goes on without a device."""

import asyncio
import gc
from pathlib import Path

import pytest

from edge.check import Checked
from edge.status import GroupShown
from tests.support.edge_line import Watching, checked_example, living, watch


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    folder: Path = tmp_path_factory.mktemp("agent")
    return checked_example(folder, "st000", "f07")


async def test_a_stop_says_that_it_was_clean(checked: Checked) -> None:
    async with living(units=1) as run:
        watching = await watch(run, checked, 2.0)
    assert watching.outbox.notices[-1].stopping
    assert watching.outbox.notices[-1].read > 0
    assert watching.outbox.stopped.is_set()
    assert all(handover.synced.is_set() for handover in watching.outbox.handovers)


async def test_i7_once_something_was_let_go_the_next_cycle_reports_every_tag(
    checked: Checked,
) -> None:
    """With a deadband, or with `on: change`, a change that went would stay wrong for hours."""
    async with living(units=1) as run:
        watching = Watching(checked, run.line, None)
        async with asyncio.timeout(600), asyncio.TaskGroup() as tasks:
            tasks.create_task(watching.agent.run())
            await asyncio.sleep(5)
            before = len(watching.outbox.cuts)
            watching.outbox.on_report_all()
            await asyncio.sleep(1)
            after = watching.outbox.cuts[before:]
            watching.agent.stop()
    tags = {
        tag.path for device in checked.plan.devices for g in device.groups for tag in g.plan.tags
    }
    told = [row.path for cut in after for row in cut.samples.rows()]
    reported = sorted(path for path in tags if path in told)
    silent = [path for path in tags if told.count(path) == 1]
    assert reported == sorted(tags)
    assert len(silent) > len(tags) / 2, "once, then only what changes"


async def test_i13_what_was_imported_is_not_collected_while_polling(checked: Checked) -> None:
    """A full collection over all imports takes half an interval."""
    gc.unfreeze()
    async with living(units=1) as run:
        await watch(run, checked, 1.0)
    assert gc.get_freeze_count() > 10_000
    gc.unfreeze()


async def test_the_cloud_is_told_every_minute(checked: Checked) -> None:
    async with living(units=1) as run:
        watching = await watch(run, checked, 65.0)
    assert [notice.stopping for notice in watching.outbox.notices] == [False, True]
    groups = {f"{group.device}/{group.group}" for group in watching.outbox.notices[0].groups}
    assert groups == {"st000/hs", "f07/hs"}


async def test_what_was_read_is_in_the_cuts_or_filtered(checked: Checked) -> None:
    async with living(units=1) as run:
        watching = await watch(run, checked, 5.0)
    shown = watching.agent.status().pipeline
    assert shown.read == sum(group.finished * group.tags for group in groups_of(watching))
    rows = sum(len(cut.samples) for cut in run.cuts)
    assert shown.read == rows + shown.filtered
    assert shown.discarded == shown.overrun_rows == 0


async def test_a_device_that_goes_away_holds_up_no_other(checked: Checked) -> None:
    async with living(units=1) as run:
        watching = Watching(checked, run.line, None)
        async with asyncio.timeout(600), asyncio.TaskGroup() as tasks:
            tasks.create_task(watching.agent.run())
            await asyncio.sleep(5)
            watching.devices["f07"].away = True
            await asyncio.sleep(20)
            status = watching.agent.status()
            watching.agent.stop()
    assert {device.device: device.state for device in status.devices} == {
        "st000": "up",
        "f07": "down",
    }
    (well,) = [group for device in status.devices[:1] for group in device.groups]
    assert (well.overruns, well.down) == (0, 0)
    assert well.finished >= 245


def groups_of(watching: Watching) -> list[GroupShown]:
    return [group for device in watching.agent.status().devices for group in device.groups]
