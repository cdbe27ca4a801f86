"""Tag versions: their ids, and which agents use them.

Rule 1: a version that nobody declared is opened as a stub; it is never a reason to reject.
Rule 2: what is remembered here is only ever a copy of the table; a new connection forgets it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cloud.copying import TagMap
from cloud.db import AsyncConnection
from protocols.events import from_us
from protocols.samples import Tag

TAGS_KEPT_MAX: Final = 1_000_000
MAPS_KEPT: Final = 256
USE_EVERY_US: Final = 60_000_000  # how exactly first and last use are known

SitedTags: TypeAlias = tuple[int, Sequence[Tag]]


class TagBook:
    """Ids of the tag versions seen here."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int, Tag], int] = {}
        self._maps: OrderedDict[tuple[int, int], tuple[Sequence[Tag], TagMap]] = OrderedDict()

    def clear(self) -> None:
        self._ids.clear()
        self._maps.clear()

    def tag_id(self, site_id: int, tag: Tag) -> int:
        return self._ids[site_id, tag]

    def map_of(self, site_id: int, tags: Sequence[Tag]) -> TagMap:
        """Of a frame's dictionary. Remembered by identity: the decoder repeats its dictionaries."""
        key = site_id, id(tags)
        found = self._maps.get(key)
        if found is not None:
            self._maps.move_to_end(key)
            return found[1]
        made = TagMap.of(tags, (self._ids[site_id, tag] for tag in tags))
        self._maps[key] = tags, made  # holding the tuple keeps its identity its own
        if len(self._maps) > MAPS_KEPT:
            self._maps.popitem(last=False)
        return made

    async def learn(self, connection: AsyncConnection, wanted: Iterable[SitedTags]) -> None:
        """Open what is missing and know all of these."""
        given = list(wanted)
        missing = self._missing(given)
        if not missing:
            return
        if len(self._ids) + len(missing) > TAGS_KEPT_MAX:
            self.clear()
            missing = self._missing(given)
        columns = [
            [site_id for site_id, _ in missing],
            [tag.path for _, tag in missing],
            [tag.type.value for _, tag in missing],
        ]
        await connection.execute(
            "insert into tag (site_id, path, type)"
            " select * from unnest(%s::int4[], %s::text[], %s::text[])"
            " on conflict do nothing",
            columns,
        )
        cursor = await connection.execute(
            "select w.at, t.tag from tag t join unnest(%s::int4[], %s::text[], %s::text[])"
            " with ordinality as w (site_id, path, type, at) using (site_id, path, type)",
            columns,
        )
        for at, tag_id in await cursor.fetchall():
            self._ids[missing[at - 1]] = tag_id

    def _missing(self, wanted: Iterable[SitedTags]) -> list[tuple[int, Tag]]:
        return sorted(
            {
                (site_id, tag)
                for site_id, tags in wanted
                if (site_id, id(tags)) not in self._maps
                for tag in tags
                if (site_id, tag) not in self._ids
            }
        )


class UseBook:
    """Who used which tag version when, by tag id; written at most once a minute and tag."""

    def __init__(self) -> None:
        self._size = 0
        self.clear()

    def clear(self) -> None:
        self._user = np.zeros(self._size, np.int32)
        self._first = np.zeros(self._size, np.int64)
        self._last = np.zeros(self._size, np.int64)

    def unwritten(
        self, agent_id: int, ids: NDArray[np.int32], span_us: tuple[int, int]
    ) -> NDArray[np.int32]:
        """Ids whose use the table does not know well enough; from now on they count as written."""
        self._grow(int(ids.max(initial=0)) + 1)
        first, last = span_us
        news = (
            (self._user[ids] != agent_id)
            | (self._first[ids] - first > USE_EVERY_US)
            | (last - self._last[ids] > USE_EVERY_US)
        )
        found: NDArray[np.int32] = ids[news]
        same = self._user[found] == agent_id
        self._first[found] = np.where(same, np.minimum(self._first[found], first), first)
        self._last[found] = np.where(same, np.maximum(self._last[found], last), last)
        self._user[found] = agent_id
        return found

    def _grow(self, size: int) -> None:
        if size <= self._size:
            return
        more = max(size, 2 * self._size) - self._size
        self._user = np.concatenate([self._user, np.zeros(more, np.int32)])
        self._first = np.concatenate([self._first, np.zeros(more, np.int64)])
        self._last = np.concatenate([self._last, np.zeros(more, np.int64)])
        self._size += more


async def write_use(
    connection: AsyncConnection, agent_id: int, ids: NDArray[np.int32], span_us: tuple[int, int]
) -> Mapping[str, str]:
    """Extend first and last use. Returns path → other agent, where two use it at the same time."""
    tags = sorted(ids.tolist())
    await connection.execute(
        "insert into tag_user (tag, agent_id, first_at, last_at)"
        " select tag, %s, %s, %s from unnest(%s::int4[]) as tag"
        " on conflict (tag, agent_id) do update"
        " set first_at = least(tag_user.first_at, excluded.first_at),"
        " last_at = greatest(tag_user.last_at, excluded.last_at)",
        [agent_id, *map(from_us, span_us), tags],
    )
    cursor = await connection.execute(
        "select t.path, a.name from tag_user mine join tag t using (tag)"
        " join tag_user other on other.tag = mine.tag and other.agent_id <> mine.agent_id"
        " join agent a on a.agent_id = other.agent_id"
        " where mine.agent_id = %s and mine.tag = any(%s)"
        " and other.last_at > mine.first_at and mine.last_at > other.first_at",
        [agent_id, tags],
    )
    return dict(await cursor.fetchall())
