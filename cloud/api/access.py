"""Who asks, and with which connection: what every route depends on.

Rule 1: every route names the scope it needs; the check is here, on the server.
Rule 2: a token with sites sees only these sites; routes pass `holder.sites` to every query.
Rule 3: a request holds one connection, for a bounded time.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from cloud.api.problems import ApiProblem
from cloud.clock import Clock
from cloud.db import AsyncConnection, AsyncPool, lease
from cloud.tokens import Holder, Scope, find_holder


@dataclass(frozen=True, slots=True)
class State:
    """What the application holds while it runs."""

    pool: AsyncPool
    clock: Clock


_bearer = HTTPBearer(
    auto_error=False, description="`threadline cloud token create NAME --scope read`"
)


async def connection(request: Request) -> AsyncIterator[AsyncConnection]:
    """A connection of the pool for this request; StoreTrouble: none can be had."""
    state: State = request.app.state.threadline
    async with lease(state.pool) as leased:
        yield leased


Db = Annotated[AsyncConnection, Depends(connection)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _needs(scope: Scope) -> Callable[[Db, Credentials], Awaitable[Holder]]:
    async def holder(db: Db, credentials: Credentials) -> Holder:
        found = None if credentials is None else await find_holder(db, credentials.credentials)
        if found is None:
            raise ApiProblem(401, "Who are you?", "Send a token that works: Authorization: Bearer")
        if scope not in found.scopes:
            raise ApiProblem(
                403, "Not with this token", f"Token {found.name!r} lacks the scope {scope!r}."
            )
        return found

    return holder


def _now(request: Request) -> datetime:
    state: State = request.app.state.threadline
    return state.clock.now()


Now = Annotated[datetime, Depends(_now)]
Reader = Annotated[Holder, Depends(_needs(Scope.READ))]
Writer = Annotated[Holder, Depends(_needs(Scope.WRITE))]
