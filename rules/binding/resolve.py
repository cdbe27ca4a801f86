"""From what is written to tags, texts and patterns: one place that knows where in the file it is.

Never raises for a user's mistake: it notes a problem and gives None, so that all are found at once.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from protocols.driver import Mode
from protocols.errors import Problem
from protocols.samples import DataType, ValueClass
from rules.binding.expand import fill, pieces
from rules.binding.names import Reader
from rules.binding.plan import Source, TagFacts, Template

NUMERIC: Final = frozenset({ValueClass.F64, ValueClass.I64, ValueClass.U64})
INTEGER: Final = frozenset({ValueClass.I64, ValueClass.U64})
BIT: Final = frozenset({ValueClass.BOOL})
SCALAR: Final = NUMERIC | BIT | {ValueClass.TEXT}
READABLE: Final = SCALAR | {ValueClass.BYTES}
NUMBERS: Final = frozenset({ValueClass.F64S, ValueClass.I64S, ValueClass.U64S})
POLLED: Final = frozenset({Mode.CYCLIC, Mode.SUBSCRIBE})
_ELEMENT: Final = re.compile(r"(.+)\[(-?[0-9]{1,6})\]")
_WORDS: Final = {
    BIT: "a bit",
    INTEGER: "a whole number",
    NUMERIC: "a number",
    SCALAR: "a number, a bit or a text",
    READABLE: "a number, a bit or a text",
    NUMBERS: "an array of numbers",
}
_SLOW_US: Final = (
    2_000_000  # of a tag polled more slowly the end of a cycle does not wait for a row
)


@dataclass(frozen=True, slots=True)
class Found:
    """A tag as written: a configured one, or one element of a configured array."""

    path: str
    base: str
    element: int | None
    facts: TagFacts

    @property
    def type(self) -> DataType:
        return self.facts.type if self.element is None else self.facts.type.element

    @property
    def polled(self) -> bool:
        return self.facts.mode in POLLED


@dataclass(slots=True)
class Findings:
    """What compiling found so far, over all stations."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    patterns: dict[str, re.Pattern[str]] = field(default_factory=dict)
    sources: dict[tuple[str, bool], Source] = field(default_factory=dict)

    def add(self, source: Source) -> None:
        self.sources[source.label, source.read] = source


