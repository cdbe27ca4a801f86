"""What is fetched once per machine: folders that are whole or absent, whoever makes them."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(name: str, fill: Callable[[Path], None]) -> Path:
    """The folder of this name in the user's cache; `fill` makes its content the first time.

    It appears by a rename, so nobody ever sees half of it, and one that was made twice at the same
    time is kept once.
    """
    ready = _home() / name
    if ready.exists():
        return ready
    ready.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=ready.parent))
    try:
        fill(made)
        _publish(made, ready)
    finally:
        shutil.rmtree(made, ignore_errors=True)  # it is there only if it was not published
    return ready


def is_cached(name: str) -> bool:
    return (_home() / name).exists()


def _home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "threadline"


def _publish(made: Path, ready: Path) -> None:
    """Rename into place, unless a run that was faster has put the same content there."""
    try:
        made.rename(ready)
    except OSError:
        if not ready.exists():
            raise
