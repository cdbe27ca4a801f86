"""The two pages of a process: what they answer, and that no client holds them up."""

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import Counter, Gauge

from protocols import probes
from protocols.meters import Meter, Meters
from protocols.probes import CONNECTIONS_MAX, REQUEST_S, TAKEN_S, Health, Page, Probes, listen

HOST, PORT = "127.0.0.1", 9465
WELL = Health(True, "running", "", None, None, 0, "messages")  # noqa: FBT003 - as it is shown
ILL = Health(False, "kafka_down", "gone", None, 3.0, 7, "messages")  # noqa: FBT003 - as above


class Counted(Meters):
    seen = Meter(Counter, "test_seen", "What was seen", "kind")
    room = Meter(Gauge, "test_room", "What is left")


@asynccontextmanager
async def serving(health: Health, metrics: Counted | None = None) -> AsyncIterator[list[str]]:
    told: list[str] = []
    up = asyncio.Event()
    both = Probes(lambda: health, (metrics or Counted()).page)
    serve = both.serve(HOST, PORT, told.append, up.set)
    task = asyncio.get_running_loop().create_task(serve)
    await up.wait()
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait([task])


async def asked(request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer; empty: let go."""
    reader, writer = await asyncio.open_connection(HOST, PORT)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


@pytest.mark.parametrize(
    ("health", "status"), [(WELL, b"200 OK"), (ILL, b"503 Service Unavailable")]
)
async def test_health_is_said_by_the_status_and_in_words(health: Health, status: bytes) -> None:
    async with serving(health):
        head, body = await asked(b"GET /health HTTP/1.1\r\n\r\n")
    assert head.splitlines()[0] == b"HTTP/1.1 " + status
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == health.as_json()
    assert health.as_json()["waiting_messages"] == health.waiting


async def test_metrics_show_what_was_declared_before_it_counts() -> None:
    metrics = Counted()
    metrics.seen.labels("new").inc(2)
    async with serving(WELL, metrics):
        head, body = await asked(b"GET /metrics HTTP/1.1\r\nHost: any\r\n\r\n")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert b"Content-Length: %d" % len(body) in head
    assert b'test_seen_total{kind="new"} 2.0' in body
    assert b"test_room 0.0" in body


def test_each_has_its_own_registry_unless_it_is_given_one() -> None:
    class Beside(Meters):
        more = Meter(Counter, "test_more", "What else was seen")

    one, other = Counted(), Counted()
    one.room.set(3)
    assert other.registry.get_sample_value("test_room") == 0.0
    Beside(one.registry).more.inc()
    assert b"test_more_total 1.0" in one.page().body


@pytest.mark.parametrize(
    ("request_", "first"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        (b"POST /health HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
    ],
)
async def test_anything_else_is_told_what_there_is(request_: bytes, first: bytes) -> None:
    async with serving(WELL):
        head, body = await asked(request_)
    assert head.splitlines()[0] == first
    assert body
    assert (b"Allow: GET" in head) == (b"405" in first)


async def test_who_sends_too_much_or_nothing_is_let_go() -> None:
    async with serving(WELL):
        assert await asked(b"x" * 100_000) == (b"", b"")
        begun_s = asyncio.get_running_loop().time()
        assert await asked(b"GET /hea") == (b"", b"")
        assert asyncio.get_running_loop().time() - begun_s == pytest.approx(REQUEST_S, abs=0.5)


async def test_no_more_are_listened_to_than_the_bound() -> None:
    async with serving(WELL):
        held = [await asyncio.open_connection(HOST, PORT) for _ in range(CONNECTIONS_MAX)]
        assert await asked(b"GET /health HTTP/1.1\r\n\r\n") == (b"", b"")
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.1)
        head, _ = await asked(b"GET /health HTTP/1.1\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")


async def test_a_port_that_is_taken_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free_at_s = asyncio.get_running_loop().time() + TAKEN_S * 1.5

    async def taken_at_first(find: Callable[[bytes], Page], host: str, port: int) -> asyncio.Server:
        if asyncio.get_running_loop().time() < free_at_s:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return await listen(find, host, port)

    monkeypatch.setattr(probes, "listen", taken_at_first)
    async with serving(WELL) as told:
        assert told == [f"{HOST}:{PORT}: Address already in use"] * 2
        assert asyncio.get_running_loop().time() == pytest.approx(free_at_s + TAKEN_S / 2)
        head, _ = await asked(b"GET /health HTTP/1.1\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")


def test_a_page_says_how_long_it_is() -> None:
    assert Page(b"abc").encoded().endswith(b"Content-Length: 3\r\nConnection: close\r\n\r\nabc")
