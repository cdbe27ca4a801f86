"""From a change in the PLC to the answer of the API, again and again at random moments.

One change per device is under way at a time. Every question costs the machine something, so one
asker goes round and pauses; the time of a change includes that pause and the other questions.
"""

import http.client
import json
import random
import socket
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cloud.db import connect
from tests.bench.line_up import PROBE, Running
from threadline.ports import HOST

PAUSE_S: Final = 0.02  # between two rounds of questions
REST_MAX_S: Final = 0.15  # of a device between two changes: longer than an interval, and random
GIVE_UP_S: Final = 10.0
TALK_S: Final = 30.0


@dataclass(slots=True)
class Change:
    """One change. Times in seconds since 1970 and on the monotonic clock."""

    device: str
    value: int
    at: datetime
    set_s: float
    seen_s: float | None = None

    @property
    def latency_s(self) -> float | None:
        return None if self.seen_s is None else self.seen_s - self.set_s


@dataclass(frozen=True, slots=True)
class Steps:
    """Where the time of the seen changes went, in seconds, one entry a change."""

    polled: Sequence[float]
    sealed: Sequence[float]
    storing: Sequence[float]
    shown: Sequence[float]


@dataclass(slots=True)
class Probe:
    """One device's tag that nobody else changes."""

    device: str
    value: int = 0
    next_s: float = 0.0
    under_way: Change | None = None
    done: list[Change] = field(default_factory=list)


def make_changes(line: Running, until_s: float, at_least: int) -> list[Change]:
    """Changes until that time, and longer (at most three times) until there are enough."""
    began_s = time.monotonic()
    latest_s = began_s + 3 * (until_s - began_s)
    draw = random.Random(1)  # noqa: S311 - moments, not secrets
    probes = [Probe(device) for device in line.ports]
    with closing(_Control(line.control)) as control, closing(_Asker(line)) as asker:
        while _goes_on(probes, until_s, latest_s, at_least):
            for probe in probes:
                _step(probe, control, asker, draw)
            time.sleep(PAUSE_S)
    return [change for probe in probes for change in probe.done]


def _goes_on(probes: Sequence[Probe], until_s: float, latest_s: float, at_least: int) -> bool:
    now_s = time.monotonic()
    enough = sum(len(probe.done) for probe in probes) >= at_least
    return now_s < until_s or (not enough and now_s < latest_s)


def _step(probe: Probe, control: "_Control", asker: "_Asker", draw: random.Random) -> None:
    change, now_s = probe.under_way, time.monotonic()
    if change is None:
        if now_s >= probe.next_s:
            probe.value += 1
            at = datetime.now(UTC)  # noqa: TID251 - a measurement's own clock
            probe.under_way = Change(probe.device, probe.value, at, time.monotonic())
            control.set(probe.device, probe.value)
        return
    if asker.shows(change):
        change.seen_s = time.monotonic()
    elif now_s - change.set_s < GIVE_UP_S:
        return
    probe.done.append(change)
    probe.under_way = None
    probe.next_s = time.monotonic() + draw.uniform(0, REST_MAX_S)


def steps(line: Running, changes: Sequence[Change]) -> Steps:
    """What the database knows of the way of each: polled, sealed, its transaction begun."""
    found: dict[tuple[str, int], tuple[datetime, datetime, datetime]] = {}
    with connect(line.dsn, application="bench") as database:
        for path, value, *times in database.execute(_WAY, [f"%.{PROBE}"]):
            first = found.setdefault((path, value), tuple(times))
            found[path, value] = min(first, tuple(times))
    seen = [change for change in changes if change.seen_s is not None]
    spans = list(_spans(seen, found))
    return Steps(*([span[at] for span in spans] for at in range(4)))


def _spans(
    changes: Sequence[Change], found: Mapping[tuple[str, int], tuple[datetime, datetime, datetime]]
) -> Iterator[tuple[float, float, float, float]]:
    for change in changes:
        polled, sealed, storing = found[f"{change.device}.{PROBE}", change.value]
        shown = change.at + timedelta(seconds=change.latency_s or 0.0)
        times = (change.at, polled, sealed, storing, shown)
        spans = [(b - a).total_seconds() for a, b in pairwise(times)]
        yield spans[0], spans[1], spans[2], spans[3]


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


_WAY: Final = """
    select tag.path, sample.i64, sample.time, ledger.sealed_at, ledger.received_at
    from sample join tag using (tag) join ledger using (frame)
    where tag.path like %s and sample.i64 is not null
"""


class _Control:
    """The plant's control socket, one connection for all."""

    def __init__(self, path: Path) -> None:
        self._talk = socket.socket(socket.AF_UNIX)
        self._talk.settimeout(TALK_S)
        self._talk.connect(str(path))
        self._answers = self._talk.makefile()

    def set(self, device: str, value: int) -> None:
        asked = {"do": "set", "device": device, "tag": PROBE, "value": value}
        self._talk.sendall(json.dumps(asked).encode() + b"\n")
        answer = json.loads(self._answers.readline())
        assert answer["ok"], answer

    def close(self) -> None:
        self._answers.close()
        self._talk.close()


class _Asker:
    """`GET /samples` over one connection, as a page that follows a tag would ask."""

    def __init__(self, line: Running) -> None:
        self._api = http.client.HTTPConnection(HOST, line.api_port, timeout=TALK_S)
        self._headers = {"Authorization": f"Bearer {line.token}"}

    def shows(self, change: Change) -> bool:
        since = change.at - timedelta(milliseconds=1)
        until = change.at + timedelta(seconds=2 * GIVE_UP_S)
        path = (
            f"/samples?tag={change.device}.{PROBE}"
            f"&from={quote(since.isoformat())}&to={quote(until.isoformat())}"
        )
        self._api.request("GET", path, headers=self._headers)
        answer = self._api.getresponse()
        body: dict[str, Any] = json.loads(answer.read())
        if answer.status == http.HTTPStatus.NOT_FOUND:  # the tag's first value is on its way
            return False
        assert answer.status == http.HTTPStatus.OK, body
        return any(sample["value"] == change.value for sample in body["samples"])

    def close(self) -> None:
        self._api.close()
