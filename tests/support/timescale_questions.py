"""Everything that the product answers from its database, asked by name; answers are plain JSON.

Rule 1: asked through the product's own doors: the API's routes and the command line.
Rule 2: only what a clock or a counter of the database says is left out of an answer.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import pyarrow as pa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from cloud import cli
from cloud.api.app import make_app
from cloud.db import Connection, connect
from cloud.tokens import Scope, create_token
from cloud.verify import cli as verify_cli
from protocols.errors import ConfigError
from protocols.events import rfc3339
from tests.support.plant_store import FixedClock
from tests.support.timescale_story import (
    AGENTS,
    ANALOG,
    COUNTER,
    DAY_MINUTES,
    HOSTILE,
    KEPT_FROM,
    NOW,
    PASSES,
    PATHS,
    SERIALS,
    UNNAMED,
)
from tests.support.trace import T0, at, holder, lot, pid, when

VOLATILE: Final = frozenset(
    {
        "added_at", "dead_letter_id", "expires_at", "first_at", "lag_s", "made_at",
        "revoked_at", "set_aside_at", "stored_at",
    }
)  # fmt: skip
WHOLE: Final = {"from": rfc3339(T0), "to": rfc3339(NOW)}
PRESSED: Final = pid(2, station="L1/PRESS20", nest="b")


Route: TypeAlias = tuple[str, str]
"""Method and path, as the API's page shows them."""


@dataclass
class Asker:
    """One database. `routes`, `commands`: what was asked and answered so far."""

    dsn: str
    api: TestClient | None = None
    shown: frozenset[Route] = frozenset()
    tokens: Mapping[str, str] = field(default_factory=dict)
    handed_out: str = ""
    routes: set[Route] = field(default_factory=set)
    commands: set[str] = field(default_factory=set)

    def ask(self, path: str, who: str = "reader", **params: Any) -> Any:
        return self._answer("GET", path, who, params=params)

    def say(self, path: str, lines: Any, who: str) -> Any:
        return self._answer("POST", path, who, json=lines)

    def run(self, *words: str) -> Any:
        """A command of `threadline cloud`, or `verify`; JSON where it can print it."""
        done = self.command(*words)
        code, said = done.exit_code, done.stdout.strip()
        if isinstance(done.exception, ConfigError):  # the root of the command line answers it
            code, said = 2, str(done.exception)
        elif done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return {"code": code, "said": _steady(_parsed(said)), "err": done.stderr}

    def command(self, *words: str) -> Result:
        self.commands.add(" ".join(words[: _depth(words)]))
        app, rest = (verify_cli.app, words[1:]) if words[0] == "verify" else (cli.app, words)
        return CliRunner().invoke(app, [*rest, "--database", self.dsn])

    def _answer(self, method: str, path: str, who: str, **given: Any) -> Any:
        assert self.api is not None, "no API is running"
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        answer = self.api.request(method, path, headers=headers, **given)
        if answer.is_success:
            self.routes |= {route for route in self.shown if _leads(route, method, path)}
        return {"status": answer.status_code, "body": _steady(_body(answer))}


Question: TypeAlias = Callable[[Asker], Any]


@contextmanager
def asking(dsn: str, *, connections: int) -> Iterator[Asker]:
    """The API runs on a database that is filled."""
    with connect(dsn, application="test") as connection:
        tokens = _tokens(connection)
        handed_out = _item_of(connection)
    app = make_app(dsn, clock=FixedClock(at=NOW), connections=connections)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Asker(dsn, client, frozenset(routes_of(app)), tokens, handed_out)


def ask(asker: Asker, names: Iterable[str]) -> dict[str, Any]:
    """The answers to these questions."""
    _stand_still(asker.dsn)
    return {name: QUESTIONS[name](asker) for name in names}


def routes_of(app: FastAPI) -> set[Route]:
    """Method and path of everything that the API's page shows."""
    paths = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def _get(path: str, who: str = "reader", **params: Any) -> Question:
    return lambda asker: asker.ask(path, who, **params)


def _run(*words: str) -> Question:
    return lambda asker: asker.run(*words)


def _samples(tag: str, **params: Any) -> Question:
    return _get("/samples", **{"tag": tag, "site": "werk1", **WHOLE, **params})


