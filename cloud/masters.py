"""The masters that the projection depends on, read from their tables."""

import json
from datetime import datetime, time
from typing import Any, Final

from pydantic import TypeAdapter

from cloud.db import AsyncConnection
from cloud.projection.holders import Discipline
from cloud.projection.masters import Masters
from cloud.projection.shifts import Calendar

_MASTERS: Final = TypeAdapter(Masters)


async def read_masters(connection: AsyncConnection) -> Masters:
    """As they stand now. A holder's discipline holds for all its time: the latest record counts."""
    holders = await (await connection.execute(_HOLDERS)).fetchall()
    calendars = await (await connection.execute(_CALENDARS)).fetchall()
    by_site: dict[str, list[Calendar]] = {}
    for site, zone, shifts, valid_from in calendars:
        by_site.setdefault(site, []).append(_calendar(zone, shifts, valid_from))
    return Masters({holder: Discipline(discipline) for holder, discipline in holders}, by_site)


def to_text(masters: Masters) -> str:
    """What the view was made with, as it is kept beside it."""
    return json.dumps(_MASTERS.dump_python(masters, mode="json"), sort_keys=True)


def from_text(text: str) -> Masters:
    return _MASTERS.validate_json(text) if text else Masters()


def _calendar(zone: str, shifts: list[dict[str, Any]], valid_from: datetime) -> Calendar:
    starts = tuple((one["name"], time.fromisoformat(one["start"])) for one in shifts)
    return Calendar(zone, starts, valid_from)


_HOLDERS: Final = "select holder, discipline from holder order by valid_from"
_CALENDARS: Final = "select site, zone, shifts, valid_from from calendar order by site, valid_from"
