"""`/agents`: who sends, how far it has come, what its groups do."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from cloud.api.access import Db, Reader
from cloud.api.problems import RESPONSES
from cloud.queries.agents import agents

router = APIRouter(prefix="/agents", tags=["agents"], responses=RESPONSES)


class Agent(BaseModel):
    """One agent, as it last said of itself, and how far its data is stored."""

    name: str
    site: str
    scope: list[str]
    identity: str
    version: str
    hello_at: datetime | None
    set_aside: str | None
    waiting_rows: int
    events_until: datetime | None
    samples_until: datetime | None
    groups: list[dict[str, Any]]


@router.get("", summary="Agents")
async def list_agents(db: Db, holder: Reader) -> list[Agent]:
    """Every agent of the token's sites. `identity` is `unproven` without client certificates."""
    return [Agent.model_validate(asdict(row)) for row in await agents(db, holder.sites)]
