"""What the database holds, as the comparisons want it, by SQL of their own."""

from cloud.db import Connection
from tests.support.truth import Row, Stretch


def rows_of(database: Connection, path: str) -> list[Row]:
    found = database.execute(
        "select (extract(epoch from s.time) * 1000000)::int8, t.type, s.f64, s.i64, s.text,"
        " s.quality from sample s join tag t using (tag) where t.path = %s order by s.time",
        (path,),
    ).fetchall()
    return [
        Row(time_us, _value(kind, f64, i64, text), quality or 0)
        for time_us, kind, f64, i64, text, quality in found
    ]


def stretches(database: Connection, agent: str, kind: str) -> list[Stretch]:
    found = database.execute(
        "select (extract(epoch from from_time) * 1000000)::int8,"
        " (extract(epoch from to_time) * 1000000)::int8, reason"
        " from stretch join agent using (agent_id)"
        " where name = %s and kind = %s order by from_time",
        (agent, kind),
    ).fetchall()
    return [Stretch(*row) for row in found]


def _value(kind: str, f64: float | None, i64: int | None, text: str | None) -> object:
    if kind == "bool" and i64 is not None:
        return bool(i64)
    return next((one for one in (f64, i64, text) if one is not None), None)
