"""What `edge status` shows of a running agent, and the local socket that tells it.

The types are the interface: keys are only ever added. Whoever connects is told once, as JSON, and
the connection is closed; nothing that is sent is read.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict

from protocols.errors import Disconnected
from protocols.retry import Backoff

TALK_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_log = structlog.get_logger("edge.status")


class Shown(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class GroupShown(Shown):
    """Slots since the agent started: scheduled = started + overruns + down. Times in ms."""

    group: str
    interval_ms: float
    tags: int
    requests: int
    scheduled: int
    started: int
    finished: int
    overruns: int
    down: int
    age_ms: float | None
    jitter_p50_ms: float
    jitter_p99_ms: float
    duration_p50_ms: float
    duration_p99_ms: float


class DeviceShown(Shown):
    device: str
    state: str
    reason: str
    since: str
    opened: int
    failed: int
    bad_rows: int
    requests_failed: int
    facts: dict[str, str]
    groups: tuple[GroupShown, ...]


class PipelineShown(Shown):
    """Rows since the agent started: read + derived = handed over + filtered + discarded."""

    read: int
    derived: int
    filtered: int
    discarded: int
    events: int
    curves: int
    alarms: int
    cuts: int
    waits_for_spool: int
    behind_ms: float
    overrun_batches: int
    overrun_rows: int


class SpoolShown(Shown):
    bytes: int
    waiting_rows: dict[str, int]
    oldest_age_s: float
    state: str = "ok"
    written_tb_a_year: float = 0.0


class UplinkShown(Shown):
    state: str
    connected: bool
    identity: str
    counters: dict[str, int]


class AgentStatus(Shown):
    agent: str
    version: str
    epoch: str
    at: str
    started: str
    devices: tuple[DeviceShown, ...]
    pipeline: PipelineShown
    spool: SpoolShown
    uplink: UplinkShown
    metrics: str
    restarts: dict[str, int]


class StatusServer:
    """Answers on a Unix socket. A socket in use is a named state, tried again."""

    def __init__(
        self, path: Path, snapshot: Callable[[], AgentStatus], draw: Callable[[], float]
    ) -> None:
        self.state = "starting"
        self._path = path
        self._snapshot = snapshot
        self._draw = draw

    async def run(self) -> None:
        attempt = 0
        while True:
            try:
                await self._serve()
            except OSError as error:
                self._say(f"not listening: {error.strerror or error}")
            await asyncio.sleep(Backoff().delay_s(attempt, self._draw()))
            attempt += 1

    async def _serve(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_remove_dead, self._path)
        mask = os.umask(0o117)  # the socket is the owner's and the group's
        try:
            server = await asyncio.start_unix_server(self._answer, self._path, backlog=16)
        finally:
            os.umask(mask)
        self._say("listening")
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TALK_S):
                writer.write(self._snapshot().model_dump_json().encode())
                await writer.drain()
        except (OSError, TimeoutError):
            _log.debug("somebody asked and did not wait for the answer")
        finally:
            writer.close()

    def _say(self, state: str) -> None:
        if state != self.state:
            _log.info("status socket", state=state, path=str(self._path))
        self.state = state


def ask_status(path: Path, timeout_s: float = TALK_S) -> AgentStatus:
    """Disconnected: nobody answers there."""
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
            talk.settimeout(timeout_s)
            talk.connect(str(path))
            while (part := talk.recv(65_536)) and len(answer) <= ANSWER_BYTES_MAX:
                answer += part
    except OSError as error:
        raise Disconnected(f"{path}: {error.strerror or error}") from error
    if not answer:
        raise Disconnected(f"{path}: the agent said nothing")
    return AgentStatus.model_validate_json(bytes(answer))


def _remove_dead(path: Path) -> None:
    """A socket that a killed agent left behind. OSError: somebody listens there."""
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
        talk.settimeout(TALK_S)
        try:
            talk.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(f"{path} is in use by a running agent")
