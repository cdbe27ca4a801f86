"""Filling `{x}` and reading ranges: from what is written once to every nest and place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final

_RANGE: Final = re.compile(r"(-?[0-9]{1,6})\.\.(-?[0-9]{1,6})")
_HOLE: Final = re.compile(r"\{([^{}]*)\}")
PLACES_MAX: Final = 4_096


def fill(text: str, variables: Mapping[str, str]) -> str:
    """The text with every known `{x}` filled; unknown ones stay."""
    return _HOLE.sub(lambda hole: variables.get(hole[1], hole[0]), text)


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The text in order, as (piece, whether it stood in braces)."""
    at = 0
    for hole in _HOLE.finditer(text):
        if hole.start() > at:
            yield text[at : hole.start()], False
        yield hole[1], True
        at = hole.end()
    if at < len(text):
        yield text[at:], False


def places(each: Mapping[str, str | Sequence[int | str]]) -> list[dict[str, str]]:
    """Every combination of the variables. ValueError: not a range, empty, or too many."""
    choices = [[(name, one) for one in _choices(written)] for name, written in each.items()]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > PLACES_MAX:
        raise ValueError(f"{count} places, at most {PLACES_MAX}")
    return [dict(one) for one in product(*choices)]


def place_name(variables: Mapping[str, str]) -> str:
    return "/".join(variables.values())


def _choices(written: str | Sequence[int | str]) -> list[str]:
    if not isinstance(written, str):
        if not written:
            raise ValueError("the list is empty")
        return [str(one) for one in written]
    found = _RANGE.fullmatch(written.strip())
    if not found:
        raise ValueError("is neither a range like 1..6 nor a list")
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= PLACES_MAX:
        raise ValueError(f"a range of {last - first + 1} places, at least 1, at most {PLACES_MAX}")
    return [str(number) for number in range(first, last + 1)]