def _pages(tag: str, limit: int) -> Question:
    """Every row by pages; the cursors hold frame numbers and are followed, not shown."""

    def asked(asker: Asker) -> Any:
        found: list[Any] = []
        params: dict[str, Any] = {"tag": tag, "site": "werk1", "limit": limit, **WHOLE}
        while True:
            page = asker.ask("/samples", **params)
            params["after"] = page["body"].pop("next", None)
            found.append(page)
            if params["after"] is None:
                return found

    return asked


def _tag_pages(asker: Asker) -> Any:
    found: list[Any] = [asker.ask("/tags", limit=7)]
    while found[-1]["status"] == HTTPStatus.OK and found[-1]["body"]:
        found.append(asker.ask("/tags", limit=7, after=found[-1]["body"][-1]["path"]))
    return found


def _stories(name: str) -> Question:
    """Of every item that the name may mean, without and with samples and curves."""

    def asked(asker: Asker) -> Any:
        found = asker.ask("/items", name=name, issuer="acme")["body"]
        items = [one for one in (found["item"], *found["candidates"]) if one is not None]
        paths = [f"/items/{one['id']}/story" for one in items]
        return [
            [asker.ask(path), asker.ask(path, samples=True, curves=True)] for path in sorted(paths)
        ]

    return asked


def _handed_out(asker: Asker) -> Any:
    """An id given out before the item got its name leads to it for ever."""
    return asker.ask(f"/items/{asker.handed_out}/story")


def _points(pass_id: Any) -> Question:
    return _get(f"/passes/{pass_id}/curves/torque_angle", place="1")


def _said(asker: Asker) -> Any:
    move = {"kind": "move", "site": "werk1", "at": at(9), "what": lot("Z1"),
            "to": holder("feeder/F09")}  # fmt: skip
    lines = [move, {**move, "at": "yesterday"}, {**move, "site": "werk2"}]
    return asker.say("/events", lines, "writer")


def _letter(asker: Asker) -> Any:
    """The newest dead letter, whole."""
    listed = json.loads(asker.command("dead-letters", "list", "--output", "json").stdout)
    return asker.run("dead-letters", "show", str(listed[0]["dead_letter_id"]), "--output", "json")


def _verify(*words: str) -> Question:
    return _run("verify", *words, "--output", "json")


_ONE_DAY: Final = {"from": at(DAY_MINUTES), "to": at(2 * DAY_MINUTES)}
_PERIOD: Final = ("--from", f"{when(DAY_MINUTES):%Y-%m-%dT%H:%M:%S}",
                  "--to", f"{KEPT_FROM:%Y-%m-%dT%H:%M:%S}")  # fmt: skip

QUESTIONS: Final[dict[str, Question]] = {
    "agents": _get("/agents"),
    "agents of a site": _get("/agents", "second"),
    "tags": _get("/tags"),
    "tags of a site": _get("/tags", "second"),
    "tags by a part": _get("/tags", contains="10.a"),
    "tags in pages": _tag_pages,
    **{f"samples of {path}": _samples(path) for path in PATHS},
    "samples of a day": _samples(ANALOG[0], **_ONE_DAY),
    "samples as csv": _samples(ANALOG[2], format="csv", limit=200),
    "samples as arrow": _samples(ANALOG[1], format="arrow"),
    "samples in pages": _pages(ANALOG[0], 97),
    "samples of one time in pages": _pages("types.int32", 2),
    "lists in pages": _pages("types.text[]", 2),
    "samples of two sites": _get("/samples", tag=ANALOG[0], **WHOLE),
    "samples of the token's site": _get("/samples", "second", tag=ANALOG[0], **WHOLE),
    "samples of another site": _get("/samples", "second", tag=ANALOG[0], site="werk1", **WHOLE),
    "samples of no tag": _samples("nobody.x"),
    "samples with a wrong cursor": _samples(ANALOG[0], after="?"),
    "an item": _get("/items", name="S0A", issuer="acme"),
    "candidates": _get("/items", name="S0A"),
    "candidates of a scheme": _get("/items", name="S0A", scheme="serial"),
    "candidates of the token's site": _get("/items", "second", name="S0A"),
    "near names": _get("/items", name="S0"),
    "a hostile name": _get("/items", name=HOSTILE),
    "hostile near names": _get("/items", name="'; drop table %"),
    **{f"story of {name}": _stories(name) for name in (*SERIALS, "A", "B", "C", "CU1", "X", "R4")},
    "story by an id handed out before": _handed_out,
    "story of nobody": _get(f"/items/{UNNAMED}/story"),
    **{f"samples of pass {n}": _get(f"/passes/{one}/samples") for n, one in PASSES.items()},
    "samples of no pass": _get("/passes/00000000-0000-0000-0000-000000000000/samples"),
    "samples of a pass elsewhere": _get(f"/passes/{PRESSED}/samples", "second"),
    **{f"curve of pass {n}": _points(one) for n, one in PASSES.items()},
    "overview": _get("/overview"),
    "overview of a site": _get("/overview", "second"),
    "stations": _get("/stations", **WHOLE),
    "stations of a day": _get("/stations", **_ONE_DAY),
    "stations of a site": _get("/stations", "second", **WHOLE),
    "stations lately": _get("/stations"),
    "nobody asks": _get("/agents", ""),
    "a reader speaks": lambda asker: asker.say("/events", [{}], "reader"),
    "agents listed": _run("agents", "list", "--output", "json"),
    "dead letters": _run("dead-letters", "list", "--output", "json"),
    "dead letters of an agent": _run(
        "dead-letters", "list", "--agent", AGENTS[0][0], "--limit", "2", "--output", "json"
    ),
    "a dead letter": _letter,
    "no dead letter": _run("dead-letters", "show", "999999"),
    "tokens": _run("token", "list", "--output", "json"),
    **{f"verify {agent}": _verify(agent) for agent, _ in AGENTS},
    "verify fast": _verify(AGENTS[0][0], "--fast"),
    "verify a period": _verify(AGENTS[0][0], *_PERIOD),
    "verify as text": _run("verify", AGENTS[0][0], "--fast"),
    "verify a station": _verify("--station", "L1/ST010", "--site", "werk1"),
    "verify a station by its counter": _verify(
        "--station", "L1/ST010", "--site", "werk1", "--counter", COUNTER
    ),
    "verify nests": _verify("--station", "L1/PRESS20", "--site", "werk1"),
    "events said": _said,
    "rebuild": _run("rebuild", "--output", "json"),
}


