"""The end of a demo with an end: the agent stops, the spool drains, one story, the proof."""

from collections.abc import Callable
from typing import Final

from threadline.children import StackError
from threadline.demo.figures import Finished
from threadline.demo.line import AGENT, Line, asking_env, run
from threadline.demo.signals import Leaving

DRAIN_S: Final = 30.0
COMMAND_S: Final = 60.0


def end_and_prove(
    line: Line,
    finished: Finished | None,
    leaving: Leaving,
    say: Callable[[str], None],
    tell: Callable[[str], None],
) -> bool:
    """Whether nothing is missing and nothing doubled; `verify`'s own result is told last.

    `say` is for what the demo does, `tell` for what others said.
    """
    _stop_agent(line)
    say("the agent has stopped")
    leaving.look()
    drained = run(
        ["edge", "drain", str(line.agent_file), "--timeout", f"{DRAIN_S:g}s"],
        line.env,
        DRAIN_S + COMMAND_S,
    )
    say(drained.stdout.strip() or drained.stderr.strip())
    asked = {**line.env, **asking_env(line.api_url, line.token)}
    if finished is not None:
        leaving.look()
        story = run(["trace", finished.name, "--scheme", finished.scheme], asked, COMMAND_S)
        tell(story.stdout or story.stderr)
    leaving.look()
    proved = run(["verify", AGENT], line.env, COMMAND_S)
    tell((proved.stderr + proved.stdout).rstrip())
    return drained.returncode == 0 and proved.returncode == 0


def _stop_agent(line: Line) -> None:
    """SIGTERM, and the time that a stop may take."""
    code = line.children.stop(line.agent)
    if code != 0:
        raise StackError(
            f"the agent stopped with code {code}; its log is {line.agent.log}:\n"
            f"{line.agent.last_lines()}"
        )
