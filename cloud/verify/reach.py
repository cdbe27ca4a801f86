"""Until when everything of an agent is surely stored: events and samples bound each other.

Rule 1: a frame says what was promised with it; the newest of a lane speaks for the whole lane.
Rule 2: where seqs are still waited for, only what was promised before them counts.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from cloud.db import Connection
from cloud.ledger import signed
from cloud.verify.accounts import Fate, Piece
from cloud.verify.delivery import account_of
from protocols.frames import Lane

_LANES: Final = ("events", "live", "backlog")


def surely_until(connection: Connection, agent_id: int) -> datetime | None:
    """No event and no sample of before then is still to come. None: it never sent either."""
    pieces = account_of(connection, agent_id).pieces
    marks = [*_heads(connection, agent_id), *_holes(connection, agent_id, pieces)]
    return min(marks, default=None)


def _heads(connection: Connection, agent_id: int) -> Iterator[datetime]:
    """Of the newest epoch: of its events, and of its samples, whichever lane they took last."""
    for (mark,) in connection.execute(_HEADS, [agent_id]).fetchall():
        yield mark


def _holes(connection: Connection, agent_id: int, pieces: tuple[Piece, ...]) -> Iterator[datetime]:
    for piece in pieces:
        if piece.fate is not Fate.WAITING or piece.lane not in _LANES:
            continue
        where: dict[str, Any] = {
            "agent": agent_id,
            "epoch": signed(int(piece.epoch, 16)),
            "lane": int(Lane[piece.lane.upper()]),
            "seq": piece.first,
        }
        row = connection.execute(_BEFORE, where).fetchone()
        if row is not None and row[0] is not None:
            yield row[0]


_HEADS: Final = """
    select max(mark) from (
        select l.lane, (
            select coalesce(g.watermark, g.t_max) from ledger g where g.lane_id = l.lane_id
            order by g.seq desc limit 1
        ) as mark
        from lane l join agent a using (agent_id)
        where a.agent_id = %s and l.lane in (1, 2, 3) and l.epoch = coalesce(a.epoch, (
            select epoch from lane n where n.agent_id = a.agent_id order by lane_id desc limit 1
        ))
    ) newest
    where mark is not null group by lane = 1
"""

# Of the frame before the seqs that are missing; before the first, the beginning of its epoch.
_BEFORE: Final = """
    with mine as (
        select lane_id, lane from lane where agent_id = %(agent)s and epoch = %(epoch)s
    )
    select coalesce(
        (select coalesce(g.watermark, g.t_max) from ledger g join mine using (lane_id)
         where mine.lane = %(lane)s and g.seq < %(seq)s order by g.seq desc limit 1),
        (select h.until from ledger_hour h join mine using (lane_id)
         where mine.lane = %(lane)s and h.seq_from < %(seq)s order by h.seq_from desc limit 1),
        (select least(
            (select min(g.t_min) from ledger g join mine using (lane_id)
             where mine.lane in (1, 2, 3)),
            (select min(h.t_min) from ledger_hour h join mine using (lane_id)
             where mine.lane in (1, 2, 3)))),
        (select min(h.at) from hello h where h.agent_id = %(agent)s and h.epoch = %(epoch)s)
    )
"""
