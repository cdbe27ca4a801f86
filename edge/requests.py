"""The binder's reads and writes on their way to the pollers, and their answers on the way back.

Rule 1: a request is answered once, also when its sets lie on several devices: they are read in
order, one run of sets per device.
Rule 2: it never waits; a poller that cannot take a job answers at once that it failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

from edge.channel import Answered, Unanswered
from edge.poller import Job, ReadJob, WriteJob
from protocols.samples import SampleBatch
from rules.ports import ReadRequest, WriteRequest


class Asked(Protocol):
    """A poller, as the desk sees it."""

    def ask(self, job: Job) -> None: ...


@dataclass(frozen=True, slots=True)
class _Run:
    device: str
    sets: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """A read whose first runs are answered."""

    left: tuple[_Run, ...]
    batches: tuple[SampleBatch, ...] = ()


class Desk:
    """Knows which device has which set and which path."""

    def __init__(
        self,
        devices: Mapping[str, Asked],
        device_of_set: Mapping[str, str],
        device_of_path: Mapping[str, str],
    ) -> None:
        self._devices = devices
        self._device_of_set = device_of_set
        self._device_of_path = device_of_path
        self._pending: dict[int, _Pending] = {}

    def read(self, request: ReadRequest) -> None:
        runs = tuple(
            _Run(device, tuple(sets))
            for device, sets in groupby(request.sets, self._device_of_set.__getitem__)
        )
        self._pending[request.token] = _Pending(runs[1:])
        self._ask(request.token, runs[0])

    def write(self, request: WriteRequest) -> None:
        device = self._device_of_path[request.path]
        self._devices[device].ask(WriteJob(request.token, request.path, request.value))

    def completed(self, answer: Answered | Unanswered) -> Answered | Unanswered | None:
        """The answer as the binder gets it; None: another device is to be read first."""
        pending = self._pending.pop(answer.token, _Pending(()))
        if isinstance(answer, Answered) and pending.left:
            kept = _Pending(pending.left[1:], pending.batches + answer.batches)
            self._pending[answer.token] = kept
            self._ask(answer.token, pending.left[0])
            return None
        return replace(answer, batches=pending.batches + answer.batches)

    def _ask(self, token: int, run: _Run) -> None:
        self._devices[run.device].ask(ReadJob(token, run.sets))
