"""A story as a tree that a person reads in a terminal. Times are shown in the zone asked for."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Final

from rich.markup import escape
from rich.tree import Tree

from cloud.story import Alarm, Complete, Item, Linked, Pass, State, Story, TagSamples, Value

_VERDICTS: Final = {"pass": "green", "fail": "red", "aborted": "red"}
_SEVERITY_MASK: Final = 0xC0000000


def story_tree(story: Story, zone: tzinfo | None) -> Tree:
    tree = Tree(_item_line(story.item, zone))
    _add_parents(tree, story.parents, zone)
    _add_states(tree, story.states, zone)
    passes = tree.add(f"[bold]passes[/] {len(story.passes)}")
    for one in story.passes:
        _add_pass(passes, one, zone)
    _add_components(tree, story.components, zone)
    _add_alarms(tree, story.alarms, zone)
    _add_complete(tree, story.complete, zone)
    return tree


def name_of(item: Item) -> str:
    """The newest name that is still valid, else the newest; an unnamed item by its id."""
    valid = [name for name in item.names if name.valid_to is None] or list(item.names)
    if not valid:
        return f"unnamed {item.id}"
    return f"{valid[-1].scheme} {valid[-1].value}"


def _item_line(item: Item, zone: tzinfo | None) -> str:
    names = ", ".join(
        f"{name.scheme} [bold cyan]{escape(name.value)}[/]"
        + (f" ({escape(name.issuer)})" if name.issuer else "")
        + ("" if name.valid_to is None else f" until {_time(name.valid_to, zone)}")
        for name in item.names
    )
    parts = [f"[bold]{item.kind}[/]", names or f"unnamed {item.id}"]
    parts += [f"material {escape(item.material)}"] if item.material else []
    parts += [f"order {escape(item.order)}"] if item.order else []
    parts += [] if item.purpose == "production" else [f"[yellow]{item.purpose}[/]"]
    parts += [f"born {_time(item.born_at, zone)}"] if item.born_at else ["[dim]birth not seen[/]"]
    return " · ".join(parts)


def _add_pass(tree: Tree, one: Pass, zone: tzinfo | None) -> None:
    colour = _VERDICTS.get(one.verdict, "yellow")
    place = f" {escape(one.nest)}" if one.nest else ""
    attempt = f" · attempt {one.attempt}" if one.attempt > 1 else ""
    role = "" if one.role == "work" else f" · as {one.role}"
    how = "" if one.how == "bound" else f" · [yellow]{one.how}[/]"
    ended = "" if one.ended_by in (None, "end") else f" · [yellow]ended by {one.ended_by}[/]"
    node = tree.add(
        f"{_time(one.started or one.at, zone)} [bold]{escape(one.station)}{place}[/]"
        f" {escape(one.operation)} #{one.count} [{colour}]{one.verdict}[/]"
        f"{attempt}{role}{how}{ended}"
    )
    for defect in one.defects:
        node.add(
            f"[red]defect {escape(str(defect.get('code')))}[/] {escape(defect.get('place', ''))}"
        )
    for value in one.values:
        node.add(_value_line(value))
    for curve in one.curves:
        state = "" if curve.arrived else " [yellow]announced, not arrived[/]"
        place = f" {escape(curve.place)}" if curve.place else ""
        node.add(
            f"curve {escape(curve.name)}{place}: {curve.n} points over {escape(curve.axis)}{state}"
        )
    for tag in one.samples or ():
        node.add(_samples_line(tag))
    _add_states(node, one.states, zone)
    if one.missing:
        node.add(f"[yellow]missing: {escape(', '.join(one.missing))}[/]")


def _value_line(value: Value) -> str:
    place = f"\\[{escape(value.place)}]" if value.place else ""
    shown = "no value" if value.value is None else _number(value.value)
    limits = ""
    if value.low is not None or value.high is not None:
        low = "" if value.low is None else _number(value.low)
        high = "" if value.high is None else _number(value.high)
        limits = f" [dim]({low} … {high})[/]"
    verdict = {True: " [green]ok[/]", False: " [red]not ok[/]", None: ""}[value.ok]
    bad = f" [yellow]quality 0x{value.quality:08X}[/]" if value.quality & _SEVERITY_MASK else ""
    return f"{escape(value.name)}{place} {escape(shown)} {escape(value.unit)}{limits}{verdict}{bad}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _samples_line(tag: TagSamples) -> str:
    last = f", last {escape(str(tag.samples[-1][1]))}" if tag.samples else ""
    return f"[dim]{escape(tag.tag)}: {len(tag.samples)} samples{last} {escape(tag.unit)}[/]"


def _add_components(tree: Tree, links: Sequence[Linked], zone: tzinfo | None) -> None:
    if links:
        node = tree.add(f"[bold]components[/] {len(links)}")
        _add_links(node, links, zone)


def _add_parents(tree: Tree, links: Sequence[Linked], zone: tzinfo | None) -> None:
    if links:
        node = tree.add("[bold]is in[/]")
        _add_links(node, links, zone)


def _add_links(tree: Tree, links: Sequence[Linked], zone: tzinfo | None) -> None:
    for link in links:
        words = [link.relation, *_other_end(link)]
        words += [] if link.qty is None else [f"{link.qty} {escape(link.uom or '')}".rstrip()]
        words.append(_time(link.since, zone))
        words += [] if link.until is None else [f"until {_time(link.until, zone)}"]
        words += [] if link.certainty == "exact" else [f"[yellow]{link.certainty}[/]"]
        _add_links(tree.add(" ".join(words)), link.beyond, zone)


def _other_end(link: Linked) -> list[str]:
    """What went in or what it is in; a holder itself when its content is what is told."""
    holder = escape(link.holder or "")
    if link.item is None and link.relation == "content" and holder:
        return [f"[cyan]{holder}[/]"]
    words = [
        "[yellow]unknown[/]" if link.item is None else f"[cyan]{escape(name_of(link.item))}[/]"
    ]
    words += [escape(link.item.material)] if link.item and link.item.material else []
    return words + ([f"from {holder}"] if holder else [])


def _add_states(tree: Tree, states: Sequence[State], zone: tzinfo | None) -> None:
    for state in states:
        until = "" if state.until is None else f" until {_time(state.until, zone)}"
        reason = f": {escape(state.reason)}" if state.reason else ""
        tree.add(
            f"[bold magenta]{escape(state.state)}[/] {_time(state.since, zone)}{until}{reason}"
        )


def _add_alarms(tree: Tree, alarms: Sequence[Alarm], zone: tzinfo | None) -> None:
    for alarm in alarms:
        tree.add(f"[red]{escape(alarm.name)}[/] {_time(alarm.at, zone)}: {escape(alarm.text)}")


def _add_complete(tree: Tree, complete: Complete, zone: tzinfo | None) -> None:
    node = tree.add("[bold]complete[/]")
    for agent in complete.agents:
        events, samples = (
            "never" if at is None else _time(at, zone)
            for at in (agent.events_until, agent.samples_until)
        )
        waiting = f", {agent.waiting_rows} rows waiting" if agent.waiting_rows else ""
        node.add(f"{escape(agent.agent)}: events until {events}, samples until {samples}{waiting}")
    for gap in complete.gaps:
        nest = f" {escape(gap.nest)}" if gap.nest else ""
        node.add(f"[yellow]{gap.counts} cycles of {escape(gap.station)}{nest} without record[/]")
    if complete.curves_missing:
        node.add(f"[yellow]{complete.curves_missing} curves not arrived[/]")
    if complete.events_behind:
        node.add(f"[yellow]{complete.events_behind} events not yet in the view[/]")


def _time(at: datetime, zone: tzinfo | None) -> str:
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
