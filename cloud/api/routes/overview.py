"""`/overview` and `/stations`: how fresh the data is, and what the stations make: a board's two."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from cloud.api.access import Db, Reader
from cloud.api.problems import RESPONSES, ApiProblem
from cloud.queries.overview import (
    PASSES_MAX,
    Freshness,
    StationRow,
    countable_from,
    freshness,
    moment,
    stations,
)

SPAN: Final = timedelta(hours=24)  # of /stations when `from` is not said

router = APIRouter(tags=["overview"], responses=RESPONSES)


class AgentFreshness(BaseModel):
    """`lag_s`: now less `samples_until`. `waiting_rows`: in its spool, by its last hello."""

    name: str
    site: str
    set_aside: str | None
    hello_at: datetime | None
    samples_until: datetime | None
    lag_s: float | None
    rows_per_s: float
    stored_at: datetime | None
    waiting_rows: int


class Overview(BaseModel):
    """All agents at one moment of the database's clock."""

    at: datetime
    agents: list[AgentFreshness]


class Station(BaseModel):
    """One nest. `passes` and `verdicts`: of production; `others`: master, setup, trial, dry."""

    site: str
    station: str
    nest: str
    passes: int
    others: int
    verdicts: dict[str, int]
    gaps: int
    last_at: datetime | None
    last_verdict: str | None
    last_item: UUID | None
    last_scheme: str | None
    last_name: str | None


@router.get("/overview", summary="How fresh the data is")
async def show_overview(db: Db, holder: Reader) -> Overview:
    """Lag, samples stored a second lately, and waiting rows of every agent of the token's sites."""
    at, rows = await freshness(db, holder.sites)
    return Overview(at=at, agents=[_agent(row) for row in rows])


@router.get("/stations", summary="What the stations make")
async def list_stations(
    db: Db,
    holder: Reader,
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to")] = None,
) -> list[Station]:
    """Passes, verdicts and gaps with from ≤ time < to (24 h up to now), and each nest's last pass.

    A nest that made nothing in the stretch is there with its last pass before its end. A stretch
    with more than a million passes is refused; the answer says from when on it can be asked.
    """
    until = until or await moment(db)
    since = since or before(until)
    if since > until:
        raise ApiProblem(422, "A parameter cannot be used", "from: is later than to")
    countable = await countable_from(db, holder.sites, since, until)
    if since < countable < until:
        raise _too_long(countable)
    return [_station(row) for row in await stations(db, holder.sites, since, until)]


def _too_long(countable: datetime) -> ApiProblem:
    first = countable.astimezone(UTC).isoformat()
    return ApiProblem(
        422,
        "A stretch with too many passes",
        f"from: since then there are more than {PASSES_MAX:,} passes. Ask from {first} on, and for"
        " what was before in parts.",
        {"countable_from": first},
    )


def before(until: datetime) -> datetime:
    """A span earlier, or the beginning of time."""
    try:
        return until - SPAN
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _agent(row: Freshness) -> AgentFreshness:
    agent = row.agent
    return AgentFreshness(
        name=agent.name,
        site=agent.site,
        set_aside=agent.set_aside,
        hello_at=agent.hello_at,
        samples_until=agent.samples_until,
        lag_s=row.lag_s,
        rows_per_s=row.rows_per_s,
        stored_at=row.stored_at,
        waiting_rows=agent.waiting_rows,
    )


def _station(row: StationRow) -> Station:
    return Station(
        site=row.site,
        station=row.station,
        nest=row.nest,
        passes=row.passes,
        others=row.others,
        verdicts=row.verdicts,
        gaps=int(row.gaps),
        last_at=row.last_at,
        last_verdict=row.last_verdict,
        last_item=row.last_item,
        last_scheme=row.last_scheme,
        last_name=row.last_name,
    )
