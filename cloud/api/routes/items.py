"""`/items`: found by any of their names, and told whole. `/passes`: a pass's samples and curves."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from cloud.api.access import Db, Reader
from cloud.api.problems import NOT_FOUND, RESPONSES, ApiProblem
from cloud.queries import items, passes
from cloud.story import Item, Story, TagSamples, item_of, tell

NAME_MAX = 2048

router = APIRouter(tags=["items"], responses={**RESPONSES, **NOT_FOUND})


class Found(BaseModel):
    """One item, or the candidates of an ambiguous name, the newest first."""

    item: Item | None
    candidates: Annotated[
        list[Item], Field(description="More than one: name the scheme or the issuer too.")
    ]


class CurvePoints(BaseModel):
    """One list a column, the axis first; null is a point without a value."""

    axis: str
    columns: list[str]
    units: list[str]
    n: int
    sha256: str
    points: list[list[float | None]]


@router.get("/items", summary="Find an item by name")
async def find_item(
    db: Db,
    holder: Reader,
    name: Annotated[str, Query(min_length=1, max_length=NAME_MAX, examples=["TLD000000042"])],
    scheme: Annotated[str | None, Query(max_length=NAME_MAX, examples=["serial"])] = None,
    issuer: Annotated[str | None, Query(max_length=NAME_MAX, examples=["TLD"])] = None,
) -> Found:
    """By any name it has or had. Unknown: 404 with names that look like it."""
    found = [
        item_of(row) for row in await items.items_by_name(db, holder.sites, name, scheme, issuer)
    ]
    if not found:
        near = await items.near_names(db, holder.sites, name)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise ApiProblem(
            404, "No such item", f"Nothing is named {name[:200]!r}.{hint}", {"near": near}
        )
    if len(found) == 1:
        return Found(item=found[0], candidates=[])
    return Found(item=None, candidates=found)


@router.get("/items/{item}/story", summary="Tell an item's whole story")
async def tell_story(
    db: Db,
    holder: Reader,
    item: UUID,
    *,
    samples: Annotated[bool, Query(description="Each pass with its samples.")] = False,
    curves: Annotated[bool, Query(description="Each curve with its points.")] = False,
) -> Story:
    """Passes with values and curves, components, parents, states, and how far it is complete."""
    async with db.transaction():
        await db.execute("set transaction isolation level repeatable read, read only")
        row = await items.item_by_id(db, holder.sites, item)
        if row is None:
            raise ApiProblem(404, "No such item", f"No item has the id {item}.")
        return await tell(db, row, with_samples=samples, with_curves=curves)


@router.get("/passes/{pass_id}/samples", summary="Samples of a pass")
async def pass_samples(db: Db, holder: Reader, pass_id: UUID) -> list[TagSamples]:
    """Of each tag of its devices the last sample at or before the start, and all to the end."""
    met = await passes.pass_by_id(db, holder.sites, pass_id)
    if met is None:
        raise ApiProblem(404, "No such pass", f"No pass has the id {pass_id}.")
    return [
        TagSamples(tag=tag.path, type=tag.type.value, unit=tag.unit, samples=rows)
        for tag, rows in await passes.samples_of(db, met)
    ]


@router.get("/passes/{pass_id}/curves/{name}", summary="Points of a curve")
async def pass_curve(
    db: Db,
    holder: Reader,
    pass_id: UUID,
    name: Annotated[str, Path(max_length=NAME_MAX)],
    place: Annotated[str, Query(max_length=NAME_MAX)] = "",
) -> CurvePoints:
    """404 also while it is announced and its points have not arrived."""
    met = await passes.pass_by_id(db, holder.sites, pass_id)
    data = None if met is None else await passes.curve_data(db, pass_id, name, place)
    if data is None:
        raise ApiProblem(404, "No such curve", f"No points of curve {name!r}, place {place!r}.")
    return CurvePoints.model_validate(data, from_attributes=True)
