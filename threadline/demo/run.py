"""The demo from the first process to the last line: start, show, drain, tell, prove, end."""

import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from cloud.ask.client import open_api
from cloud.story import Story
from threadline.demo.ending import end_and_prove
from threadline.demo.figures import Figures, Finished, Told, figures, newest_finished
from threadline.demo.line import Line, open_line
from threadline.demo.show import Screen, open_screen
from threadline.demo.signals import Leaving, Left, leaving_by_signal
from threadline.demo.story import short_story, story_lines
from threadline.demo.view import Scene
from threadline.demo.watching import Watch
from threadline.route import Route

ROUND_S: Final = 1.0
RATE_OVER: Final = 6  # rounds


def run_demo(directory: Path, seconds: float | None, route: Route) -> bool:
    """False: something is missing or doubled. StackError: a part of the line failed."""
    console = Console(highlight=False)
    began_s = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[{time.monotonic() - began_s:5.1f} s] {text}", markup=False, soft_wrap=True)

    def tell(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    with leaving_by_signal() as leaving:
        try:
            with open_line(directory, route, leaving, say) as line:
                finished = _show(line, console, leaving, seconds)
                return end_and_prove(line, finished, leaving, say, tell)
        except Left:
            say(f"ended, as asked; logs and data of this run are in {directory}")
            return True


def _show(line: Line, console: Console, leaving: Leaving, seconds: float | None) -> Finished | None:
    """Until the time is over; the unit that was finished last."""
    now = datetime.now(UTC)  # noqa: TID251 - the demo is where time comes in
    with open_api(line.api_url, line.token) as api, open_screen(console) as screen:
        return _Showing(line, Watch(line, api, now), screen).until(leaving, seconds)


class _Showing:
    """Rounds of questions, their figures, and the story of whoever was finished last."""

    def __init__(self, line: Line, watch: Watch, screen: Screen) -> None:
        self._line = line
        self._watch = watch
        self._screen = screen
        self._rounds: deque[Told] = deque(maxlen=RATE_OVER)
        self._finished: Finished | None = None
        self._story: Story | None = None

    def until(self, leaving: Leaving, seconds: float | None) -> Finished | None:
        began_s = time.monotonic()
        while seconds is None or time.monotonic() - began_s < seconds:
            told = self._watch.round()
            self._rounds.append(told)
            self._follow(told)
            shown = figures(began_s, self._rounds[0], told)
            self._screen.show(self._scene(shown))
            leaving.rest(ROUND_S)
        return self._finished

    def _follow(self, told: Told) -> None:
        unit = newest_finished(told.stations or ())
        if unit is None or unit == self._finished:
            return
        story = self._watch.story(unit.item)
        if story is not None:
            self._finished, self._story = unit, story

    def _scene(self, shown: Figures) -> Scene:
        line = self._line
        scene = Scene(line.api_url, near(line.env_file), shown)
        if self._story is None:
            return scene
        return replace(scene, story=story_lines(self._story), short=short_story(self._story))


def near(path: Path) -> str:
    """As a person here would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
