"""One HTTP client of the API; its failures leave as ours. It never retries: a person waits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx2 as httpx

from protocols.errors import ConfigError, Disconnected, Problem

TIMEOUT_S: Final = 60.0


class NotFound(Exception):
    """Nothing by that name; `near` looks like it."""

    def __init__(self, detail: str, near: tuple[str, ...]) -> None:
        self.detail = detail
        self.near = near
        super().__init__(detail)


class Api:
    """The API at one address, with one token."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def read(self, path: str, asked: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON.

        Raises:
            NotFound: 404.
            ConfigError: address, token or question are wrong.
            Disconnected: nobody answers, or not now.
        """
        given = {key: value for key, value in (asked or {}).items() if value is not None}
        try:
            answer = self._client.get(path, params=given)
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Disconnected(f"{self._client.base_url}: {error}") from error
        if answer.is_success:
            return body
        raise _failure(answer.status_code, body)


@contextmanager
def open_api(url: str, token: str) -> Iterator[Api]:
    """ConfigError: not an address."""
    try:
        headers = {"Authorization": f"Bearer {token}"}
        client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)
    except (httpx.InvalidURL, UnicodeError) as error:
        remedy = "Give the API's address, like http://127.0.0.1:8080."
        raise ConfigError([Problem("--api", url, str(error), remedy)]) from error
    with client:
        yield Api(client)


def _failure(status: int, body: Mapping[str, Any]) -> NotFound | ConfigError | Disconnected:
    detail = str(body.get("detail") or body.get("title") or status)
    match status:
        case 404:
            return NotFound(detail, tuple(body.get("near", ())))
        case 401 | 403:
            remedy = "Make one: threadline cloud token create NAME --scope read"
            return ConfigError([Problem("--token", "", detail, remedy)])
        case 422:
            return ConfigError([Problem("question", "", detail, "")])
        case _:
            return Disconnected(f"the API answered {status}: {detail}")