@dataclass(frozen=True, slots=True)
class Scope:
    """A place in the file, the variables filled there, and how tags are obtained there."""

    tags: Mapping[str, TagFacts]
    findings: Findings
    where: str
    variables: Mapping[str, str] = field(default_factory=dict)
    obtain: "Callable[[Scope, Found], Source | None] | None" = None

    def at(self, *keys: str | int) -> "Scope":
        where = self.where
        for key in keys:
            dot = "." if where and not where.endswith(" ") else ""
            where += f"[{key}]" if isinstance(key, int) else f"{dot}{key}"
        return replace(self, where=where)

    def filling(self, variables: Mapping[str, str]) -> "Scope":
        return replace(self, variables={**self.variables, **variables})

    def obtaining(self, obtain: "Callable[[Scope, Found], Source | None]") -> "Scope":
        return replace(self, obtain=obtain)

    def filled(self, text: str) -> str:
        return fill(text, self.variables)

    def problem(self, value: str, why: str, remedy: str) -> None:
        self.findings.problems.append(Problem(self.where, value, why, remedy))

    def note(self, value: str, why: str, remedy: str) -> None:
        self.findings.notes.append(Problem(self.where, value, why, remedy))

    def tag(self, text: str, classes: frozenset[ValueClass]) -> Found | None:
        """The tag, of one of these classes; else None and a problem."""
        path = self.filled(text)
        found = self._find(path)
        if found is None:
            self.problem(path, "is not a configured tag", self._near(path))
        elif found.type.value_class not in classes:
            self.problem(path, f"is {found.type}, not {_WORDS[classes]}", "Name another tag.")
            return None
        return found

    def source(self, text: str, classes: frozenset[ValueClass] = SCALAR) -> Source | None:
        found = self.tag(text, classes)
        if found is None or self.obtain is None:
            return None
        if found.polled and found.type.is_array:
            self.problem(found.path, "is polled element by element", "Use `mode: on_demand`.")
            return None
        source = self.obtain(self, found)
        if source is not None:
            self.findings.add(source)
        return source

    def template(self, text: str) -> Template | None:
        """Literal pieces and tags in braces."""
        parts: list[str | Source | None] = [
            self.source(piece) if hole else piece for piece, hole in pieces(self.filled(text))
        ]
        whole = tuple(part for part in parts if part is not None)
        return whole if len(whole) == len(parts) else None

    def text(self, text: str) -> Template | None:
        """A tag's value, a template, or the text itself; `device.name` is always meant as a tag."""
        filled = self.filled(text)
        if "{" in filled:
            return self.template(text)
        device = filled.partition(".")[0]
        meant = "." in filled and any(facts.device == device for facts in self.tags.values())
        if self._find(filled) is None and not meant:
            return (filled,)
        source = self.source(text)
        return (source,) if source else None

    def holder(self, text: str) -> Template | None:
        template = self.template(text)
        first = template[0] if template else ""
        if template and not (isinstance(first, str) and first.find("/") > 0):
            self.problem(text, "is not a holder", "Write `kind/name`, like feeder/F07.")
            return None
        return template

    def reader(self, scheme: str, parse: str | None, no_read: Iterable[str] = ()) -> Reader | None:
        if parse is not None and parse not in self.findings.patterns:
            close = difflib.get_close_matches(parse, self.findings.patterns, 1)
            remedy = f"Did you mean {close[0]}?" if close else "Add it to `patterns`."
            self.at("parse").problem(parse, "is not a pattern that can be used", remedy)
            return None
        pattern = self.findings.patterns[parse] if parse else None
        return Reader(scheme, pattern, frozenset(no_read))

    def _find(self, path: str) -> Found | None:
        facts = self.tags.get(path)
        if facts is not None:
            return Found(path, path, None, facts)
        written = _ELEMENT.fullmatch(path)
        facts = self.tags.get(written[1]) if written else None
        if written is None or facts is None or not facts.type.is_array:
            return None
        element = int(written[2]) - facts.first
        if element < 0 or (facts.length is not None and element >= facts.length):
            return None
        return Found(path, written[1], element, facts)

    def _near(self, path: str) -> str:
        holes = [piece for piece, hole in pieces(path) if hole]
        if holes:
            return f"Nothing fills {{{holes[0]}}} here: give `nests` or `each`."
        written = _ELEMENT.fullmatch(path)
        facts = self.tags.get(written[1]) if written else None
        if facts is not None and facts.type.is_array and facts.length is not None:
            return f"The array goes from {facts.first} to {facts.first + facts.length - 1}."
        close = difflib.get_close_matches(path, self.tags, 3, 0.75)
        return f"Did you mean {' or '.join(close)}?" if close else "Add it to a device's group."


def polled_source(found: Found, end: Found | None = None) -> Source:
    """A tag that polling or a subscription brings; `end`: the tag that tells the cycle's end."""
    facts = found.facts
    cyclic = facts.mode is Mode.CYCLIC and facts.interval_us is not None
    slow = not cyclic or (facts.interval_us or 0) > _SLOW_US
    with_end = end is not None and (facts.device, facts.group) == (
        end.facts.device,
        end.facts.group,
    )
    three_us = 3 * (facts.interval_us or 0)
    return Source(
        found.path,
        found.type,
        facts.device,
        with_end=with_end,
        wait_us=0 if slow else three_us + 1_000_000,
        silence_us=three_us + 200_000 if cyclic else 0,
    )


def read_source(found: Found) -> Source:
    """A tag that a read on request brings, whole."""
    return Source(found.base, found.facts.type, found.facts.device, found.element, read=True)
