"""TimescaleDB in WebAssembly: installed once into a cache by npm, one process per fresh database.

What it can and cannot do stands in tests/support/pglite/README.md.
"""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from threadline.caches import cached
from threadline.children import Child, Children, StackError, wait_until

HOME = Path(__file__).parent / "pglite"
FILES = ("package.json", "package-lock.json", "serve.mjs", "wire.mjs")
NODE_MAJOR_MIN = 20
START_S = 60.0
INSTALL_S = 300.0


def missing() -> str | None:
    """What keeps it from running here, or None."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return f"node and npm (Node.js {NODE_MAJOR_MIN} or later) are not installed"
    said = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    if int(said.strip().lstrip("v").split(".")[0]) < NODE_MAJOR_MIN:
        return f"Node.js {said.strip()} is too old, {NODE_MAJOR_MIN} is the least"
    return None


def install() -> Path:
    """The folder with everything installed. A second run, or a second tree, installs nothing."""
    return cached(f"pglite-{_digest()}", _install_into)


def start(children: Children, name: str) -> tuple[Child, str]:
    """A fresh database of its own; returns the process and its DSN."""
    child = children.start(name, ["node", str(install() / "serve.mjs")])
    wait_until(lambda: _port(child) is not None, child, "listening", START_S)
    dsn = f"postgresql://postgres:postgres@127.0.0.1:{_port(child)}/postgres?sslmode=disable"
    return child, dsn


def _port(child: Child) -> int | None:
    for line in child.log.read_text().splitlines():
        if line.startswith("{"):
            return int(json.loads(line)["port"])
    return None


def _digest() -> str:
    seen = hashlib.sha256()
    for name in FILES:
        seen.update((HOME / name).read_bytes())
    return seen.hexdigest()[:16]


def _install_into(made: Path) -> None:
    for name in FILES:
        shutil.copy(HOME / name, made)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(
        command, cwd=made, check=False, capture_output=True, text=True, timeout=INSTALL_S
    )
    if done.returncode != 0:
        raise StackError(f"npm ci failed: {done.stderr.strip()}")
