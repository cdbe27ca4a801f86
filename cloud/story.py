"""One item's whole story: gathers the rows and puts them in order. What it says is in `Story`.

Everything is told as far as it is known, and the story says how far that is.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, PlainSerializer

from cloud.db import AsyncConnection
from cloud.queries import completeness, items, passes
from cloud.queries.items import ItemRow, LinkRow
from cloud.queries.passes import PassRow

Quantity = Annotated[Decimal, PlainSerializer(str, return_type=str)]


class Name(BaseModel):
    scheme: str
    issuer: str
    value: str
    valid_from: datetime
    valid_to: datetime | None


class Item(BaseModel):
    """A thing with its names. `stub`: it was met, but nothing ever said that it was made."""

    id: UUID
    kind: str
    material: str | None
    revision: str | None
    order: str | None
    qty: Quantity | None
    uom: str | None
    purpose: str
    born_at: datetime | None
    ended_at: datetime | None
    stub: bool
    names: list[Name]


class Value(BaseModel):
    """A value of the record. 64-bit integers are text. `ok` None: no limits, or no value."""

    name: str
    place: str
    value: Any
    unit: str
    low: float | None
    high: float | None
    ok: bool | None
    critical: bool
    quality: int
    method: str


class Curve(BaseModel):
    """A curve; `arrived` False: announced, its points are on their way."""

    name: str
    place: str
    axis: str
    units: list[str]
    n: int
    sha256: str
    arrived: bool
    points: Annotated[
        list[list[float | None]] | None, Field(description="One list a column; with curves=true.")
    ] = None


class TagSamples(BaseModel):
    """Samples of a tag in the pass: [time, value, quality], the last before its start first."""

    tag: str
    type: str
    unit: str
    samples: list[tuple[datetime, Any, int]]


class Pass(BaseModel):
    """A nest worked once, as this item met it."""

    pass_id: UUID
    site: str
    station: str
    nest: str
    operation: str
    count: int
    attempt: Annotated[int, Field(description="1 for the item's first pass of this operation.")]
    at: datetime
    started: datetime | None
    ended: datetime | None
    ended_by: str | None
    recipe: str | None
    purpose: str
    role: str
    place: str
    verdict: str
    how: str
    certainty: str
    defects: list[dict[str, Any]]
    missing: list[str]
    values: list[Value]
    curves: list[Curve]
    states: list["State"]
    samples: Annotated[list[TagSamples] | None, Field(description="With samples=true.")] = None


class State(BaseModel):
    state: str
    since: datetime
    until: datetime | None
    case: str | None
    reason: str | None
    by: str


class Linked(BaseModel):
    """What went into the item (components), or what it went into (parents), with what is beyond."""

    relation: str
    item: Item | None
    holder: str | None
    place: str
    qty: Quantity | None
    uom: str | None
    since: datetime
    until: datetime | None
    certainty: str
    pass_id: UUID | None
    beyond: list["Linked"]


class Alarm(BaseModel):
    name: str
    at: datetime
    text: str


class Complete(BaseModel):
    """How far this story is complete."""

    agents: Annotated[
        list["AgentReach"], Field(description="Everything before these times is told here.")
    ]
    curves_missing: Annotated[int, Field(description="Announced, not arrived.")]
    gaps: Annotated[list["Gap"], Field(description="Cycles without a record at these stations.")]
    events_behind: Annotated[int, Field(description="Events stored and not yet in the view.")]


class AgentReach(BaseModel):
    agent: str
    events_until: datetime | None
    samples_until: datetime | None
    waiting_rows: int


class Gap(BaseModel):
    station: str
    nest: str
    counts: int
    since: datetime | None
    until: datetime | None
    reason: str | None


class Story(BaseModel):
    """Everything known of one item."""

    item: Item
    passes: list[Pass]
    components: list[Linked]
    parents: list[Linked]
    states: list[State]
    alarms: list[Alarm]
    complete: Complete


async def tell(
    db: AsyncConnection, row: ItemRow, *, with_samples: bool, with_curves: bool
) -> Story:
    """The story of an item found by `items`. The caller's transaction makes it one view."""
    met = await passes.passes_of(db, row.item)
    told = await _passes(db, met, with_samples=with_samples, with_curves=with_curves)
    below = await items.links_below(db, row.item)
    above = await items.links_above(db, row.item)
    linked = await _linked_items(db, (*below, *above))
    return Story(
        item=item_of(row),
        passes=told,
        components=_tree(row.item, below, linked, _DOWN),
        parents=_tree(row.item, above, linked, _UP),
        states=[_state(one) for one in await items.states(db, [row.item])],
        alarms=[Alarm.model_validate(one) for one in await items.alarms(db, row.item)],
        complete=await _complete(db, row, met, told),
    )


