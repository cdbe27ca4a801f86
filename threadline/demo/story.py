"""One unit's story in a few lines, a line a pass: what fits under a table. Pure.

`threadline trace` tells all of it.
"""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from cloud.story import Linked, Pass, Story, Value

VERDICTS: Final = {"pass": "green", "fail": "red", "aborted": "red"}
VALUES_MAX: Final = 3


def story_lines(story: Story) -> list[Text]:
    return [_head(story), *(_pass_line(one) for one in story.passes), *_parts(story)]


def _head(story: Story) -> Text:
    item = story.item
    names = " = ".join(name.value for name in item.names) or f"unnamed {item.id}"
    line = Text.assemble("finished last: ", (names, "bold cyan"))
    line.append(f"  {item.material or ''}".rstrip())
    line.append(f"  {len(story.passes)} passes", "dim")
    return line


def _pass_line(one: Pass) -> Text:
    at = (one.started or one.at).astimezone()
    place = f"{one.station.partition('/')[2] or one.station} {one.nest}".rstrip()
    line = Text(f"  {at:%H:%M:%S} {place:<9} ")
    line.append(f"{one.verdict:<5}", VERDICTS.get(one.verdict, "yellow"))
    line.append(f" #{one.count}", "dim")
    told = [_value(value) for value in one.values[:VALUES_MAX]]
    more = len(one.values) - len(told)
    told += [f"{more} more values"] if more > 0 else []
    told += [f"{len(one.curves)} curves"] if one.curves else []
    line.append("  " + ", ".join(told))
    return line


def _value(value: Value) -> str:
    place = f"[{value.place}]" if value.place else ""
    shown = f"{value.value:.4g}" if isinstance(value.value, float) else str(value.value)
    return f"{value.name}{place} {shown} {value.unit}".rstrip()


def _parts(story: Story) -> list[Text]:
    """Components by name, all in one line."""
    names = list(dict.fromkeys(_component(one) for one in story.components))
    return [Text(f"  in it: {', '.join(names)}")] if names else []


def _component(link: Linked) -> str:
    if link.item is None:
        return f"unknown from {link.holder}" if link.holder else "unknown"
    names: Sequence[str] = [name.value for name in link.item.names]
    return names[-1] if names else f"unnamed {link.item.kind}"
