"""What the line makes, in which order, and what goes wrong: a function of seed and plant file.

Pure. Owns units, jobs of each station and reels. Knows no time: when a job is done depends on the
agent's hand-shakes, what it makes does not.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from simulators.catalogue import NESTS
from simulators.config import ProductionConfig, Station
from simulators.draws import draws

LEVEL_S = 0.35  # no level stands shorter, so that a poller of 100 ms sees it
MODULUS: dict[Station, int] = {"PRESS20": 32_768}
DEFAULT_MODULUS = 65_536
SCREW_DEFECT, END_OF_LINE_DEFECT = 112, 305
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_REWORK_AFTER_JOBS = 2


class Purpose(StrEnum):
    PRODUCTION = "production"
    MASTER = "master"
    SETUP = "setup"


class Scan(StrEnum):
    """What becomes of the unit's code at a station's scanner."""

    READ = "read"
    NO_READ = "no_read"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Unit:
    """One drive: everything that is decided at its birth."""

    number: int
    dmc: str
    type: str
    order: str
    carrier: str
    rotor_dmc: str
    cover_dmc: str


@dataclass(frozen=True, slots=True)
class Reel:
    """One reel of copper wire, and before which unit its label is scanned."""

    number: int
    lot: str
    quantity_kg: float
    first_unit: int
    scanned_before: int

    @property
    def late(self) -> bool:
        return self.scanned_before > self.first_unit


@dataclass(frozen=True, slots=True)
class Job:
    """One cycle of one nest; `unit` is None for a reel, a master or a set-up part."""

    station: Station
    nest: str
    ordinal: int
    count: int
    unit: int | None
    attempt: int
    purpose: Purpose
    scan: Scan
    defect: int

    @property
    def verdict(self) -> str:
        return "fail" if self.defect else "pass"


class LinePlan:
    """Answers what happens to unit n, and which job comes next at a station."""

    def __init__(self, seed: int, production: ProductionConfig) -> None:
        self.seed = seed
        self._production = production
        self._troubles = production.troubles

    def unit(self, number: int) -> Unit:
        made = self._production
        return Unit(
            number=number,
            dmc=self._dmc(made.material, number),
            type=made.material,
            order=f"ORD-{self.seed % 1000:03}-{(number - 1) // 100 + 1:04}",
            carrier=f"C{(number - 1) % made.carriers + 1:04}",
            rotor_dmc=self._dmc(f"ROT{made.material}"[:12], number),
            cover_dmc=self._dmc(f"COV{made.material}"[:12], number),
        )

    def special_dmc(self, job: Job) -> str:
        """Returns the code of the part that a master or set-up job works on."""
        name = f"{job.purpose.upper():X<6}{1:06}"
        return f"P{self._production.material}#S{name[:12]}#V{self._production.issuer}"

    def reel(self, number: int) -> Reel:
        made = self._production.reel
        first = (number - 1) * made.units + 1
        delay = next((s.units for s in self._troubles.late_scan if self._is(s.reel, number)), 0)
        draw = draws(self.seed, "reel", number)
        lot = f"CU{draw.randrange(10_000):04}-{number:05}"
        quantity = round(made.quantity_kg * draw.uniform(0.97, 1.03), 2)
        return Reel(number, lot, quantity, first, first + delay)

    def reel_of(self, unit: int) -> Reel:
        """Returns the reel that a unit is truly wound from."""
        return self.reel((unit - 1) // self._production.reel.units + 1)

    def scans_before(self, unit: int) -> list[Reel]:
        """Returns the reels whose label is scanned just before this unit is wound."""
        return [reel for reel in self._recent_reels(unit) if reel.scanned_before == unit]

    def scans_after(self, unit: int) -> list[Reel]:
        """Returns the mounted reels that are still to be scanned when `unit` was the last one."""
        return [reel for reel in self._recent_reels(unit) if reel.scanned_before > unit]

    def _recent_reels(self, unit: int) -> list[Reel]:
        newest = self.reel_of(unit).number
        longest = max((scan.units for scan in self._troubles.late_scan), default=0)
        oldest = newest - longest // self._production.reel.units - 1
        return [self.reel(number) for number in range(max(1, oldest), newest + 1)]

    def is_scrapped(self, unit: int) -> bool:
        return self._hits(self._troubles.scrap, unit)

    def jobs(self, station: Station, nest: str = "") -> Iterator[Job]:
        """Yields the jobs of a nest in their order; endless unless the plant file limits units."""
        match station:
            case "EOL30":
                return self._number(station, nest, self._end_of_line())
            case "ST010":
                return self._number(station, nest, self._screwing())
            case "F07-LOAD":
                labels = itertools.repeat((None, 1, Purpose.PRODUCTION))
                return self._number(station, nest, labels)
            case "PRESS20":
                own = (n for n in self._units() if NESTS[(n - 1) % len(NESTS)] == nest)
                return self._number(station, nest, ((n, 1, Purpose.PRODUCTION) for n in own))
            case _:
                every = ((n, 1, Purpose.PRODUCTION) for n in self._units())
                return self._number(station, nest, every)

    def cycle_s(self, job: Job) -> float:
        low, high = self._production.cycle_s[job.station]
        draw = draws(self.seed, job.station, job.nest, job.ordinal, "cycle")
        return max(draw.uniform(low, high) / self._production.speed, LEVEL_S)

    def count(self, station: Station, ordinal: int) -> int:
        start = self._production.count_start.get(station, 0)
        return (start + ordinal) % MODULUS.get(station, DEFAULT_MODULUS)

    def scan(self, station: Station, unit: int | None) -> Scan:
        if unit is None:
            return Scan.READ
        for outcome, table in (
            (Scan.NO_READ, self._troubles.no_read),
            (Scan.STALE, self._troubles.stale),
        ):
            if any(name == station and self._hits(units, unit) for name, units in table.items()):
                return outcome
        return Scan.READ

    def _units(self) -> Iterator[int]:
        if self._production.units is None:
            return itertools.count(1)
        return iter(range(1, self._production.units + 1))

    def _screwing(self) -> Iterator[tuple[int | None, int, Purpose]]:
        for number in self._units():
            if self._hits(self._troubles.master, number):
                yield None, 1, Purpose.MASTER
            if self._hits(self._troubles.setup, number):
                yield None, 1, Purpose.SETUP
            yield number, 1, Purpose.PRODUCTION

    def _end_of_line(self) -> Iterator[tuple[int | None, int, Purpose]]:
        """A unit that failed comes back after the next two, or when no more come."""
        again: deque[tuple[int, int]] = deque()
        done = 0
        for number in self._units():
            if self.is_scrapped(number):
                continue
            yield number, 1, Purpose.PRODUCTION
            done += 1
            if self._hits(self._troubles.rework, number):
                again.append((done + _REWORK_AFTER_JOBS, number))
            elif again and done >= again[0][0]:
                yield again.popleft()[1], 2, Purpose.PRODUCTION
        for _, number in again:
            yield number, 2, Purpose.PRODUCTION

    def _number(
        self, station: Station, nest: str, works: Iterator[tuple[int | None, int, Purpose]]
    ) -> Iterator[Job]:
        for ordinal, (unit, attempt, purpose) in enumerate(works, start=1):
            yield Job(
                station=station,
                nest=nest,
                ordinal=ordinal,
                count=self.count(station, ordinal),
                unit=unit,
                attempt=attempt,
                purpose=purpose,
                scan=self.scan(station, unit),
                defect=self._defect(station, unit, attempt),
            )

    def _defect(self, station: Station, unit: int | None, attempt: int) -> int:
        if unit is None:
            return 0
        if station == "ST010" and self.is_scrapped(unit):
            return SCREW_DEFECT
        if station == "EOL30" and attempt == 1 and self._hits(self._troubles.rework, unit):
            return END_OF_LINE_DEFECT
        return 0

    def _hits(self, numbers: tuple[int, ...], number: int) -> bool:
        return any(self._is(wanted, number) for wanted in numbers)

    def _is(self, wanted: int, number: int) -> bool:
        every = self._troubles.every
        return wanted == number if every is None else (number - wanted) % every == 0

    def _dmc(self, material: str, number: int) -> str:
        prefix, seed = "", self.seed % 36**4
        for _ in range(4):
            seed, digit = divmod(seed, 36)
            prefix = _DIGITS[digit] + prefix
        return f"P{material}#S{prefix}{number:08}#V{self._production.issuer}"
