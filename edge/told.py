"""What `edge check` and `edge schema` say: to a person and as JSON."""

import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from edge.check import Checked
from edge.config import EdgeConfig
from edge.replay import Replayed
from protocols.errors import Problem
from protocols.events import encode_line
from rules.binding.explain import explain

WIDTH: Final = 120


def checked_text(agent_file: Path, checked: Checked) -> str:
    config, plan = checked.config, checked.plan
    tags = sum(len(test.plan.tags) for test in plan.tests)
    requests = sum(test.plan.requests for test in plan.tests)
    first = (
        f"{agent_file}: {config.agent}: {len(plan.devices)} devices, {len(plan.tests)} groups, "
        f"{tags} tags in {requests} requests, {len(config.stations)} stations"
    )
    return "\n".join([first, *(f"note: {note}" for note in checked.notes), *_stations(checked)])


def _stations(checked: Checked) -> Iterator[str]:
    """What happens when, per station."""
    for station, cases in explain(checked.plan.binding).items():
        yield f"\n{station}"
        column = 4 + max((len(case.when) for case in cases), default=0)
        for case in cases:
            lines = textwrap.wrap(case.then, max(40, WIDTH - column))
            yield f"  {case.when}".ljust(column) + lines[0]
            yield from (" " * column + line for line in lines[1:])


def checked_as_json(checked: Checked) -> dict[str, Any]:
    return {
        "sound": True,
        "agent": checked.config.agent,
        "problems": [],
        "notes": _as_json(checked.notes),
        "stations": {
            station: [{"when": case.when, "then": case.then} for case in cases]
            for station, cases in explain(checked.plan.binding).items()
        },
    }


def problems_as_json(problems: Iterable[Problem]) -> dict[str, Any]:
    return {"sound": False, "problems": _as_json(problems), "notes": []}


def replayed_as_lines(found: Replayed) -> Iterator[str]:
    """One JSON line an event, as they would travel; ids are of this replay alone."""
    for event in found.events:
        yield encode_line(event).decode()


def schema_text() -> str:
    """The schema as it is published, `docs/schemas/agent-1.json`."""
    schema = EdgeConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Threadline agent"
    return json.dumps(schema, indent=2) + "\n"


def _as_json(problems: Iterable[Problem]) -> list[dict[str, str]]:
    return [
        {"where": each.where, "value": each.value, "why": each.why, "remedy": each.remedy}
        for each in problems
    ]
