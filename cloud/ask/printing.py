"""Answers of the API on standard output: a tree for people, JSON as it came for machines."""

import json
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console

from cloud.ask.tree import name_of, story_tree
from cloud.story import Item, Story
from protocols.errors import ConfigError, Problem

FILE_COLUMNS: Final = 10_000  # a file or a pipe has no width: a line of the tree stays one line


def read_zone(zone: str | None) -> ZoneInfo | None:
    """None: the machine's own. ConfigError: no such zone."""
    try:
        return None if zone is None else ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        remedy = "Name one like Europe/Berlin."
        raise ConfigError([Problem("--zone", zone or "", "is no IANA zone", remedy)]) from error


def print_story(story: dict[str, Any], zone: ZoneInfo | None, *, as_json: bool) -> None:
    console = Console()
    if as_json:
        console.out(json.dumps(story, indent=1, ensure_ascii=False), highlight=False)
    else:
        wide = console if console.is_terminal else Console(width=FILE_COLUMNS)
        wide.print(story_tree(Story.model_validate(story), zone))


def print_candidates(candidates: list[dict[str, Any]], *, as_json: bool) -> None:
    console = Console()
    if as_json:
        console.out(json.dumps(candidates, indent=1, ensure_ascii=False), highlight=False)
        return
    console.print(f"{len(candidates)} items have this name; add --scheme or --issuer:")
    for one in candidates:
        item = Item.model_validate(one)
        names = ", ".join(f"{name.scheme}/{name.issuer}/{name.value}" for name in item.names)
        console.print(f"  {item.kind} {name_of(item)} ({names})", markup=False, soft_wrap=True)
