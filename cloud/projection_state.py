"""Where the view stands and the masters that it was made with: table `projection`.

Rule 1: masters stay with the view that was made with them. New ones come in where nothing was made
with the old ones yet; all others wait for `threadline cloud rebuild`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from cloud.db import AsyncConnection
from cloud.masters import from_text, read_masters, to_text
from cloud.projection.masters import Masters

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Standing:
    """`position`: recorded_seq worked off. `pending`: there are masters that need a rebuild."""

    position: int
    masters: Masters
    pending: bool


async def read_standing(connection: AsyncConnection) -> Standing:
    """Where the view stands, and the masters that it goes on with."""
    row = await (await connection.execute(_READ)).fetchone()
    if row is None:
        raise LookupError("table projection has lost its only row")
    position, text = row
    made_with, now = from_text(text), await read_masters(connection)
    if position == 0 or to_text(made_with) == to_text(now):
        return Standing(position, now, pending=False)
    adopted = await _adopted(connection, made_with, now)
    return Standing(position, adopted, pending=to_text(adopted) != to_text(now))


async def stand_at(connection: AsyncConnection, position: int, masters: Masters) -> None:
    await connection.execute(_WRITE, [position, to_text(masters)])


async def _adopted(connection: AsyncConnection, made_with: Masters, now: Masters) -> Masters:
    """The new masters of holders and sites that nothing was made with yet."""
    holders = _differing(made_with.disciplines, now.disciplines)
    sites = _differing(made_with.calendars, now.calendars)
    used = await (await connection.execute(_USED_HOLDERS, [list(holders)])).fetchall()
    worked = await (await connection.execute(_USED_SITES, [list(sites)])).fetchall()
    return Masters(
        _with(made_with.disciplines, now.disciplines, holders - {one for (one,) in used}),
        _with(made_with.calendars, now.calendars, sites - {one for (one,) in worked}),
    )


def _differing(old: Mapping[str, T], new: Mapping[str, T]) -> set[str]:
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def _with(old: Mapping[str, T], new: Mapping[str, T], keys: set[str]) -> dict[str, T]:
    kept = {key: value for key, value in old.items() if key not in keys}
    return kept | {key: new[key] for key in keys if key in new}


_READ: Final = "select position, masters from projection"
_WRITE: Final = "update projection set position = %s, masters = %s, at = now()"
_USED_HOLDERS: Final = """
    select asked.holder from unnest(%s::text[]) as asked (holder)
    where exists (
        select from holder_op o
        where (md5(o.holder) = md5(asked.holder) and o.holder = asked.holder)
           or (strpos(asked.holder, '/') = 0 and split_part(o.holder, '/', 1) = asked.holder)
    )
"""
_USED_SITES: Final = """
    select asked.site from unnest(%s::text[]) as asked (site)
    where exists (select from tally t where t.site = asked.site)
"""