def item_of(row: ItemRow) -> Item:
    return Item(
        id=row.item,
        kind=row.kind,
        material=row.material,
        revision=row.revision,
        order=row.order_no,
        qty=row.qty,
        uom=row.uom,
        purpose=row.purpose,
        born_at=row.born_at,
        ended_at=row.ended_at,
        stub=row.stub,
        names=[Name.model_validate(asdict(name)) for name in row.names],
    )


async def _passes(
    db: AsyncConnection, met: Sequence[PassRow], *, with_samples: bool, with_curves: bool
) -> list[Pass]:
    ids = [one.pass_id for one in met]
    values = _by_pass(await passes.values_of(db, ids))
    curves = _by_pass(await passes.curves_of(db, ids))
    states: dict[UUID, list[State]] = defaultdict(list)
    for state in await items.states(db, ids):
        states[state.subject].append(_state(state))
    attempts: Counter[tuple[str, str]] = Counter()
    told: list[Pass] = []
    for one in met:
        attempts[one.operation or one.station, one.role] += 1
        shown = [Curve.model_validate(asdict(curve)) for curve in curves[one.pass_id]]
        if with_curves:
            shown = [await _with_points(db, one.pass_id, curve) for curve in shown]
        told.append(
            Pass.model_validate(
                {
                    **asdict(one),
                    "count": int(one.count),
                    "attempt": attempts[one.operation or one.station, one.role],
                    "values": [asdict(value) for value in values[one.pass_id]],
                    "curves": shown,
                    "states": states[one.pass_id],
                    "samples": await _samples(db, one) if with_samples else None,
                }
            )
        )
    return told


def _by_pass(rows: Iterable[Any]) -> Mapping[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.pass_id].append(row)
    return found


async def _with_points(db: AsyncConnection, pass_id: UUID, curve: Curve) -> Curve:
    data = await passes.curve_data(db, pass_id, curve.name, curve.place)
    return curve if data is None else curve.model_copy(update={"points": data.points})


async def _samples(db: AsyncConnection, met: PassRow) -> list[TagSamples]:
    return [
        TagSamples(tag=tag.path, type=tag.type.value, unit=tag.unit, samples=rows)
        for tag, rows in await passes.samples_of(db, met)
    ]


async def _linked_items(db: AsyncConnection, links: Sequence[LinkRow]) -> dict[UUID, ItemRow]:
    ids = {one for link in links for one in (link.child, link.parent) if one is not None}
    return await items.items(db, sorted(ids))


_DOWN = ("parent", "child")
_UP = ("child", "parent")


def _tree(
    root: UUID, links: Sequence[LinkRow], known: Mapping[UUID, ItemRow], way: tuple[str, str]
) -> list[Linked]:
    """Links of the next depth hang under the item that they start from, each once."""
    near, far = way
    at: dict[tuple[int, UUID | None], list[LinkRow]] = defaultdict(list)
    for link in links:
        entries = at[link.depth, getattr(link, near)]
        if link not in entries:
            entries.append(link)

    def beyond(depth: int, item: UUID | None) -> list[Linked]:
        return [
            Linked(
                relation=link.relation,
                item=item_of(known[there]) if (there := getattr(link, far)) in known else None,
                holder=link.holder,
                place=link.place,
                qty=link.qty,
                uom=link.uom,
                since=link.from_at,
                until=link.to_at,
                certainty=link.certainty,
                pass_id=link.pass_id,
                beyond=beyond(depth + 1, there) if there is not None else [],
            )
            for link in at.get((depth, item), ())
        ]

    return beyond(1, root)


def _state(row: items.StateRow) -> State:
    return State(
        state=row.state,
        since=row.from_at,
        until=row.to_at,
        case=row.case_no,
        reason=row.reason,
        by=row.by,
    )


async def _complete(
    db: AsyncConnection, row: ItemRow, met: Sequence[PassRow], told: Sequence[Pass]
) -> Complete:
    met_sites = await completeness.sites_of(db, row.item)
    return Complete(
        agents=[
            AgentReach.model_validate(asdict(one))
            for one in await completeness.reaches(db, met_sites)
        ],
        curves_missing=sum(not curve.arrived for one in told for curve in one.curves),
        gaps=[Gap.model_validate(asdict(one)) for one in await completeness.gaps(db, met)],
        events_behind=await completeness.events_behind(db),
    )
