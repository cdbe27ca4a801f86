"""Unit tests run in virtual time: an hour of waiting takes no time, and nothing has a socket."""

import async_solipsism
import pytest


def pytest_configure(config: pytest.Config) -> None:
    # Two timers a rounding error apart: the loop runs both, and only this clock has words for it.
    config.addinivalue_line("filterwarnings", "ignore:delta is less than resolution")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": async_solipsism.EventLoop}
