"""The application: routes, errors, limits, and a page of its own that needs no internet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from cloud.api import problems
from cloud.api.access import State
from cloud.api.routes import agents, events, items, overview, samples
from cloud.clock import Clock
from cloud.db import make_pool

CONNECTIONS: Final = 8
STATEMENT_S: Final = 20.0
DESCRIPTION: Final = """
Process data and the story of every item. Get a token with
`threadline cloud token create NAME --scope read` and press **Authorize**.

* `GET /items?name=…` finds an item by any of its names, `GET /items/{id}/story` tells all of it.
* `GET /samples?tag=…&from=…&to=…` gives what was read, as JSON, CSV or Arrow.
* `POST /events` takes what people and other systems say: moves, names, states, corrections.

Errors are problem+json. Times are RFC 3339; 64-bit integers are text.
"""


def make_app(
    dsn: str,
    *,
    clock: Clock | None = None,
    connections: int = CONNECTIONS,
    statement_s: float = STATEMENT_S,
) -> FastAPI:
    """The application over one database; it connects when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = make_pool(
            dsn, application="threadline api", connections=connections, statement_s=statement_s
        )
        await pool.open()
        app.state.threadline = State(pool, clock or Clock())
        yield
        await pool.close()

    app: FastAPI = FastAPIOffline(
        title="Threadline trace API",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_parameters={"docExpansion": "list", "persistAuthorization": True},
    )
    problems.install(app)
    for module in (items, events, overview, agents, samples):
        app.include_router(module.router)
    return app
