"""`/tags` and `/samples`: what was read, by tag and time, as JSON, CSV or Arrow."""

from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from cloud.api import tables
from cloud.api.access import Db, Reader
from cloud.api.problems import NOT_FOUND, RESPONSES, ApiProblem
from cloud.queries.samples import (
    Cursor,
    SamplePage,
    TagVersion,
    read_cursor,
    sample_page,
    tag_versions,
)
from protocols.errors import Rejected

PAGE_MAX: Final = 100_000
NEXT_HEADER: Final = "X-Next-After"

router = APIRouter(tags=["samples"], responses=RESPONSES)


class Format(StrEnum):
    """How rows are answered."""

    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"


class Tag(BaseModel):
    """A tag version and what was last declared of it."""

    site: str
    path: str
    type: str
    unit: str
    address: str
    station: str
    nest: str
    agent: str
    since: datetime | None


class Sample(BaseModel):
    """`value`: 64-bit integers and times are text, bytes are hex. `quality`: OPC UA status code."""

    time: datetime
    path: str
    type: str
    value: Any
    quality: int
    code: int | None
    agent_time: datetime
    device_time: datetime | None


class SampleQuery(BaseModel):
    """Which rows, and how."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    tag: Annotated[str, Field(max_length=255, examples=["st010.analog.a1"])]
    since: Annotated[AwareDatetime, Field(alias="from", examples=["2026-11-22T09:00:00Z"])]
    until: Annotated[AwareDatetime, Field(alias="to", examples=["2026-11-22T09:01:00Z"])]
    site: Annotated[str | None, Field(max_length=63, examples=["plant1"])] = None
    after: Annotated[str | None, Field(max_length=64)] = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 10_000
    format: Format = Format.JSON


class Samples(BaseModel):
    """A page; `next` goes into `after` of the next call, null at the end."""

    samples: list[Sample]
    next: str | None


@router.get("/tags", summary="Tags")
async def list_tags(
    db: Db,
    holder: Reader,
    contains: Annotated[str, Query(max_length=255, examples=["torque"])] = "",
    after: Annotated[
        str, Query(max_length=255, description="the last path of the page before")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[Tag]:
    """Tags whose path contains this text, by path. A tag whose type changed has one line a type."""
    found = await tag_versions(db, holder.sites, like=contains, after=after, limit=limit)
    return [_tag(one) for one in found]


@router.get(
    "/samples",
    summary="Samples of a tag",
    response_model=Samples,
    responses=NOT_FOUND
    | {
        200: {
            "content": {tables.CSV_TYPE: {}, tables.ARROW_TYPE: {}},
            "headers": {NEXT_HEADER: {"description": "`after` of the next page"}},
        }
    },
)
async def list_samples(db: Db, holder: Reader, asked: Annotated[SampleQuery, Query()]) -> Response:
    """Rows with from ≤ time < to, in order of time, as they were read: bad ones too."""
    sites = holder.sites if asked.site is None else _within(holder.sites, asked.site)
    tags = await tag_versions(db, sites, path=asked.tag)
    if not tags:
        raise ApiProblem(404, "No such tag", f"No tag {asked.tag!r} is known; see /tags?contains=")
    if len({one.site for one in tags}) > 1:
        named = sorted({one.site for one in tags})
        raise ApiProblem(422, "Which site?", f"{asked.tag!r} is a tag of {named}: name a `site`.")
    page = await sample_page(db, tags, asked.since, asked.until, _cursor(asked.after), asked.limit)
    return _FORMS[asked.format](page)


def _within(sites: tuple[str, ...] | None, site: str) -> tuple[str, ...]:
    if sites is not None and site not in sites:
        raise ApiProblem(403, "Not with this token", f"The token does not reach site {site!r}.")
    return (site,)


def _cursor(after: str | None) -> Cursor | None:
    if after is None:
        return None
    try:
        return read_cursor(after)
    except Rejected as error:
        raise ApiProblem(422, "A parameter cannot be used", f"after: {error}") from error


def _tag(one: TagVersion) -> Tag:
    return Tag.model_validate({**asdict(one), "type": one.type.value})


def _json(page: SamplePage) -> Response:
    body = Samples(
        samples=[
            Sample.model_validate({**asdict(row), "type": row.type.value}) for row in page.rows
        ],
        next=None if page.next is None else page.next.text(),
    )
    return Response(body.model_dump_json(), media_type="application/json", headers=_headers(page))


def _csv(page: SamplePage) -> Response:
    text = tables.csv_text(page.rows)
    return Response(text, media_type=tables.CSV_TYPE, headers=_headers(page))


def _arrow(page: SamplePage) -> Response:
    stream = tables.arrow_stream(page.rows)
    return Response(stream, media_type=tables.ARROW_TYPE, headers=_headers(page))


_FORMS: Final = {Format.JSON: _json, Format.CSV: _csv, Format.ARROW: _arrow}


def _headers(page: SamplePage) -> dict[str, str]:
    return {} if page.next is None else {NEXT_HEADER: page.next.text()}
