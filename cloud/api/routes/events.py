"""`POST /events`: what people and other systems say, one answer a line.

Rule 1: a line is taken or refused by itself; taking it again changes nothing.
Rule 2: the token says who speaks and for which sites; the author of an event cannot be forged.
"""

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from cloud.api.access import Db, Now, Writer
from cloud.api.problems import RESPONSES
from cloud.load import LINES_MAX, Line, Speaker, Status, take

router = APIRouter(tags=["events"], responses=RESPONSES)

_EXAMPLES: Final = [
    {
        "kind": "move",
        "site": "plant1",
        "at": "2026-11-22T09:30:00Z",
        "what": {"scheme": "lot", "value": "CU6778-00001"},
        "to": {"holder": "feeder/F07"},
    },
    {
        "kind": "state",
        "site": "plant1",
        "at": "2026-11-22T10:00:00Z",
        "items": [{"scheme": "serial", "issuer": "TLD", "value": "03MV00000003"}],
        "set": ["blocked"],
        "reason": "customer complaint 4711",
    },
]


class Refusal(BaseModel):
    field: str
    reason: str


class Said(BaseModel):
    """What became of a line: `ok` new, `repeat` was there, `refused` with every field named."""

    number: int
    status: Status
    kind: str
    id: str
    faults: list[Refusal]


@router.post("/events", summary="Say events")
async def say_events(
    db: Db,
    holder: Writer,
    now: Now,
    lines: Annotated[
        list[dict[str, Any]],
        Body(examples=[_EXAMPLES]),
        Field(min_length=1, max_length=LINES_MAX),
    ],
) -> list[Said]:
    """Moves, names, states, corrections, voids. Without an `id` one is made of what is said.

    All lines that can be taken are recorded in one transaction; look at each `status`.
    """
    speaker = Speaker(by=holder.name, sites=holder.sites, may_say_masters=False)
    said = [Line(number, line) for number, line in enumerate(lines, 1)]
    return [Said.model_validate(asdict(one)) for one in await take(db, said, speaker, now)]
