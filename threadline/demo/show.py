"""The demo's screen: a live table on a terminal, a plain line now and then anywhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.live import Live

from threadline.demo.view import Scene, live, plain

PLAIN_EVERY_S: Final = 5.0


class Screen(Protocol):
    """Where scenes are shown."""

    def show(self, scene: Scene) -> None: ...


class LiveTable:
    """Redraws the whole screen; the terminal's own content comes back afterwards."""

    def __init__(self, console: Console, shown: Live) -> None:
        self._console = console
        self._live = shown

    def show(self, scene: Scene) -> None:
        width, height = self._console.size
        self._live.update(live(scene, width, height), refresh=True)


class PlainLines:
    """For a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def show(self, scene: Scene) -> None:
        elapsed_s = scene.figures.elapsed_s
        if elapsed_s >= self._next_s:
            self._next_s = elapsed_s + PLAIN_EVERY_S
            self._console.print(plain(scene), soft_wrap=True, markup=False, highlight=False)


@contextmanager
def open_screen(console: Console) -> Iterator[Screen]:
    """What suits the console."""
    if not console.is_terminal:
        yield PlainLines(console)
        return
    with Live(console=console, screen=True, auto_refresh=False) as shown:
        yield LiveTable(console, shown)
