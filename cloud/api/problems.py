"""Every error answer is problem+json (RFC 9457): what, why, the way out; never a stack trace.

A bad question is the asker's (4xx); a database that cannot answer now is 503; 500 is a bug.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from cloud.db import BadData, StoreTrouble

MEDIA_TYPE: Final = "application/problem+json"
_log = structlog.get_logger(__name__)


class Problem(BaseModel):
    """The body of every error answer."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""


class ApiProblem(Exception):
    """Raised by a route; becomes the answer. `extra` adds members beside the standard ones."""

    def __init__(
        self, status: int, title: str, detail: str, extra: Mapping[str, Any] | None = None
    ) -> None:
        self.problem = Problem(title=title, status=status, detail=detail, **(extra or {}))
        super().__init__(detail)


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": words, "model": Problem, "content": {MEDIA_TYPE: {}}}
    for status, words in {
        401: "No token, or one that is unknown, revoked or expired",
        403: "The token does not reach this",
        422: "A parameter cannot be used; `errors` names each",
        503: "The database cannot answer now, or not in time",
    }.items()
}
NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    404: {"description": "Nothing by that name", "model": Problem, "content": {MEDIA_TYPE: {}}}
}


def install(app: FastAPI) -> None:
    """Answer every exception of a route as a problem."""
    app.add_exception_handler(ApiProblem, _said)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(BadData, _bad_data)
    app.add_exception_handler(StoreTrouble, _trouble)
    app.add_exception_handler(Exception, _bug)


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        problem.model_dump(mode="json"), problem.status, headers, media_type=MEDIA_TYPE
    )


def _said(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiProblem)  # noqa: S101 - registered for this class only
    headers = {"WWW-Authenticate": "Bearer"} if error.problem.status == 401 else None  # noqa: PLR2004
    return respond(error.problem, headers)


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    errors = [_field(one) for one in error.errors()[:50]]
    detail = "; ".join(f"{one['field']}: {one['why']}" for one in errors)
    return respond(
        Problem(title="A parameter cannot be used", status=422, detail=detail, errors=errors)
    )


def _field(one: Mapping[str, Any]) -> dict[str, str]:
    place: Sequence[object] = one["loc"]
    return {"field": ".".join(str(part) for part in place), "why": str(one["msg"])}


def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    problem = Problem(title=str(error.detail), status=error.status_code, detail=str(error.detail))
    return respond(problem, error.headers)


def _bad_data(_request: Request, error: Exception) -> JSONResponse:
    return respond(Problem(title="A value cannot be used", status=422, detail=str(error)))


def _trouble(_request: Request, error: Exception) -> JSONResponse:
    problem = Problem(
        title="The database cannot answer now",
        status=503,
        detail=f"{error}. Ask again, or ask for less.",
    )
    return respond(problem, {"Retry-After": "5"})


def _bug(request: Request, error: Exception) -> JSONResponse:
    _log.error("a request met a bug", path=request.url.path, exc_info=error)
    return respond(Problem(title="A fault of the server", status=500, detail="It was logged."))
