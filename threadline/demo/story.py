"""One unit's story in few lines: what fits under a table. Pure. `threadline trace` tells it all."""

from typing import Final

from rich.text import Text

from cloud.story import Item, Linked, Pass, Story, Value

VERDICTS: Final = {"pass": "green", "fail": "red", "aborted": "red"}
UNREMARKABLE: Final = ("pass", "not_judged")
VALUES_MAX: Final = 3


def story_lines(story: Story) -> tuple[Text, ...]:
    """A line a pass, with its first values."""
    return (_head(story), *(_pass_line(one) for one in story.passes), *_parts(story))


def short_story(story: Story) -> tuple[Text, ...]:
    """Three lines, whatever happened: the unit, its way by colour, what went into it."""
    way = Text("  ")
    for at, one in enumerate(story.passes):
        said = "" if one.verdict in UNREMARKABLE else f" {one.verdict}"
        way.append(", " if at else "")
        way.append(f"{_place(one)}{said}", _colour(one.verdict))
    return (_head(story), way, *_parts(story))


def _head(story: Story) -> Text:
    names = " = ".join(name.value for name in story.item.names) or f"unnamed {story.item.id}"
    line = Text.assemble(("finished last ", "dim"), (names, "bold cyan"))
    line.append(f"  {story.item.material or ''}".rstrip())
    line.append(f"  {_counted(len(story.passes), 'pass', 'passes')}", "dim")
    return line


def _pass_line(one: Pass) -> Text:
    at = (one.started or one.at).astimezone()
    line = Text(f"  {at:%H:%M:%S} {_place(one):<9} ")
    line.append(f"{one.verdict:<10}", _colour(one.verdict))
    line.append(f" #{one.count:<6}", "dim")
    told = [_value(value) for value in one.values[:VALUES_MAX]]
    more = len(one.values) - len(told)
    told += [_counted(more, "more value", "more values")] if more > 0 else []
    told += [_counted(len(one.curves), "curve", "curves")] if one.curves else []
    line.append(" " + ", ".join(told))
    return line


def _place(one: Pass) -> str:
    return f"{one.station.partition('/')[2] or one.station} {one.nest}".rstrip()


def _value(value: Value) -> str:
    place = f"[{value.place}]" if value.place else ""
    shown = f"{value.value:.4g}" if isinstance(value.value, float) else str(value.value)
    return f"{value.name}{place} {shown} {value.unit}".rstrip()


def _parts(story: Story) -> list[Text]:
    """Components in one line, those that are known first."""
    links = sorted(story.components, key=lambda one: one.item is None)
    names = list(dict.fromkeys(map(_component, links)))
    return [Text(f"  in it: {', '.join(names)}")] if names else []


def _component(link: Linked) -> str:
    if link.item is None:
        return f"something from {link.holder}" if link.holder else "something unknown"
    return _name(link.item)


def _name(item: Item) -> str:
    last = item.names[-1] if item.names else None
    return f"{last.scheme} {last.value}" if last else f"an unnamed {item.kind}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _colour(verdict: str) -> str:
    return VERDICTS.get(verdict, "yellow")
