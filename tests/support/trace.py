"""Short words for trace events: a small plant told in a test's own lines."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID, uuid5

from cloud.projection.masters import Masters
from cloud.projection.rows import MentionRow, Row
from cloud.projection.whole import project
from protocols.events import EVENT, NAMESPACE, Event, pass_id

T0 = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
SITE = "werk1"
R = TypeVar("R", bound=Row)
Keyed: TypeAlias = dict[tuple[Any, ...], Row]


def at(minutes: float) -> str:
    return (T0 + timedelta(minutes=minutes)).isoformat()


def when(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def uid(text: str) -> UUID:
    return uuid5(NAMESPACE, text)


def pid(count: int, *, station: str = "L1/ST010", nest: str = "") -> UUID:
    return pass_id(SITE, station, nest, 7, count)


def name(value: str, *, scheme: str = "serial", minutes: float | None = None) -> dict[str, Any]:
    ref = {"scheme": scheme, "issuer": "acme", "value": value}
    return ref if minutes is None else {**ref, "at": at(minutes)}


def lot(value: str) -> dict[str, Any]:
    return name(value, scheme="lot")


def holder(path: str) -> dict[str, Any]:
    return {"holder": path}


def slot(count: int, place: str = "1", **station: Any) -> dict[str, Any]:
    return {"pass": str(pid(count, **station)), "place": place}


def event(ident: str, kind: str, minutes: float, **fields: Any) -> Event:
    """An event by its short id; `None` fields are left out, `from_`/`set_`… lose the underscore."""
    said = {key.removesuffix("_"): value for key, value in fields.items() if value is not None}
    said["replaces"] = [str(uid(one)) for one in said.get("replaces", ())]
    return EVENT.validate_python(
        {"id": uid(ident), "kind": kind, "site": SITE, "at": at(minutes), **said}
    )


def work(  # noqa: PLR0913 - a word of the tests, read at a glance
    ident: str,
    count: int,
    minutes: float,
    ref: dict[str, Any] | None,
    *,
    station: str = "L1/ST010",
    feeds: Iterable[tuple[str, str]] = (),
    took: float | None = 1,
    verdict: str = "pass",
    **fields: Any,
) -> Event:
    """A pass of one item at place 1; `took` None: still open."""
    return event(
        ident,
        "pass",
        minutes,
        **{
            "pass_id": str(pid(count, station=station)),
            "station": station,
            "operation": station.lower(),
            "key": {"series": "0000000000000007", "count": count, "modulus": 65536},
            "started": at(minutes),
            "ended": None if took is None else at(minutes + took),
            "items": [
                {"ref": ref, "how": "bound" if ref else "unnamed", "place": "1", "verdict": verdict}
            ],
            "feeds": [{"holder": path, "qty": {"value": qty}} for path, qty in feeds],
            **fields,
        },
    )


def view(*events: Event, masters: Masters = Masters()) -> list[Row]:  # noqa: B008 - immutable
    return list(project(events, masters))


def of(rows: Iterable[Row], kind: type[R]) -> list[R]:
    return [row for row in rows if isinstance(row, kind)]


def item_of(rows: Iterable[Row], event_: str, path: str) -> UUID:
    """The one item that a reference of an event means."""
    found = [
        row.item for row in of(rows, MentionRow) if (row.event, row.path) == (uid(event_), path)
    ]
    assert len(found) == 1, found
    return found[0]


def keyed(rows: Iterable[Row]) -> Keyed:
    """Rows by table and key; two of one key are a mistake."""
    found: Keyed = {}
    for row in rows:
        key = (row.TABLE.name, *(getattr(row, column) for column in row.TABLE.key))
        assert key not in found, (found[key], row)
        found[key] = row
    return found
