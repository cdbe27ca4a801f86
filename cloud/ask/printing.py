"""Answers of the API on standard output: a tree for people, JSON as it came for machines."""

import json
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console

from cloud.ask.tree import name_of, story_tree
from cloud.story import Item, Story
from protocols.errors import ConfigError, Problem


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
        console.print(story_tree(Story.model_validate(story), zone), soft_wrap=True)


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
