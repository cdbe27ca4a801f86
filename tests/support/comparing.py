"""A line that has come to rest beside its plant's journal: samples, conditioning, passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.config import read_plant_file
from simulators.decoding import Decoder
from simulators.journal import Record
from tests.support import truth
from tests.support.line import AGENT, Line, tags_of
from tests.support.passes import PassComparison, compare_passes
from tests.support.stored import rows_of, stretches

WAS_DOWN = "agent was down"


@dataclass(frozen=True)
class Evidence:
    """What there is to compare, read once."""

    line: Line
    journal: Sequence[Record]
    sent: Mapping[str, list[truth.Answer]]

    @classmethod
    def of(cls, line: Line) -> "Evidence":
        journal = line.journal()
        return cls(line, journal, truth.answers(journal, Decoder(read_plant_file(line.plant))))

    @property
    def outages(self) -> list[truth.Stretch]:
        with self.line.database() as database:
            return stretches(database, AGENT, "outage")

    def samples(self) -> truth.Comparison:
        """Every raw tag's readings beside what was sent of it."""
        found = truth.Comparison()
        outages = self.outages
        with self.line.database() as database:
            for raw, plain in raw_tags(self.line.agent_file).items():
                rows = rows_of(database, raw)
                pauses = self.line.agent_pauses
                found.add(truth.compare(raw, self.sent[plain], rows, outages, pauses))
        return found

    def conditioned(self) -> list[str]:
        """Conditioned tags that differ from what the slow oracle makes of their raw twins."""
        configured = tags_of(self.line.agent_file)
        anew = [_anew_from_us(one) for one in self.outages]
        wrong: list[str] = []
        with self.line.database() as database:
            for raw, plain in raw_tags(self.line.agent_file).items():
                deadband, max_time_us = report_of(configured[plain])
                kept = truth.conditioned(rows_of(database, raw), deadband, max_time_us, anew)
                stored = rows_of(database, plain)
                if _plain(kept) != _plain(stored):
                    wrong.append(f"{plain}: {len(kept)} by the rule, {len(stored)} stored")
        return wrong

    def passes(self) -> PassComparison:
        with self.line.database() as database:
            return compare_passes(
                database,
                self.journal,
                self.line.agent_file,
                self.line.agent_stopped_us,
                [*self.line.agent_pauses, *self.outages],
            )


def raw_tags(agent_file: Path) -> dict[str, str]:
    """Path of each raw tag → path of the tag on the same address that is conditioned."""
    return {path: path.replace(".raw.", ".", 1) for path in tags_of(agent_file) if ".raw." in path}


def report_of(tag: Mapping[str, Any]) -> tuple[float, int]:
    """Deadband and max_time in µs."""
    report = tag["report"]
    assert report["on"] == "change", report
    kind = f"{tag.get('type', '')}{tag['address'].rpartition(':')[2]}".lower()
    is_number = "bool" not in kind and "text" not in kind and "string" not in kind
    deadband = float(report.get("deadband", {}).get("absolute", 0.0)) if is_number else 0.0
    return deadband, int(float(report["max_time"].removesuffix("s")) * 1e6)


def _anew_from_us(outage: truth.Stretch) -> int:
    """After it every tag is said anew; an agent that lived may have read at its very beginning."""
    return outage.to_us if outage.reason == WAS_DOWN else outage.from_us


def _plain(rows: Sequence[truth.Row]) -> list[tuple[int, Any, int]]:
    return [(one.time_us, one.value, one.quality) for one in rows]
