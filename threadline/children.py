"""Child processes of one directory: started, recorded on disk, ended by their own identity.

A run that was killed leaves its record behind; the next run of the directory ends exactly the
processes of that record. It never ends a process it cannot prove the directory started: a process
number alone proves nothing, so the record also holds the moment the process was born.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

GRACE_S = 15.0  # PostgreSQL writes a checkpoint when it stops; on a slow disk that takes seconds
RECHECK_S = 0.02
LOCK = "lock"


class StackError(Exception):
    """A part of the stack did not come up or is in the way; the text says why and what to do."""


@dataclass(frozen=True)
class Born:
    """What tells one process from every other one that ever had its number."""

    name: str
    pid: int
    birth: str


class Child:
    """One running child: its number, its exit code once it has one, its log file."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def send(self, sent: signal.Signals) -> None:
        if self.exit_code is None:
            self._process.send_signal(sent)

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None when the child still runs after the time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def last_lines(self, count: int = 15) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-count:])


class Children:
    """The children of one directory. Entering takes it and clears what a dead run left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self._record = self.directory / "children.json"
        self.reclaimed: list[Born] = []
        self._running: list[Child] = []
        self._logged: set[str] = set()
        self._lock: int | None = None
        self._is_ours = False

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._is_ours = self._record.exists() or not any(self.directory.iterdir())
        self._lock = take_lock(self.directory / LOCK)
        self._reclaim()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._running.copy()):
            self.stop(child)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def wipe(self) -> None:
        """Remove what earlier runs left. StackError: the directory was not ours before."""
        if not self._is_ours:
            raise StackError(
                f"{self.directory} holds files that we did not make; choose another directory"
            )
        for path in self.directory.iterdir():
            if path in (self._record, self.directory / LOCK):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Start and record a child. It has a session of its own, so a Ctrl-C is ours to pass on.

        Its log begins anew with each run of the directory and goes on over a restart in the run.
        """
        log = self.directory / f"{name}.log"
        with log.open("ab" if name in self._logged else "wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        self._logged.add(name)
        child = Child(name, process, log)
        self._running.append(child)
        self._write_record()
        return child

    def stop(self, child: Child, *, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask, wait, insist. Returns the exit code."""
        child.send(how)
        code = child.wait(GRACE_S)
        if code is None:
            child.send(signal.SIGKILL)
            code = child.wait(GRACE_S)
        self.forget(child)
        if code is None:
            raise StackError(
                f"{child.name} (process {child.pid}) does not end, not even by SIGKILL"
            )
        return code

    def kill(self, child: Child) -> None:
        """End a child the hard way, as a power cut of its own would."""
        child.send(signal.SIGKILL)
        if child.wait(GRACE_S) is None:
            raise StackError(
                f"{child.name} (process {child.pid}) does not end, not even by SIGKILL"
            )
        self.forget(child)

    def forget(self, child: Child) -> None:
        if child in self._running:
            self._running.remove(child)
            self._write_record()

    def _reclaim(self) -> None:
        """End what the record of a killed run names and what still is the recorded process."""
        recorded = read_record(self._record)
        self.reclaimed = [born for born in recorded if birth_of(born.pid) == born.birth]
        for born in reversed(self.reclaimed):
            end(psutil.Process(born.pid))
        self._write_record()

    def _write_record(self) -> None:
        born = [Born(child.name, child.pid, birth_of(child.pid) or "") for child in self._running]
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps([asdict(one) for one in born], indent=1))
        fresh.replace(self._record)


def wait_until(ready: Callable[[], bool], child: Child, what: str, timeout_s: float) -> None:
    """Wait for a condition of a child; a child that ends meanwhile ends the waiting."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if child.exit_code is not None:
            raise StackError(
                f"{child.name} ended with code {child.exit_code} before {what}:\n"
                f"{child.last_lines()}"
            )
        if time.monotonic() > deadline:
            raise StackError(
                f"{child.name}: not {what} after {timeout_s:g} s; its log is {child.log}:\n"
                f"{child.last_lines()}"
            )
        time.sleep(RECHECK_S)


def take_lock(path: Path) -> int:
    """Hold the directory until this process ends, whatever way it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise StackError(
            f"{path.parent} is in use by process {holder}; end it first or choose another directory"
        ) from error
    os.truncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def birth_of(pid: int) -> str | None:
    """When the process was born, in words that no other process shares; None when it is gone.

    On Linux the boot and the clock tick since it, which a step of the wall clock leaves alone.
    """
    stat = Path(f"/proc/{pid}/stat")
    try:
        if not stat.parent.parent.joinpath("sys/kernel/random/boot_id").exists():
            return f"{psutil.Process(pid).create_time():.2f}"
        fields = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return None
    if fields[0] == "Z":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {fields[19]}"


def read_record(path: Path) -> list[Born]:
    """What the last run wrote down; a half-written or foreign record names nobody."""
    try:
        lines = json.loads(path.read_text())
        return [Born(str(one["name"]), int(one["pid"]), str(one["birth"])) for one in lines]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []


def end(process: psutil.Process) -> None:
    """Ask and then insist, with a process that is not our child any more."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=GRACE_S)
        for one in alive:
            one.kill()
        psutil.wait_procs(alive, timeout=GRACE_S)