REBUILD: Final = "rebuild"
OF_SAMPLES: Final = (
    *(name for name in QUESTIONS if "samples" in name or "verify" in name),
    "story of S0A",
    "story of S2A",
    "story of CU1",
)


def _tokens(connection: Connection) -> dict[str, str]:
    wanted: dict[str, tuple[Scope, list[str] | None]] = {
        "reader": (Scope.READ, None),
        "second": (Scope.READ, ["werk2"]),
        "writer": (Scope.WRITE, ["werk1"]),
    }
    return {
        name: str(create_token(connection, name, [scope], sites=sites, lifetime=None))
        for name, (scope, sites) in wanted.items()
    }


def _item_of(connection: Connection) -> str:
    row = connection.execute(
        "select item from pass_item where pass_id = %s and role = 'work'", [UNNAMED]
    ).fetchone()
    assert row is not None
    return str(row[0])


def _stand_still(dsn: str) -> None:
    """Whatever the age of a frame is measured by, it is none: rates depend on rows alone."""
    with connect(dsn, application="test") as connection:
        connection.execute("update ledger set received_at = now() + interval '1 hour'")


def _leads(route: Route, method: str, path: str) -> bool:
    pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(route[1]))
    return route[0] == method and re.fullmatch(pattern, path) is not None


def _depth(words: tuple[str, ...]) -> int:
    return 2 if words[0] in {"agents", "dead-letters", "token"} else 1


def _body(answer: Any) -> Any:
    kind = answer.headers.get("content-type", "")
    if kind.startswith("application/vnd.apache.arrow"):
        return json.loads(
            json.dumps(pa.ipc.open_stream(io.BytesIO(answer.content)).read_all().to_pylist(),
                       default=str)
        )  # fmt: skip
    return answer.text if kind.startswith("text/") else answer.json()


def _parsed(text: str) -> Any:
    """JSON, JSON lines, or text."""
    for read in (json.loads, lambda lines: [json.loads(line) for line in lines.splitlines()]):
        try:
            return read(text)
        except json.JSONDecodeError:
            continue
    return text


def _steady(said: Any) -> Any:
    """Without what a clock of the database says; whether it says something stays."""
    if isinstance(said, list):
        return [_steady(one) for one in said]
    if not isinstance(said, dict):
        return said
    is_letter = "dead_letter_id" in said
    is_moment = set(said) == {"at", "agents"}  # of /overview
    return {
        key: (value is not None)
        if key in VOLATILE or (is_letter and key == "last_at") or (is_moment and key == "at")
        else _steady(value)
        for key, value in said.items()
    }
